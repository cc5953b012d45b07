//! The samples as CSV and as a chart of three lines: p99, memory, and what the log takes of the disk.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::paced::Sample;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 140.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;

pub(crate) fn write(folder: &Path, samples: &[Sample], phases: &[&str], rate: f64) -> io::Result<()> {
    let mut csv = "phase,second,batches_per_second,p50_ms,p99_ms,p999_ms,rss_bytes,log_bytes,stolen\n".to_owned();
    for Sample { phase, second, done, p50_ms, p99_ms, p999_ms, rss, log, stolen } in samples {
        let phase = phases[*phase];
        let latencies = format_args!("{p50_ms:.3},{p99_ms:.3},{p999_ms:.3}");
        let _ = writeln!(csv, "{phase},{second:.0},{done:.1},{latencies},{rss},{log},{stolen:.3}");
    }
    std::fs::write(folder.join("soak.csv"), csv)?;
    let mut body = String::new();
    let panels: [(&str, fn(&Sample) -> f64); 3] = [
        ("p99, ms", |sample| sample.p99_ms),
        ("memory, MB", |sample| sample.rss as f64 / 1e6),
        ("log on disk, MB", |sample| sample.log as f64 / 1e6),
    ];
    let mut height = 60.0;
    for (title, of) in panels {
        panel(&mut body, height, title, samples, phases, of);
        height += PANEL + 50.0;
    }
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\">{rate:.0} batches of 10 KB a second, 70 % of the knee</text>\n{body}</svg>\n"
    );
    std::fs::write(folder.join("soak.svg"), svg)
}

fn panel(out: &mut String, top: f64, title: &str, samples: &[Sample], phases: &[&str], of: fn(&Sample) -> f64) {
    let most = samples.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / (samples.len().max(2) - 1) as f64;
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    let bottom = top + PANEL;
    let _ = writeln!(out, "<text x=\"16\" y=\"{:.0}\" fill=\"#666\">{title}</text>", top - 8.0);
    for value in [0.0, most / 2.0, most] {
        let at = y(value);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{value:.1}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (phase, name) in phases.iter().enumerate() {
        let Some(first) = samples.iter().position(|sample| sample.phase == phase) else { continue };
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#bbb\"/>\
             <text x=\"{1:.1}\" y=\"{2:.0}\" fill=\"#666\">{name}</text>",
            x(first),
            x(first) + 4.0,
            bottom + 16.0
        );
    }
    let points: Vec<String> =
        samples.iter().enumerate().map(|(at, sample)| format!("{:.1},{:.1}", x(at), y(of(sample)))).collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"#2f6f9f\" stroke-width=\"1.5\" points=\"{}\"/>",
        points.join(" ")
    );
}
