//! Decides how much is done at once and for how long, each within its bounds.

use kerbridge_wire::Span;

use super::raw;
use crate::problem::Problems;

/// How much is done at once, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that call GSSAPI, 1 to 256.
    pub threads: usize,
    /// Tokens that may wait for a thread, 1 to 65,536.
    pub queue: usize,
    /// How long an exchange may wait and take.
    pub deadline: Span,
    /// Least life of a ticket for which a token is minted.
    pub ticket_floor: Span,
    /// Connections open at once on each listener, 1 to 65,536.
    pub connections: usize,
    /// How long requests in flight may take after a signal to stop.
    pub drain: Span,
}

pub(super) fn check(limits: &raw::Limits, problems: &mut Problems) -> Option<Limits> {
    let raw::Limits {
        threads,
        queue,
        deadline,
        ticket_floor,
        connections,
        drain,
    } = *limits;
    let mut bounded = |field: &str, value: Option<i64>, default: usize, most: usize| {
        let Some(value) = value else { return Some(default) };
        let good = usize::try_from(value).ok().filter(|value| (1..=most).contains(value));
        if good.is_none() {
            problems.note(
                format!("limits.{field}"),
                format!("{value} is not 1 to {most}"),
                "correct it",
            );
        }
        good
    };
    let threads = bounded("threads", threads, 2, 256);
    let queue = bounded("queue", queue, 256, 65_536);
    let connections = bounded("connections", connections, 1024, 65_536);
    Some(Limits {
        threads: threads?,
        queue: queue?,
        deadline: deadline.unwrap_or(Span::TWO_SECONDS),
        ticket_floor: ticket_floor.unwrap_or(Span::FIVE_SECONDS),
        connections: connections?,
        drain: drain.unwrap_or(Span::FIVE_SECONDS),
    })
}
