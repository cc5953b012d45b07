//! Results as tables on the terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets::UTF8_BORDERS_ONLY};

use crate::metric::Metric;
use crate::results::{Line, Results, Spread};

/// A table and its chart: some metrics of all rows.
pub(crate) struct Sheet {
    pub(crate) title: &'static str,
    /// Name of the SVG file.
    pub(crate) file: &'static str,
    metrics: &'static [Metric],
}

/// All tables, in their order.
pub(crate) const SHEETS: &[Sheet] = &[
    Sheet { title: "Throughput", file: "throughput", metrics: &[Metric::MegabytesPerSecond] },
    Sheet { title: "Records", file: "records", metrics: &[Metric::RecordsPerSecond] },
    Sheet {
        title: "Latency from the intended send time",
        file: "latency",
        metrics: &[Metric::P50, Metric::P99, Metric::P999],
    },
    Sheet { title: "Server CPU per GB", file: "cpu", metrics: &[Metric::CpuPerGigabyte] },
    Sheet { title: "Peak resident memory", file: "memory", metrics: &[Metric::PeakMebibytes] },
    Sheet { title: "Transactions", file: "transactions", metrics: &[Metric::TransactionsPerSecond] },
    Sheet {
        title: "End-to-end latency from the intended send time",
        file: "end-to-end",
        metrics: &[Metric::EndToEndP50, Metric::EndToEndP99, Metric::EndToEndP999],
    },
    Sheet { title: "Requests a second that are sustained", file: "knee", metrics: &[Metric::Knee] },
    Sheet { title: "Start", file: "start", metrics: &[Metric::Start, Metric::StartToProduce] },
    Sheet { title: "CPU when idle", file: "idle-cpu", metrics: &[Metric::IdleCpu] },
    Sheet { title: "Memory when idle", file: "idle-memory", metrics: &[Metric::RestMebibytes] },
    Sheet { title: "Memory per idle connection", file: "connections", metrics: &[Metric::KibibytesPerConnection] },
    Sheet { title: "Topic creation", file: "creation", metrics: &[Metric::TopicsPerSecond] },
];

impl Sheet {
    /// The lines of this sheet, grouped by the sides they compare: only those share columns.
    pub(crate) fn groups<'a>(&self, lines: impl IntoIterator<Item = &'a Line>) -> Vec<(Vec<String>, Vec<&'a Line>)> {
        let mut groups: Vec<(Vec<String>, Vec<&Line>)> = Vec::new();
        for line in lines.into_iter().filter(|line| self.metrics.contains(&line.metric) && !line.sides.is_empty()) {
            let labels: Vec<String> = line.sides.iter().map(|side| side.label.clone()).collect();
            match groups.iter_mut().find(|(group, _)| *group == labels) {
                Some((_, lines)) => lines.push(line),
                None => groups.push((labels, vec![line])),
            }
        }
        groups
    }

    /// The name of a line within this sheet.
    pub(crate) fn line_name(&self, line: &Line) -> String {
        if self.metrics.len() > 1 { format!("{}, {}", line.row, line.metric.name()) } else { line.row.clone() }
    }
}

/// Three significant digits, and thousands apart from each other.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((&text[..], None), |(w, f)| (w, Some(f)));
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 && c.is_ascii_digit() {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    fraction.map_or(out.clone(), |f| format!("{out}.{f}"))
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn ratio_cell(ratio: Spread) -> Cell {
    let color = match ratio.median {
        m if m >= 1.0 => Color::Green,
        _ => Color::Red,
    };
    right(format!("{:.2}×", ratio.median)).fg(color).add_attribute(Attribute::Bold)
}

fn table(sheet: &Sheet, labels: &[String], lines: &[&Line]) -> Table {
    let unit = lines.first().map_or("", |line| &*line.unit);
    let limited = lines.iter().any(|line| line.limit.is_some());
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut header = vec![Cell::new("row")];
    for (i, label) in labels.iter().enumerate() {
        header.push(right(format!("{label}\n{unit}")));
        if i > 0 {
            header.extend([right("ratio".into()), right("min – max".into())]);
        }
    }
    if limited {
        header.extend([right("of limit".into()), Cell::new("limit")]);
    }
    table.set_header(header);
    for line in lines {
        let mut cells = vec![Cell::new(sheet.line_name(line))];
        for (i, side) in line.sides.iter().enumerate() {
            cells.push(right(number(side.spread.median)));
            match side.ratio {
                Some(ratio) => cells.extend([ratio_cell(ratio), right(format!("{:.2} – {:.2}", ratio.min, ratio.max))]),
                None if i > 0 => cells.extend([right("–".into()), right("–".into())]),
                None => {}
            }
        }
        if limited {
            let shares =
                line.sides.iter().filter_map(|side| side.share_of_limit).map(|s| format!("{:.0} %", s * 100.0));
            cells.push(right(shares.collect::<Vec<_>>().join(" / ")));
            cells.push(Cell::new(line.limit.as_deref().unwrap_or("–")));
        }
        table.add_row(cells);
    }
    table
}

/// Everything as text.
pub(crate) fn text(results: &Results) -> String {
    let mut out = format!("\n{}\n", results.machine.line());
    let l = &results.limits;
    out += &format!(
        "limits: disk write + fdatasync {} MB/s, disk read {} MB/s, fdatasync of 4 KiB p50 {} µs p99 {} µs, loopback TCP {} MB/s, round trip {} µs, memcpy {} MB/s\n",
        number(l.disk_sync_write_mb_s),
        number(l.disk_read_mb_s),
        number(l.fdatasync_p50_us),
        number(l.fdatasync_p99_us),
        number(l.loopback_tcp_mb_s),
        number(l.round_trip_p50_us),
        number(l.memcpy_mb_s),
    );
    out += "acks=1: written to the OS on both sides. acks=all: krocket's fdatasync beside Kafka's flush.messages=1.\n";
    out += &format!(
        "Medians of {} rounds; a ratio above 1 means that the first column is better than the one before the ratio.\n",
        results.rounds
    );
    if results.machine.load_before > 1.0 {
        out += &format!(
            "The machine was not idle: load {:.1} before anything was started.\n",
            results.machine.load_before
        );
    }
    for sheet in SHEETS {
        for (labels, lines) in sheet.groups(&results.lines) {
            out += &format!("\n{}\n{}\n", sheet.title, table(sheet, &labels, &lines));
        }
    }
    for note in &results.notes {
        out += &format!("note: {note}\n");
    }
    for failure in &results.failures {
        out += &format!("FAILED: {failure}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(number(0.01234), "0.012");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(43.21), "43.2");
        assert_eq!(number(1234567.0), "1\u{202f}234\u{202f}567");
    }
}
