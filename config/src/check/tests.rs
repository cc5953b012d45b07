use std::io::Write;
use std::time::Duration;

use crate::load;
use crate::rules::{Backoff, HalfRules, LookupRules, RetryPolicy, Rules, ScheduleRules, TopicRules};

fn rules(text: &str) -> Result<Rules, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let rules = load(Some(file.path()), vec![]).and_then(|loaded| loaded.rules());
    rules.map_err(|error| error.to_string().replace(&file.path().display().to_string(), "f"))
}

#[test]
fn the_first_rule_that_matches_holds_as_a_whole() {
    let rules = rules(
        r#"
        [[rules]]
        topics = ["orders", "pay.*"]
        schedule = { max_delay = "1h", levels = ["1s", "2m"] }
        half = false
        lookup = { key = true }
        [[rules]]
        topics = ["*"]
        filter = false
        half = { immunity = "1s", webhook = "http://127.0.0.1:1/check" }
        schedule = true
        lookup = false
        "#,
    )
    .expect("valid");
    let schedule = ScheduleRules {
        max_delay: Duration::from_secs(3600),
        levels: vec![Duration::from_secs(1), Duration::from_secs(120)],
    };
    let first =
        TopicRules { filter: true, schedule: Some(schedule), half: None, lookup: Some(LookupRules { key: true }) };
    let half = HalfRules {
        immunity: Duration::from_secs(1),
        webhook: Some("http://127.0.0.1:1/check".to_owned()),
        ..HalfRules::default()
    };
    let second = TopicRules { filter: false, schedule: Some(ScheduleRules::default()), half: Some(half), lookup: None };
    for (topic, expected) in [("orders", &first), ("pay.eu.card", &first), ("orders2", &second), ("pay", &second)] {
        for _ in 0..2 {
            assert_eq!(*rules.topic(topic), *expected, "{topic}");
        }
    }
    assert_eq!(*rules.retry("any"), RetryPolicy::default());
    assert_eq!(*Rules::default().topic("any"), TopicRules::default());
}

#[test]
fn more_names_than_are_remembered_are_answered_rightly() {
    let rules = rules("[[rules]]\ntopics = [\"*7\"]\nfilter = false\n").expect("valid");
    for number in 0..25_000 {
        assert_eq!(rules.topic(&number.to_string()).filter, number % 10 != 7, "{number}");
    }
}

#[test]
fn a_back_off_is_a_list_or_exponential() {
    let rules = rules(
        r#"
        [[retry]]
        groups = ["billing*"]
        backoff = { initial = "1s", multiplier = 3.0, max = "10m", jitter = 0.2 }
        max_attempts = 8
        [[retry]]
        groups = ["mail"]
        backoff = { steps = ["10s", "30s"] }
        partitions = 4
        max_dead_per_minute = 100
        [[retry]]
        groups = ["sms"]
        backoff = ["10s", "30s"]
        [[retry]]
        groups = ["off/{a,b}"]
        enabled = false
        "#,
    )
    .expect("valid");
    let billing = rules.retry("billing-eu");
    let (initial, max) = (Duration::from_secs(1), Duration::from_secs(600));
    assert_eq!(billing.backoff, Backoff::Exponential { initial, multiplier: 3.0, max, jitter: 0.2 });
    assert_eq!((billing.max_attempts, billing.partitions, billing.enabled), (8, 1, true));
    let mail = rules.retry("mail");
    assert_eq!(mail.backoff, Backoff::Steps(vec![Duration::from_secs(10), Duration::from_secs(30)]));
    assert_eq!(rules.retry("sms").backoff, mail.backoff);
    assert_eq!((mail.max_attempts, mail.partitions, mail.max_dead_per_minute), (16, 4, Some(100)));
    assert!(!rules.retry("off/b").enabled && rules.retry("off/c").enabled);
}

#[test]
fn what_cannot_work_is_refused_where_it_stands() {
    let cases = [
        ("[[rules]]\nschedule = false\n", "f:1:", "missing field `topics`"),
        ("[[rules]]\ntopics = []\n", "f:2:10", "`topics` is empty"),
        ("[[rules]]\ntopics = [\"a\", \"b[\"]\n", "f:2:16", "\"b[\" is not a glob"),
        ("[[rules]]\ntopics = [\"a\"]\nshedule = false\n", "f:3:1", "did you mean `schedule`?"),
        ("[[rules]]\ntopics = [\"a\"]\nschedule = 1\n", "f:3:12", "true, false or a table of settings"),
        ("[[rules]]\ntopics = [\"a\"]\nschedule = { max_delai = \"1s\" }\n", "f:3:14", "did you mean `max_delay`?"),
        ("[[rules]]\ntopics = [\"a\"]\nschedule = { max_delay = \"soon\" }\n", "f:3:26", "\"soon\" is not a duration"),
        ("[[rules]]\ntopics = [\"a\"]\nschedule = { levels = [] }\n", "f:3:23", "1 to 1000 durations"),
        (
            "[[rules]]\ntopics = [\"a\"]\nschedule = { levels = [\"1 week\"] }\n",
            "f:3:23",
            "\"1 week\" is not a duration",
        ),
        (
            "[[rules]]\ntopics = [\"a\"]\nschedule = { max_delay = \"1m\", levels = [\"1s\", \"1h\"] }\n",
            "f:3:48",
            "longer than `max_delay`",
        ),
        ("[[rules]]\ntopics = [\"a\"]\nhalf = { max_checks = 0 }\n", "f:3:23", "at least 1"),
        ("[[rules]]\ntopics = [\"a\"]\n[rules.half]\ncheck_interval = \"1ms\"\n", "f:4:18", "at least 100ms"),
        ("[[rules]]\ntopics = [\"a\"]\nhalf = { webhook = \"https://x/\" }\n", "f:3:20", "only http is spoken"),
        ("[[rules]]\ntopics = [\"a*\"]\n[[rules]]\ntopics = [\"ab\", \"a*\"]\n", "f:4:10", "can never match"),
        ("[[rules]]\ntopics = [\"*\"]\n[[rules]]\ntopics = [\"b*\"]\n", "f:4:10", "can never match"),
        ("[[retry]]\ngroups = [\"\"]\n", "f:2:11", "an empty glob"),
        ("[[retry]]\ngroups = [\"g\"]\nbackoff = { steps = [] }\n", "f:3:", "a list that is not empty"),
        ("[[retry]]\ngroups = [\"g\"]\nbackoff = { max = \"1s\" }\n", "f:3:", "needs `initial`"),
        ("[[retry]]\ngroups = [\"g\"]\nbackoff = { steps = [\"1s\"], max = \"1s\" }\n", "f:3:", "either `steps` or"),
        (
            "[[retry]]\ngroups = [\"g\"]\nbackoff = { initial = \"1s\", multiplier = 0.5 }\n",
            "f:3:42",
            "`multiplier` is 0.5",
        ),
        (
            "[[retry]]\ngroups = [\"g\"]\nbackoff = { initial = \"1s\", multiplier = nan }\n",
            "f:3:42",
            "`multiplier` is NaN",
        ),
        (
            "[[retry]]\ngroups = [\"g\"]\nbackoff = { initial = \"1s\", max = \"1ms\" }\n",
            "f:3:35",
            "at least `initial`",
        ),
        ("[[retry]]\ngroups = [\"g\"]\nbackoff = { initial = \"1s\", jitter = 2.0 }\n", "f:3:38", "from 0 to 1"),
        ("[[retry]]\ngroups = [\"g\"]\npartitions = 0\n", "f:3:14", "from 1 to"),
        ("[[retry]]\ngroups = [\"g\"]\nmax_dead_per_minute = 0\n", "f:3:23", "at least 1"),
        ("[[retry]]\ngroups = [\"g\"]\n[[retry]]\ngroups = [\"g\"]\n", "f:4:10", "can never match"),
        ("[[views]]\nname = \"v\"\nsource = \"s\"\n", "f:1:", "missing field `filter`"),
        ("[[views]]\nname = \"v v\"\nsource = \"s\"\nfilter = \"a\"\n", "f:2:8", "not a topic name"),
        ("[[views]]\nname = \"__krocket\"\nsource = \"s\"\nfilter = \"a\"\n", "f:2:8", "krocket's own"),
        ("[[views]]\nname = \"dlq.g\"\nsource = \"s\"\nfilter = \"a\"\n", "f:2:8", "prefix of krocket's own topics"),
        ("[[views]]\nname = \"s\"\nsource = \"s\"\nfilter = \"a\"\n", "f:3:10", "its own source"),
        (
            "[[views]]\nname = \"v\"\nsource = \"s\"\nfilter = \"a\"\n[[views]]\nname = \"v\"\nsource = \"s\"\nfilter = \"a\"\n",
            "f:6:8",
            "another view \"v\"",
        ),
        (
            "[[views]]\nname = \"v\"\nsource = \"s\"\nfilter = \"a\"\n[[views]]\nname = \"w\"\nsource = \"v\"\nfilter = \"a\"\n",
            "f:7:10",
            "is a view itself",
        ),
        (
            "[[rules]]\ntopics = [\"s*\"]\nfilter = false\n[[views]]\nname = \"v\"\nsource = \"s\"\nfilter = \"a\"\n",
            "f:6:10",
            "a rule has filter = false",
        ),
        ("[names]\nretry = \"\"\n", "f:2:9", "not a topic name"),
        ("[names]\nretry = \"again.\"\ndlq = \"again.dead.\"\n", "f:3:7", "starts with `retry`'s prefix"),
        ("[names]\nretri = \"a\"\n", "f:2:1", "did you mean `retry`?"),
    ];
    let mut wrong = Vec::new();
    for (text, place, expected) in cases {
        let message = rules(text).expect_err(text);
        if !(message.starts_with(place) && message.contains(expected) && message.contains('^')) {
            wrong.push(format!("{place} {expected}\n{message}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn names_of_krockets_own_topics_are_told_apart() {
    use crate::rules::Kind;
    let rules = rules("[names]\nretry = \"again-\"\n").expect("valid");
    let kind = |topic| rules.prefixes.kind(topic);
    assert_eq!(kind("again-billing"), Some((Kind::Retry, "billing")));
    assert_eq!(kind("dlq.billing"), Some((Kind::Dlq, "billing")));
    assert_eq!(kind("check.billing"), Some((Kind::Check, "billing")));
    assert_eq!(kind("retry.billing"), None);
}

#[test]
fn the_full_example_is_the_defaults() {
    let rules = rules(include_str!("../../examples/full.toml")).expect("valid");
    assert_eq!(*rules.topic("any"), TopicRules::default());
    assert_eq!(*rules.retry("any"), RetryPolicy::default());
    assert_eq!(rules.prefixes, crate::rules::Prefixes::default());
}

#[test]
fn what_is_in_force_is_shown_as_it_is_written() {
    let text = include_str!("../../examples/features.toml");
    let config: crate::Config = toml::from_str(text).expect("valid");
    let shown = toml::to_string(&config).expect("TOML");
    assert_eq!(toml::from_str::<crate::Config>(&shown).expect("reads its own"), config);
}
