//! Shapes what is measured of the way from token to ticket: what a request costs whom, and how often the KDC is asked.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::record::Measured;
use super::statistics::median;

/// A way to a service that takes Kerberos only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The library alone: tokens of tickets that are there, in a loop.
    RawLoop,
    /// The library alone, for users whose tickets are not there yet.
    RawLoopNewUsers,
    /// A client with tickets of its own goes to the service.
    Direct,
    /// A client with a token goes through Envoy, and its user's ticket is there.
    Kerbridge,
    /// The same for users whose tickets are not there yet.
    KerbridgeNewUsers,
}

impl Way {
    /// All, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::RawLoop,
        Self::Direct,
        Self::Kerbridge,
        Self::RawLoopNewUsers,
        Self::KerbridgeNewUsers,
    ];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawLoop => "raw-loop",
            Self::RawLoopNewUsers => "raw-loop-new-users",
            Self::Direct => "direct",
            Self::Kerbridge => "kerbridge",
            Self::KerbridgeNewUsers => "kerbridge-new-users",
        }
    }

    /// What the table calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::RawLoop => "gss_init_sec_context in a loop, no service",
            Self::RawLoopNewUsers => "the loop, each user for the first time",
            Self::Direct => "a client's own ticket, straight to Apache",
            Self::Kerbridge => "a token, through Envoy to the same Apache",
            Self::KerbridgeNewUsers => "a token, each user for the first time",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub const fn is_kerbridge(self) -> bool {
        match self {
            Self::Kerbridge | Self::KerbridgeNewUsers => true,
            Self::RawLoop | Self::RawLoopNewUsers | Self::Direct => false,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationRun {
    /// Where and when.
    pub machine: Machine,
    /// The versions of those that are not ours.
    pub versions: String,
    /// Rounds of each way.
    pub rounds: u32,
    /// Requests of each round.
    pub requests: u32,
    /// Users in turn, where their tickets are there.
    pub users: u32,
    /// Users of each round, where they come for the first time.
    pub new_users: u32,
    /// Requests that are under way at once.
    pub connections: u32,
    /// In the order of the table.
    pub ways: Vec<MeasuredWay>,
}

/// A way and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredWay {
    /// Which.
    pub way: Way,
    /// As the table calls it.
    pub title: String,
    /// Processor time is that of all processes on the way.
    #[serde(flatten)]
    pub measured: Measured,
    /// Round by round, what each process used.
    pub shares: Vec<Shares>,
}

/// Microseconds of processor time for a request, by process, and what the KDC was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Envoy, with the filter.
    pub envoy: f64,
    /// The broker, or the loop.
    pub broker: f64,
    /// Apache.
    pub service: f64,
    /// The KDC and its directory.
    pub kdc: f64,
    /// Requests that the KDC answered for each thousand.
    pub kdc_requests: f64,
}

impl Shares {
    /// All processes.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.envoy + self.broker + self.service + self.kdc
    }
}

impl MeasuredWay {
    /// The median of one share over the rounds; 0 of none.
    #[must_use]
    pub fn share(&self, of: fn(&Shares) -> f64) -> f64 {
        median(&self.shares.iter().map(of).collect::<Vec<f64>>()).unwrap_or(0.0)
    }
}

/// The run, beside those with Envoy and of exchanges.
#[must_use]
pub fn delegation_file() -> std::path::PathBuf {
    super::record::folder().join("delegation.json")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::record::tests::{measured, run_of};
    use super::*;

    /// A run in which each way has these microseconds and requests a second.
    pub(crate) fn delegation_run_of(ways: &[(Way, f64, u64)]) -> DelegationRun {
        let ways = ways.iter().map(|(way, cpu, requests)| MeasuredWay {
            way: *way,
            title: way.title().to_owned(),
            measured: measured(&[*cpu], *requests),
            shares: vec![
                Shares {
                    broker: *cpu,
                    ..Shares::default()
                };
                3
            ],
        });
        DelegationRun {
            machine: run_of(&[]).machine,
            versions: "Apache/2.4".into(),
            rounds: 1,
            requests: 1000,
            users: 50,
            new_users: 100,
            connections: 16,
            ways: ways.collect(),
        }
    }

    #[test]
    fn each_way_is_in_the_list_once_and_named_as_in_the_json() {
        for way in Way::ALL {
            assert_eq!(serde_json::to_value(way).unwrap(), way.name());
            assert_eq!(Way::ALL.iter().filter(|other| *other == way).count(), 1);
        }
    }

    #[test]
    fn a_share_is_the_median_of_its_rounds_and_all_of_them_are_the_sum() {
        let run = delegation_run_of(&[(Way::Kerbridge, 40.0, 1000)]);
        assert_eq!(run.ways[0].share(|shares| shares.broker), 40.0);
        assert_eq!(run.ways[0].share(Shares::sum), 40.0);
        assert_eq!(run.ways[0].share(|shares| shares.kdc), 0.0);
    }
}
