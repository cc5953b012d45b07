//! Topic names, as Kafka's Topic class checks them.

/// Longest name.
const MAX_LENGTH: usize = 249;
/// What krocket keeps for itself.
const RESERVED: &str = "__krocket";
/// Kafka's own topics, which Metadata marks as internal.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Why a topic cannot have this name: the message that goes with INVALID_TOPIC_EXCEPTION.
pub fn check(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > MAX_LENGTH {
        format!("the length of '{name}' is longer than the max allowed length {MAX_LENGTH}")
    } else if !name.chars().all(legal) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else if name.starts_with(RESERVED) {
        format!("names starting with '{RESERVED}' are reserved")
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {why}"))
}

/// True for Kafka's own topics.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// The name under which topics collide: metric names don't tell `.` from `_`.
pub(super) fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kafka_does() {
        let longest = "a".repeat(249);
        for name in ["a", "A-z_0.9", "...", "_", longest.as_str(), "__consumer_offsets"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(250);
        let refused = [
            ("", "the empty string is not allowed"),
            (".", "'.' is not allowed"),
            ("..", "'..' is not allowed"),
            (too_long.as_str(), "longer than the max allowed length 249"),
            ("a b", "contains one or more characters other than"),
            ("a/b", "contains one or more characters other than"),
            ("ä", "contains one or more characters other than"),
            ("__krocket_x", "reserved"),
        ];
        for (name, why) in refused {
            let error = check(name).expect_err(name);
            assert!(error.starts_with("Topic name is invalid: ") && error.contains(why), "{error}");
        }
    }
}
