//! Says what is said on the admin socket: what an administrator wants revoked or given back, what came of it, where the broker
//! stands.

pub mod client;
pub mod keys;

use std::collections::BTreeMap;
use std::fmt;

use kerbridge_wire::feed::Epoch;
use serde::{Deserialize, Serialize};

use crate::pasted;
use crate::revocation::Order;
use crate::store::{Kind, Position, Replica, ReplicasSeen, Revoked, StoreError, Target, TargetError};
use crate::time::UnixTime;

/// Path of revocations.
pub const REVOKE_PATH: &str = "/v1/revoke";
/// Path of what takes one back.
pub const LIFT_PATH: &str = "/v1/lift";
/// Path of [`Status`].
pub const STATUS_PATH: &str = "/v1/status";

/// A revocation that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// By what it names tokens.
    pub kind: Kind,
    /// The value of that claim.
    pub value: String,
    /// Only what was issued at or before this, Unix time; absent: everything, and nothing is minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Until then and no longer, Unix time; absent: as long as it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What of revocations is to be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    /// By what it names tokens.
    pub kind: Kind,
    /// The value of that claim.
    pub value: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// By what it names tokens.
    pub kind: Kind,
    /// The value of that claim.
    pub value: String,
    /// Only what was issued at or before this, Unix time; null is everything, and nothing is minted.
    pub before: Option<u64>,
    /// How long the broker and the filters know of it, Unix time; null is for ever.
    pub needed_until: Option<u64>,
    /// An earlier revocation of the same reaches further than was asked: both are one, and what stands is said here.
    #[serde(default)]
    pub more_than_asked: bool,
    /// The store's name.
    pub epoch: Epoch,
    /// The version of the feed that has it.
    pub version: u64,
}

/// Where a broker stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub release: String,
    /// Whether it wants requests, or why not.
    pub ready: String,
    /// What is known of tokens; null where it makes none.
    pub tokens: Option<TokenStatus>,
    /// The brokers that share its database; null where it has a store of its own.
    #[serde(default)]
    pub replicas: Option<ReplicasStatus>,
    /// Exchanges since its start, by the reason of their answer; reasons that did not come are absent.
    pub exchanges: BTreeMap<String, u64>,
    /// The same of tickets in users' names.
    pub delegations: BTreeMap<String, u64>,
}

/// Which brokers share a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasStatus {
    /// Those that the database knows, this one among them.
    pub brokers: Vec<ReplicaStatus>,
    /// When that was so, Unix time; null where it cannot be known.
    pub as_of: Option<u64>,
    /// Why it cannot be known; null where it is.
    pub problem: Option<String>,
}

/// One of the brokers that share a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Whether it is the one that answers.
    pub this: bool,
    /// The beginning of its machine's name.
    pub host: String,
    /// Its version.
    pub release: String,
    /// How many seconds before `as_of` the database heard of it.
    pub silent_seconds: u64,
    /// How far its clock is ahead of the database's.
    pub clock_ahead_milliseconds: i64,
}

impl From<ReplicasSeen> for ReplicasStatus {
    fn from(seen: ReplicasSeen) -> Self {
        match seen {
            Ok((brokers, as_of)) => Self {
                brokers: brokers.into_iter().map(ReplicaStatus::from).collect(),
                as_of: Some(as_of.seconds()),
                problem: None,
            },
            Err(problem) => Self {
                brokers: Vec::new(),
                as_of: None,
                problem: Some(problem),
            },
        }
    }
}

impl From<Replica> for ReplicaStatus {
    fn from(replica: Replica) -> Self {
        let Replica {
            is_this,
            host,
            release,
            silent,
            clock_ahead,
        } = replica;
        Self {
            this: is_this,
            host,
            release,
            silent_seconds: silent.as_secs(),
            clock_ahead_milliseconds: clock_ahead,
        }
    }
}

/// Where a broker stands that makes tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// `iss`.
    pub issuer: String,
    /// The identifier of the key that signs.
    pub kid: String,
    /// All signing keys, and what is planned.
    pub keys: keys::Keys,
    /// What is known of revocations; null before the store was read.
    pub feed: Option<FeedStatus>,
}

/// Where the feed stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// The store's name.
    pub epoch: Epoch,
    /// Its newest version.
    pub version: u64,
    /// How many revocations it has.
    pub entries: usize,
    /// When that was all, Unix time.
    pub as_of: u64,
}

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, remedy } = self;
        write!(f, "{problem}; {remedy}")
    }
}

impl RevokeRequest {
    /// What is to be done, if it can be meant so.
    pub fn order(&self, now: UnixTime) -> Result<Order, AdminError> {
        let Self {
            kind,
            value,
            before,
            until,
        } = self;
        let target = target(*kind, value)?;
        let is_later = |time: &u64| *time > now.seconds();
        match (kind, before, until) {
            (Kind::Token, Some(_), _) | (Kind::Token, _, Some(_)) => Err(error(
                "one token was issued at one time, and ends at its own",
                "leave --before and --until out with --jti",
            )),
            (_, Some(_), Some(_)) => Err(error(
                "what was issued before is forgotten when the last of it has ended",
                "leave --until out with --before",
            )),
            (_, Some(before), None) if is_later(before) => Err(error(
                "--before lies in the future",
                "write a time that has come; without --before nothing is minted any more",
            )),
            (_, None, Some(until)) if !is_later(until) => Err(error("--until has passed", "write a time to come")),
            (Kind::Token, None, None) => Ok(Order::token(target, None)),
            (_, Some(before), None) => Ok(Order::up_to(target, UnixTime::from_seconds(*before))),
            (_, None, until) => Ok(Order::ban(target, until.map(UnixTime::from_seconds))),
        }
    }
}

impl LiftRequest {
    /// What is to be given back.
    pub fn target(&self) -> Result<Target, AdminError> {
        target(self.kind, &self.value)
    }
}

fn target(kind: Kind, value: &str) -> Result<Target, AdminError> {
    Target::new(kind, value).map_err(|wrong| match wrong {
        TargetError::Form => error(&format!("{value:?} is no {kind}: {wrong}"), "correct the value"),
        TargetError::Token => {
            let claim = pasted::claim(kind, value).filter(|claim| Target::new(kind, claim).is_ok());
            let remedy = match (kind, claim) {
                (_, Some(claim)) => format!("its {kind} is {claim}"),
                (Kind::Token | Kind::Session, None) => format!("write its claim {kind}"),
                (Kind::Subject, None) => "write its claim sub".to_owned(),
            };
            error(&format!("that is a token, not its {kind}"), &remedy)
        }
    })
}

fn error(problem: &str, remedy: &str) -> AdminError {
    AdminError {
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

impl Outcome {
    /// Of a revocation that was asked for.
    pub fn revoked(revoked: &Revoked, asked: &RevokeRequest) -> Self {
        let Revoked { position, revocation } = revoked;
        let is_later = |stands: Option<UnixTime>, asked: u64| stands.is_none_or(|stands| stands.seconds() > asked);
        Self {
            more_than_asked: match (asked.before, asked.until) {
                (Some(before), _) => is_later(revocation.issued_at_or_before, before),
                (None, Some(until)) => is_later(revocation.needed_until, until),
                (None, None) => false,
            },
            kind: revocation.target.kind(),
            value: revocation.target.value().to_owned(),
            before: revocation.issued_at_or_before.map(UnixTime::seconds),
            needed_until: revocation.needed_until.map(UnixTime::seconds),
            epoch: position.epoch,
            version: position.version,
        }
    }

    /// Of one that was taken back.
    pub fn lifted(target: &Target, position: Position) -> Self {
        Self {
            kind: target.kind(),
            value: target.value().to_owned(),
            before: None,
            needed_until: None,
            more_than_asked: false,
            epoch: position.epoch,
            version: position.version,
        }
    }
}

impl AdminError {
    /// There is nothing to take back.
    pub fn not_revoked(target: &Target) -> Self {
        error(
            &format!("{} {:?} is not revoked", target.kind(), target.value()),
            "correct the value",
        )
    }
}

impl From<&StoreError> for AdminError {
    fn from(wrong: &StoreError) -> Self {
        error(&wrong.to_string(), wrong.remedy())
    }
}
