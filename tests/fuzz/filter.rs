//! A filter of any text: parsed and evaluated, or refused with the column.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use krocket_filter::{Expression, Fields};

use crate::Fuzz;

const QUICK: u64 = 40_000;

const VALID: &[&str] = &[
    "*",
    "paid || refunded",
    "TAGS = 'paid' AND amount > 1000",
    "a IS NOT NULL AND (b BETWEEN 1 AND 3.5 OR c IN ('x', 'y')) AND NOT d = TRUE",
    "name LIKE 'a%_b' AND \"ce-type\" != 'x' AND __size >= 10 AND __timestamp < 99999999999 AND __key = 'k'",
    "a + 1 > 2 * b - 3 / c OR d <> 'it''s'",
    "x IN (1, 2, 3) AND y NOT IN ('p') OR z NOT LIKE '%'",
];

/// A record with some of the names that the filters ask for.
struct Order;

impl Fields for Order {
    fn header(&self, name: &str) -> Option<&[u8]> {
        match name {
            "TAGS" => Some(b"paid"),
            "amount" | "a" => Some(b"1500"),
            "name" | "b" => Some("a\u{e4}b".as_bytes()),
            "d" => Some(b"\xff\xfe"),
            _ => None,
        }
    }

    fn key(&self) -> Option<&[u8]> {
        Some(b"k")
    }

    fn timestamp(&self) -> i64 {
        1_700_000_000_000
    }

    fn size(&self) -> usize {
        100
    }
}

#[test]
fn any_text_is_a_filter_or_is_refused() {
    let mut fuzz = Fuzz::new("filter", VALID.iter().map(|text| text.as_bytes().to_vec()).collect(), QUICK);
    let (mut parsed, mut refused) = (0, 0);
    while let Some(input) = fuzz.next() {
        let text = String::from_utf8_lossy(&input).into_owned();
        let run = || match Expression::parse(&text) {
            Ok(expression) => {
                let _ = expression.matches(&Order);
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(true) => parsed += 1,
            Ok(false) => refused += 1,
            Err(panic) => {
                println!("{}", fuzz.keep(&input).display());
                resume_unwind(panic);
            }
        }
    }
    assert!(parsed > VALID.len() && refused > 0, "{parsed} parsed, {refused} refused");
    fuzz.report(&format!("{parsed} parsed and evaluated, {refused} refused, no panic"));
}
