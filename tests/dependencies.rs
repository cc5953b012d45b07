//! deny.toml, held to what Cargo.lock has: licences, bans and sources, without cargo-deny and without a network.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

struct Rules {
    allowed: Vec<String>,
    denied: Vec<String>,
    registries: Vec<String>,
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).expect("deny.toml");
    let file: toml::Table = text.parse().expect("TOML");
    let list = |section: &str, key: &str| {
        let texts = file[section][key].as_array().expect("a list").iter();
        texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    Rules {
        allowed: list("licenses", "allow"),
        denied: list("bans", "deny"),
        registries: list("sources", "allow-registry"),
    }
}

/// What is wrong with the packages that `cargo metadata` tells of.
fn faults(packages: &[Value], rules: &Rules) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("every package has a name");
        let licence = package["license"].as_str().unwrap_or("none");
        if !holds(licence, &rules.allowed) {
            faults.push(format!("{name}: licence {licence}"));
        }
        if rules.denied.iter().any(|denied| denied == name) {
            faults.push(format!("{name}: denied"));
        }
        // Those without a source are in this repository.
        if let Some(source) = package["source"].as_str()
            && !rules.registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry))
        {
            faults.push(format!("{name}: from {source}"));
        }
    }
    faults
}

/// Whether a choice of allowed licences satisfies an SPDX expression; `/` is how OR was once written.
fn holds(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let held = either(&mut words, allowed);
    held == Some(true) && words.is_empty()
}

fn either(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut held = both(words, allowed)?;
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        held |= both(words, allowed)?;
    }
    Some(held)
}

fn both(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut held = one(words, allowed)?;
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        held &= one(words, allowed)?;
    }
    Some(held)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let held = either(words, allowed)?;
        *words = words.strip_prefix(&[")"])?;
        return Some(held);
    }
    let mut licence = (*first).to_owned();
    if let Some(["WITH", exception, rest @ ..]) = Some(*words) {
        licence = format!("{licence} WITH {exception}");
        *words = rest;
    }
    Some(allowed.contains(&licence))
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let packages = told["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "{} packages", packages.len());
    assert_eq!(faults(packages, &rules()), Vec::<String>::new());
}

#[test]
fn a_copyleft_a_banned_and_a_foreign_crate_are_found() {
    let rules = rules();
    let package = |name: &str, licence: &str, source: &str| serde_json::json!({"name": name, "license": licence, "source": format!("{source}index")});
    let registry = "registry+https://github.com/rust-lang/crates.io-";
    let packages = [
        package("good", "MIT", registry),
        package("copyleft", "GPL-3.0-only", registry),
        package("openssl", "Apache-2.0", registry),
        package("foreign", "MIT", "git+https://example.com/"),
        serde_json::json!({"name": "unsaid", "license": null, "source": null}),
    ];
    let expected = [
        "copyleft: licence GPL-3.0-only",
        "openssl: denied",
        "foreign: from git+https://example.com/index",
        "unsaid: licence none",
    ];
    assert_eq!(faults(&packages, &rules), expected);
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/GPL-2.0", true),
        ("GPL-2.0 OR MIT AND ISC", true),
        ("MIT AND (GPL-2.0 OR ISC)", true),
        ("(MIT OR ISC) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("MIT WITH LLVM-exception", false),
        ("MIT AND", false),
        ("(MIT", false),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(holds(expression, &allowed), expected, "{expression}");
    }
}
