//! Judges a request: finds its route, reads its credential, asks for a signature check or an exchange, and admits it only
//! behind verified claims.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::credentials::Credentials;
use crate::exchange::{BrokerCall, PendingExchange};
use crate::header_map::HeaderMap;
use crate::jwt::{CompactJws, SignatureInput, UnverifiedClaims, VerifiedClaims};
use crate::refusal::Asked;
use crate::request::RequestHead;
use crate::response::{Admitted, Minted, removals};
use crate::route::{Need, Proof, Route, find};
use crate::secret::Secret;
use crate::snapshot::Snapshot;
use crate::step::{HeaderEdit, HeaderEdits, Step};
use crate::time::UnixTime;

/// The gate of one worker: holds the current snapshot.
#[derive(Debug)]
pub struct Gate {
    snapshot: Rc<Snapshot>,
}

/// What a credential must be to pass, and what is done to the request then. Kept while an answer is awaited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Requirements {
    snapshot: Rc<Snapshot>,
    route: Rc<Route>,
    proof: Rc<Proof>,
    /// Removals from the request's head, found when it was read.
    strip: HeaderEdits,
}

/// A token whose signature is being checked. Consumed by the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct PendingSignature {
    asked: Asked,
    requirements: Requirements,
    claims: UnverifiedClaims,
    clock_skew: u64,
    origin: Origin,
}

/// Where a token came from: a bad one from a client is its fault, a bad one from the broker is ours.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Shown(Secret),
    Exchanged(Minted),
}

impl Gate {
    /// A gate that judges against this snapshot.
    pub const fn new(snapshot: Rc<Snapshot>) -> Self {
        Self { snapshot }
    }

    /// The snapshot that the next request is judged against.
    pub const fn snapshot(&self) -> &Rc<Snapshot> {
        &self.snapshot
    }

    /// Swaps the snapshot; requests under way keep the one that they began with.
    pub fn replace(&mut self, snapshot: Rc<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// Edits of a request's trailers: what is ours comes from nobody else. They may come before the head's decision and
    /// are then not shown again, so they are cleaned whenever they come.
    pub fn clean_trailers(&self, trailers: &HeaderMap) -> HeaderEdits {
        match self.snapshot.config() {
            Some(config) => removals(&config.reserved_headers(), trailers),
            None => HeaderEdits::new(),
        }
    }

    /// Judges a request's head at a time.
    pub fn admit(&self, now: UnixTime, head: &RequestHead<'_>) -> Step {
        let mut asked = Asked::new(self.snapshot.config().cloned(), head);
        let Some(config) = asked.config.clone() else {
            return asked.refuse(Reason::Internal);
        };
        let route = match find(&config.routes, head) {
            Ok(Some(route)) => Rc::clone(route),
            Ok(None) => return asked.refuse(Reason::DeniedByPolicy),
            Err(crate::route::PathAmbiguous) => return asked.refuse(Reason::PathAmbiguous),
        };
        asked.route = Some(Rc::clone(&route));
        let strip = strip(&config.reserved_headers(), head);
        match &route.need {
            Need::Open { forward } => {
                let mut edits = strip;
                if !forward && head.headers.first(b"authorization").is_some() {
                    edits.push(HeaderEdit::Remove("authorization".into()));
                }
                Step::Continue(
                    edits,
                    Admitted {
                        config,
                        route,
                        claims: None,
                        minted: None,
                        secure: asked.secure,
                    },
                )
            }
            Need::Proof(proof) => {
                let proof = Rc::clone(proof);
                let requirements = Requirements {
                    snapshot: Rc::clone(&self.snapshot),
                    route,
                    proof,
                    strip,
                };
                requirements.judge(now, head, asked)
            }
        }
    }
}

impl Requirements {
    fn judge(mut self, now: UnixTime, head: &RequestHead<'_>, mut asked: Asked) -> Step {
        if !asked.secure && !self.proof.allow_insecure {
            return asked.refuse(Reason::InsecureTransport);
        }
        let credentials = match Credentials::read(head, &self.proof) {
            Ok(credentials) => credentials,
            Err(reason) => return asked.refuse(reason),
        };
        asked.cookie_shown = matches!(credentials, Credentials::Cookie(_));
        if credentials.scheme().is_some_and(|scheme| head.is_cross_site(scheme)) {
            return asked.refuse(Reason::CrossSite);
        }
        // Neither a ticket nor a token that was exchanged for it, nor one that is not to be forwarded, goes upstream.
        if head.headers.first(b"authorization").is_some() {
            self.strip.push(HeaderEdit::Remove("authorization".into()));
        }
        match credentials {
            Credentials::None => asked.refuse(Reason::NoCredentials),
            Credentials::Bearer(token) | Credentials::Cookie(token) => {
                self.judge_token(asked, now, Origin::Shown(token.into()))
            }
            Credentials::Negotiate(ticket) => self.judge_ticket(asked, now, ticket),
        }
    }

    fn judge_ticket(self, asked: Asked, now: UnixTime, ticket: &[u8]) -> Step {
        let Some(config) = asked.config.clone() else {
            return asked.refuse(Reason::Internal);
        };
        // Without keys the minted token could not be verified: say so before the ticket is used up.
        if let Err(reason) = self.snapshot.fresh_keys(config.broker.issuer, now) {
            return asked.refuse(reason);
        }
        let call = BrokerCall::new(&config, &self.route, &self.proof, ticket, asked.request_id());
        Step::Call(
            call,
            PendingExchange {
                asked,
                requirements: self,
            },
        )
    }

    fn judge_token(self, asked: Asked, now: UnixTime, origin: Origin) -> Step {
        match self.find_key(&asked, now, &origin) {
            Ok((input, claims, clock_skew)) => Step::Verify(
                input,
                PendingSignature {
                    asked,
                    requirements: self,
                    claims,
                    clock_skew,
                    origin,
                },
            ),
            Err(reason) => asked.refuse(origin.blame(reason)),
        }
    }

    /// Takes the token apart and finds the key that must have signed it: by issuer, then by `kid` in that issuer's set.
    fn find_key(
        &self,
        asked: &Asked,
        now: UnixTime,
        origin: &Origin,
    ) -> Result<(SignatureInput, UnverifiedClaims, u64), Reason> {
        let config = asked.config.as_ref().ok_or(Reason::Internal)?;
        let jws = CompactJws::parse(origin.token())?;
        let claims = UnverifiedClaims::read(&jws.payload)?;
        let place = config
            .issuers
            .iter()
            .position(|issuer| *issuer.name == *claims.unverified_issuer());
        let (at, issuer) = place
            .and_then(|at| config.issuers.get(at).map(|issuer| (at, issuer)))
            .ok_or(Reason::UnknownIssuer)?;
        if matches!(origin, Origin::Exchanged(_)) && at != config.broker.issuer {
            return Err(Reason::UnknownIssuer);
        }
        let names_algorithm = |algorithm| match algorithm {
            kerbridge_wire::filter_config::Algorithm::Es256 => jws.algorithm == "ES256",
        };
        if !issuer.algorithms.iter().any(|algorithm| names_algorithm(*algorithm)) {
            return Err(Reason::AlgorithmNotAllowed);
        }
        let key = self.snapshot.key(at, jws.key_id.as_deref(), now)?.clone();
        if !names_algorithm(key.algorithm()) {
            return Err(Reason::AlgorithmNotAllowed);
        }
        // RFC 7518 §3.4: r and s, 32 bytes each.
        if jws.signature.len() != 64 {
            return Err(Reason::BadSignature);
        }
        Ok((
            SignatureInput {
                key,
                signed: jws.signed,
                signature: jws.signature,
            },
            claims,
            issuer.clock_skew,
        ))
    }

    /// Header edits of a request that passes: what was sent under our names goes, what was verified is set.
    fn edits(&self, asked: &Asked, claims: &VerifiedClaims, token: &Secret) -> HeaderEdits {
        let mut edits = self.strip.clone();
        if let Some(config) = &asked.config {
            let subject = percent_encoded(claims.subject());
            edits.push(HeaderEdit::Set(config.identity.subject.clone(), Secret::new(subject)));
            if !claims.scopes().is_empty() {
                let scopes = claims.scopes().join(" ").into_bytes();
                edits.push(HeaderEdit::Set(config.identity.scope.clone(), Secret::new(scopes)));
            }
        }
        if self.proof.forward {
            let value = [b"Bearer ".as_slice(), token.expose()].concat();
            edits.push(HeaderEdit::Set("authorization".into(), Secret::new(value)));
        }
        edits
    }
}

/// Judges a token that the broker just handed out like any other.
pub(crate) fn judge_minted(
    asked: Asked,
    requirements: Requirements,
    now: UnixTime,
    token: Secret,
    negotiate: Option<Secret>,
) -> Step {
    requirements.judge_token(asked, now, Origin::Exchanged(Minted { token, negotiate }))
}

impl PendingSignature {
    /// Goes on with the answer of the signature check.
    pub fn resume(self, now: UnixTime, valid: bool) -> Step {
        let Self {
            asked,
            requirements,
            claims,
            clock_skew,
            origin,
        } = self;
        let audience = &requirements.proof.audience;
        let verified = if valid {
            claims.verify(now, clock_skew, audience)
        } else {
            Err(Reason::BadSignature)
        };
        let claims = match verified {
            Ok(claims) => claims,
            Err(reason) => return asked.refuse(origin.blame(reason)),
        };
        let has = |scope: &str| claims.scopes().iter().any(|own| own == scope);
        if !requirements.proof.scopes_all.iter().all(|scope| has(scope)) {
            return asked.refuse(Reason::InsufficientScope);
        }
        let Some(config) = asked.config.clone() else {
            return asked.refuse(Reason::Internal);
        };
        let edits = requirements.edits(&asked, &claims, origin.secret());
        let minted = match origin {
            Origin::Shown(_) => None,
            Origin::Exchanged(minted) => Some(minted),
        };
        let route = requirements.route;
        Step::Continue(
            edits,
            Admitted {
                config,
                route,
                claims: Some(claims),
                minted,
                secure: asked.secure,
            },
        )
    }
}

impl Origin {
    const fn secret(&self) -> &Secret {
        match self {
            Self::Shown(token) | Self::Exchanged(Minted { token, negotiate: _ }) => token,
        }
    }

    fn token(&self) -> &[u8] {
        self.secret().expose()
    }

    /// A token that we were just handed by the broker and cannot verify is no fault of the client's.
    fn blame(&self, reason: Reason) -> Reason {
        match (self, reason) {
            (Self::Shown(_), reason) => reason,
            (Self::Exchanged(_), Reason::UnknownKey | Reason::KeysUnavailable) => Reason::KeysUnavailable,
            (Self::Exchanged(_), _) => Reason::BrokerUnavailable,
        }
    }
}

/// Removals that every request gets: headers under our names, our cookies.
fn strip(reserved: &[&str], head: &RequestHead<'_>) -> HeaderEdits {
    let mut edits = removals(reserved, head.headers);
    if let Some(rest) = head.cookies_without_ours() {
        edits.push(HeaderEdit::Remove("cookie".into()));
        if !rest.is_empty() {
            edits.push(HeaderEdit::Set("cookie".into(), Secret::new(rest)));
        }
    }
    edits
}

/// A subject as a header value: visible ASCII as it is, everything else and the percent sign itself as `%XX`.
fn percent_encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte);
        } else {
            out.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    out
}
