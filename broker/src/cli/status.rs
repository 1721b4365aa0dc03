//! Shows where a running broker stands: whether it wants requests, its keys, its revocations, and how it answered so far.

use std::collections::BTreeMap;

use clap::Args;

use super::{ConfigFile, Failure, Output, keys, output};
use crate::admin::client::{self, ClientError};
use crate::admin::{FeedStatus, ReplicaStatus, ReplicasStatus, STATUS_PATH, Status, TokenStatus};
use crate::config::{Draft, Surroundings};
use crate::time::moment::Rfc3339;
use crate::time::{Clock, UnixTime};

#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    file: ConfigFile,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(command: &StatusCommand) -> Result<(), Failure> {
    let path = &command.file.config;
    let draft = Draft::read(path, &Surroundings::of_process());
    let Some(socket) = draft.admin_socket() else {
        let mut problems = draft.finish().err().unwrap_or_default();
        if problems.is_empty() {
            problems.missing(
                "listen.admin",
                "add [listen.admin] with unix = \"/run/kerbridge/admin.sock\" and restart the broker",
            );
        }
        return output::checked(path, Err(problems), command.output);
    };
    let answer = client::get(socket, STATUS_PATH).and_then(|answer| {
        serde_json::from_slice::<Status>(&answer).map_err(|error| ClientError::Failed(error.to_string()))
    });
    let status = answer.map_err(|error| output::refused(&error, socket, command.output))?;
    output::print_as(command.output, &status, || text(&status, Clock::System.now()))
}

/// What people read of it.
fn text(status: &Status, now: UnixTime) -> String {
    let Status {
        release,
        ready,
        tokens,
        replicas,
        exchanges,
        delegations,
    } = status;
    let mut text = format!("kerbridge {release}: {ready}\n");
    match tokens {
        None => text.push_str("It makes no tokens.\n"),
        Some(TokenStatus {
            issuer,
            kid: _,
            keys,
            feed,
        }) => {
            text.push_str(&format!("\nIssuer {issuer}\n{}", keys::text(keys)));
            match feed {
                None => text.push_str("Revocations: the store was not read yet.\n"),
                Some(FeedStatus {
                    epoch: _,
                    version,
                    entries,
                    as_of,
                }) => {
                    let age = now.seconds().saturating_sub(*as_of);
                    let at = Rfc3339(UnixTime::from_seconds(*as_of));
                    text.push_str(&format!(
                        "Revocations: {entries}, version {version}, all that the store had at {at}, {age} s ago.\n"
                    ));
                }
            }
        }
    }
    if let Some(replicas) = replicas {
        text.push_str(&brokers(replicas));
    }
    for (what, counted) in [("Exchanges", exchanges), ("Tickets in users' names", delegations)] {
        text.push_str(&answers(what, counted));
    }
    text
}

/// The brokers of the database, a line for each.
fn brokers(replicas: &ReplicasStatus) -> String {
    let ReplicasStatus {
        brokers,
        as_of: _,
        problem,
    } = replicas;
    if let Some(problem) = problem {
        return format!("\nBrokers of the database: not known, {problem}.\n");
    }
    let line = |broker: &ReplicaStatus| {
        let ReplicaStatus {
            this,
            host,
            release,
            silent_seconds,
            clock_ahead_milliseconds,
        } = broker;
        let this = if *this { ", this one" } else { "" };
        format!(
            "  {host}{this}: {release}, heard of {silent_seconds} s ago, its clock {clock_ahead_milliseconds:+} ms from the \
             database's\n"
        )
    };
    let lines = brokers.iter().map(line);
    std::iter::once("\nBrokers of the database:\n".to_owned())
        .chain(lines)
        .collect()
}

/// The answers of one kind, the most frequent first.
fn answers(what: &str, counted: &BTreeMap<String, u64>) -> String {
    if counted.is_empty() {
        return format!("\n{what} since the start: none.\n");
    }
    let mut all: Vec<(&String, &u64)> = counted.iter().collect();
    all.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    let lines = all.iter().map(|(reason, count)| format!("  {count:>10}  {reason}\n"));
    std::iter::once(format!("\n{what} since the start:\n"))
        .chain(lines)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_answers_stand_first_and_a_feeds_age_is_said() {
        let status = Status {
            release: "1.2.3".into(),
            ready: "draining".into(),
            tokens: Some(TokenStatus {
                issuer: "https://broker.test".into(),
                kid: "k".into(),
                keys: crate::admin::keys::Keys {
                    keys: Vec::new(),
                    next_switch: None,
                    sealed_under: Vec::new(),
                },
                feed: Some(FeedStatus {
                    epoch: serde_json::from_str("\"0123456789abcdef0123456789abcdef\"").unwrap(),
                    version: 7,
                    entries: 3,
                    as_of: 1000,
                }),
            }),
            replicas: Some(ReplicasStatus {
                brokers: vec![ReplicaStatus {
                    this: true,
                    host: "broker-0".into(),
                    release: "1.2.3".into(),
                    silent_seconds: 2,
                    clock_ahead_milliseconds: -12,
                }],
                as_of: Some(1000),
                problem: None,
            }),
            exchanges: [
                ("replay".to_owned(), 2),
                ("ok".to_owned(), 9),
                ("expired".to_owned(), 2),
            ]
            .into(),
            delegations: BTreeMap::new(),
        };
        let text = text(&status, UnixTime::from_seconds(1004));
        let expected = [
            "kerbridge 1.2.3: draining\n",
            "Issuer https://broker.test\n",
            "Revocations: 3, version 7, all that the store had at 1970-01-01T00:16:40Z, 4 s ago.\n",
            "Brokers of the database:\n  broker-0, this one: 1.2.3, heard of 2 s ago, its clock -12 ms from the database's\n",
            "Exchanges since the start:\n           9  ok\n           2  expired\n           2  replay\n",
            "Tickets in users' names since the start: none.\n",
        ];
        let mut rest = text.as_str();
        for part in expected {
            let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} in {text}"));
            rest = after;
        }
    }
}
