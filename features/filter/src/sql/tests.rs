//! RocketMQ's rules, one line each, and the differences that are meant.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::expression::{Expression, Fields};
use crate::sql::Sql;

struct Record(HashMap<&'static str, &'static [u8]>);

impl Fields for Record {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).copied()
    }
    fn key(&self) -> Option<&[u8]> {
        Some(b"customer-7")
    }
    fn timestamp(&self) -> i64 {
        1_700_000_000_000
    }
    fn size(&self) -> usize {
        512
    }
}

fn record() -> Record {
    Record(HashMap::from([
        ("TAGS", &b"paid"[..]),
        ("a", b"5"),
        ("b", b"abc"),
        ("price", b"19.90"),
        ("flag", b"true"),
        ("neg", b"-3"),
        ("empty", b""),
        ("ce-type", b"order.created"),
        ("raw", &[0xff, 0xfe]),
        ("percent", b"100%"),
        ("big", b"9223372036854775807"),
    ]))
}

fn matches(sql: &str) -> bool {
    Sql::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).matches(&record())
}

#[test]
fn true_conditions() {
    for sql in [
        "a = 5",
        "a = '5'",
        "a <> 6",
        "a != 6",
        "a > 4.5",
        "a >= 5",
        "a < 10",
        "a <= 5",
        "5 = a",
        "4 < a",
        "a BETWEEN 5 AND 7",
        "a NOT BETWEEN 6 AND 7",
        "b IN ('x', 'abc')",
        "b NOT IN ('x')",
        "a IN (1, 5)",
        "a IN ('5')",
        "a in (5.0)",
        "b IS NOT NULL",
        "missing IS NULL",
        "empty IS NOT NULL",
        "empty = ''",
        "b CONTAINS 'bc'",
        "b STARTSWITH 'ab'",
        "b ENDSWITH 'c'",
        "b NOT CONTAINS 'x'",
        "b NOT STARTSWITH 'b'",
        "b NOT ENDSWITH 'b'",
        "b LIKE 'a%'",
        "b LIKE 'a_c'",
        "b NOT LIKE '%x%'",
        "b like '%'",
        "empty LIKE '%'",
        "percent LIKE '100!%' ESCAPE '!'",
        "flag = TRUE",
        "TRUE = flag",
        "flag <> FALSE",
        "price = 19.9",
        "price > a",
        "neg = -3",
        "-a = -5",
        "- - a = 5",
        "+a = 5",
        "neg < 0",
        "TRUE",
        "NOT FALSE",
        "missing = missing",
        "a = 5 AND b = 'abc'",
        "a = 6 OR b = 'abc'",
        "a = 5 OR missing = 1",
        "NOT (a = 6)",
        "NOT a = 6",
        "a = 6 OR b = 'x' OR a = 5",
        "(a = 5)",
        "((a = 5) AND (TRUE))",
        "\"ce-type\" = 'order.created'",
        "__key = 'customer-7'",
        "__timestamp > 1699999999999",
        "__size <= 512",
        "A = 5 OR a = 5",
        "a=5L",
        "a = 5 -- a comment",
        "a /* or b */ = 5",
        "TAGS = 'paid' AND a > 1",
        "b = 'abc' and a = 5",
        "price = 1.99e1",
        "big = 9223372036854775807",
        "raw IS NULL",
        "NOT NOT a = 5",
        "missing IS NULL AND a = 5",
        "'it''s' = 'it''s'",
    ] {
        assert!(matches(sql), "should match: {sql}");
    }
}

#[test]
fn false_and_null_conditions_do_not_match() {
    for sql in [
        "a = 6",
        "a <> 5",
        "A = 5",
        "FALSE",
        "NULL",
        "a",
        "b",
        "missing",
        "NOT b = 'abc'",
        // NULL is not a match and NOT does not make it one.
        "missing = 1",
        "missing <> 1",
        "NOT (missing = 1)",
        "missing > 1",
        "missing BETWEEN 1 AND 2",
        "missing NOT BETWEEN 1 AND 2",
        "missing IN ('x')",
        "missing NOT IN ('x')",
        "missing LIKE '%'",
        "missing NOT LIKE '%'",
        "a = 5 AND missing = 1",
        "a = 6 OR missing = 1",
        // a missing header is FALSE for both forms of the searches, as in RocketMQ
        "missing CONTAINS 'x'",
        "missing NOT CONTAINS 'x'",
        "missing STARTSWITH 'x'",
        "missing NOT ENDSWITH 'x'",
        // what cannot be converted is NULL
        "b > 1",
        "b = 1",
        "b <> 1",
        "NOT (b > 1)",
        "b < price",
        "raw = 'x'",
        "raw <> 'x'",
        "flag > 0",
        "b LIKE 'A%'",
        "b LIKE 'ab'",
        "b LIKE ''",
        "b LIKE '_'",
        "a = 5 AND b = 'x'",
        "big > 9223372036854775807",
    ] {
        assert!(!matches(sql), "should not match: {sql}");
    }
}

#[test]
fn refused_with_the_column() {
    let deep = format!("{}a = 1{}", "(".repeat(65), ")".repeat(65));
    let cases: &[(&str, usize, &str)] = &[
        ("a = ", 5, "expected a value, found the end"),
        ("a = = 5", 5, "expected a value, found ="),
        ("a = 5 b", 7, "expected AND, OR or the end, found b"),
        ("(a = 5", 7, "expected ) for the ( of column 1"),
        ("a = 5)", 6, "found )"),
        ("a = 'x", 5, "the string is not closed"),
        ("\"a = 1", 1, "the name is not closed"),
        ("a > 'x'", 5, "strings have no order"),
        ("a > TRUE", 5, "only numbers and names"),
        ("a = NULL", 5, "IS NULL"),
        ("NULL <> a", 1, "IS NULL"),
        ("a BETWEEN 7 AND 5", 11, "above the second"),
        ("a BETWEEN 1 OR 5", 13, "expected AND"),
        ("a BETWEEN 'a' AND 'b'", 11, "strings have no order"),
        ("a IN ()", 7, "expected a value"),
        ("a IN ('x' 'y')", 11, "expected , or )"),
        ("a IN (b)", 7, "strings and numbers"),
        ("5 IN (5)", 1, "needs a header name"),
        ("a IN 'x'", 6, "expected ( after IN"),
        ("a LIKE b", 8, "expected a string"),
        ("a LIKE 'x!' ESCAPE '!'", 8, "ends in its escape"),
        ("a LIKE 'x' ESCAPE 'xy'", 19, "one character"),
        ("a CONTAINS 5", 12, "expected a string"),
        ("a NOT 5", 7, "after NOT"),
        ("a IS 5", 6, "expected NULL"),
        ("5", 1, "not a condition"),
        ("a = 5 AND 'x'", 11, "not a condition"),
        ("NOT 5", 5, "not a condition"),
        ("a ; b", 3, "means nothing here"),
        ("a & b", 3, "means nothing here"),
        ("a.b = 5", 2, "means nothing here"),
        ("a = 99999999999999999999", 5, "64 bits"),
        ("a = 1e999", 5, "double"),
        ("5a = 1", 1, "may not start with a digit"),
        ("AND", 1, "keyword AND"),
        ("a = select and", 15, "found the end"),
        ("a /* b", 3, "not closed"),
        ("\"\" = 1", 1, "empty"),
        ("-'x' = 1", 2, "may follow -"),
        (&deep, 65, "nested deeper than 64"),
    ];
    for (sql, column, message) in cases {
        let error = Sql::parse(sql).expect_err(sql);
        assert!(error.message.contains(message), "{sql}: {error}");
        assert_eq!(error.column, *column, "{sql}: {error}");
    }
    assert!(Expression::parse(&"a".repeat(1 << 20)).expect_err("1 MB").message.contains("at most"));
}

#[test]
fn like_with_many_wildcards_is_not_exponential() {
    let pattern = "%a".repeat(2000);
    let sql = Sql::parse(&format!("x LIKE '{pattern}b'")).expect("parses");
    let text: &'static [u8] = "a".repeat(20_000).leak().as_bytes();
    assert!(!sql.matches(&Record(HashMap::from([("x", text)]))));
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_but_never_panics(text in "\\PC{0,60}") {
        if let Ok(expression) = Expression::parse(&text) {
            expression.matches(&record());
        }
    }

    #[test]
    fn anything_made_of_tokens_parses_or_is_refused(words in prop::collection::vec(
        prop::sample::select(vec!["a", "b", "=", "<>", "<", "(", ")", "AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL",
            "'x'", "5", "-", "BETWEEN", ",", "TRUE", "CONTAINS", "1.5"]), 0..25)) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            expression.matches(&record());
        }
    }
}
