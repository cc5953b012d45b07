//! The numbers of both sides, side by side.

use comfy_table::{Cell, CellAlignment, Color, Table, presets::UTF8_BORDERS_ONLY};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::report::number;

/// One number of one side; RocketMQ's come as JSON, a line each.
#[derive(Debug, Deserialize)]
pub(super) struct Number {
    pub(super) metric: String,
    pub(super) value: f64,
    pub(super) unit: String,
}

/// The numbers of one side of a row.
#[derive(Debug, Default)]
pub(super) struct Numbers(pub(super) Vec<Number>);

impl Numbers {
    pub(super) fn add(&mut self, metric: &str, value: f64, unit: &str) {
        self.0.push(Number { metric: metric.to_owned(), value, unit: unit.to_owned() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, metric: &str) -> Option<f64> {
        self.0.iter().find(|number| number.metric == metric).map(|number| number.value)
    }
}

/// One number of both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    row: String,
    metric: String,
    unit: String,
    krocket: Option<f64>,
    rocketmq: Option<f64>,
    /// Above 1: krocket is better, whether more or less is better.
    ratio: Option<f64>,
}

/// What is written as JSON.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(super) date: String,
    pub(super) command: String,
    pub(super) quick: bool,
    pub(super) machine: Machine,
    /// `None` where it could not be started.
    pub(crate) rocketmq: Option<String>,
    pub(crate) failures: Vec<String>,
    pub(super) lines: Vec<Line>,
}

/// How much better krocket is. `None` where neither more nor less is better, and where there is nothing to divide by.
fn ratio(unit: &str, krocket: f64, rocketmq: f64) -> Option<f64> {
    let ratio = match unit {
        "1/s" | "MB/s" => krocket / rocketmq,
        "ms" | "s" | "MiB" => rocketmq / krocket,
        _ => return None,
    };
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// A row's numbers: krocket's with RocketMQ's beside them, then those that only RocketMQ has.
pub(super) fn join(row: &str, krocket: &Numbers, rocketmq: &Numbers) -> Vec<Line> {
    let others = rocketmq.0.iter().filter(|number| krocket.get(&number.metric).is_none());
    let all = krocket.0.iter().chain(others);
    all.map(|number| {
        let sides = (krocket.get(&number.metric), rocketmq.get(&number.metric));
        Line {
            row: row.to_owned(),
            metric: number.metric.clone(),
            unit: number.unit.clone(),
            krocket: sides.0,
            rocketmq: sides.1,
            ratio: sides.0.zip(sides.1).and_then(|(krocket, rocketmq)| ratio(&number.unit, krocket, rocketmq)),
        }
    })
    .collect()
}

/// A row as a table; `peer` is RocketMQ with its version, when it takes part.
pub(super) fn table(row: &str, peer: Option<&str>, lines: &[Line]) -> Table {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let shown = |value: Option<f64>| right(value.map_or_else(|| "–".into(), number));
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut header = vec![Cell::new(row), right("krocket".into())];
    header.extend(peer.iter().flat_map(|peer| [right((*peer).to_owned()), right("ratio".into())]));
    table.set_header(header);
    for line in lines {
        let unit = if line.unit.is_empty() { String::new() } else { format!(", {}", line.unit) };
        let mut cells = vec![Cell::new(format!("{}{unit}", line.metric)), shown(line.krocket)];
        if peer.is_some() {
            cells.push(shown(line.rocketmq));
            cells.push(line.ratio.map_or_else(
                || right("–".into()),
                |ratio| right(format!("{ratio:.2}×")).fg(if ratio >= 1.0 { Color::Green } else { Color::Red }),
            ));
        }
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_better_or_less_is_better() {
        let (mut krocket, mut rocketmq) = (Numbers::default(), Numbers::default());
        krocket.add("delivered", 300.0, "1/s");
        krocket.add("lateness p50", 10.0, "ms");
        krocket.add("lateness max", 0.0, "ms");
        krocket.add("throughput, on / off", 0.99, "");
        rocketmq.add("refused", 3.0, "");
        rocketmq.add("lateness p50", 500.0, "ms");
        rocketmq.add("lateness max", 700.0, "ms");
        rocketmq.add("delivered", 100.0, "1/s");
        let lines = join("row", &krocket, &rocketmq);
        let shown: Vec<_> = lines.iter().map(|line| (&line.metric[..], line.ratio)).collect();
        assert_eq!(
            shown,
            [
                ("delivered", Some(3.0)),
                ("lateness p50", Some(50.0)),
                ("lateness max", None),
                ("throughput, on / off", None),
                ("refused", None),
            ]
        );
        assert_eq!((lines[4].krocket, lines[4].rocketmq), (None, Some(3.0)));
    }
}
