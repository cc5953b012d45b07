//! A configuration file of any bytes: loaded, or refused with where and why.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use krocket_testkit::promises;

use crate::Fuzz;

const QUICK: u64 = 4000;

const VALID: &[&str] = &[
    promises::CONFIG,
    "[server]\nlisten = \"127.0.0.1:9092\"\nhttp = \"127.0.0.1:9644\"\ndata_dir = \"data\"\nshutdown_grace = \"10s\"\n",
    "[[rules]]\ntopics = [\"orders\", \"pay.*\"]\nschedule = { max_delay = \"365d\" }\nhalf = false\nlookup = { key = true }\n",
    "[[views]]\nname = \"big\"\nsource = \"orders\"\nfilter = \"TAGS = 'paid' AND amount > 1000\"\n",
    "[log]\nsegment_bytes = \"64MiB\"\nmin_free_bytes = 0\n[kafka]\n\"log.retention.ms\" = 1000\n\"num.partitions\" = 3\n",
    "[limits]\nconnections = 10\nrequest_bytes = \"1MiB\"\nqueued_request_bytes = \"2MiB\"\nidle = \"10m\"\n",
];

#[test]
fn any_file_is_a_configuration_or_is_refused_with_a_reason() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    let file = folder.path().join("krocket.toml");
    let mut fuzz = Fuzz::new("config", VALID.iter().map(|text| text.as_bytes().to_vec()).collect(), QUICK);
    let (mut loaded, mut refused) = (0, 0);
    while let Some(input) = fuzz.next() {
        std::fs::write(&file, &input).expect("a file can be written");
        let load = || match krocket_config::load(Some(&file), Vec::new()) {
            Ok(found) => match krocket::settings::check(&found).map_err(|fault| fault.to_string()) {
                Ok(()) => found.rules().err().map(|fault| fault.to_string()),
                Err(fault) => Some(fault),
            },
            Err(error) => Some(error.to_string()),
        };
        match catch_unwind(AssertUnwindSafe(load)) {
            Ok(None) => loaded += 1,
            Ok(Some(why)) => {
                assert!(!why.trim().is_empty());
                refused += 1;
            }
            Err(panic) => {
                println!("{}", fuzz.keep(&input).display());
                resume_unwind(panic);
            }
        }
    }
    assert!(loaded > VALID.len() && refused > 0, "{loaded} loaded, {refused} refused");
    fuzz.report(&format!("{loaded} loaded, {refused} refused with a reason, no panic"));
}
