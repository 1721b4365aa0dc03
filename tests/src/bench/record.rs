//! Shapes the JSON under `target/bench/`: what was run, each round of it, and what follows from the rounds.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::statistics::{maximum, median, minimum};
use super::wrk::Counted;
use crate::error::HarnessError;
use crate::shipped::repository;

/// One way to set up Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// The router alone.
    Bare,
    /// A module of the Rust SDK that does nothing.
    EmptyWasm,
    /// jwt_authn with its cache, ES256.
    JwtCacheEs256,
    /// jwt_authn with its cache, RS256.
    JwtCacheRs256,
    /// jwt_authn with its cache, and RBAC on the same claim.
    JwtRbac,
    /// jwt_authn with its cache, RBAC, and ext_authz that knows revocations.
    JwtRbacExtAuthz,
    /// jwt_authn that verifies each request, ES256.
    JwtColdEs256,
    /// jwt_authn that verifies each request, RS256.
    JwtColdRs256,
    /// jwt_authn and RBAC with 20,000 tokens in turn, its cache large enough.
    JwtRbacManyTokens,
    /// kerbridge with its cache, ES256.
    KerbridgeWarmEs256,
    /// kerbridge with its cache, RS256.
    KerbridgeWarmRs256,
    /// kerbridge with its cache and a feed of a million revocations.
    KerbridgeWarmRevocations,
    /// kerbridge that verifies each request, ES256.
    KerbridgeColdEs256,
    /// kerbridge that verifies each request, RS256.
    KerbridgeColdRs256,
    /// kerbridge with 20,000 tokens in turn, its cache large enough.
    KerbridgeManyTokens,
    /// kerbridge with 20,000 tokens in turn and the cache that it has by default.
    KerbridgeManyTokensDefaultCache,
}

impl Candidate {
    /// All, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::Bare,
        Self::EmptyWasm,
        Self::JwtCacheEs256,
        Self::JwtCacheRs256,
        Self::JwtRbac,
        Self::KerbridgeWarmEs256,
        Self::KerbridgeWarmRs256,
        Self::JwtRbacExtAuthz,
        Self::KerbridgeWarmRevocations,
        Self::JwtColdEs256,
        Self::KerbridgeColdEs256,
        Self::JwtColdRs256,
        Self::KerbridgeColdRs256,
        Self::JwtRbacManyTokens,
        Self::KerbridgeManyTokens,
        Self::KerbridgeManyTokensDefaultCache,
    ];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::EmptyWasm => "empty-wasm",
            Self::JwtCacheEs256 => "jwt-cache-es256",
            Self::JwtCacheRs256 => "jwt-cache-rs256",
            Self::JwtRbac => "jwt-rbac",
            Self::JwtRbacExtAuthz => "jwt-rbac-ext-authz",
            Self::JwtColdEs256 => "jwt-cold-es256",
            Self::JwtColdRs256 => "jwt-cold-rs256",
            Self::JwtRbacManyTokens => "jwt-rbac-many-tokens",
            Self::KerbridgeWarmEs256 => "kerbridge-warm-es256",
            Self::KerbridgeWarmRs256 => "kerbridge-warm-rs256",
            Self::KerbridgeWarmRevocations => "kerbridge-warm-revocations",
            Self::KerbridgeColdEs256 => "kerbridge-cold-es256",
            Self::KerbridgeColdRs256 => "kerbridge-cold-rs256",
            Self::KerbridgeManyTokens => "kerbridge-many-tokens",
            Self::KerbridgeManyTokensDefaultCache => "kerbridge-many-tokens-default-cache",
        }
    }

    /// What the table calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare Envoy",
            Self::EmptyWasm => "empty wasm filter",
            Self::JwtCacheEs256 => "jwt_authn, cached, ES256",
            Self::JwtCacheRs256 => "jwt_authn, cached, RS256",
            Self::JwtRbac => "jwt_authn, cached + RBAC on the scope",
            Self::JwtRbacExtAuthz => "jwt_authn, cached + RBAC + ext_authz, 1,000,000 revocations",
            Self::JwtColdEs256 => "jwt_authn, each request verified, ES256",
            Self::JwtColdRs256 => "jwt_authn, each request verified, RS256",
            Self::JwtRbacManyTokens => "jwt_authn + RBAC, 20,000 tokens, cache of 25,000",
            Self::KerbridgeWarmEs256 => "kerbridge, cached, ES256",
            Self::KerbridgeWarmRs256 => "kerbridge, cached, RS256",
            Self::KerbridgeWarmRevocations => "kerbridge, cached, 1,000,000 revocations",
            Self::KerbridgeColdEs256 => "kerbridge, each request verified, ES256",
            Self::KerbridgeColdRs256 => "kerbridge, each request verified, RS256",
            Self::KerbridgeManyTokens => "kerbridge, 20,000 tokens, cache of 25,000",
            Self::KerbridgeManyTokensDefaultCache => "kerbridge, 20,000 tokens, cache of 10,000 (default)",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub fn is_kerbridge(self) -> bool {
        self.name().starts_with("kerbridge")
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Where and when.
    pub machine: Machine,
    /// Envoy's version.
    pub envoy: String,
    /// Size of kerbridge's module.
    pub module_bytes: u64,
    /// Rounds of each candidate.
    pub rounds: u32,
    /// Seconds of each round.
    pub seconds: u32,
    /// Connections of the load.
    pub connections: u32,
    /// The candidates, in the order of the table.
    pub setups: Vec<Setup>,
    /// kerbridge by its size.
    pub curves: Vec<EnvoyCurve>,
}

/// One candidate, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Which.
    pub candidate: Candidate,
    /// What the table calls it.
    pub title: String,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One Envoy over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What follows from the rounds.
    pub summary: Summary,
    /// Memory of the process after the last round.
    pub resident_kib: u64,
    /// From the start of the process to its first good answer.
    pub ready_milliseconds: u64,
    /// Round by round, in the order in which they were run.
    pub rounds: Vec<Round>,
}

/// One round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Microseconds of processor time that Envoy used for a request.
    pub cpu_microseconds: f64,
    /// Microseconds that the process beside it used, which answers ext_authz and feeds.
    pub beside_microseconds: f64,
    /// What the load counted.
    #[serde(flatten)]
    pub counted: Counted,
}

/// What follows from all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Least of Envoy's processor time for a request, in microseconds.
    pub cpu_minimum: f64,
    /// Median of it.
    pub cpu_median: f64,
    /// Median of what was used beside it.
    pub beside_median: f64,
    /// Median of requests a second.
    pub requests_median: f64,
    /// Most of it.
    pub requests_maximum: f64,
    /// Median of the rounds' 50th percentile, in microseconds.
    pub latency_p50: f64,
    /// Median of the rounds' 99th percentile, in microseconds.
    pub latency_p99: f64,
}

impl Measured {
    /// Of these rounds; nothing of none.
    #[must_use]
    pub fn new(rounds: Vec<Round>, resident_kib: u64, ready_milliseconds: u64) -> Option<Self> {
        let column = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
        let cpu = column(|round| round.cpu_microseconds);
        let requests = column(|round| round.counted.requests_per_second());
        let summary = Summary {
            cpu_minimum: minimum(&cpu)?,
            cpu_median: median(&cpu)?,
            beside_median: median(&column(|round| round.beside_microseconds))?,
            requests_median: median(&requests)?,
            requests_maximum: maximum(&requests)?,
            latency_p50: median(&column(|round| round.counted.latency.p50 as f64))?,
            latency_p99: median(&column(|round| round.counted.latency.p99 as f64))?,
        };
        Some(Self {
            summary,
            resident_kib,
            ready_milliseconds,
            rounds,
        })
    }
}

/// One dimension in which kerbridge was made larger, in a real Envoy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvoyCurve {
    /// What was made larger.
    pub dimension: String,
    /// From small to large.
    pub points: Vec<EnvoyPoint>,
}

/// One size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvoyPoint {
    /// How many.
    pub size: u64,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Instructions of the native gate by its size, as callgrind counts them; written by the gate's own benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The counter.
    pub tool: String,
    /// One for each dimension and operation.
    pub curves: Vec<GrowthCurve>,
}

/// One operation, in one dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthCurve {
    /// What was made larger.
    pub dimension: String,
    /// What was done.
    pub operation: String,
    /// From small to large.
    pub points: Vec<GrowthPoint>,
}

/// One size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthPoint {
    /// How many.
    pub size: u64,
    /// Instructions for one request.
    pub instructions: f64,
}

impl GrowthCurve {
    /// How far the points lie apart: the largest over the smallest, less one.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let counts: Vec<f64> = self.points.iter().map(|point| point.instructions).collect();
        Some(maximum(&counts)? / minimum(&counts)? - 1.0)
    }
}

/// The folder of results.
#[must_use]
pub fn folder() -> PathBuf {
    repository().join("target/bench")
}

/// The run with Envoy.
#[must_use]
pub fn envoy_file() -> PathBuf {
    folder().join("envoy.json")
}

/// The counts of the native gate.
#[must_use]
pub fn growth_file() -> PathBuf {
    folder().join("growth.json")
}

/// Reads a result; nothing where there is none yet.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] where the file is another release's.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, HarnessError> {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| HarnessError::UnexpectedAnswer {
            what: format!("reading {}, which `make bench` writes anew,", file.display()),
            answer: error.to_string(),
        })
}

/// Writes a result.
///
/// # Errors
///
/// [`HarnessError::Io`].
pub fn write<T: Serialize>(file: &Path, result: &T) -> Result<(), HarnessError> {
    let failed = |source| HarnessError::io(format!("write {}", file.display()), source);
    std::fs::create_dir_all(folder()).map_err(failed)?;
    let text = serde_json::to_string_pretty(result).map_err(|error| failed(error.into()))?;
    std::fs::write(file, text + "\n").map_err(failed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::wrk::Latency;
    use super::*;

    /// A run in which each candidate has these microseconds and requests a second.
    pub(crate) fn run_of(candidates: &[(Candidate, f64, u64)]) -> Run {
        let setups = candidates.iter().map(|(candidate, cpu, requests)| Setup {
            candidate: *candidate,
            title: candidate.title().to_owned(),
            measured: measured(&[*cpu], *requests),
        });
        Run {
            machine: Machine {
                processor: "Example".into(),
                cores: 2,
                virtual_machine: false,
                kernel: "6.1".into(),
                date: "2026-01-31".into(),
            },
            envoy: "1.40.0".into(),
            module_bytes: 600_000,
            rounds: 1,
            seconds: 1,
            connections: 16,
            setups: setups.collect(),
            curves: Vec::new(),
        }
    }

    pub(crate) fn measured(cpu: &[f64], requests: u64) -> Measured {
        let round = |cpu: &f64| Round {
            cpu_microseconds: *cpu,
            beside_microseconds: 0.0,
            counted: Counted {
                requests,
                microseconds: 1_000_000,
                latency: Latency {
                    p50: 500,
                    p90: 600,
                    p99: 900,
                    p999: 1500,
                },
            },
        };
        Measured::new(cpu.iter().map(round).collect(), 50_000, 900).unwrap()
    }

    #[test]
    fn a_summary_has_the_least_and_the_median_of_its_rounds() {
        let summary = measured(&[50.0, 40.0, 90.0], 1000).summary;
        assert_eq!((summary.cpu_minimum, summary.cpu_median), (40.0, 50.0));
        assert_eq!(summary.requests_median, 1000.0);
        assert_eq!(Measured::new(Vec::new(), 0, 0), None);
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.json");
        let run = run_of(&[(Candidate::Bare, 30.0, 30_000)]);
        write(&file, &run).unwrap();
        assert_eq!(read::<Run>(&file).unwrap(), Some(run));
        assert_eq!(read::<Run>(&folder.path().join("none.json")).unwrap(), None);
        std::fs::write(&file, "{}").unwrap();
        assert!(read::<Run>(&file).is_err());
    }

    #[test]
    fn each_candidate_is_in_the_list_once_and_named_as_in_the_json() {
        for candidate in Candidate::ALL {
            assert_eq!(serde_json::to_value(candidate).unwrap(), candidate.name());
            assert_eq!(Candidate::ALL.iter().filter(|other| *other == candidate).count(), 1);
        }
    }

    #[test]
    fn the_spread_of_a_curve_is_between_its_extremes() {
        let points = [100.0, 104.0, 98.0].map(|instructions| GrowthPoint { size: 1, instructions });
        let curve = GrowthCurve {
            dimension: "rules".into(),
            operation: "cold".into(),
            points: points.to_vec(),
        };
        let spread = curve.spread().unwrap();
        assert!((0.061..0.062).contains(&spread), "{spread}");
    }
}
