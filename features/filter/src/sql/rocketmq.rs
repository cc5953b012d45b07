//! The table of RocketMQ's own answers, held against ours.

use std::collections::HashMap;

use super::{Sql, eval};
use crate::expression::Fields;

const TABLE: &str = include_str!("rocketmq.tsv");

struct Properties<'a>(HashMap<&'a str, &'a str>);

impl<'a> Properties<'a> {
    fn read(text: &'a str) -> Self {
        let pairs = text.split(';').filter(|_| text != "-");
        Properties(pairs.map(|pair| pair.split_once('=').expect("name=value")).collect())
    }
}

impl Fields for Properties<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.as_bytes())
    }
    fn key(&self) -> Option<&[u8]> {
        None
    }
    fn timestamp(&self) -> i64 {
        0
    }
    fn size(&self) -> usize {
        0
    }
}

fn answer(properties: &str, expression: &str) -> &'static str {
    match Sql::parse(expression).map(|sql| eval::truth(&sql.root, &Properties::read(properties))) {
        Err(_) => "refused",
        Ok(None) => "null",
        Ok(Some(true)) => "true",
        Ok(Some(false)) => "false",
    }
}

/// RocketMQ drops a message with an error line in its log where a value cannot be converted; here that is NULL. Anything
/// else that differs has a fourth column, which says what krocket answers and why.
#[test]
fn every_row_is_answered_as_rocketmq_does_or_as_the_table_says() {
    let (mut rows, mut meant, mut wrong) = (0, 0, Vec::new());
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [properties, expression, rocketmq, rest @ ..] = &columns[..] else { panic!("{line:?} has no answer") };
        let expected = match rest {
            [] => {
                if *rocketmq == "error" {
                    "null"
                } else {
                    rocketmq
                }
            }
            [own, ..] => own.split_once(": ").expect("an answer and why").0,
        };
        assert!(rest.is_empty() || expected != *rocketmq, "{line:?}: there is no difference");
        let found = answer(properties, expression);
        if found != expected {
            wrong.push(format!("{line}\t{found}"));
        }
        rows += 1;
        meant += rest.len();
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows >= 400 && meant < rows / 5, "{rows} rows, {meant} of them meant to differ");
}
