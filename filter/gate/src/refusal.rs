//! Turns a reason into the answer that the client gets: status, challenges, a body that says nothing of the inside.

mod body;

use std::rc::Rc;

pub(crate) use body::Body;

use kerbridge_wire::Reason;
use kerbridge_wire::policy::Scheme;
use kerbridge_wire::reason::{ChallengeRule, Fault};

use crate::certificate::CertificateDigest;
use crate::config::Config;
use crate::gate::{PROXY_AUTHORIZATION, WarmHead};
use crate::request::RequestHead;
use crate::response::{Admitted, removals};
use crate::route::Route;
use crate::rule::Rule;
use crate::secret::Secret;
use crate::session::{Page, ReturnPath, cookie_line};
use crate::step::{Decision, HeaderEdit, HeaderEdits, Step};

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status: 200 and 303 on paths of our own, otherwise 400 to 503.
    pub status: u16,
    /// Header lines, in order, names may repeat. Values are secret: one of them may be an acceptor's token.
    pub headers: Vec<(Rc<str>, Secret)>,
    /// The body: one JSON object, one plain line for browsers, a page of our own, or nothing.
    pub body: Vec<u8>,
    /// The handle to keep for the client's connection: its second leg is to bring it along.
    pub continuation: Option<Secret>,
    /// Why.
    pub decision: Decision,
}

/// What is kept of a request to answer it, while a signature or the broker is awaited.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) config: Option<Rc<Config>>,
    pub(crate) route: Option<Rc<Route>>,
    /// The configuration's name of the issuer, once a token named one that is known.
    pub(crate) issuer: Option<Rc<str>>,
    /// Removals from the head that hold whatever is decided.
    pub(crate) strip: HeaderEdits,
    has_authorization: bool,
    has_token_header: bool,
    pub(crate) has_proxy_authorization: bool,
    request_id: String,
    wants_html: bool,
    /// Another site's page made it.
    is_foreign: bool,
    /// Negotiate is not offered, whatever the route accepts.
    pub(crate) withholds_negotiate: bool,
    pub(crate) secure: bool,
    /// It was by a ticket that it was to pass.
    by_ticket: bool,
    pub(crate) certificate: Option<CertificateDigest>,
    /// The client may see the decision, and asks for it.
    pub(crate) explains: bool,
    /// The cookie that is judged: it is deleted where its token is no good.
    pub(crate) cookie_shown: bool,
    /// Its browser was logged out a moment ago, and this is where a login may lead back to.
    logged_out: Option<ReturnPath>,
    /// It is one to log out, not one for a service.
    logout: bool,
}

/// Why a request does not pass, and the acceptor's token that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// What is wrong with a token of the broker's, where that is why the fault is ours.
    pub(crate) because: Option<Reason>,
    /// Base64 (token68) of GSSAPI's error token, or of the one that the client is to answer.
    pub(crate) negotiate: Option<Secret>,
    /// The handle with which the broker goes on.
    pub(crate) continuation: Option<Secret>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            because: None,
            negotiate: None,
            continuation: None,
        }
    }
}

impl Asked {
    pub(crate) fn new(config: Rc<Config>, head: &RequestHead<'_>) -> Self {
        let explains = config.explain.as_ref().is_some_and(|explain| {
            head.headers.values_of(&explain.header).next().is_some()
                && head
                    .source
                    .is_some_and(|source| explain.sources.iter().any(|network| network.contains(source)))
        });
        let token_header = config.token_header.as_ref();
        Self {
            strip: strip(config.reserved_headers(), head),
            has_token_header: token_header.is_some_and(|header| head.headers.values_of(&header.name).next().is_some()),
            explains,
            config: Some(config),
            ..Self::closed(head)
        }
    }

    /// A request to a gate without a configuration.
    pub(crate) fn closed(head: &RequestHead<'_>) -> Self {
        let id = head.headers.first(b"x-request-id").unwrap_or_default();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        Self {
            config: None,
            route: None,
            issuer: None,
            strip: HeaderEdits::new(),
            has_authorization: head.headers.first(b"authorization").is_some(),
            has_token_header: false,
            has_proxy_authorization: head.headers.first(PROXY_AUTHORIZATION.as_bytes()).is_some(),
            request_id: id
                .iter()
                .filter(|byte| is_plain(byte))
                .take(64)
                .map(|byte| char::from(*byte))
                .collect(),
            wants_html: head.wants_html(),
            is_foreign: head.withholds_negotiate(),
            withholds_negotiate: head.withholds_negotiate(),
            secure: head.secure,
            by_ticket: false,
            certificate: head.certificate,
            explains: false,
            cookie_shown: false,
            logged_out: None,
            logout: false,
        }
    }

    /// A request with a known token, of whose head little was read.
    pub(crate) fn warm(config: Rc<Config>, route: Rc<Route>, head: &WarmHead<'_>) -> Self {
        Self {
            config: Some(config),
            route: Some(route),
            issuer: None,
            strip: HeaderEdits::new(),
            has_authorization: true,
            has_token_header: false,
            // It matters on routes that take no such way.
            has_proxy_authorization: false,
            request_id: String::new(),
            wants_html: false,
            is_foreign: false,
            withholds_negotiate: false,
            secure: head.secure,
            by_ticket: false,
            certificate: head.certificate,
            explains: false,
            cookie_shown: false,
            logged_out: None,
            logout: false,
        }
    }

    /// The same, where a ticket was shown.
    pub(crate) fn by_ticket(self) -> Self {
        Self {
            by_ticket: true,
            ..self
        }
    }

    /// The same, where its browser was logged out a moment ago: no ticket is asked for, by whatever it is refused.
    pub(crate) fn of_a_logged_out(self, back: ReturnPath) -> Self {
        Self {
            logged_out: Some(back),
            withholds_negotiate: true,
            ..self
        }
    }

    /// Whether its browser was logged out a moment ago.
    pub(crate) const fn is_of_a_logged_out(&self) -> bool {
        self.logged_out.is_some()
    }

    /// The same, where it is one to log out.
    pub(crate) fn for_logout(self) -> Self {
        Self { logout: true, ..self }
    }

    /// Whether its client is a person's browser asking for a page.
    pub(crate) const fn wants_html(&self) -> bool {
        self.wants_html
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.is_dry_run())
    }

    pub(crate) fn decision(&self, reason: Reason, because: Option<Reason>) -> Decision {
        Decision {
            reason,
            because,
            route: self.route.clone(),
            issuer: self.issuer.clone(),
            dry_run: self.is_dry_run(),
            logout: self.logout,
        }
    }

    /// Removals of the credentials that came.
    pub(crate) fn credential_removals(&self) -> impl Iterator<Item = HeaderEdit> {
        let token_header = self
            .config
            .as_ref()
            .and_then(|config| config.token_header.as_ref())
            .filter(|_| self.has_token_header)
            .map(|header| Rc::clone(&header.name));
        self.has_authorization
            .then(|| "authorization".into())
            .into_iter()
            .chain(token_header)
            .map(HeaderEdit::Remove)
    }

    /// Envoy's request identifier, only letters, digits, `-`, `_`, `.`, at most 64.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    fn rule(&self) -> Option<&Rc<Rule>> {
        self.route.as_ref().and_then(|route| route.rule())
    }

    /// The step that answers the request with this refusal. Where the route only logs and counts, it goes on instead, without
    /// what was sent under our names, `Authorization` as it came.
    pub(crate) fn refuse(self, refusal: impl Into<Refusal>) -> Step {
        let refusal = refusal.into();
        if self.is_dry_run() {
            let decision = self.decision(refusal.reason, refusal.because);
            return Step::Continue(self.strip.clone(), Admitted::dry(self, decision));
        }
        Step::Respond(self.reply(refusal))
    }

    /// The answer with this refusal.
    pub(crate) fn reply(self, refusal: Refusal) -> LocalReply {
        let Refusal {
            mut reason,
            because,
            negotiate,
            continuation,
        } = refusal;
        let challenges = self.challenges(reason, negotiate.as_ref());
        let mut status = reason.status();
        if status == 401 && challenges.is_empty() {
            // A 401 must carry a challenge (RFC 9110 §15.5.2).
            status = 403;
            if reason == Reason::NoCredentials && self.is_foreign {
                reason = Reason::CrossSite;
            }
        }
        let mut headers: Vec<(Rc<str>, Secret)> = challenges
            .into_iter()
            .map(|challenge| ("www-authenticate".into(), Secret::new(challenge)))
            .collect();
        let mut add = |name: &str, value: String| headers.push((name.into(), Secret::new(value.into_bytes())));
        add("cache-control", "no-store".into());
        if reason.fault() == Fault::Us || reason == Reason::RateLimited {
            let seconds = self.config.as_ref().map_or(5, |config| config.retry_after);
            add("retry-after", seconds.to_string());
        }
        let cookie = self
            .rule()
            .and_then(|rule| rule.cookie())
            .filter(|_| reason.status() == 401 && self.cookie_shown);
        if let Some(cookie) = cookie {
            add("set-cookie", cookie_line(cookie, "", 0));
        }
        let decision = self.decision(reason, because);
        headers.extend(self.explanation(&decision));
        let body = self.body(status, reason);
        let (kind, body) = body.into_parts();
        headers.extend(kind.iter().map(|(name, value)| header(name, value)));
        LocalReply {
            status,
            headers,
            body,
            continuation,
            decision,
        }
    }

    /// The answer to a request for a path of our own that is done.
    pub(crate) fn answer(self, status: u16, more: Vec<(&'static str, String)>, body: Body) -> LocalReply {
        let decision = self.decision(Reason::Ok, None);
        let (kind, body) = body.into_parts();
        let kind = kind.iter().map(|(name, value)| header(name, value));
        let headers = [header("cache-control", "no-store")].into_iter().chain(kind);
        let mut reply = LocalReply {
            status,
            headers: headers.chain(self.explanation(&decision)).collect(),
            body,
            continuation: None,
            decision,
        };
        reply.add_headers(more);
        reply
    }

    fn body(&self, status: u16, reason: Reason) -> Body {
        let (word, id) = (public_word(reason, status), &self.request_id);
        let own = self.config.as_ref().and_then(|config| config.own_paths.as_ref());
        match (&self.logged_out, own) {
            // Nothing but a log-in helps.
            (Some(back), Some(own)) if self.wants_html && reason.status() == 401 => {
                Body::Html(Page::LoggedOut(back).html(&own.path))
            }
            _ if self.wants_html => Body::Text(format!("{status} {word} (request {id})\n")),
            _ => Body::Json(format!("{{\"error\":\"{word}\",\"request_id\":\"{id}\"}}\n")),
        }
    }

    /// The header that explains a decision, where that is asked for.
    fn explanation(&self, decision: &Decision) -> Option<(Rc<str>, Secret)> {
        let explain = self.config.as_ref()?.explain.as_ref().filter(|_| self.explains)?;
        Some((
            Rc::clone(&explain.header),
            Secret::new(decision.explained().into_bytes()),
        ))
    }

    fn challenges(&self, reason: Reason, negotiate: Option<&Secret>) -> Vec<Vec<u8>> {
        let Some(rule) = self.rule() else { return Vec::new() };
        // A browser would go on bringing the ticket that was revoked.
        let wants_ticket_again = !(self.by_ticket && reason == Reason::Revoked);
        let offers_negotiate = rule.accepts(Scheme::Negotiate) && !self.withholds_negotiate && wants_ticket_again;
        let realm = &rule.audience;
        let metadata = rule.metadata_parameter();
        let bearer = |more: &str| {
            (rule.accepts(Scheme::Bearer) || rule.accepts(Scheme::Header))
                .then(|| format!("Bearer realm=\"{realm}\"{more}{metadata}").into_bytes())
        };
        let bare = || offers_negotiate.then(|| b"Negotiate".to_vec());
        let lines = match reason.challenge() {
            ChallengeRule::None => vec![],
            ChallengeRule::Every => vec![bare(), bearer("")],
            ChallengeRule::InvalidToken => vec![bare(), bearer(", error=\"invalid_token\"")],
            ChallengeRule::InsufficientScope => {
                let scopes: Vec<&str> = rule
                    .scopes_all
                    .iter()
                    .chain(&rule.scopes_any)
                    .map(|scope| &**scope)
                    .collect();
                let scopes = scopes.join(" ");
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

impl LocalReply {
    /// Adds header lines.
    pub(crate) fn add_headers(&mut self, more: impl IntoIterator<Item = (&'static str, String)>) {
        let more = more.into_iter().map(|(name, value)| header(name, &value));
        self.headers.extend(more);
    }

    /// Puts a page of ours in place of its body.
    pub(crate) fn show(&mut self, page: String) {
        let (kind, body) = Body::Html(page).into_parts();
        self.headers.retain(|(name, _)| **name != *"content-type");
        self.add_headers(kind.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.body = body;
    }
}

fn header(name: &str, value: &str) -> (Rc<str>, Secret) {
    (name.into(), value.as_bytes().into())
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

/// Removals that every request gets: headers under our names, our cookies.
fn strip(reserved: &[Rc<str>], head: &RequestHead<'_>) -> HeaderEdits {
    let mut edits = removals(reserved, head.headers);
    if let Some(rest) = head.cookies_without_ours() {
        edits.push(HeaderEdit::Remove("cookie".into()));
        if !rest.is_empty() {
            edits.push(HeaderEdit::Set("cookie".into(), Secret::new(rest)));
        }
    }
    edits
}
