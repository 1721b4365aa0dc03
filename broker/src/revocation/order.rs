//! Says what somebody wants to have revoked, who it is, and how long somebody needs to know.

use std::net::IpAddr;

use crate::audit;
use crate::log::KEPT;
use crate::store::{Kind, Position, Revocation, Revoked, Target};
use crate::time::UnixTime;

/// A revocation that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    target: Target,
    issued_at_or_before: Option<UnixTime>,
    until: Until,
}

/// How long somebody needs to know of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until then.
    Known(UnixTime),
    /// Until no token can be valid that was minted so far.
    TokensEnd,
    /// For ever: it is about what may be minted, too.
    Ever,
}

/// What gives somebody the right to take one token back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It is the client to whom it was issued.
    Client,
    /// It has another token of the same subject, or this one.
    User,
    /// It has a token of an administrator.
    Administrator,
    /// It is logged out, and has a token of that session.
    Logout,
}

impl Right {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
            Self::Administrator => "administrator",
            Self::Logout => "logout",
        }
    }
}

/// Who asks for it.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Whoever may open the admin socket, by user number.
    Administrator {
        /// The user.
        uid: Option<u32>,
    },
    /// The command line, while no broker runs.
    Offline {
        /// The user.
        uid: u32,
    },
    /// A client of the mesh or the public listener, who has the token.
    Client {
        /// What gives it the right.
        right: Right,
        /// Which listener.
        listener: &'static str,
        /// `client_id`.
        client: &'a str,
        /// The subject of the token with which it showed its right to do so, where it did.
        subject: Option<&'a str>,
        /// Its address.
        source: Option<IpAddr>,
    },
}

impl Order {
    /// Takes one token back, which is valid until `expires` at the latest where that is known.
    pub fn token(target: Target, expires: Option<UnixTime>) -> Self {
        Self {
            target,
            issued_at_or_before: None,
            until: expires.map_or(Until::TokensEnd, Until::Known),
        }
    }

    /// Takes back what was issued up to a time, and nothing that is issued later. For one token that is the same.
    pub fn up_to(target: Target, time: UnixTime) -> Self {
        Self {
            issued_at_or_before: (target.kind() != Kind::Token).then_some(time),
            target,
            until: Until::TokensEnd,
        }
    }

    /// Takes everything back, and lets nothing be minted, until `end` where there is one. For one token that is the same as
    /// [`Order::token`].
    pub fn ban(target: Target, end: Option<UnixTime>) -> Self {
        let until = match (target.kind(), end) {
            (Kind::Token, _) => Until::TokensEnd,
            (Kind::Session | Kind::Subject, Some(end)) => Until::Known(end),
            (Kind::Session | Kind::Subject, None) => Until::Ever,
        };
        Self {
            target,
            issued_at_or_before: None,
            until,
        }
    }

    /// How long somebody needs to know.
    pub const fn until(&self) -> Until {
        self.until
    }

    /// The revocation. `tokens_end` is until when any token may be valid that was minted so far, where that is asked for.
    pub(super) fn into_revocation(self, tokens_end: Option<UnixTime>) -> Revocation {
        let Self {
            target,
            issued_at_or_before,
            until,
        } = self;
        Revocation {
            target,
            issued_at_or_before,
            needed_until: match until {
                Until::Known(until) => Some(until),
                Until::TokensEnd => tokens_end,
                Until::Ever => None,
            },
        }
    }
}

/// One event for each revocation.
pub(super) fn log_revoked(revoked: &Revoked, by: &By<'_>) {
    let Revoked {
        position,
        revocation:
            Revocation {
                target,
                issued_at_or_before,
                needed_until,
            },
    } = revoked;
    let who = Who::of(by);
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        kind = target.kind().as_str(),
        value = target.value(),
        issued_at_or_before = issued_at_or_before.map(UnixTime::seconds),
        needed_until = needed_until.map(UnixTime::seconds),
        version = position.version,
        by = who.by,
        uid = who.uid,
        listener = who.listener,
        client_id = who.client,
        client_subject = who.subject,
        source = who.source,
        "revoked"
    );
}

/// One event for each that is taken back.
pub(super) fn log_lifted(target: &Target, position: Position, by: &By<'_>) {
    let who = Who::of(by);
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        kind = target.kind().as_str(),
        value = target.value(),
        version = position.version,
        by = who.by,
        uid = who.uid,
        "revocation lifted"
    );
}

/// As it stands in a log line.
#[derive(Default)]
struct Who<'a> {
    by: &'static str,
    uid: Option<u32>,
    listener: Option<&'static str>,
    client: Option<&'a str>,
    subject: Option<&'a str>,
    source: Option<String>,
}

impl<'a> Who<'a> {
    fn of(by: &By<'a>) -> Self {
        match *by {
            By::Administrator { uid } => Self {
                by: "administrator",
                uid,
                ..Self::default()
            },
            By::Offline { uid } => Self {
                by: "offline",
                uid: Some(uid),
                ..Self::default()
            },
            By::Client {
                right,
                listener,
                client,
                subject,
                source,
            } => Self {
                by: right.as_str(),
                uid: None,
                listener: Some(listener),
                client: Some(client),
                subject,
                source: source.map(|source| source.to_string()),
            },
        }
    }
}
