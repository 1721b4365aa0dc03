//! Decides how much is done at once and for how long, each within its bounds.

use std::num::NonZeroUsize;
use std::time::Duration;

use kerbridge_gate::network::Network;
use kerbridge_wire::Span;
use kerbridge_wire::policy::{Policy, Scheme};

use super::raw;
use crate::problem::Problems;

/// How much is done at once, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Threads that call GSSAPI, 1 to 256.
    pub threads: usize,
    /// Tokens that may wait for a thread, 1 to 65,536.
    pub queue: usize,
    /// How long an exchange may wait and take, 1 ms to 60 s. It is to be less than the filter's `timeout` (2 s by default),
    /// or the filter has gone before it hears `broker_overloaded`.
    pub deadline: Duration,
    /// Least life of a ticket for which a token is minted.
    pub ticket_floor: Span,
    /// Connections open at once on each listener, 1 to 65,536.
    pub connections: usize,
    /// Connections of one source to `public` open at once, 1 to 65,536; no bound of their own where absent.
    pub connections_per_source: Option<NonZeroUsize>,
    /// How long requests in flight may take once no new ones are taken.
    pub drain: Span,
    /// How long new requests are still taken after a signal to stop, while `/readyz` says 503 already.
    pub drain_notice: Option<Span>,
    /// Failures of one source in a minute before it has to wait, 0 to 1,000,000; 0 for no limit.
    pub failures_per_minute: u32,
    /// Addresses behind which many clients are, such as another proxy's: never limited.
    pub shared_sources: Vec<Network>,
}

/// Half a second below the filter's time-out.
const DEADLINE: Duration = Duration::from_millis(1500);
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);
/// Five a second: what a broken client does to a whole office behind one address stays bearable, and so does what a hostile
/// one does to us.
const FAILURES: u32 = 300;
const MOST_FAILURES: u32 = 1_000_000;
const MOST_CONNECTIONS: usize = 65_536;
/// One source has one such part of all connections, unless the configuration says otherwise.
const SHARES: usize = 8;

pub(super) fn check(limits: raw::Limits, problems: &mut Problems) -> Option<Limits> {
    let raw::Limits {
        threads,
        queue,
        deadline,
        ticket_floor,
        connections,
        connections_per_source,
        drain,
        drain_notice,
        failures_per_minute,
        shared_sources,
    } = limits;
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
    let connections = bounded("connections", connections, 1024, MOST_CONNECTIONS);
    let connections_per_source = match connections_per_source {
        // With as little as that, it takes several sources to keep the others out.
        None => Some(connections.map_or(0, |all| all.div_ceil(SHARES))),
        Some(value) => {
            let good = usize::try_from(value).ok().filter(|value| *value <= MOST_CONNECTIONS);
            if good.is_none() {
                problems.note(
                    "limits.connections_per_source",
                    format!("{value} is not 0 to {MOST_CONNECTIONS}"),
                    "write 128, or 0 for no limit",
                );
            }
            good
        }
    };
    let deadline = match deadline {
        None => Some(DEADLINE),
        Some(text) => {
            let good =
                milliseconds(&text).filter(|deadline| (Duration::from_millis(1)..=LONGEST_DEADLINE).contains(deadline));
            if good.is_none() {
                problems.note(
                    "limits.deadline",
                    format!("{text:?} is not 1 ms to 60 s"),
                    "write a number and ms or s, such as \"1500ms\"",
                );
            }
            good
        }
    };
    let failures_per_minute = match failures_per_minute {
        None => Some(FAILURES),
        Some(value) => {
            let good = u32::try_from(value).ok().filter(|value| *value <= MOST_FAILURES);
            if good.is_none() {
                problems.note(
                    "limits.failures_per_minute",
                    format!("{value} is not 0 to {MOST_FAILURES}"),
                    "write 300, or 0 for no limit",
                );
            }
            good
        }
    };
    let mut networks = Vec::new();
    for (index, text) in shared_sources.iter().enumerate() {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => problems.note(
                format!("limits.shared_sources[{index}]"),
                format!("{text:?} is no network"),
                "write an address, or a network such as \"10.0.0.0/8\"",
            ),
        }
    }
    Some(Limits {
        threads: threads?,
        queue: queue?,
        deadline: deadline?,
        ticket_floor: ticket_floor.unwrap_or(Span::FIVE_SECONDS),
        connections: connections?,
        connections_per_source: NonZeroUsize::new(connections_per_source?),
        drain: drain.unwrap_or(Span::FIVE_SECONDS),
        drain_notice,
        failures_per_minute: failures_per_minute?,
        shared_sources: networks,
    })
}

/// Where a filter waits for exchanges, it must hear why one came to nothing: it waits longer than the broker. `acts` is whether
/// this broker has tickets made, `only` whether it does nothing else.
pub(super) fn check_beside(limits: &Limits, policy: &Policy, acts: bool, only: bool, problems: &mut Problems) {
    let settings = &policy.filter;
    let tokens = policy
        .route
        .iter()
        .any(|route| route.accept.contains(&Scheme::Negotiate));
    let tickets = policy.route.iter().any(|route| route.upstream.is_some());
    let asked = [
        (tokens && !only, "timeout", settings.timeout),
        (
            tickets && acts,
            "delegation.timeout",
            settings.delegation.timeout.unwrap_or(settings.timeout),
        ),
    ];
    for (_, field, timeout) in asked.into_iter().filter(|(waits, ..)| *waits) {
        let patience = Duration::from_secs(timeout.seconds().into());
        if limits.deadline >= patience {
            problems.note(
                "limits.deadline",
                format!(
                    "{} ms are not less than the {} ms that the filter waits ({field} under [filter] of the policy): it has gone \
                     before it hears why",
                    limits.deadline.as_millis(),
                    patience.as_millis()
                ),
                format!(
                    "write less, such as \"{}ms\", or a longer {field} there, and render again",
                    patience.mul_f32(0.75).as_millis()
                ),
            );
            return;
        }
    }
}

/// A number of milliseconds (`1500ms`), or a span.
fn milliseconds(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(Duration::from_millis)
        }
        Some(_) => None,
        None => text
            .parse::<Span>()
            .ok()
            .map(|span| Duration::from_secs(span.seconds().into())),
    }
}

#[cfg(test)]
mod tests {
    use kerbridge_wire::filter_config::BrokerConfig;

    use super::*;

    fn deadline(text: Option<&str>) -> Result<Duration, String> {
        let mut problems = Problems::default();
        let raw = raw::Limits {
            deadline: text.map(str::to_owned),
            ..raw::Limits::default()
        };
        check(raw, &mut problems)
            .map(|limits| limits.deadline)
            .ok_or_else(|| problems.to_string())
    }

    #[test]
    fn the_deadline_passes_before_the_filter_gives_up() {
        let filter: BrokerConfig = serde_json::from_str(r#"{"issuer": "https://broker.test"}"#).unwrap();
        let patience = Duration::from_secs(filter.timeout.seconds().into());
        assert!(deadline(None).unwrap() + Duration::from_millis(250) < patience);
    }

    #[test]
    fn a_deadline_beyond_the_filters_patience_is_named_where_the_filter_waits() {
        let problems_of = |written: &str, policy: &str, acts: bool, only: bool| {
            let mut problems = Problems::default();
            let raw = raw::Limits {
                deadline: Some(written.to_owned()),
                ..raw::Limits::default()
            };
            let limits = check(raw, &mut problems).unwrap();
            let policy = crate::strict_toml::read(policy, &mut problems).unwrap();
            check_beside(&limits, &policy, acts, only, &mut problems);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let problems = |written: &str, policy: &str| problems_of(written, policy, true, false);
        let tickets = "[[route]]\npath = \"/\"\naccept = [\"negotiate\"]\n";
        let tokens = "[[route]]\npath = \"/\"\naccept = [\"bearer\"]\n";
        let onwards = format!("{tokens}upstream = {{ kerberos = {{ spn = \"HTTP/legacy.test@R.TEST\" }} }}\n");
        let patient = format!("{tickets}[filter]\ntimeout = \"3s\"\n");
        let apart = format!("{onwards}{tickets}[filter]\ndelegation = {{ timeout = \"5s\" }}\n");
        for (written, policy) in [("1999ms", tickets), ("2999ms", &patient), ("9s", tokens)] {
            assert_eq!(problems(written, policy), [""; 0], "{written}");
        }
        // One that mints alone, and one that acts alone.
        assert_eq!(problems_of("9s", &onwards, false, false), [""; 0]);
        assert_eq!(problems_of("4s", &apart, true, true), [""; 0]);
        assert_eq!(problems_of("5s", &apart, true, true).len(), 1);
        for (written, policy) in [
            ("2s", tickets),
            ("9s", tickets),
            ("3s", &patient),
            ("2s", &onwards),
            ("4s", &apart),
        ] {
            let found = problems(written, policy);
            assert_eq!(found.len(), 1, "{written}: {found:?}");
            assert!(found[0].starts_with("limits.deadline: "), "{found:?}");
        }
        let found = problems("9s", tickets);
        assert!(
            found[0].contains("9000 ms are not less than the 2000 ms") && found[0].contains("\"1500ms\""),
            "{found:?}"
        );
    }

    #[test]
    fn a_source_has_an_eighth_of_the_connections_unless_something_else_is_said() {
        let share = |connections, connections_per_source| {
            let mut problems = Problems::default();
            let raw = raw::Limits {
                connections,
                connections_per_source,
                ..raw::Limits::default()
            };
            let limits = check(raw, &mut problems).map(|limits| limits.connections_per_source.map(NonZeroUsize::get));
            limits.ok_or_else(|| problems.to_string())
        };
        for (all, said, share_of_all) in [
            (None, None, Some(128)),
            (Some(80), None, Some(10)),
            (Some(1), None, Some(1)),
            (None, Some(5), Some(5)),
            (None, Some(0), None),
        ] {
            assert_eq!(share(all, said), Ok(share_of_all), "{all:?} {said:?}");
        }
        for odd in [-1, 65_537] {
            let problem = share(None, Some(odd)).unwrap_err();
            assert!(problem.starts_with("limits.connections_per_source: "), "{problem}");
        }
    }

    #[test]
    fn a_deadline_is_milliseconds_or_a_span() {
        for (text, milliseconds) in [("1500ms", 1500), ("1ms", 1), ("2s", 2000), ("1m", 60_000)] {
            assert_eq!(deadline(Some(text)), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0ms", "ms", "-1ms", "60001ms", "61s", "1.5s", "1500", ""] {
            let problem = deadline(Some(text)).unwrap_err();
            assert!(problem.starts_with("limits.deadline: "), "{problem}");
        }
    }
}
