//! Judges a request: finds its route, reads its credential, asks for a signature check or an exchange, and admits it only
//! behind verified claims.

mod pending;
mod warm;

use std::hash::RandomState;
use std::mem;
use std::rc::Rc;

use kerbridge_wire::Reason;
use kerbridge_wire::policy::Scheme;

use crate::config::Config;
use crate::continuation::Continuations;
use crate::credentials::Credentials;
use crate::demand::KeyDemand;
use crate::exchange::{BrokerCall, PendingCall, PendingExchange, Wanted};
use crate::header_map::HeaderMap;
use crate::refusal::Asked;
use crate::request::{RequestHead, has_token_in_query};
use crate::response::{Admitted, removals};
use crate::route::{self, Need};
use crate::rule::Rule;
use crate::secret::Secret;
use crate::session::ReturnPath;
use crate::snapshot::Snapshot;
use crate::step::{HeaderEdit, HeaderEdits, Step};
use crate::time::UnixTime;
use crate::token_cache::{Bounds, TokenCache};
use crate::upstream::Caller;
use crate::verified::Verified;

pub(crate) use pending::Origin;
pub use pending::{PendingKeys, PendingSignature};
pub use warm::{Recalled, WarmHead};

/// Where clients show who they are to a proxy; nothing of ours is ever there (RFC 9110 §11.7.2).
pub(crate) const PROXY_AUTHORIZATION: &str = "proxy-authorization";
/// Where clients show who they are, our cookies beside others.
const CREDENTIALS: &[&str] = &["authorization", PROXY_AUTHORIZATION, "cookie"];

/// The gate of one worker: the current snapshot, the tokens that it verified, the keys that it misses, the handshakes that it
/// has halfway.
#[derive(Debug)]
pub struct Gate {
    snapshot: Rc<Snapshot>,
    cache: TokenCache<Rc<Verified>>,
    demand: KeyDemand,
    continuations: Continuations,
}

/// What a credential is judged by. Kept while an answer is awaited.
#[derive(Clone, Debug)]
pub(crate) struct Requirements {
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) config: Rc<Config>,
    pub(crate) rule: Rc<Rule>,
}

impl Gate {
    /// A gate that judges against this snapshot.
    pub fn new(snapshot: Rc<Snapshot>) -> Self {
        Self {
            cache: empty_cache(&snapshot),
            snapshot,
            demand: KeyDemand::default(),
            continuations: Continuations::default(),
        }
    }

    /// The snapshot that the next request is judged against.
    pub const fn snapshot(&self) -> &Rc<Snapshot> {
        &self.snapshot
    }

    /// Swaps the snapshot; requests under way keep the one that they began with. What was verified under another
    /// configuration is forgotten.
    pub fn replace(&mut self, snapshot: Rc<Snapshot>) {
        let is_same = match (self.snapshot.config(), snapshot.config()) {
            (Some(old), Some(new)) => Rc::ptr_eq(old, new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            self.cache = empty_cache(&snapshot);
            self.demand = KeyDemand::default();
            self.continuations = Continuations::default();
        }
        self.snapshot = snapshot;
    }

    /// The keys that requests asked for and the issuers' sets lack.
    pub const fn demand(&mut self) -> &mut KeyDemand {
        &mut self.demand
    }

    /// The handshakes that wait for their second leg.
    pub const fn continuations(&mut self) -> &mut Continuations {
        &mut self.continuations
    }

    /// How many verified tokens are kept, for a gauge.
    pub fn known_tokens(&self) -> usize {
        self.cache.len()
    }

    /// Edits of a request's trailers: what is ours comes from nobody else, and no credential comes there (RFC 9110 §6.5.1): nobody
    /// has looked at it. They may come before the head's decision and are then not shown again, so they are cleaned whenever
    /// they come.
    pub fn clean_trailers(&self, trailers: &HeaderMap) -> HeaderEdits {
        let Some(config) = self.snapshot.config() else {
            return HeaderEdits::new();
        };
        let mut edits = removals(config.reserved_headers(), trailers);
        edits.extend(removals(CREDENTIALS, trailers));
        if let Some(token_header) = &config.token_header {
            edits.extend(removals(&[&*token_header.name], trailers));
        }
        edits
    }

    /// Whether a credential is to be judged, so that what was revoked matters. An open route, and whoever shows nothing, wait for
    /// no revocations.
    pub fn needs_revocations(&self, head: &RequestHead<'_>) -> bool {
        let Some(config) = self.snapshot.config() else {
            return false;
        };
        let Ok(Some(route)) = route::find(&config.routes, head) else {
            return false;
        };
        let Need::Proof(rule) = &route.need else { return false };
        let credentials = Credentials::read(head, rule, config.token_header.as_ref());
        credentials.is_ok_and(|credentials| credentials.scheme().is_some())
    }

    /// Judges a request's head at a time.
    pub fn admit(&mut self, now: UnixTime, head: &RequestHead<'_>) -> Step {
        let Some(config) = self.snapshot.config().cloned() else {
            return Asked::closed(head).refuse(Reason::Internal);
        };
        let mut asked = Asked::new(Rc::clone(&config), head);
        let route = match route::find(&config.routes, head) {
            Ok(route) => route.cloned(),
            Err(route::PathAmbiguous) => return asked.refuse(Reason::PathAmbiguous),
        };
        // A preflight is judged by the route of the request that it asks about; it carries no credential (Fetch §4.8).
        if let Some(method) = head.preflight_for() {
            let asked_for = route::find_for(&config.routes, head.authority(), head.path(), method);
            if let Ok(Some(route)) = asked_for
                && route.cors_preflight
            {
                asked.route = Some(Rc::clone(route));
                return asked.pass_open(false);
            }
        }
        let Some(route) = route else {
            return asked.refuse(Reason::DeniedByPolicy);
        };
        asked.route = Some(Rc::clone(&route));
        match &route.need {
            // Nobody's application is meant by it where nothing is forwarded, so that it is noticed here as elsewhere.
            Need::Open { forward: false } if has_token_in_query(head.path()) => asked.refuse(Reason::TokenInQuery),
            Need::Open { forward } => asked.pass_open(*forward),
            Need::Own(own) => own.judge(asked, head),
            Need::Proof(rule) => {
                if let Some(own) = config.own_paths.as_ref().filter(|_| head.was_logged_out()) {
                    asked = asked.of_a_logged_out(ReturnPath::of_request(head, &own.path));
                }
                asked.withholds_negotiate |= !rule.offer.is_for(head, head.source);
                let requirements = Requirements {
                    snapshot: Rc::clone(&self.snapshot),
                    rule: Rc::clone(rule),
                    config,
                };
                self.judge(now, head, asked, requirements)
            }
        }
    }

    fn judge(&mut self, now: UnixTime, head: &RequestHead<'_>, mut asked: Asked, requirements: Requirements) -> Step {
        let rule = &requirements.rule;
        let is_clear = !asked.secure && !rule.allow_insecure;
        // A challenge without TLS would ask for a credential without TLS.
        if is_clear && !rule.optional {
            return asked.refuse(Reason::InsecureTransport);
        }
        let token_header = requirements.config.token_header.as_ref();
        let credentials = match Credentials::read(head, rule, token_header) {
            Ok(credentials) => credentials,
            Err(reason) => return asked.refuse(reason),
        };
        let Some(scheme) = credentials.scheme() else {
            return if rule.optional {
                asked.pass_open(false)
            } else if asked.is_of_a_logged_out() {
                asked.refuse(Reason::LoggedOut)
            } else {
                asked.refuse(Reason::NoCredentials)
            };
        };
        if is_clear {
            return asked.refuse(Reason::InsecureTransport);
        }
        asked.cookie_shown = scheme == Scheme::Cookie;
        // Some browsers send a ticket without being asked for it, and a request that was under way at the logout sets a cookie
        // after it: neither is what its user wants now. A log-in takes the mark away first.
        if matches!(scheme, Scheme::Negotiate | Scheme::Cookie) && asked.is_of_a_logged_out() {
            return asked.refuse(Reason::LoggedOut);
        }
        if head.is_cross_site(scheme) {
            return asked.refuse(Reason::CrossSite);
        }
        match credentials {
            Credentials::None => asked.refuse(Reason::NoCredentials),
            Credentials::Bearer(token) | Credentials::Cookie(token) | Credentials::Header(token) => {
                self.judge_token(asked, requirements, now, Origin::Shown(token.into()))
            }
            Credentials::Negotiate(ticket) => judge_ticket(asked, requirements, now, ticket),
        }
    }

    /// Judges a token: from memory where it was verified before, else by its signature.
    pub(crate) fn judge_token(
        &mut self,
        asked: Asked,
        requirements: Requirements,
        now: UnixTime,
        origin: Origin,
    ) -> Step {
        match self.known(&requirements.snapshot, &origin, now) {
            Some(Ok(verified)) => pass(asked, &requirements, now, &verified, origin),
            Some(Err(reason)) => asked.refuse(origin.blame(reason)),
            None => pending::verify(self, asked, requirements, now, origin),
        }
    }

    /// What is remembered of a token, if its key is still one of its issuer's. Who may have issued it depends on where it comes
    /// from now: a token of another issuer that a client showed before is none that the broker can have minted.
    fn known(&mut self, snapshot: &Snapshot, origin: &Origin, now: UnixTime) -> Option<Result<Rc<Verified>, Reason>> {
        let token = origin.token();
        let verified = Rc::clone(self.cache.get(token, now)?);
        let issuer = snapshot.config()?.issuers.get(verified.claims().issuer())?;
        if !origin.may_be_of(issuer) {
            return None;
        }
        match verified.is_signed_by_a_key_of(snapshot, now) {
            Ok(true) => Some(Ok(verified)),
            Ok(false) => {
                self.cache.remove(token);
                None
            }
            Err(reason) => Some(Err(reason)),
        }
    }

    fn remember(&mut self, token: &[u8], verified: &Rc<Verified>, now: UnixTime) {
        self.cache.insert(
            token,
            verified.claims().ends(),
            verified.weight(),
            Rc::clone(verified),
            now,
        );
    }
}

fn empty_cache(snapshot: &Snapshot) -> TokenCache<Rc<Verified>> {
    let (entries, mebibytes) = snapshot.config().map_or((0, 0), |config| {
        (config.token_cache.entries, config.token_cache.mebibytes)
    });
    let entries = usize::try_from(entries).unwrap_or_default();
    let bytes = usize::try_from(mebibytes)
        .unwrap_or_default()
        .saturating_mul(1024 * 1024);
    TokenCache::new(Bounds { entries, bytes }, RandomState::new())
}

fn judge_ticket(asked: Asked, requirements: Requirements, now: UnixTime, ticket: &[u8]) -> Step {
    let Some(broker) = &requirements.config.broker else {
        return asked.refuse(Reason::Internal);
    };
    // Without keys the minted token could not be verified: say so before the ticket is used up.
    if let Err(reason) = requirements.snapshot.fresh_keys(broker.issuer, now) {
        return asked.refuse(reason);
    }
    let wanted = Wanted::Token {
        ticket,
        audience: &requirements.rule.audience,
    };
    let call = BrokerCall::new(broker, &asked, &wanted);
    Step::Call(call, PendingCall::Exchange(PendingExchange { asked, requirements }))
}

/// Lets a request with verified claims through, if they are not revoked, are for this audience, and open this route.
fn pass(asked: Asked, requirements: &Requirements, now: UnixTime, verified: &Rc<Verified>, origin: Origin) -> Step {
    let Requirements { snapshot, config, rule } = requirements;
    let mut asked = asked;
    let claims = verified.claims();
    let Some(issuer) = config.issuers.get(claims.issuer()) else {
        return asked.refuse(Reason::Internal);
    };
    asked.issuer = Some(Rc::clone(&issuer.name));
    if let Err(reason) = verified.is_not_revoked(snapshot, now) {
        return asked.refuse(reason);
    }
    if !issuer.vouches_for(&rule.audience, claims) {
        return asked.refuse(origin.blame(Reason::WrongAudience));
    }
    if !claims.confirmation().is_held_with(asked.certificate) {
        return asked.refuse(origin.blame(Reason::CertificateMismatch));
    }
    if let Err(reason) = rule.permits(claims) {
        return asked.refuse(reason);
    }
    asked.pass_verified(rule, verified, origin)
}

impl Asked {
    /// The step that lets the request through to an open route.
    fn pass_open(self, forward: bool) -> Step {
        let mut edits = self.strip.clone();
        if !forward {
            edits.extend(self.credential_removals());
        }
        Step::Continue(edits, Admitted::open(self))
    }

    /// The step that lets the request through behind verified claims: what was sent under our names goes, what was verified
    /// is set.
    fn pass_verified(mut self, rule: &Rc<Rule>, verified: &Rc<Verified>, origin: Origin) -> Step {
        let mut edits = mem::take(&mut self.strip);
        edits.extend(verified.identity().iter().cloned());
        edits.extend(verified.claim_edits(rule));
        // Neither a ticket nor a token that is not to be forwarded goes upstream; a dry run leaves them as they came.
        if !self.is_dry_run() {
            // What is set replaces what came: no need to remove it first.
            let is_replaced = |edit: &HeaderEdit| matches!(edit, HeaderEdit::Remove(name) if rule.forward && **name == *"authorization");
            edits.extend(self.credential_removals().filter(|edit| !is_replaced(edit)));
            if rule.forward {
                edits.push(forwarded(origin.secret()));
            }
        }
        // What its service is shown is our ticket alone.
        if rule.upstream.is_some() && self.has_proxy_authorization {
            edits.push(HeaderEdit::Remove(PROXY_AUTHORIZATION.into()));
        }
        let caller = rule
            .upstream
            .clone()
            .map(|spn| Box::new(Caller::new(self.clone(), origin.secret().clone(), spn)));
        let minted = match origin {
            Origin::Shown(_) => None,
            Origin::Exchanged(minted) => Some(minted),
        };
        Step::Continue(edits, Admitted::behind(self, Rc::clone(verified), minted, caller))
    }
}

/// `Authorization` with the verified token.
fn forwarded(token: &Secret) -> HeaderEdit {
    let value = [b"Bearer ".as_slice(), token.expose()].concat();
    HeaderEdit::Set("authorization".into(), Secret::new(value))
}
