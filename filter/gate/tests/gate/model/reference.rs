//! The gate as a reader of the requirements would write it: no cache, no tables, no shared snapshots; lists that are searched.

use kerbridge_gate::Reason;

/// Seconds for which keys and revocations are good.
pub(crate) const STALENESS: u64 = 300;
/// Seconds between two fetches for the sake of unknown keys.
pub(crate) const REFETCH: u64 = 30;
/// Seconds for which a key that was asked for is remembered.
const REMEMBERED: u64 = 300;
/// How far in the future `iat` may lie.
pub(crate) const SKEW: u64 = 60;
/// How long after `exp` the foreign issuer's tokens are still taken.
const FOREIGN_LEEWAY: u64 = 30;
/// The broker's place among the issuers; the other one is foreign, and has no feed.
pub(crate) const BROKER: usize = 0;

/// A token that somebody signed, and what stands in it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Whose name it bears.
    pub(crate) issuer: usize,
    /// The key that it names.
    pub(crate) kid: usize,
    /// Issuer and key that it was truly signed with.
    pub(crate) signed_by: (usize, usize),
    pub(crate) issued: u64,
    pub(crate) expires: u64,
    pub(crate) audience: &'static str,
    pub(crate) may_read: bool,
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) subject: String,
}

/// What a revocation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Token(String),
    Session(String),
    Subject(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    pub(crate) named: Named,
    /// It concerns tokens issued until then; all where absent.
    pub(crate) issued_until: Option<u64>,
}

/// What was fetched of one issuer's keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) kids: Vec<usize>,
    pub(crate) fetched: u64,
}

/// A fetch of one issuer's keys for the sake of unknown ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refetch {
    pub(crate) began: u64,
    /// It brought a set.
    pub(crate) brought: bool,
}

/// What is known of the broker's revocations.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) as_of: u64,
}

/// All that a worker knows at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    pub(crate) keys: [Option<Keys>; 2],
    pub(crate) feed: Option<Feed>,
    /// The last one of each issuer, and the last that brought a set.
    pub(crate) refetches: [(Option<Refetch>, Option<Refetch>); 2],
    /// Issuer, key and time of the first request that waited for it.
    pub(crate) asked: Vec<(usize, usize, u64)>,
}

/// Routes of the model's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Ticket, header or cookie; `orders`, with the scope `read`.
    Orders,
    /// Anybody.
    Open,
    /// Nothing need be shown; `orders`.
    Optional,
    /// As [`Place::Orders`], header only, and it only logs.
    Dry,
    /// Header only; `billing`.
    Billing,
    /// As [`Place::Orders`], before a Kerberos service; header or cookie.
    Legacy,
    /// No route.
    Nowhere,
}

/// How a request shows its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Nothing,
    Header,
    Cookie,
    HeaderTwice,
    HeaderAndBadCookie,
    Query,
    HeaderWithoutTls,
}

impl Place {
    fn audience(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Orders | Self::Open | Self::Optional | Self::Dry | Self::Legacy | Self::Nowhere => "orders",
        }
    }

    fn wants_scope(self) -> bool {
        matches!(self, Self::Orders | Self::Dry | Self::Legacy)
    }

    /// Whether a refusal here is only logged.
    pub(crate) fn is_dry(self) -> bool {
        self == Self::Dry
    }
}

/// Whether a token's time is over, its leeway included.
pub(crate) fn has_ended(token: &Token, now: u64) -> bool {
    let leeway = if token.issuer == BROKER { 0 } else { FOREIGN_LEEWAY };
    now >= token.expires + leeway
}

/// What a request comes to: who passed, if anybody was verified, or the reason.
pub(crate) type Verdict = Result<Option<String>, Reason>;

impl Knowledge {
    fn fresh_keys(&self, issuer: usize, now: u64) -> Result<&Keys, Reason> {
        self.keys[issuer]
            .as_ref()
            .filter(|keys| now <= keys.fetched + STALENESS)
            .ok_or(Reason::KeysUnavailable)
    }

    /// Whether a key of that name is known, fresh or not.
    pub(crate) fn has_key(&self, token: &Token) -> bool {
        self.keys[token.issuer]
            .as_ref()
            .is_some_and(|keys| keys.kids.contains(&token.kid))
    }

    /// Whether the request with this token waits for its issuer's keys to be fetched.
    pub(crate) fn waits(&self, token: &Token, now: u64) -> bool {
        let last = self.refetches[token.issuer].0;
        self.fresh_keys(token.issuer, now).is_ok()
            && !self.has_key(token)
            && !self.was_shown_to_lack(token, now)
            && last.is_none_or(|last| now >= last.began + REFETCH)
    }

    /// A request with this token waits.
    pub(crate) fn note_wait(&mut self, token: &Token, now: u64) {
        self.asked.retain(|(_, _, asked)| now < asked + REMEMBERED);
        let is_noted = |(issuer, kid, _): &(usize, usize, u64)| (*issuer, *kid) == (token.issuer, token.kid);
        if !self.asked.iter().any(is_noted) {
            self.asked.push((token.issuer, token.kid, now));
        }
    }

    pub(crate) fn note_refetch(&mut self, issuer: usize, refetch: Refetch) {
        let (last, last_that_brought) = &mut self.refetches[issuer];
        *last = Some(refetch);
        if refetch.brought {
            *last_that_brought = Some(refetch);
        }
    }

    /// Whether a fetch that began after somebody asked for its key brought a set, be it for the key's sake or not.
    fn was_shown_to_lack(&self, token: &Token, now: u64) -> bool {
        self.asked.iter().any(|(issuer, kid, asked)| {
            (*issuer, *kid) == (token.issuer, token.kid)
                && now < asked + REMEMBERED
                && (self.refetches[*issuer].1.is_some_and(|brought| *asked < brought.began)
                    || self.was_fetched_after(*issuer, *asked))
        })
    }

    fn was_fetched_after(&self, issuer: usize, time: u64) -> bool {
        self.keys[issuer].as_ref().is_some_and(|keys| time < keys.fetched)
    }

    /// Why a token whose key is not in the set is refused: there is no such key, or nobody could tell.
    fn missing(&self, token: &Token, now: u64) -> Reason {
        let last = self.refetches[token.issuer].0;
        let is_answered = |last: Refetch| last.brought || self.was_fetched_after(token.issuer, last.began);
        if self.was_shown_to_lack(token, now) || last.is_some_and(is_answered) {
            Reason::UnknownKey
        } else {
            Reason::KeysUnavailable
        }
    }

    /// Whether a token is genuine and of this time, whatever it is for.
    fn genuine(&self, token: &Token, now: u64) -> Result<(), Reason> {
        if !self.fresh_keys(token.issuer, now)?.kids.contains(&token.kid) {
            return Err(self.missing(token, now));
        }
        if token.signed_by != (token.issuer, token.kid) {
            return Err(Reason::BadSignature);
        }
        if has_ended(token, now) {
            return Err(Reason::Expired);
        }
        if token.issued > now + SKEW {
            return Err(Reason::NotYetValid);
        }
        Ok(())
    }

    /// Whether nobody took it back, as far as is known, and that is enough.
    pub(crate) fn stands(&self, token: &Token, now: u64) -> Result<(), Reason> {
        if token.issuer != BROKER {
            return Ok(());
        }
        let feed = self.feed.as_ref().ok_or(Reason::FeedStale)?;
        let names = |named: &Named| match named {
            Named::Token(id) => *id == token.id,
            Named::Session(session) => *session == token.session,
            Named::Subject(subject) => *subject == token.subject,
        };
        let revoked = feed
            .revocations
            .iter()
            .any(|one| names(&one.named) && one.issued_until.is_none_or(|until| token.issued <= until));
        if revoked {
            return Err(Reason::Revoked);
        }
        if now > feed.as_of + STALENESS {
            return Err(Reason::FeedStale);
        }
        Ok(())
    }

    /// Whether a request that passed with this token may stay open: as far as is known, neither the token nor its key was
    /// taken back.
    pub(crate) fn may_stay(&self, token: &Token, now: u64) -> Result<(), Reason> {
        if !self.fresh_keys(token.issuer, now)?.kids.contains(&token.kid) {
            return Err(Reason::UnknownKey);
        }
        self.stands(token, now)
    }

    /// Whether a request that passed with this token gets a ticket.
    pub(crate) fn delegates(&self, token: &Token, now: u64) -> Result<(), Reason> {
        if has_ended(token, now) {
            return Err(Reason::Expired);
        }
        self.may_stay(token, now)
    }

    fn opens(token: &Token, place: Place) -> Result<(), Reason> {
        // The foreign issuer vouches for orders under another name, and for nothing else.
        let wanted = match (token.issuer, place.audience()) {
            (BROKER, audience) => Some(audience),
            (_, "orders") => Some("api://orders"),
            (_, _) => None,
        };
        if wanted != Some(token.audience) {
            return Err(Reason::WrongAudience);
        }
        if place.wants_scope() && !token.may_read {
            return Err(Reason::InsufficientScope);
        }
        Ok(())
    }

    fn shown(&self, token: &Token, place: Place, now: u64) -> Verdict {
        self.genuine(token, now)?;
        self.stands(token, now)?;
        Self::opens(token, place)?;
        Ok(Some(token.subject.clone()))
    }

    /// The verdict on a request.
    pub(crate) fn judge(&self, place: Place, shape: Shape, token: &Token, now: u64) -> Verdict {
        let optional = place == Place::Optional;
        match (place, shape) {
            (Place::Nowhere, _) => Err(Reason::DeniedByPolicy),
            (Place::Open, Shape::Query) => Err(Reason::TokenInQuery),
            (Place::Open, _) => Ok(None),
            (_, Shape::HeaderWithoutTls) => Err(Reason::InsecureTransport),
            (_, Shape::Query) => Err(Reason::TokenInQuery),
            (_, Shape::HeaderTwice) => Err(Reason::MultipleCredentials),
            (_, Shape::Header | Shape::HeaderAndBadCookie) | (Place::Orders | Place::Legacy, Shape::Cookie) => {
                self.shown(token, place, now)
            }
            (_, Shape::Nothing | Shape::Cookie) if optional => Ok(None),
            (_, Shape::Nothing | Shape::Cookie) => Err(Reason::NoCredentials),
        }
    }

    /// Whether a ticket may be brought to the broker now.
    pub(crate) fn takes_tickets(&self, now: u64) -> Result<(), Reason> {
        self.fresh_keys(BROKER, now).map(drop)
    }

    /// The verdict on a request for [`Place::Orders`] whose ticket the broker exchanged for this token.
    pub(crate) fn minted(&self, token: &Token, now: u64) -> Verdict {
        // The broker mints in its own name only.
        if token.issuer != BROKER {
            return Err(Reason::BrokerUnavailable);
        }
        // What the broker minted and we cannot verify is no fault of the client's.
        self.genuine(token, now).map_err(|reason| match reason {
            Reason::UnknownKey | Reason::KeysUnavailable => Reason::KeysUnavailable,
            _ => Reason::BrokerUnavailable,
        })?;
        self.stands(token, now)?;
        Self::opens(token, Place::Orders).map_err(|reason| match reason {
            Reason::WrongAudience => Reason::BrokerUnavailable,
            other => other,
        })?;
        Ok(Some(token.subject.clone()))
    }
}
