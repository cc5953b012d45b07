//! How long a test of endurance goes on, with which dice, and the line that says what it saw.
//!
//! `make test` runs quick forms from fixed seeds. In a long form `KROCKET_CRASH_ROUNDS` says how many rounds,
//! `KROCKET_CRASH_SEED` from which seed (random, printed). `make torture` collects the lines in `KROCKET_TORTURE_LINES`, from
//! which docs/reliability.md is made.

use std::io::Write;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A number in the environment.
///
/// # Panics
/// When it is there and no number.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// How long to play, and with which dice.
pub struct Plan {
    /// Rounds altogether.
    pub rounds: u32,
    /// Where the dice begin.
    pub seed: u64,
    /// Not the quick form.
    pub long: bool,
    started: Instant,
}

/// Some rounds on one data folder.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// From 0.
    pub number: u32,
    /// Its dice.
    pub seed: u64,
    /// Its rounds.
    pub rounds: u32,
}

impl Plan {
    /// What the environment says, else `rounds` from `seed`.
    pub fn read(rounds: u32, seed: u64) -> Self {
        Plan::of("KROCKET_CRASH_ROUNDS", rounds, seed)
    }

    /// The same, where another variable has the count.
    pub fn of(variable: &str, rounds: u32, seed: u64) -> Self {
        let asked = setting(variable);
        let long = asked.is_some();
        let seed = setting("KROCKET_CRASH_SEED").unwrap_or_else(|| if long { rand::random() } else { seed });
        Plan { rounds: asked.map_or(rounds, |asked| asked as u32), seed, long, started: Instant::now() }
    }

    /// The rounds in portions: what survived one crash has to survive the next.
    pub fn lives(&self, rounds_per_life: u32) -> impl Iterator<Item = Life> + use<> {
        let (rounds, seed) = (self.rounds, self.seed);
        (0..rounds.div_ceil(rounds_per_life)).map(move |number| Life {
            number,
            seed: seed.wrapping_add(number.into()),
            rounds: rounds_per_life.min(rounds - number * rounds_per_life),
        })
    }

    /// Seconds since the plan was read.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Says what was seen to hold.
    pub fn report(&self, group: &str, case: &str, count: u64, result: &str) {
        let (group, case, result) = (group.to_owned(), case.to_owned(), result.to_owned());
        tell(&Line { group, case, count, result, seconds: self.seconds(), seed: Some(self.seed) });
    }
}

/// What one test saw: a row of docs/reliability.md.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What was done to krocket: "Power loss", "Disk".
    pub group: String,
    /// In words.
    pub case: String,
    /// How often.
    pub count: u64,
    /// What was counted meanwhile.
    pub result: String,
    /// How long it took.
    pub seconds: f64,
    /// The dice that do it again.
    pub seed: Option<u64>,
}

/// Prints a line, and keeps it where `make torture` collects them.
#[allow(clippy::print_stdout)]
pub fn tell(line: &Line) {
    let text = serde_json::to_string(line).expect("a line is JSON");
    println!("torture: {text}");
    if let Some(path) = std::env::var_os("KROCKET_TORTURE_LINES") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file of lines");
        writeln!(file, "{text}").expect("it can be written");
    }
}
