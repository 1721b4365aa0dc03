//! Tells who held which credential, and when, from what was carried.

use std::fmt::Write as _;

use serde_json::Value;

use super::ask::Seen;
use crate::engine::capture;
use crate::relay::Recorded;
use crate::report::model::{Credential, Holder, Holding};
use crate::token::Decoded;
use crate::wait::Clock;

/// Who held which credential so far.
#[derive(Default)]
pub(super) struct Holdings(Vec<Holding>);

/// A request: whose it was, when it was sent, and when it was answered.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) who: &'a str,
    pub(super) sent: u64,
    pub(super) got: u64,
}

/// From when until when somebody holds something; without an end it is held on.
type Span = (u64, Option<u64>);

/// By the beginning of a header line: what the client has, what it shows of it to the filter, what that is called, and what is
/// known of either.
const SHOWN: [(&str, Credential, Credential, &str, [&str; 2]); 3] = [
    (
        "authorization: negotiate",
        Credential::Ticket,
        Credential::ApReq,
        "ticket",
        ["for Envoy's service", "good once"],
    ),
    (
        "authorization: bearer",
        Credential::Token,
        Credential::Token,
        "token",
        ["", ""],
    ),
    (
        "cookie: __host-kerbridge",
        Credential::Cookie,
        Credential::Cookie,
        "cookie",
        ["", ""],
    ),
];

impl Holdings {
    /// All of them, in the order in which they began.
    pub(super) fn into_vec(self) -> Vec<Holding> {
        self.0
    }

    /// Notes who held which credential during a request.
    pub(super) fn note(&mut self, turn: Turn<'_>, seen: &Seen, clock: Clock) {
        let Turn { who, sent, got } = turn;
        let head = seen.answer.sent.last().map(String::as_str).unwrap_or_default();
        let sends = |start: &str| head.lines().any(|line| line.to_ascii_lowercase().starts_with(start));
        for (start, had, shown, word, [note, shown_note]) in SHOWN {
            if sends(start) {
                let label = format!("{who}'s {word}");
                self.keep(Holder::Client, had, &label, (sent, None), note);
                let label = format!("{label}, shown");
                self.keep(Holder::Filter, shown, &label, (sent, Some(got)), shown_note);
            }
        }
        for exchange in &seen.exchanges {
            self.note_exchange(turn, &exchange.recorded, clock);
        }
        let authorization = seen.received("authorization");
        if authorization.iter().any(|value| value.starts_with("Negotiate ")) {
            let label = format!("shown in {who}'s name");
            self.keep(
                Holder::Upstream,
                Credential::ApReq,
                &label,
                (got, Some(got)),
                "good once",
            );
        }
        if let Some(decoded) = seen.decoded() {
            let (what, word) = match seen.cookie() {
                Some(_) => (Credential::Cookie, "cookie"),
                None => (Credential::Token, "token"),
            };
            let until = life(&decoded.claims).map(|life| got.saturating_add(life));
            let label = format!("{who}'s {word}");
            self.keep(Holder::Client, what, &label, (got, until), &described(&decoded));
        }
    }

    fn note_exchange(&mut self, Turn { who, sent, got }: Turn<'_>, recorded: &Recorded, clock: Clock) {
        let from = recorded.call.at.map_or(sent, |at| clock.ms_at(at));
        let until = clock.ms_at(recorded.answered_at);
        let meanwhile = (from, Some(until));
        if !capture::asks_for_a_ticket(&capture::form(&recorded.call.body)) {
            let label = format!("{who}'s ticket, shown");
            let note = "checked with the keytab";
            self.keep(Holder::Broker, Credential::ApReq, &label, meanwhile, note);
            return;
        }
        let label = format!("{who}'s token, to become a ticket");
        self.keep(Holder::Broker, Credential::Token, &label, meanwhile, "");
        if recorded.answer.as_ref().is_some_and(|answer| answer.status == 200) {
            let label = format!("a ticket in {who}'s name");
            let note = "for the service behind Envoy";
            self.keep(Holder::Broker, Credential::ServiceTicket, &label, (from, None), note);
            let label = format!("shown in {who}'s name");
            self.keep(
                Holder::Filter,
                Credential::ApReq,
                &label,
                (until, Some(got)),
                "good once",
            );
        }
    }

    /// One that is held already goes on being held.
    fn keep(&mut self, who: Holder, credential: Credential, label: &str, (from, until): Span, note: &str) {
        let is_moment = who != Holder::Client && until.is_some();
        let held = self
            .0
            .iter_mut()
            .find(|held| !is_moment && (held.who, held.credential) == (who, credential) && held.label == label);
        match held {
            Some(held) => {
                let later = held.until_ms.zip(until).map(|(one, other)| one.max(other));
                held.until_ms = later.or(held.until_ms).or(until);
            }
            None => self.0.push(Holding {
                who,
                credential,
                label: label.to_owned(),
                from_ms: from,
                until_ms: until,
                note: capture::without_runs(note),
            }),
        }
    }

    /// What that client holds is worth nothing from now on.
    pub(super) fn lose(&mut self, who: &str, credential: Credential, now: u64, note: &str) {
        let owner = format!("{who}'s ");
        let of_client = |held: &&mut Holding| {
            held.who == Holder::Client && held.credential == credential && held.label.starts_with(&owner)
        };
        if let Some(held) = self.0.iter_mut().rev().find(of_client) {
            held.until_ms = Some(now);
            if !held.note.is_empty() {
                held.note.push_str("; ");
            }
            held.note.push_str(note);
        }
    }
}

/// How long after its issue a token ends, in milliseconds.
fn life(claims: &Value) -> Option<u64> {
    let moment = |name: &str| claims.get(name)?.as_u64();
    moment("exp")?.checked_sub(moment("iat")?)?.checked_mul(1000)
}

/// What a token says, without what would let anybody use it.
fn described(token: &Decoded) -> String {
    let mut text = String::new();
    for name in ["sub", "aud", "scope", "groups"] {
        if let Some(value) = token.claims.get(name) {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // A string takes whatever is written to it.
            write!(text, "{}{name} {shown}", if text.is_empty() { "" } else { ", " }).unwrap_or(());
        }
    }
    text
}
