//! One bar chart per table.

use std::fmt::Write;

use crate::report::{Sheet, number};
use crate::results::Line;
use crate::runs::Runs;

const LEFT: f64 = 300.0;
const BARS: f64 = 460.0;
const WIDTH: f64 = 900.0;
const BAR: f64 = 14.0;

/// Others keep their colours when they are alone.
fn color(label: &str, index: usize) -> &'static str {
    match label.split(' ').next() {
        Some("Nisshi") => "#7d9b62",
        Some("Kafka") => "#c9853f",
        _ if index > 0 => "#c9853f",
        _ => "#2f6f9f",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The chart of a sheet, or nothing when the runs have no line for it.
pub(crate) fn chart(sheet: &Sheet, runs: &Runs) -> Option<String> {
    let groups = sheet.groups(runs.lines());
    let mut body = String::new();
    let mut y = 58.0;
    for (labels, lines) in &groups {
        legend(&mut body, &mut y, labels);
        for line in lines {
            // Rows differ by powers of ten: sides are scaled to each other.
            let max = if line.sides.len() > 1 { scale(&[*line]) } else { scale(lines) };
            bars(&mut body, &mut y, &sheet.line_name(line), line, max);
        }
        y += 10.0;
    }
    if groups.is_empty() {
        return None;
    }
    let unit = groups[0].1.first().map_or("", |line| &*line.unit);
    let better = if groups[0].1.first().is_some_and(|line| line.higher_is_better) { "more" } else { "less" };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\">{title}, {unit} ({better} is better)</text>\n\
         <text x=\"16\" y=\"44\" fill=\"#666\">{measured}, thin lines least and most; bars compare within a row</text>\n",
        height = y + 8.0,
        title = escape(sheet.title),
        measured = escape(&runs.measured()),
    );
    out += &body;
    out += "</svg>\n";
    Some(out)
}

/// The greatest value that has to fit.
fn scale(lines: &[&Line]) -> f64 {
    lines.iter().flat_map(|line| &line.sides).map(|side| side.spread.max).fold(f64::MIN_POSITIVE, f64::max)
}

fn legend(out: &mut String, y: &mut f64, labels: &[String]) {
    let mut x = LEFT;
    for (i, label) in labels.iter().enumerate() {
        let color = color(label, i);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"11\" height=\"11\" fill=\"{color}\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 16.0,
            *y + 10.0,
            escape(label)
        );
        x += 40.0 + 7.0 * label.len() as f64;
    }
    *y += 24.0;
}

fn bars(out: &mut String, y: &mut f64, name: &str, line: &Line, max: f64) {
    let height = BAR * line.sides.len() as f64;
    let middle = *y + height / 2.0 + 4.0;
    let _ = writeln!(out, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", LEFT - 10.0, escape(name));
    for (i, side) in line.sides.iter().enumerate() {
        let color = color(&side.label, i);
        let top = *y + BAR * i as f64;
        let at = |value: f64| LEFT + value / max * BARS;
        let s = side.spread;
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{h}\" fill=\"{color}\"/>\
             <path d=\"M{min:.1} {m}H{max:.1}\" stroke=\"#222\" stroke-opacity=\".6\"/>\
             <text x=\"{x:.1}\" y=\"{text}\" font-size=\"11\">{value}</text>",
            width = (at(s.median) - LEFT).max(1.0),
            h = BAR - 2.0,
            min = at(s.min),
            max = at(s.max),
            m = top + BAR / 2.0 - 1.0,
            x = at(s.max) + 5.0,
            text = top + BAR - 4.0,
            value = number(s.median),
        );
        if let Some(ratio) = side.ratio {
            // Of two, between them.
            let y = if line.sides.len() == 2 { middle } else { top + BAR - 4.0 };
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"600\">{:.2}×</text>",
                WIDTH - 16.0,
                ratio.median
            );
        }
    }
    *y += height + 8.0;
}
