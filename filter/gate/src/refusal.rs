//! Turns a reason into the answer that the client gets: status, challenges, a body that says nothing of the inside.

use std::rc::Rc;

use kerbridge_wire::Reason;
use kerbridge_wire::policy::Scheme;
use kerbridge_wire::reason::{ChallengeRule, Fault};

use crate::config::Config;
use crate::request::RequestHead;
use crate::route::{Proof, Route};
use crate::secret::Secret;
use crate::step::{Decision, Step};

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status, 400 to 503.
    pub status: u16,
    /// Header lines, in order, names may repeat. Values are secret: one of them may be an acceptor's token.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body: one JSON object, or one plain line for browsers.
    pub body: Vec<u8>,
    /// Why.
    pub decision: Decision,
}

/// What is kept of a request to answer it, while a signature or the broker is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) config: Option<Rc<Config>>,
    pub(crate) route: Option<Rc<Route>>,
    request_id: String,
    wants_html: bool,
    withholds_negotiate: bool,
    pub(crate) secure: bool,
    /// The cookie that is judged: a 401 deletes it.
    pub(crate) cookie_shown: bool,
}

/// Why a request does not pass, and the acceptor's token that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// Base64 (token68) of GSSAPI's error token.
    pub(crate) negotiate: Option<Secret>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            negotiate: None,
        }
    }
}

impl Asked {
    pub(crate) fn new(config: Option<Rc<Config>>, head: &RequestHead<'_>) -> Self {
        let id = head.headers.first(b"x-request-id").unwrap_or_default();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        Self {
            config,
            route: None,
            request_id: id
                .iter()
                .filter(|byte| is_plain(byte))
                .take(64)
                .map(|byte| char::from(*byte))
                .collect(),
            wants_html: head.wants_html(),
            withholds_negotiate: head.withholds_negotiate(),
            secure: head.secure,
            cookie_shown: false,
        }
    }

    /// Envoy's request identifier, only letters, digits, `-`, `_`, `.`, at most 64.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    fn proof(&self) -> Option<&Rc<Proof>> {
        self.route.as_ref().and_then(|route| route.proof())
    }

    /// The step that answers the request with this refusal.
    pub(crate) fn refuse(self, refusal: impl Into<Refusal>) -> Step {
        let Refusal { mut reason, negotiate } = refusal.into();
        let challenges = self.challenges(reason.challenge(), negotiate.as_ref());
        let mut status = reason.status();
        if status == 401 && challenges.is_empty() {
            // A 401 must carry a challenge (RFC 9110 §15.5.2).
            status = 403;
            if reason == Reason::NoCredentials && self.withholds_negotiate {
                reason = Reason::CrossSite;
            }
        }
        let mut headers: Vec<(&'static str, Secret)> = challenges
            .into_iter()
            .map(|challenge| ("www-authenticate", Secret::new(challenge)))
            .collect();
        let mut add = |name, value: String| headers.push((name, Secret::new(value.into_bytes())));
        add("cache-control", "no-store".into());
        if reason.fault() == Fault::Us || reason == Reason::RateLimited {
            let seconds = self.config.as_ref().map_or(5, |config| config.retry_after);
            add("retry-after", seconds.to_string());
        }
        let cookie = self
            .proof()
            .and_then(|proof| proof.cookie())
            .filter(|_| status == 401 && self.cookie_shown);
        if let Some(cookie) = cookie {
            add(
                "set-cookie",
                format!("{cookie}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"),
            );
        }
        let word = public_word(reason, status);
        let id = &self.request_id;
        let (kind, body) = if self.wants_html {
            ("text/plain; charset=utf-8", format!("{status} {word} (request {id})\n"))
        } else {
            (
                "application/json",
                format!("{{\"error\":\"{word}\",\"request_id\":\"{id}\"}}\n"),
            )
        };
        add("content-type", kind.into());
        Step::Respond(LocalReply {
            status,
            headers,
            body: body.into(),
            decision: Decision {
                reason,
                route: self.route,
            },
        })
    }

    fn challenges(&self, rule: ChallengeRule, negotiate: Option<&Secret>) -> Vec<Vec<u8>> {
        let Some(proof) = self.proof() else { return Vec::new() };
        let offers_negotiate = proof.accepts(Scheme::Negotiate) && !self.withholds_negotiate;
        let realm = &proof.audience;
        let bearer = |more: &str| {
            proof
                .accepts(Scheme::Bearer)
                .then(|| format!("Bearer realm=\"{realm}\"{more}").into_bytes())
        };
        let bare = || offers_negotiate.then(|| b"Negotiate".to_vec());
        let lines = match rule {
            ChallengeRule::None => vec![],
            ChallengeRule::Every => vec![bare(), bearer("")],
            ChallengeRule::InvalidToken => vec![bare(), bearer(", error=\"invalid_token\"")],
            ChallengeRule::InsufficientScope => {
                let scopes = proof.scopes_all.join(" ");
                vec![bearer(&format!(", error=\"insufficient_scope\", scope=\"{scopes}\""))]
            }
            ChallengeRule::Others => vec![bearer("")],
            ChallengeRule::Negotiate => {
                let with_token = negotiate.map(|token| [b"Negotiate ".as_slice(), token.expose()].concat());
                vec![with_token.filter(|_| offers_negotiate).or_else(bare), bearer("")]
            }
        };
        lines.into_iter().flatten().collect()
    }
}

/// What the client is told, which is less than what the log is told.
const fn public_word(reason: Reason, status: u16) -> &'static str {
    match (status, reason.challenge()) {
        (400, _) => "invalid_request",
        (401, ChallengeRule::InvalidToken) => "invalid_token",
        (401, _) => "unauthenticated",
        (403, ChallengeRule::InsufficientScope) => "insufficient_scope",
        (429, _) => "rate_limited",
        (502 | 503, _) => "temporarily_unavailable",
        _ => "access_denied",
    }
}
