//! Writes the figures into the document, between marks; what people wrote around them stays.

use std::fmt::Write as _;

use super::chart;
use super::delegation::{DelegationRun, Shares, Way};
use super::exchange::{Acceptor, ExchangeRun, Watched};
use super::goals::{Goal, grouped, judge, judge_exchange, measured};
use super::record::{Candidate, Growth, Run};
use crate::error::HarnessError;
use crate::shipped::repository;

/// The document.
pub const FILE: &str = "docs/performance.md";
/// The drawings, as the document names them.
const COSTS: &str = "performance-cost.svg";
const GROWTH: &str = "performance-growth.svg";
const EXCHANGES: &str = "performance-exchange.svg";

/// The document with these results in it. A block for which there is no result stays as it is.
///
/// # Errors
///
/// [`HarnessError::Drifted`] where a block is not there exactly once.
pub fn fill(
    document: &str,
    run: Option<&Run>,
    growth: Option<&Growth>,
    exchange: Option<&ExchangeRun>,
) -> Result<String, HarnessError> {
    let mut text = document.to_owned();
    if let Some(run) = run {
        text = replace(&text, "machine", &machine(run))?;
        text = replace(&text, "setups", &setups(run))?;
        text = replace(&text, "curves", &curves(run))?;
    }
    if let Some(growth) = growth {
        text = replace(&text, "growth", &counts(growth))?;
    }
    if let Some(exchange) = exchange {
        text = replace(&text, "exchange", &exchanges(exchange))?;
        text = replace(&text, "exchange-goals", &goals(&judge_exchange(exchange)))?;
        text = replace(&text, "memory", &memory(exchange))?;
    }
    if run.is_some() || growth.is_some() {
        text = replace(&text, "goals", &goals(&judge(run, growth)))?;
    }
    Ok(text)
}

/// Writes the document of the repository, and its drawings, anew.
///
/// # Errors
///
/// As [`fill`], or [`HarnessError::Io`].
pub fn publish(run: Option<&Run>, growth: Option<&Growth>, exchange: Option<&ExchangeRun>) -> Result<(), HarnessError> {
    let document = repository().join(FILE);
    let failed = |source| HarnessError::io(format!("read or write {FILE}"), source);
    let text = std::fs::read_to_string(&document).map_err(failed)?;
    std::fs::write(&document, fill(&text, run, growth, exchange)?).map_err(failed)?;
    let drawing = |name: &str, svg: String| std::fs::write(repository().join("docs").join(name), svg).map_err(failed);
    if let Some(run) = run {
        drawing(COSTS, chart::costs(run))?;
    }
    if run.is_some() || growth.is_some() {
        drawing(GROWTH, chart::growth(run, growth))?;
    }
    if let Some(exchange) = exchange {
        drawing(EXCHANGES, chart::exchanges(exchange))?;
    }
    Ok(())
}

/// Writes the block of the way from token to ticket anew.
///
/// # Errors
///
/// As [`fill`], or [`HarnessError::Io`].
pub fn publish_delegation(run: &DelegationRun) -> Result<(), HarnessError> {
    let document = repository().join(FILE);
    let failed = |source| HarnessError::io(format!("read or write {FILE}"), source);
    let text = std::fs::read_to_string(&document).map_err(failed)?;
    std::fs::write(&document, replace(&text, "delegation", &delegation(run))?).map_err(failed)
}

/// Replaces what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
fn replace(document: &str, name: &str, content: &str) -> Result<String, HarnessError> {
    let (open, close) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->\n"));
    let drifted = |expected: &str| HarnessError::Drifted {
        file: FILE,
        expected: expected.to_owned(),
    };
    let (before, rest) = document.split_once(&open).ok_or_else(|| drifted(&open))?;
    let (_old, after) = rest.split_once(&close).ok_or_else(|| drifted(&close))?;
    if before.contains(&close) || after.contains(&open) || after.contains(&close) {
        return Err(drifted(&open));
    }
    Ok(format!("{before}{open}{content}{close}{after}"))
}

fn machine(run: &Run) -> String {
    format!(
        "Measured on {}; Envoy {} with one worker. {} rounds of {} s for each setup, in turn; {} connections.\n",
        run.machine.sentence(),
        run.envoy,
        run.rounds,
        run.seconds,
        run.connections
    )
}

/// What the least cost is in multiples of the same of bare Envoy.
fn times_bare(run: &Run, cpu: f64) -> Option<f64> {
    let bare = measured(run, Candidate::Bare)?.summary.cpu_minimum;
    (bare > 0.0).then(|| cpu / bare)
}

fn setups(run: &Run) -> String {
    let mut out = String::from(
        "| setup | CPU µs a request, minimum | median | over bare | × bare | requests a second | p50 µs | p99 µs | MiB |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let bare = measured(run, Candidate::Bare).map(|bare| bare.summary.cpu_minimum);
    for setup in &run.setups {
        let summary = setup.measured.summary;
        let name = if setup.candidate.is_kerbridge() {
            format!("**{}**", setup.title)
        } else {
            setup.title.clone()
        };
        let over = bare.map_or_else(String::new, |bare| format!("{:.1}", summary.cpu_minimum - bare));
        let times = times_bare(run, summary.cpu_minimum).map_or_else(String::new, |times| format!("{times:.2}"));
        line(
            &mut out,
            &format!(
                "| {name} | {:.1} | {:.1} | {over} | {times} | {} | {:.0} | {:.0} | {} |",
                summary.cpu_minimum,
                summary.cpu_median,
                grouped(summary.requests_median.round() as u64),
                summary.latency_p50,
                summary.latency_p99,
                setup.measured.resident_kib / 1024,
            ),
        );
    }
    if let Some(helped) = measured(run, Candidate::JwtRbacExtAuthz) {
        line(
            &mut out,
            &format!(
                "\nThe responder that ext_authz asks used {:.1} µs a request more, on the other core; it is not in the table.",
                helped.summary.beside_median
            ),
        );
    }
    out
}

fn curves(run: &Run) -> String {
    let mut out = String::from(
        "| kerbridge, cached, by | size | CPU µs a request, minimum | median | requests a second | MiB |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for curve in &run.curves {
        for point in &curve.points {
            let summary = point.measured.summary;
            line(
                &mut out,
                &format!(
                    "| {} | {} | {:.1} | {:.1} | {} | {} |",
                    curve.dimension,
                    grouped(point.size),
                    summary.cpu_minimum,
                    summary.cpu_median,
                    grouped(summary.requests_median.round() as u64),
                    point.measured.resident_kib / 1024,
                ),
            );
        }
    }
    out
}

fn counts(growth: &Growth) -> String {
    let mut out = format!(
        "Instructions of the native gate for one request, counted by {}, the signature check left out:\n\n\
         | by | request | size: instructions | spread |\n|---|---|---|--:|\n",
        growth.tool
    );
    for curve in &growth.curves {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|point| {
                format!(
                    "{}: {}",
                    grouped(point.size),
                    grouped(point.instructions.round() as u64)
                )
            })
            .collect();
        let spread = curve
            .spread()
            .map_or_else(String::new, |spread| format!("{:.1} %", spread * 100.0));
        line(
            &mut out,
            &format!(
                "| {} | {} | {} | {spread} |",
                curve.dimension,
                curve.operation,
                points.join(" · ")
            ),
        );
    }
    out
}

fn exchanges(run: &ExchangeRun) -> String {
    let mut out = format!(
        "Measured on {}; {}. {} rounds of {} tickets for each, in turn; {} connections.\n\n\
         | acceptor | CPU µs a ticket, minimum | median | × the loop | tickets a second | p50 µs | p99 µs | MiB |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
        run.machine.sentence(),
        run.versions,
        run.rounds,
        grouped(run.exchanges.into()),
        run.connections
    );
    let raw = run.setups.iter().find(|setup| setup.acceptor == Acceptor::RawLoop);
    let raw = raw.map(|raw| raw.measured.summary.cpu_minimum);
    for setup in &run.setups {
        let summary = setup.measured.summary;
        let name = if setup.acceptor.is_kerbridge() {
            format!("**{}**", setup.title)
        } else {
            setup.title.clone()
        };
        let times = raw.map_or_else(String::new, |raw| format!("{:.2}", summary.cpu_minimum / raw));
        let resident = match setup.measured.resident_kib {
            0 => String::new(),
            kib => (kib / 1024).to_string(),
        };
        line(
            &mut out,
            &format!(
                "| {name} | {:.1} | {:.1} | {times} | {} | {:.0} | {:.0} | {resident} |",
                summary.cpu_minimum,
                summary.cpu_median,
                grouped(summary.requests_median.round() as u64),
                summary.latency_p50,
                summary.latency_p99,
            ),
        );
    }
    out
}

fn delegation(run: &DelegationRun) -> String {
    let mut out = format!(
        "Measured on {}; {}. {} rounds of {} requests of {} users for each, in turn, and of {} users who come for the first time; \
         {} connections.\n\n\
         | way | CPU µs a request, minimum | median | of these Envoy | broker | Apache | KDC | KDC requests for 1,000 | requests a \
         second | p50 µs | p90 µs | p99 µs |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        run.machine.sentence(),
        run.versions,
        run.rounds,
        grouped(run.requests.into()),
        run.users,
        run.new_users,
        run.connections
    );
    for way in &run.ways {
        let summary = way.measured.summary;
        let name = if way.way.is_kerbridge() {
            format!("**{}**", way.title)
        } else {
            way.title.clone()
        };
        let share = |of: fn(&Shares) -> f64| match way.share(of) {
            0.0 => String::new(),
            share => format!("{share:.0}"),
        };
        // Nobody waits for the loop.
        let latency = |microseconds: f64| match way.way {
            Way::RawLoop | Way::RawLoopNewUsers => String::new(),
            Way::Direct | Way::Kerbridge | Way::KerbridgeNewUsers => format!("{microseconds:.0}"),
        };
        let p90 = way.measured.rounds.iter().map(|round| round.counted.latency.p90 as f64);
        let p90 = super::statistics::median(&p90.collect::<Vec<f64>>()).unwrap_or_default();
        line(
            &mut out,
            &format!(
                "| {name} | {:.1} | {:.1} | {} | {} | {} | {} | {:.0} | {} | {} | {} | {} |",
                summary.cpu_minimum,
                summary.cpu_median,
                share(|shares| shares.envoy),
                share(|shares| shares.broker),
                share(|shares| shares.service),
                share(|shares| shares.kdc),
                way.share(|shares| shares.kdc_requests),
                grouped(summary.requests_median.round() as u64),
                latency(summary.latency_p50),
                latency(p90),
                latency(summary.latency_p99),
            ),
        );
    }
    out
}

fn memory(run: &ExchangeRun) -> String {
    let mut out = String::from("| exchanges since the start |");
    for watched in &run.memory {
        out.push_str(if watched.store {
            " MiB | of these its table of used tags |"
        } else {
            " MiB without the replay store |"
        });
    }
    out.push_str("\n|--:|");
    for watched in &run.memory {
        out.push_str(if watched.store { "--:|--:|" } else { "--:|" });
    }
    out.push('\n');
    let mebibytes = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let marks = run.memory.iter().map(|watched| watched.marks.len()).max().unwrap_or(0);
    for at in 0..marks {
        let of = |watched: &Watched| watched.marks.get(at).copied();
        let exchanges = run.memory.iter().find_map(of).map_or(0, |mark| mark.exchanges);
        let mut row = format!("| {} |", grouped(exchanges));
        for watched in &run.memory {
            let resident = of(watched).map_or_else(String::new, |mark| mebibytes(mark.resident_kib));
            row.push_str(&format!(" {resident} |"));
            if watched.store {
                let table = of(watched).map_or_else(String::new, |mark| mebibytes(mark.table_kib()));
                row.push_str(&format!(" {table} |"));
            }
        }
        line(&mut out, &row);
    }
    out
}

fn goals(goals: &[Goal]) -> String {
    let mut out = String::from("| wanted | measured | |\n|---|---|---|\n");
    for goal in goals {
        let verdict = if goal.met { "met" } else { "**missed**" };
        line(
            &mut out,
            &format!("| {} | {} | {verdict} |", goal.wanted, goal.measured),
        );
    }
    out
}

fn line(out: &mut String, text: &str) {
    // A string takes whatever is written to it.
    writeln!(out, "{text}").unwrap_or(());
}

#[cfg(test)]
mod tests;
