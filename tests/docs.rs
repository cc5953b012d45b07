//! docs/apis.md, docs/cli.md, docs/configs.md and docs/configuration.md are made from the tables and types that the code runs on.
//! `UPDATE_DOCS=1 cargo test --test docs` writes them.

#[path = "docs/cli.rs"]
mod cli;
#[path = "docs/configuration.rs"]
mod configuration;

use std::fmt::Write;
use std::path::Path;

use krocket_broker::config::{ConfigDef, Promise, broker, group, topic};
use krocket_protocol::ApiKey;
use krocket_protocol::api::{TABLE, served};

const TOKENS: &str = "there are no delegation tokens";
const BROKERS: &str = "spoken between brokers and controllers; krocket is one process";
const QUORUM: &str = "there is no quorum of controllers";
const TELEMETRY: &str = "client metrics (KIP-714) are not collected; clients do without";

/// Every API of the protocol that is not served, and why.
const NOT_SERVED: &[(ApiKey, &str)] = &[
    (ApiKey::AlterReplicaLogDirs, "there is one data folder"),
    (ApiKey::CreateDelegationToken, TOKENS),
    (ApiKey::RenewDelegationToken, TOKENS),
    (ApiKey::ExpireDelegationToken, TOKENS),
    (ApiKey::DescribeDelegationToken, TOKENS),
    (ApiKey::Vote, BROKERS),
    (ApiKey::BeginQuorumEpoch, BROKERS),
    (ApiKey::EndQuorumEpoch, BROKERS),
    (ApiKey::AlterPartition, BROKERS),
    (ApiKey::UpdateFeatures, "the finalized features are those that are served"),
    (ApiKey::Envelope, BROKERS),
    (ApiKey::FetchSnapshot, BROKERS),
    (ApiKey::BrokerRegistration, BROKERS),
    (ApiKey::BrokerHeartbeat, BROKERS),
    (ApiKey::UnregisterBroker, QUORUM),
    (ApiKey::AllocateProducerIds, BROKERS),
    (ApiKey::ControllerRegistration, BROKERS),
    (ApiKey::GetTelemetrySubscriptions, TELEMETRY),
    (ApiKey::PushTelemetry, TELEMETRY),
    (ApiKey::AssignReplicasToDirs, BROKERS),
    (ApiKey::AddRaftVoter, QUORUM),
    (ApiKey::RemoveRaftVoter, QUORUM),
    (ApiKey::UpdateRaftVoter, BROKERS),
    (ApiKey::InitializeShareGroupState, BROKERS),
    (ApiKey::ReadShareGroupState, BROKERS),
    (ApiKey::WriteShareGroupState, BROKERS),
    (ApiKey::DeleteShareGroupState, BROKERS),
    (ApiKey::ReadShareGroupStateSummary, BROKERS),
];

fn apis() -> String {
    let mut page = String::from(
        "# Kafka APIs\n\nMade from the API table by `UPDATE_DOCS=1 cargo test --test docs`.\n\n## Served\n\n\
         | key | API | versions | left out |\n|---:|---|---|---|\n",
    );
    for api in TABLE {
        let name = format!("{:?}", api.key);
        writeln!(page, "| {} | {name} | {}-{} | {} |", api.key as i16, api.min, api.max, api.left_out)
            .expect("a String");
    }
    page.push_str("\n## Not served\n\n| key | API | why |\n|---:|---|---|\n");
    for (key, why) in NOT_SERVED {
        writeln!(page, "| {} | {key:?} | {why} |", *key as i16).expect("a String");
    }
    page
}

fn configs() -> String {
    let mut page = String::from(
        "# Kafka configs\n\nMade from the config tables by `UPDATE_DOCS=1 cargo test --test docs`. Names, types and ranges are \
         Kafka's, and so are defaults where the meaning gives no other; what is not listed is refused by name. Broker configs are set in the `[kafka]` section of \
         the configuration file, and where they are not marked read-only by `kafka-configs.sh` too.\n",
    );
    section(&mut page, "Topics", "The default of a topic config is the broker config beside it.", topic::TABLE);
    let defaults: Vec<&str> = topic::TABLE.iter().map(|def| def.synonym).collect();
    let own = broker::table().iter().filter(|def| !defaults.contains(&def.name));
    section(&mut page, "Broker", "Beside the defaults of topics.", own);
    section(&mut page, "Groups", "", group::TABLE);
    page
}

fn section<'a>(page: &mut String, title: &str, intro: &str, table: impl IntoIterator<Item = &'a ConfigDef>) {
    write!(page, "\n## {title}\n\n").expect("a String");
    if !intro.is_empty() {
        write!(page, "{intro}\n\n").expect("a String");
    }
    page.push_str("| config | default | meaning |\n|---|---|---|\n");
    for def in table {
        let same = def.synonym.is_empty() || def.synonym == def.name;
        let synonym = if same { String::new() } else { format!("<br>`{}`", def.synonym) };
        let mark = match def.promise {
            Promise::DefaultOnly(_) => " *Only the default can be set.*",
            Promise::ReadOnly => " *Read-only while the broker runs.*",
            Promise::Enforced(_) | Promise::Kept(_) => "",
        };
        let default = if def.default.is_empty() { String::new() } else { format!("`{}`", def.default) };
        writeln!(page, "| `{}`{synonym} | {default} | {}{mark} |", def.name, def.documentation()).expect("a String");
    }
}

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "docs/{name} is not what the tables say: run UPDATE_DOCS=1 cargo test --test docs");
}

#[test]
fn pages_are_what_the_tables_say() {
    check("apis.md", &apis());
    check("cli.md", &cli::page());
    check("configs.md", &configs());
    check("configuration.md", &configuration::page());
}

#[test]
fn every_api_is_served_or_told_why_not() {
    for key in ApiKey::ALL {
        let told = NOT_SERVED.iter().filter(|(other, _)| other == key).count();
        assert_eq!(told + usize::from(served(*key).is_some()), 1, "{key:?}");
    }
}

/// `make docs-examples` runs them.
#[test]
fn every_feature_has_an_example_in_python_and_one_in_java() {
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
    for feature in ["filter", "half", "lookup", "retry", "schedule"] {
        let page = std::fs::read_to_string(features.join(feature).join("README.md")).expect("a page per feature");
        for language in ["python", "java"] {
            assert!(
                page.contains(&format!("\n```{language}\n")),
                "features/{feature}/README.md: nothing in {language}"
            );
        }
    }
}
