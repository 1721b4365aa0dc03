//! Brings about every cell of the table of faults in a real Envoy: what the filter asks for goes wrong, whatever the client
//! shows and however it speaks. Nothing passes, nothing waits longer than it may, and a stream that is open ends with its token.
//!
//! Each cell is a case with a name (`exchange/silent/negotiate/grpc`), and names are filters as in any test binary:
//! `cargo test -p kerbridge-tests --test faults -- silent`. They have a main of their own since they share one Envoy.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a helper that fails in a test ends the test"
)]

use std::process::ExitCode;

mod answers;
mod cell;
mod harness;
mod stage;
mod stream;

use kerbridge_tests::faults::{Cell, Fault, cells};

use crate::harness::{Plan, Verdict};
use crate::stage::Stage;

/// The case that nothing made the module trap.
const MODULE: &str = "module/never-trapped";

fn main() -> ExitCode {
    let names = cells().map(|cell| cell.to_string());
    let counted = stage::rows().map(cell::counted_name);
    let module = std::iter::once(MODULE.to_owned());
    let plan = Plan::read(names.chain(counted).chain(stream::names()).chain(module));
    plan.run(|report| {
        let mut stage = Stage::start();
        // They are open while everything else is tried, and nothing answers them any more.
        let open = stream::open(&stage, &plan);
        let wanted: Vec<Cell> = cells().filter(|cell| plan.wants(&cell.to_string())).collect();
        let (at_the_cluster, elsewhere): (Vec<Cell>, Vec<Cell>) = wanted.into_iter().partition(|cell| {
            let is_of_the_cluster = matches!(cell.row.fault, Fault::NoCluster | Fault::Refused | Fault::NoTls);
            cell.row.asked.is_a_call_to_the_broker() && is_of_the_cluster
        });
        cell::run(&stage, &elsewhere, &plan, report);
        stream::finish(&stage, open, report);
        let mut never_trapped = Ok(());
        for fault in [Fault::NoCluster, Fault::Refused, Fault::NoTls] {
            let of: Vec<Cell> = at_the_cluster
                .iter()
                .filter(|cell| cell.row.fault == fault)
                .copied()
                .collect();
            if !of.is_empty() {
                never_trapped = never_trapped.and(stage.never_trapped());
                stage.break_cluster(fault);
                cell::run(&stage, &of, &plan, report);
            }
        }
        if plan.wants(MODULE) {
            report(MODULE, never_trapped.and(stage.never_trapped()));
        }
    })
}

/// A failed check, in words.
type Check = Result<(), String>;

/// Names what is not as it should be.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Check {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, expected {expected:?}"))
    }
}

/// What a case came to.
impl From<Check> for Verdict {
    fn from(check: Check) -> Self {
        match check {
            Ok(()) => Self::Passed,
            Err(why) => Self::Failed(why),
        }
    }
}
