//! Shapes what is measured of the ticket exchange: who takes tickets, what one costs, and what a broker holds after many.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::record::Measured;

/// Somebody who takes tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acceptor {
    /// The library alone, in a loop.
    RawLoop,
    /// Apache with mod_auth_gssapi.
    Apache,
    /// The broker as it is shipped.
    Kerbridge,
    /// The broker with `[replay] store = false`.
    KerbridgeWithoutStore,
    /// The broker on a TCP port, as Apache is.
    KerbridgeOverTcp,
}

impl Acceptor {
    /// All, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::RawLoop,
        Self::Apache,
        Self::Kerbridge,
        Self::KerbridgeWithoutStore,
        Self::KerbridgeOverTcp,
    ];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawLoop => "raw-loop",
            Self::Apache => "apache",
            Self::Kerbridge => "kerbridge",
            Self::KerbridgeWithoutStore => "kerbridge-without-store",
            Self::KerbridgeOverTcp => "kerbridge-over-tcp",
        }
    }

    /// What the table calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::RawLoop => "gss_accept_sec_context in a loop",
            Self::Apache => "Apache, mod_auth_gssapi",
            Self::Kerbridge => "kerbridge",
            Self::KerbridgeWithoutStore => "kerbridge, without its replay store",
            Self::KerbridgeOverTcp => "kerbridge, over TCP",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub const fn is_kerbridge(self) -> bool {
        match self {
            Self::Kerbridge | Self::KerbridgeWithoutStore | Self::KerbridgeOverTcp => true,
            Self::RawLoop | Self::Apache => false,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeRun {
    /// Where and when.
    pub machine: Machine,
    /// The versions of those that are not ours.
    pub versions: String,
    /// Rounds of each acceptor.
    pub rounds: u32,
    /// Tickets of each round.
    pub exchanges: u32,
    /// Requests that are under way at once.
    pub connections: u32,
    /// In the order of the table.
    pub setups: Vec<ExchangeSetup>,
    /// What brokers hold after many exchanges.
    pub memory: Vec<Watched>,
}

/// An acceptor and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeSetup {
    /// Which.
    pub acceptor: Acceptor,
    /// As the table calls it.
    pub title: String,
    /// What came out.
    #[serde(flatten)]
    pub measured: Measured,
}

/// A broker whose memory was watched over many exchanges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// With its replay store.
    pub store: bool,
    /// From the first exchanges on.
    pub marks: Vec<Mark>,
}

/// What a broker holds after so many exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// How many, since its start.
    pub exchanges: u64,
    /// What it holds, in KiB.
    pub resident_kib: u64,
}

impl Mark {
    /// What the table of used tags takes by now, in KiB: 16 bytes of a tag and one of the table for each place of it, whose
    /// number is the power of two of which at most seven eighths are taken. All tags of a run are young enough to be kept.
    #[must_use]
    pub fn table_kib(self) -> u64 {
        let places = (self.exchanges.saturating_mul(8) / 7).next_power_of_two();
        places.saturating_mul(17) / 1024
    }
}

impl Watched {
    /// The marks between which a broker should not grow: in the first half of a run its caches fill, the store's among them.
    /// Nothing of fewer than two.
    #[must_use]
    pub fn second_half(&self) -> Option<(Mark, Mark)> {
        let last = self.marks.last()?;
        let middle = self.marks.get((self.marks.len() / 2).checked_sub(1)?)?;
        Some((*middle, *last))
    }

    /// By how much the broker grew in the second half of the run beside its table of used tags, in KiB; nothing of one mark.
    #[must_use]
    pub fn growth_kib(&self) -> Option<i64> {
        let beside = |mark: Mark| {
            let table = if self.store { mark.table_kib() } else { 0 };
            i64::try_from(mark.resident_kib)
                .ok()?
                .checked_sub(i64::try_from(table).ok()?)
        };
        let (middle, last) = self.second_half()?;
        beside(last)?.checked_sub(beside(middle)?)
    }
}

/// The run of exchanges, beside those with Envoy.
#[must_use]
pub fn exchange_file() -> std::path::PathBuf {
    super::record::folder().join("exchange.json")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::record::tests::measured;
    use super::*;

    /// A run in which each acceptor has these microseconds and exchanges a second.
    pub(crate) fn exchange_run_of(acceptors: &[(Acceptor, f64, u64)]) -> ExchangeRun {
        let setups = acceptors.iter().map(|(acceptor, cpu, requests)| ExchangeSetup {
            acceptor: *acceptor,
            title: acceptor.title().to_owned(),
            measured: measured(&[*cpu], *requests),
        });
        ExchangeRun {
            machine: super::super::record::tests::run_of(&[]).machine,
            versions: "Apache/2.4".into(),
            rounds: 1,
            exchanges: 1000,
            connections: 16,
            setups: setups.collect(),
            memory: Vec::new(),
        }
    }

    #[test]
    fn the_table_of_used_tags_is_taken_off_where_there_is_one() {
        let mark = |exchanges, resident_kib| Mark {
            exchanges,
            resident_kib,
        };
        // 2^16 places hold 57,344 tags, 2^18 hold 229,376.
        assert_eq!(mark(57_344, 0).table_kib(), 1088);
        assert_eq!(mark(57_400, 0).table_kib(), 2176);
        let marks = vec![
            mark(25_000, 9_000),
            mark(50_000, 12_000),
            mark(100_000, 13_000),
            mark(200_000, 16_000),
        ];
        let with = Watched {
            store: true,
            marks: marks.clone(),
        };
        assert_eq!(with.growth_kib(), Some(4000 - (4352 - 1088)));
        let without = Watched { store: false, marks };
        assert_eq!(without.growth_kib(), Some(4000));
        let one = Watched {
            store: false,
            marks: vec![mark(1, 1)],
        };
        assert_eq!(one.growth_kib(), None);
    }

    #[test]
    fn each_acceptor_is_in_the_list_once_and_named_as_in_the_json() {
        for acceptor in Acceptor::ALL {
            assert_eq!(serde_json::to_value(acceptor).unwrap(), acceptor.name());
            assert_eq!(Acceptor::ALL.iter().filter(|other| *other == acceptor).count(), 1);
        }
    }
}
