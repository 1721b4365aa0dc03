//! Names why a page of the feed is not taken, with what to do about it.

use std::fmt;

use kerbridge_wire::Reason;

use crate::revocation::Crowded;

/// Why a page is not taken. The last good table stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeedError {
    /// Longer than [`PAGE_LIMIT`](super::PAGE_LIMIT).
    TooLarge,
    /// No compact JWS with the claims, a line feed and entries.
    Malformed,
    /// The `typ` is another.
    WrongType,
    /// A format of a later release.
    Format,
    /// The key, the algorithm or the signature is not right.
    Signature(Reason),
    /// Signed by the right key for another issuer.
    OtherIssuer,
    /// `iat` lies in the future by more than the clock skew.
    FromTheFuture,
    /// More than [`ENTRIES_LIMIT`](kerbridge_wire::feed::ENTRIES_LIMIT) entries.
    TooManyEntries,
    /// Entries or pages are more or fewer than the claims say.
    CountsDisagree,
    /// The body is not the one that was signed.
    WrongBody,
    /// An older version of the epoch that is known.
    GoesBack,
    /// A delta on a version that was never read.
    Gap,
    /// A delta of an epoch of which no snapshot was read.
    NoSnapshot,
    /// Another epoch that is not later.
    EpochNotLater,
    /// Not the page that comes next.
    OutOfOrder,
    /// The page before it is still being read.
    Busy,
    /// More keys of one kind than hashes ever make.
    Crowded,
}

impl FeedError {
    /// The word for logs and statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::Format => "format",
            Self::Signature(reason) => reason.as_str(),
            Self::OtherIssuer => "other_issuer",
            Self::FromTheFuture => "from_the_future",
            Self::TooManyEntries => "too_many_entries",
            Self::CountsDisagree => "counts_disagree",
            Self::WrongBody => "wrong_body",
            Self::GoesBack => "goes_back",
            Self::Gap => "gap",
            Self::NoSnapshot => "no_snapshot",
            Self::EpochNotLater => "epoch_not_later",
            Self::OutOfOrder => "out_of_order",
            Self::Busy => "busy",
            Self::Crowded => "crowded",
        }
    }
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "feed page over 1 MiB: the issuer must make more pages",
            Self::Malformed => "feed page is not a compact jws, a line feed and whole entries: check the feed's path",
            Self::WrongType => "feed page has another `typ` than kerbridge-feed+jwt: check the feed's path",
            Self::Format => "feed page has a format of a later release: upgrade the module",
            Self::Signature(reason) => return write!(f, "feed page is not signed by a key of the issuer: {reason}"),
            Self::OtherIssuer => "feed page has the `iss` of another issuer: check the feed's cluster and path",
            Self::FromTheFuture => "feed page has an `iat` in the future: compare the clocks",
            Self::TooManyEntries => "feed has more than 4,000,000 entries: shorten the tokens' lives",
            Self::CountsDisagree => "feed page has more or fewer entries than its claims say",
            Self::WrongBody => "feed page has a body with another `sha256` than its claims say",
            Self::GoesBack => "feed page has a lower `version` than is known: ask for what is new",
            Self::Gap => "feed page has a `base` above the version that is known: ask for a full snapshot",
            Self::NoSnapshot => "feed page is a delta of an unknown epoch: ask for a full snapshot",
            Self::EpochNotLater => "feed page has another `epoch` and no later `iat`: the store went back in time",
            Self::OutOfOrder => "feed page is not the next one: begin with page 0",
            Self::Busy => "feed page came before the last one was read: offer it again",
            Self::Crowded => "feed has keys that are no hashes",
        })
    }
}

impl std::error::Error for FeedError {}

impl From<Crowded> for FeedError {
    fn from(Crowded: Crowded) -> Self {
        Self::Crowded
    }
}
