//! Says what a revocation is: what it names, which of its tokens, and how long somebody needs to know.

use std::fmt;

use kerbridge_gate::revocation::LEEWAY;
use kerbridge_wire::feed::{Entry, Epoch, RevocationKey, plain_subject};
use serde::{Deserialize, Serialize};

use crate::pasted::is_token;
use crate::time::UnixTime;

/// By what a revocation names tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// One token, by its `jti`.
    #[serde(rename = "jti")]
    Token,
    /// All tokens of one service ticket, by their `sid`.
    #[serde(rename = "sid")]
    Session,
    /// All tokens of one subject, by their `sub`.
    #[serde(rename = "subject")]
    Subject,
}

impl Kind {
    /// Every kind, in the order of the documents.
    pub const ALL: &'static [Self] = &[Self::Token, Self::Session, Self::Subject];

    /// The word for it: on the command line, on the admin socket, in log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "jti",
            Self::Session => "sid",
            Self::Subject => "subject",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is revoked: a token, a session or a subject. 1 to 1024 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    kind: Kind,
    value: Box<str>,
}

/// Why a text names no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is empty, longer than 1024 bytes, or has control characters: no claim of ours has such a value.
    Form,
    /// It is a token itself, which must go into no store and no log.
    Token,
}

/// Longest value, in bytes.
const LONGEST: usize = 1024;

impl Target {
    /// The tokens of which the claim for this kind has exactly this value, which somebody says; a subject in [whatever
    /// case](plain_subject).
    pub fn new(kind: Kind, value: &str) -> Result<Self, TargetError> {
        if is_token(kind, value) {
            return Err(TargetError::Token);
        }
        Self::known(kind, value)
    }

    /// The same of a claim that was verified, or a value that a store has.
    pub fn known(kind: Kind, value: &str) -> Result<Self, TargetError> {
        if value.is_empty() || value.len() > LONGEST || value.chars().any(char::is_control) {
            return Err(TargetError::Form);
        }
        let value = match kind {
            Kind::Token | Kind::Session => value.into(),
            Kind::Subject => plain_subject(value).into(),
        };
        Ok(Self { kind, value })
    }

    /// By what it names them.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of the claim; of a subject as revocations know it.
    pub const fn value(&self) -> &str {
        &self.value
    }

    /// The name by which the feed of this issuer knows it.
    pub fn key(&self, issuer: &str) -> RevocationKey {
        match self.kind {
            Kind::Token => RevocationKey::token(issuer, &self.value),
            Kind::Session => RevocationKey::session(issuer, &self.value),
            Kind::Subject => RevocationKey::subject(issuer, &self.value),
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => write!(f, "expected 1 to {LONGEST} bytes without control characters"),
            Self::Token => f.write_str("a token, and not one of its claims"),
        }
    }
}

impl std::error::Error for TargetError {}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What it names.
    pub target: Target,
    /// Tokens with an `iat` up to this are revoked; `None` takes all, those that are not minted yet too.
    pub issued_at_or_before: Option<UnixTime>,
    /// The last second in which a token that it names could be valid; `None` has no end.
    pub needed_until: Option<UnixTime>,
}

impl Revocation {
    /// Both in one: of each time the later one counts, and no time is the latest. A ban and what goes up to a time make a ban for as
    /// long as either is heeded.
    #[must_use]
    pub fn merged(self, other: &Self) -> Self {
        let later = |one: Option<UnixTime>, other: Option<UnixTime>| one.zip(other).map(|(one, other)| one.max(other));
        let issued_at_or_before = later(self.issued_at_or_before, other.issued_at_or_before);
        let end_of = |one: &Self| match (issued_at_or_before, one.issued_at_or_before) {
            (None, Some(_)) => one.needed_until.map(|until| until.plus(LEEWAY)),
            (None | Some(_), _) => one.needed_until,
        };
        Self {
            issued_at_or_before,
            needed_until: later(end_of(&self), end_of(other)),
            target: self.target,
        }
    }

    /// As the feed of this issuer says it. No end of need is the longest that a feed can say. Verifiers heed an entry for some time
    /// after its end, since some take tokens for as long after theirs; a ban is over when it was said to be.
    pub fn entry(&self, issuer: &str) -> Entry {
        let seconds = |time: UnixTime| time.seconds();
        let until = match (self.target.kind, self.issued_at_or_before) {
            (Kind::Session | Kind::Subject, None) => {
                self.needed_until.map(|until| until.seconds().saturating_sub(LEEWAY))
            }
            (Kind::Token, _) | (_, Some(_)) => self.needed_until.map(seconds),
        };
        Entry::new(
            self.target.key(issuer),
            until.unwrap_or(u64::MAX),
            self.issued_at_or_before.map(seconds),
        )
    }
}

/// Where a store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Drawn at random when the store was made: versions of different stores cannot be compared.
    pub epoch: Epoch,
    /// Grows with each revocation, and with each that is taken back.
    pub version: u64,
}

/// What came of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Who has read up to here has it.
    pub position: Position,
    /// What stands in the store now.
    pub revocation: Revocation,
}

/// A revocation as it stands in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The version that brought it, or its last change.
    pub version: u64,
    /// When that was.
    pub at: UnixTime,
    /// What it says.
    pub revocation: Revocation,
}

/// What was revoked after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Where the store stands.
    pub newest: Position,
    /// What was read at an earlier version than this cannot be gone on with: something was taken back since.
    pub continues_from: u64,
    /// In the order of their versions. As many as were asked for mean that there may be more.
    pub recorded: Vec<Recorded>,
}

#[cfg(test)]
mod tests {
    use kerbridge_wire::feed::EVER;

    use super::*;

    fn revocation(before: Option<u64>, until: Option<u64>) -> Revocation {
        Revocation {
            target: Target::new(Kind::Session, "s").unwrap(),
            issued_at_or_before: before.map(UnixTime::from_seconds),
            needed_until: until.map(UnixTime::from_seconds),
        }
    }

    #[test]
    fn of_two_revocations_the_stricter_part_of_each_counts() {
        for (one, other, both) in [
            ((Some(5), Some(9)), (Some(7), Some(8)), (Some(7), Some(9))),
            ((None, Some(9)), (Some(7), None), (None, None)),
            ((Some(5), Some(9)), (Some(5), Some(9)), (Some(5), Some(9))),
            ((None, Some(9)), (None, Some(11)), (None, Some(11))),
            // What has those tokens that were issued up to then is heeded for as long as before.
            ((None, Some(20)), (Some(7), Some(900)), (None, Some(900 + LEEWAY))),
            ((None, Some(1200)), (Some(7), Some(900)), (None, Some(1200))),
        ] {
            let (one, other) = (revocation(one.0, one.1), revocation(other.0, other.1));
            let both = revocation(both.0, both.1);
            assert_eq!(one.clone().merged(&other), both);
            assert_eq!(other.clone().merged(&one), both);
            assert_eq!(both.clone().merged(&other).merged(&one), both);
        }
    }

    #[test]
    fn what_has_no_end_has_none_in_the_feed() {
        let entry = revocation(None, None).entry("https://broker.test");
        assert_eq!((entry.needed_until, entry.issued_at_or_before), (EVER, EVER));
        let entry = revocation(Some(5), Some(9)).entry("https://broker.test");
        assert_eq!((entry.needed_until, entry.issued_at_or_before), (9, 5));
        assert_eq!(entry.key, RevocationKey::session("https://broker.test", "s"));
    }

    #[test]
    fn a_ban_is_heeded_until_it_ends_and_no_longer() {
        let entry = revocation(None, Some(9000)).entry("https://broker.test");
        assert_eq!(u64::from(entry.needed_until) + LEEWAY, 9000);
        let token = Revocation {
            target: Target::new(Kind::Token, "t").unwrap(),
            ..revocation(None, Some(9000))
        };
        assert_eq!(token.entry("https://broker.test").needed_until, 9000);
    }

    #[test]
    fn a_target_is_a_value_that_a_claim_can_have() {
        assert!(Target::new(Kind::Subject, &"x".repeat(1024)).is_ok());
        for value in ["", "a\n", "\u{85}", &"x".repeat(1025)] {
            assert_eq!(Target::new(Kind::Token, value), Err(TargetError::Form), "{value:?}");
        }
        let token = "a.".repeat(1024);
        assert_eq!(Target::new(Kind::Token, &token), Err(TargetError::Token));
    }
}
