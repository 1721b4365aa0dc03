//! Reads what the environment may choose about a run.

use super::processor::Cores;
use crate::error::HarnessError;

/// From how many rounds on a run is one that the documents may show.
const FULL: u32 = 9;
/// Exchanges of one round: one or two seconds of a core.
const EXCHANGES: u32 = 8_000;
/// Exchanges over which a broker's memory is watched.
const WATCHED: u32 = 200_000;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BENCH_ROUNDS`, 9: how often each setup is measured.
    pub rounds: u32,
    /// `BENCH_SECONDS`, 3: how long each time, where time is what ends a round.
    pub seconds: u32,
    /// `BENCH_EXCHANGES`, 8000: how many exchanges, where their number ends a round.
    pub exchanges: u32,
    /// `BENCH_WATCHED`, 200000: over how many exchanges a broker's memory is watched.
    pub watched: u32,
    /// `BENCH_CONNECTIONS`, 16 to Envoy and 32 to who takes tickets: how many requests are under way at once.
    pub connections: u32,
    /// `BENCH_CORES`: two cores, the measured one first.
    pub cores: Cores,
    /// `BENCH_ONLY`: words, separated by commas; only setups and curves with one of them in their name are measured.
    pub only: Vec<String>,
}

impl Settings {
    /// What the variables say, defaults elsewhere, and so many connections.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] for a number that is none, or where there are not two cores.
    pub fn from_environment(connections: u32) -> Result<Self, HarnessError> {
        let cores = variable("BENCH_CORES");
        let only = variable("BENCH_ONLY").unwrap_or_default();
        Ok(Self {
            rounds: number("BENCH_ROUNDS", FULL)?,
            seconds: number("BENCH_SECONDS", 3)?,
            exchanges: number("BENCH_EXCHANGES", EXCHANGES)?,
            watched: number("BENCH_WATCHED", WATCHED)?,
            connections: number("BENCH_CONNECTIONS", connections)?,
            cores: Cores::choose(cores.as_deref())?,
            only: only
                .split(',')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether something of this name is to be measured.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word))
    }

    /// Whether the documents may show this run.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rounds >= FULL && self.exchanges >= EXCHANGES && self.watched >= WATCHED && self.only.is_empty()
    }
}

/// A variable; an empty one is the same as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, default: u32) -> Result<u32, HarnessError> {
    match variable(name) {
        None => Ok(default),
        Some(value) => match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            Ok(_) | Err(_) => Err(HarnessError::UnexpectedAnswer {
                what: format!("{name}, a whole number from 1,"),
                answer: value,
            }),
        },
    }
}
