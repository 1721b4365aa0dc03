//! Holds what was measured against what is wanted.

use super::exchange::{Acceptor, ExchangeRun, Watched};
use super::record::{Candidate, Growth, Measured, Run};
use super::statistics::paired_ratio;

/// The largest module, in bytes.
const MODULE_LIMIT: u64 = 1_000_000;
/// How far instruction counts of one curve may lie apart.
const FLAT: f64 = 0.05;
/// What 100,000 cached tokens may take, in KiB.
const CACHE_LIMIT_KIB: u64 = 128 * 1024;
/// By what a broker may grow in the second half of a watched run beside its table of used tags, in KiB: with 100,000 exchanges
/// a leak of eleven bytes for each is more.
const WATCHED_LIMIT_KIB: i64 = 1024;

/// One goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// What is wanted.
    pub wanted: String,
    /// What was measured.
    pub measured: String,
    /// Whether that is enough.
    pub met: bool,
}

/// Every goal for which there are measurements.
#[must_use]
pub fn judge(run: Option<&Run>, growth: Option<&Growth>) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(run) = run {
        goals.extend(warm(run, Candidate::JwtRbac));
        goals.extend(warm(run, Candidate::JwtCacheEs256));
        goals.extend(throughput(
            run,
            Candidate::KerbridgeWarmRevocations,
            Candidate::JwtRbacExtAuthz,
            3.0,
        ));
        goals.extend(throughput(
            run,
            Candidate::KerbridgeColdEs256,
            Candidate::JwtColdEs256,
            1.0,
        ));
        goals.extend(throughput(
            run,
            Candidate::KerbridgeColdRs256,
            Candidate::JwtColdRs256,
            1.0,
        ));
        goals.push(Goal {
            wanted: "the module under 1 MB".into(),
            measured: format!("{} KB", run.module_bytes / 1000),
            met: run.module_bytes < MODULE_LIMIT,
        });
        goals.extend(memory(run));
    }
    goals.extend(growth.into_iter().flat_map(flat));
    goals
}

/// Every goal of the ticket exchange.
#[must_use]
pub fn judge_exchange(run: &ExchangeRun) -> Vec<Goal> {
    let peers = [
        acceptor(run, Acceptor::Apache, 3.0),
        acceptor(run, Acceptor::RawLoop, 0.6),
    ];
    peers
        .into_iter()
        .flatten()
        .chain(run.memory.iter().filter_map(steady))
        .collect()
}

/// The broker takes at least so many times the tickets of a peer in the same processor time, by the median of the rounds.
fn acceptor(run: &ExchangeRun, peer: Acceptor, times: f64) -> Option<Goal> {
    let of = |acceptor: Acceptor| run.setups.iter().find(|setup| setup.acceptor == acceptor);
    let (ours, theirs) = (of(Acceptor::Kerbridge)?, of(peer)?);
    let ratio = paired_ratio(&cpu(&theirs.measured), &cpu(&ours.measured))?;
    Some(Goal {
        wanted: format!("{}: at least {times} × the tickets of {}", ours.title, theirs.title),
        measured: format!(
            "× {ratio:.2} ({:.0} µs against {:.0} µs, minima)",
            ours.measured.summary.cpu_minimum, theirs.measured.summary.cpu_minimum
        ),
        met: ratio >= times,
    })
}

/// A broker's memory does not grow with the exchanges, but for the table of the tags that it has to know.
fn steady(watched: &Watched) -> Option<Goal> {
    let growth = watched.growth_kib()?;
    let (middle, last) = watched.second_half()?;
    let beside = if watched.store {
        "kerbridge, beside its table of used tags"
    } else {
        "kerbridge, without its replay store"
    };
    Some(Goal {
        wanted: format!(
            "memory of {beside}: flat from {} to {} exchanges",
            grouped(middle.exchanges),
            grouped(last.exchanges)
        ),
        measured: format!("{growth:+} KiB"),
        met: growth <= WATCHED_LIMIT_KIB,
    })
}

/// The measurement of a candidate.
#[must_use]
pub fn measured(run: &Run, candidate: Candidate) -> Option<&Measured> {
    let mut setups = run.setups.iter();
    setups
        .find(|setup| setup.candidate == candidate)
        .map(|setup| &setup.measured)
}

fn cpu(measured: &Measured) -> Vec<f64> {
    measured.rounds.iter().map(|round| round.cpu_microseconds).collect()
}

fn requests(measured: &Measured) -> Vec<f64> {
    let rounds = measured.rounds.iter();
    rounds.map(|round| round.counted.requests_per_second()).collect()
}

/// A warm request's cost over bare Envoy, by the minimum and by the median, is not above this peer's.
fn warm(run: &Run, peer: Candidate) -> Option<Goal> {
    let bare = measured(run, Candidate::Bare)?.summary;
    let ours = measured(run, Candidate::KerbridgeWarmEs256)?;
    let theirs = measured(run, peer)?;
    let (our_cost, their_cost) = (
        ours.summary.cpu_minimum - bare.cpu_minimum,
        theirs.summary.cpu_minimum - bare.cpu_minimum,
    );
    let ratio = paired_ratio(&cpu(ours), &cpu(theirs))?;
    Some(Goal {
        wanted: format!("a warm request costs no more than {}", peer.title()),
        measured: format!(
            "{our_cost:.1} µs over bare against {their_cost:.1} µs (minima); whole request × {ratio:.2} (median of rounds)"
        ),
        met: our_cost <= their_cost && ratio <= 1.0,
    })
}

/// At least so many times the peer's requests a second, by the median of the rounds.
fn throughput(run: &Run, ours: Candidate, theirs: Candidate, times: f64) -> Option<Goal> {
    let (mine, peer) = (measured(run, ours)?, measured(run, theirs)?);
    let ratio = paired_ratio(&requests(mine), &requests(peer))?;
    Some(Goal {
        wanted: format!(
            "{}: at least {times:.0} × the requests a second of {}",
            ours.title(),
            theirs.title()
        ),
        measured: format!(
            "× {ratio:.2} ({:.0} against {:.0} a second)",
            mine.summary.requests_median, peer.summary.requests_median
        ),
        met: ratio >= times,
    })
}

/// What the process holds more with 100,000 cached tokens than with one.
fn memory(run: &Run) -> Option<Goal> {
    let curve = run.curves.iter().find(|curve| curve.dimension == "cached tokens")?;
    let (few, many) = (curve.points.first()?, curve.points.last()?);
    if many.size < 100_000 {
        return None;
    }
    let more = many.measured.resident_kib.saturating_sub(few.measured.resident_kib);
    Some(Goal {
        wanted: "100,000 cached tokens in under 128 MiB of a worker".into(),
        measured: format!("{} MiB more than with one", more / 1024),
        met: more < CACHE_LIMIT_KIB,
    })
}

/// Each curve of instruction counts is flat.
fn flat(growth: &Growth) -> Vec<Goal> {
    let curves = growth.curves.iter().filter_map(|curve| {
        let spread = curve.spread()?;
        let (first, last) = (curve.points.first()?.size, curve.points.last()?.size);
        Some(Goal {
            wanted: format!(
                "{} request, {} to {} {}: instructions within 5 %",
                curve.operation,
                grouped(first),
                grouped(last),
                curve.dimension
            ),
            measured: format!("{:.1} %", spread * 100.0),
            met: spread <= FLAT,
        })
    });
    curves.collect()
}

/// A whole number with commas.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::exchange::Mark;
    use super::super::exchange::tests::exchange_run_of;
    use super::super::record::tests::run_of;
    use super::super::record::{GrowthCurve, GrowthPoint};
    use super::*;

    fn met(run: &Run) -> Vec<bool> {
        judge(Some(run), None).iter().map(|goal| goal.met).collect()
    }

    #[test]
    fn a_goal_is_met_or_missed_by_the_figures_and_not_spoken_of_without() {
        let slow = run_of(&[
            (Candidate::Bare, 30.0, 30_000),
            (Candidate::JwtRbac, 50.0, 19_000),
            (Candidate::KerbridgeWarmEs256, 55.0, 17_000),
        ]);
        // The module's size is always known.
        assert_eq!(met(&slow), [false, true]);
        let fast = run_of(&[
            (Candidate::Bare, 30.0, 30_000),
            (Candidate::JwtRbac, 50.0, 19_000),
            (Candidate::JwtCacheEs256, 40.0, 24_000),
            (Candidate::KerbridgeWarmEs256, 45.0, 22_000),
        ]);
        assert_eq!(met(&fast), [true, false, true]);
        assert!(judge(None, None).is_empty());
    }

    #[test]
    fn three_times_is_three_times() {
        for (ours, enough) in [(15_000, true), (14_000, false)] {
            let run = run_of(&[
                (Candidate::JwtRbacExtAuthz, 180.0, 5_000),
                (Candidate::KerbridgeWarmRevocations, 60.0, ours),
            ]);
            assert_eq!(met(&run), [enough, true]);
        }
    }

    #[test]
    fn a_curve_that_bends_is_not_flat() {
        let curve = |last| GrowthCurve {
            dimension: "rules".into(),
            operation: "cold".into(),
            points: vec![
                GrowthPoint {
                    size: 1,
                    instructions: 1000.0,
                },
                GrowthPoint {
                    size: 1000,
                    instructions: last,
                },
            ],
        };
        for (last, flat) in [(1040.0, true), (1060.0, false)] {
            let growth = Growth {
                tool: "callgrind".into(),
                curves: vec![curve(last)],
            };
            let goals = judge(None, Some(&growth));
            assert_eq!(goals.first().map(|goal| goal.met), Some(flat));
        }
    }

    #[test]
    fn tickets_are_counted_by_processor_time() {
        for (ours, met) in [(95.0, [true, true]), (110.0, [false, true]), (120.0, [false, false])] {
            let run = exchange_run_of(&[
                (Acceptor::RawLoop, 70.0, 12_000),
                (Acceptor::Apache, 300.0, 3_000),
                (Acceptor::Kerbridge, ours, 7_000),
            ]);
            let goals = judge_exchange(&run);
            assert_eq!(goals.iter().map(|goal| goal.met).collect::<Vec<_>>(), met, "{ours}");
        }
    }

    #[test]
    fn a_broker_that_leaks_is_not_steady() {
        for (store, last, steady) in [
            (false, 13_024, true),
            (false, 13_025, false),
            (true, 15_200, true),
            (true, 15_201, false),
        ] {
            let mark = |exchanges, resident_kib| Mark {
                exchanges,
                resident_kib,
            };
            let mut run = exchange_run_of(&[]);
            run.memory = vec![Watched {
                store,
                marks: vec![mark(100_000, 12_000), mark(200_000, last)],
            }];
            let goals = judge_exchange(&run);
            assert_eq!(goals.first().map(|goal| goal.met), Some(steady), "{last}");
        }
    }

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 12, 999, 1000, 20_000, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "20,000", "1,000,000"]);
    }
}
