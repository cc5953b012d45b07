//! Durations such as `"30s"` and sizes such as `"64MiB"`.

use std::time::Duration;

/// Durations: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
pub mod duration {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&super::format_duration(*duration))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is not a duration such as \"500ms\", \"30s\", \"10m\", \"1h\" or \"7d\""
            ))
        })
    }
}

/// Lists of durations.
pub mod durations {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct One(#[serde(with = "super::duration")] Duration);

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<One>::deserialize(deserializer)?.into_iter().map(|one| one.0).collect())
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(durations: &[Duration], out: S) -> Result<S::Ok, S::Error> {
        durations.iter().map(|one| super::format_duration(*one)).collect::<Vec<_>>().serialize(out)
    }
}

/// A duration, or none.
pub mod optional_duration {
    use serde::{Deserializer, Serializer};
    use std::time::Duration;

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration::serialize(duration, out),
            None => out.serialize_none(),
        }
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(deserializer).map(Some)
    }
}

/// Sizes: a whole number of bytes, or text with one of `B`, `KiB`, `MiB`, `GiB`, `TiB`.
pub mod size {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(size: &u64, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(*size)
    }

    struct Size;

    impl Visitor<'_> for Size {
        type Value = u64;

        fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
            out.write_str("a size such as 1048576, \"64KiB\" or \"1GiB\"")
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
            u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            super::parse_size(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Size)
    }
}

/// A whole number and a unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(ms)?))
}

/// As it is written in the file, in the largest unit that is exact.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("10 m", 600_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
            assert_eq!(format_duration(duration), text.replace(' ', ""));
        }
        for text in ["", "s", "10", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("100", 100), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("2TiB", 2 << 40)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1kb", "1.5MiB", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
