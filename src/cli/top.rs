//! `krocket top`: what goes on, in the terminal.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use serde_json::{Value, json};

use super::client::{Query, Remote, path};
use crate::exit::Failure;
use crate::http::overview::{GroupNow, Overview, TopicNow};

#[derive(Args)]
pub(super) struct Top {
    #[command(flatten)]
    remote: Remote,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Print one look with its rates and end, as where there is no terminal.
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.1 to 3600".to_owned())
}

impl Top {
    pub(super) fn run(self) -> Result<(), Failure> {
        let first = self.look()?;
        if self.once || self.remote.json || !std::io::stdout().is_terminal() {
            std::thread::sleep(Duration::from_secs_f64(self.interval));
            let screen = Screen::new(&first, self.look()?);
            self.remote.done(&screen.json(), &screen.head().join("\n"));
            return Ok(());
        }
        let mut terminal = ratatui::try_init().map_err(|error| Failure::Other(format!("no terminal: {error}")))?;
        let result = self.follow(&mut terminal, first);
        ratatui::restore();
        result
    }

    fn look(&self) -> Result<Overview, Failure> {
        let answer = self.remote.get(&path(&["overview"]), &Query::default())?;
        serde_json::from_value(answer)
            .map_err(|error| Failure::Other(format!("the server answers, but not as krocket does: {error}")))
    }

    fn follow(&self, terminal: &mut ratatui::DefaultTerminal, first: Overview) -> Result<(), Failure> {
        let broken = |error: std::io::Error| Failure::Other(format!("the terminal failed: {error}"));
        let mut screen = Screen::new(&first, first.clone());
        let interval = Duration::from_secs_f64(self.interval);
        loop {
            terminal.draw(|frame| screen.draw(frame)).map_err(broken)?;
            let next = Instant::now() + interval;
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if !event::poll(left).map_err(broken)? {
                    break;
                }
                match event::read().map_err(broken)? {
                    Event::Key(key) if is_quit(key.code, key.modifiers) => return Ok(()),
                    Event::Resize(..) => {
                        terminal.draw(|frame| screen.draw(frame)).map_err(broken)?;
                    }
                    _ => {}
                }
            }
            match self.look() {
                Ok(now) => screen = Screen::new(&screen.now, now),
                // Restarts pass; what was seen last stays.
                Err(failure) => screen.trouble = Some(failure.to_string()),
            }
        }
    }
}

fn is_quit(key: KeyCode, modifiers: KeyModifiers) -> bool {
    matches!(key, KeyCode::Char('q') | KeyCode::Esc)
        || (key == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL))
}

/// Two looks and what lies between them.
struct Screen {
    now: Overview,
    seconds: f64,
    rates: Rates,
    topics: Vec<(TopicNow, f64)>,
    groups: Vec<(GroupNow, f64)>,
    trouble: Option<String>,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    requests: f64,
    records: f64,
    bytes_in: f64,
    bytes_out: f64,
    delivered: f64,
    cpu: f64,
}

impl Screen {
    fn new(before: &Overview, now: Overview) -> Self {
        let seconds = (now.at_ms.saturating_sub(before.at_ms) as f64 / 1000.0).max(0.001);
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = Rates {
            requests: rate(before.requests, now.requests),
            records: rate(before.appended_records, now.appended_records),
            bytes_in: rate(before.appended_bytes, now.appended_bytes),
            bytes_out: rate(before.fetched_bytes, now.fetched_bytes),
            delivered: rate(before.delivered, now.delivered),
            cpu: (now.cpu_seconds - before.cpu_seconds).max(0.0) / seconds,
        };
        let ends: HashMap<&str, u64> = before.topics.iter().map(|topic| (topic.name.as_str(), topic.offsets)).collect();
        let topic = |topic: &TopicNow| {
            let before = ends.get(topic.name.as_str()).copied().unwrap_or(topic.offsets);
            (topic.clone(), rate(before, topic.offsets))
        };
        let mut topics: Vec<(TopicNow, f64)> = now.topics.iter().map(topic).collect();
        topics.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.name.cmp(&b.0.name)));
        let lags: HashMap<&str, u64> = before.groups.iter().map(|group| (group.group.as_str(), group.lag)).collect();
        let group = |group: &GroupNow| {
            let before = lags.get(group.group.as_str()).copied().unwrap_or(group.lag);
            (group.clone(), (group.lag as f64 - before as f64) / seconds)
        };
        let mut groups: Vec<(GroupNow, f64)> = now.groups.iter().map(group).collect();
        groups.sort_by(|a, b| b.0.lag.cmp(&a.0.lag).then_with(|| a.0.group.cmp(&b.0.group)));
        Screen { now, seconds, rates, topics, groups, trouble: None }
    }

    fn head(&self) -> [String; 2] {
        let Rates { requests, records, bytes_in, bytes_out, delivered, cpu } = self.rates;
        let waiting = |kind: &str| self.now.parked.get(kind).copied().unwrap_or(0);
        [
            format!(
                "in {}/s, {}/s   out {}/s   {} requests/s   {} connections   cpu {:.0} %   memory {}",
                count(records),
                bytes(bytes_in),
                bytes(bytes_out),
                count(requests),
                self.now.connections,
                cpu * 100.0,
                bytes(self.now.memory_bytes as f64),
            ),
            format!(
                "waiting: {} delayed, {} retries, {} half, {} set aside   delivered {}/s",
                waiting("delayed"),
                waiting("retry"),
                waiting("half"),
                waiting("set_aside"),
                count(delivered),
            ),
        ]
    }

    fn json(&self) -> Value {
        let topics = self.topics.iter().map(|(topic, rate)| {
            json!({
                "name": topic.name, "partitions": topic.partitions, "records_per_second": rate.round(),
                "retained": topic.retained, "bytes": topic.bytes,
            })
        });
        let groups = self.groups.iter().map(|(group, change)| {
            json!({
                "group": group.group, "type": group.r#type, "state": group.state, "members": group.members,
                "lag": group.lag, "lag_change_per_second": change.round(),
            })
        });
        json!({
            "seconds": self.seconds,
            "topics": topics.collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
        })
    }

    fn draw(&self, frame: &mut Frame) {
        let groups = (self.groups.len() as u16).clamp(1, (frame.area().height / 3).max(1)) + 2;
        let rows = [Constraint::Length(3), Constraint::Min(3), Constraint::Length(groups), Constraint::Length(1)];
        let [head, topics, lags, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head().map(Line::from).to_vec()), head);
        let row = |cells: Vec<String>| Row::new(cells.into_iter().map(Cell::from));
        let header = |names: &[&'static str]| Row::new(names.to_vec()).style(Style::new().bold());
        let topic_rows = self.topics.iter().map(|(topic, rate)| {
            row(vec![
                topic.name.clone(),
                topic.partitions.to_string(),
                count(*rate),
                count(topic.retained as f64),
                bytes(topic.bytes as f64),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(10),
            Constraint::Length(12),
            Constraint::Length(12),
            Constraint::Length(12),
        ];
        let names = ["TOPIC", "PARTITIONS", "RECORDS/S", "RETAINED", "SIZE"];
        frame.render_widget(Table::new(topic_rows, widths).header(header(&names)).block(Block::new()), topics);
        let group_rows = self.groups.iter().map(|(group, change)| {
            row(vec![
                group.group.clone(),
                group.r#type.clone(),
                group.state.clone(),
                group.members.to_string(),
                count(group.lag as f64),
                format!("{}{}", if *change < 0.0 { "-" } else { "+" }, count(change.abs())),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(10),
            Constraint::Length(20),
            Constraint::Length(8),
            Constraint::Length(10),
            Constraint::Length(10),
        ];
        let names = ["GROUP", "TYPE", "STATE", "MEMBERS", "LAG", "CHANGE/S"];
        frame.render_widget(Table::new(group_rows, widths).header(header(&names)), lags);
        let foot_line = match &self.trouble {
            Some(trouble) => Line::from(trouble.as_str()).red(),
            None => Line::from("q ends").dim(),
        };
        frame.render_widget(foot_line, foot);
    }
}

/// Three digits and a suffix.
fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn overview(at_ms: u64, offsets: u64, lag: u64) -> Overview {
        Overview {
            at_ms,
            appended_records: offsets,
            topics: vec![
                TopicNow { name: "idle".to_owned(), partitions: 1, ..TopicNow::default() },
                TopicNow { name: "orders".to_owned(), partitions: 3, offsets, retained: offsets, bytes: 5 << 20 },
            ],
            groups: vec![GroupNow {
                group: "billing".to_owned(),
                r#type: "share".to_owned(),
                lag,
                ..GroupNow::default()
            }],
            ..Overview::default()
        }
    }

    #[test]
    fn two_looks_make_rates_and_the_busiest_topic_comes_first() {
        let screen = Screen::new(&overview(1000, 100, 50), overview(3000, 5100, 20));
        let mut terminal = Terminal::new(TestBackend::new(90, 14)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        let lines: Vec<String> = terminal
            .backend()
            .buffer()
            .content
            .chunks(90)
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>())
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(lines[0].starts_with("in 2.5k/s, 0 B/s"), "{lines:#?}");
        assert_eq!(
            lines[3..6],
            ["TOPIC PARTITIONS RECORDS/S RETAINED SIZE", "orders 3 2.5k 5.1k 5.0 MiB", "idle 1 0 0 0 B"]
        );
        assert!(lines.iter().any(|line| line.starts_with("billing share 0 20 -15")), "{lines:#?}");
    }

    #[test]
    fn a_terminal_too_small_for_anything_is_no_trouble() {
        let screen = Screen::new(&overview(1000, 1, 1), overview(2000, 2, 2));
        for (width, height) in [(0, 0), (1, 1), (20, 4)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
            terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        }
    }

    #[test]
    fn numbers_stay_short() {
        assert_eq!((count(999.0), count(1500.0), count(123_456.0)), ("999".into(), "1.5k".into(), "123k".into()));
        assert_eq!((bytes(0.0), bytes(1536.0)), ("0 B".to_owned(), "1.5 KiB".to_owned()));
    }
}
