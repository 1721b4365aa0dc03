//! Reads what the environment may choose about a run.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::processor::Cores;

/// From how many rounds on a run is one that the documents may show.
const FULL: u32 = 9;

/// How a run is made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `BENCH_ROUNDS`, 9: how often each setup is measured.
    pub(crate) rounds: u32,
    /// `BENCH_SECONDS`, 3: how long each time.
    pub(crate) seconds: u32,
    /// `BENCH_CONNECTIONS`, 16: how many requests are under way at once.
    pub(crate) connections: u32,
    /// `BENCH_CORES`: two cores, the measured one first.
    pub(crate) cores: Cores,
    /// `BENCH_ONLY`: words, separated by commas; only setups and curves with one of them in their name are measured.
    pub(crate) only: Vec<String>,
}

impl Settings {
    /// What the variables say, defaults elsewhere.
    pub(crate) fn from_environment() -> Result<Self, HarnessError> {
        let cores = variable("BENCH_CORES");
        let only = variable("BENCH_ONLY").unwrap_or_default();
        Ok(Self {
            rounds: number("BENCH_ROUNDS", FULL)?,
            seconds: number("BENCH_SECONDS", 3)?,
            connections: number("BENCH_CONNECTIONS", 16)?,
            cores: Cores::choose(cores.as_deref())?,
            only: only
                .split(',')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether something of this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word))
    }

    /// Whether the documents may show this run.
    pub(crate) fn is_full(&self) -> bool {
        self.rounds >= FULL && self.only.is_empty()
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
