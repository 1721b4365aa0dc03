//! Edits the response of a request that passed: the last Negotiate leg, and the token where the route hands it back.

use std::rc::Rc;

use kerbridge_wire::Reason;
use kerbridge_wire::policy::Deliver;

use crate::config::{Config, TOKEN_EXPIRES_HEADER, TOKEN_HEADER};
use crate::header_map::HeaderMap;
use crate::refusal::Asked;
use crate::route::Route;
use crate::rule::Rule;
use crate::secret::Secret;
use crate::session::{cookie_line, is_own_set_cookie};
use crate::snapshot::Snapshot;
use crate::step::{Decision, HeaderEdit, HeaderEdits};
use crate::time::UnixTime;
use crate::upstream::Caller;
use crate::verified::Verified;

/// Longest cookie that browsers keep, name and attributes included (RFC 6265 §6.1).
const COOKIE_LIMIT: usize = 4096;

/// Where a response sets cookies.
pub const SET_COOKIE: &str = "set-cookie";

/// The proof that a request may go upstream. Only the gate makes one: behind a verified credential, on a route that is open
/// or lets a request without one pass, or on one that only logs and counts.
#[derive(Debug)]
pub struct Admitted {
    config: Option<Rc<Config>>,
    route: Option<Rc<Route>>,
    decision: Decision,
    verified: Option<Rc<Verified>>,
    minted: Option<Minted>,
    /// In whose name tickets are got, on a route to a Kerberos service.
    pub(crate) caller: Option<Box<Caller>>,
    secure: bool,
    explains: bool,
}

/// What an exchange brought, verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Minted {
    pub(crate) token: Secret,
    /// Base64 (token68) of the acceptor's reply token, for mutual authentication.
    pub(crate) negotiate: Option<Secret>,
}

impl Admitted {
    pub(crate) fn open(asked: Asked) -> Self {
        let decision = asked.decision(Reason::Ok, None);
        Self::new(asked, decision)
    }

    pub(crate) fn dry(asked: Asked, decision: Decision) -> Self {
        Self::new(asked, decision)
    }

    /// A route that only logs and counts hands nothing back: there the upstream answers as if we were not there.
    pub(crate) fn behind(
        asked: Asked,
        verified: Rc<Verified>,
        minted: Option<Minted>,
        caller: Option<Box<Caller>>,
    ) -> Self {
        let is_dry_run = asked.is_dry_run();
        let decision = asked.decision(Reason::Ok, None);
        Self {
            verified: Some(verified),
            caller,
            minted: minted.filter(|_| !is_dry_run),
            ..Self::new(asked, decision)
        }
    }

    fn new(asked: Asked, decision: Decision) -> Self {
        let Asked {
            config,
            route,
            secure,
            explains,
            ..
        } = asked;
        Self {
            config,
            route,
            decision,
            verified: None,
            minted: None,
            caller: None,
            secure,
            explains,
        }
    }

    /// What was decided.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Who calls, where a credential was verified.
    pub fn verified(&self) -> Option<&Verified> {
        self.verified.as_deref()
    }

    /// When a request that is still open is to be ended: its token ends then. `None` where it may go on.
    pub fn ends_at(&self) -> Option<UnixTime> {
        let ends = self.route.as_ref()?.rule()?.end_streams;
        self.verified
            .as_ref()
            .filter(|_| ends && !self.decision.dry_run)
            .map(|verified| verified.claims().ends())
    }

    /// Whether its token, or the key that signed it, was taken back since, or can no longer be vouched for, where such a
    /// request is to be ended.
    ///
    /// # Errors
    /// `unknown_key`, `keys_unavailable`, `revoked`, `feed_stale`.
    pub fn is_still_good(&self, snapshot: &Snapshot, now: UnixTime) -> Result<(), Reason> {
        let (Some(verified), Some(_)) = (&self.verified, self.ends_at()) else {
            return Ok(());
        };
        verified.still_stands(snapshot, now)
    }

    /// Whether [`Self::respond`] has anything to do: to hand something back, or to see that nobody else does so under our
    /// names. Reading a response's head costs as much as all of a known token.
    pub fn looks_at_the_response(&self) -> bool {
        let delivers = self.config.as_ref().is_some_and(|config| config.delivers_headers);
        delivers || self.explains || self.minted.is_some() || self.caller.is_some()
    }

    /// Whether one that sets cookies is to be looked at: here is a route that takes ours, which the gate alone sets. Where nothing
    /// else is to be done, it takes one read to see that a response sets none.
    pub fn guards_cookies(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.takes_cookies)
    }

    /// Edits of the response's head. The reply token of mutual authentication rides on the real response, once; a token
    /// is handed back only over TLS, and a response that carries one is never stored.
    pub fn respond(&mut self, now: UnixTime, head: &HeaderMap) -> HeaderEdits {
        let mut edits = removals(&[TOKEN_HEADER, TOKEN_EXPIRES_HEADER], head);
        if self.guards_cookies() {
            edits.extend(without_own_cookies(head));
        }
        let explain = self.config.as_ref().and_then(|config| config.explain.as_ref());
        if let Some(explain) = explain {
            edits.extend(removals(&[&*explain.header], head));
            if self.explains {
                let value = Secret::new(self.decision.explained().into_bytes());
                edits.push(HeaderEdit::Set(Rc::clone(&explain.header), value));
            }
        }
        let (Some(Minted { token, negotiate }), Some(verified)) = (self.minted.take(), &self.verified) else {
            return edits;
        };
        if let Some(negotiate) = negotiate {
            let value = [b"Negotiate ".as_slice(), negotiate.expose()].concat();
            edits.push(HeaderEdit::Add("www-authenticate".into(), Secret::new(value)));
        }
        let rule = self.route.as_ref().and_then(|route| route.rule());
        let life = verified.claims().expires().since(now);
        let deliver = rule.map_or(Deliver::None, |rule| rule.deliver);
        let handed_back = match deliver {
            Deliver::Header | Deliver::Cookie if !self.secure || life == 0 => false,
            Deliver::None => false,
            Deliver::Header => {
                edits.push(HeaderEdit::Set(TOKEN_HEADER.into(), token));
                edits.push(HeaderEdit::Set(
                    TOKEN_EXPIRES_HEADER.into(),
                    Secret::new(life.to_string().into_bytes()),
                ));
                true
            }
            Deliver::Cookie => match rule.and_then(|rule| cookie(rule, &token, life)) {
                Some(cookie) => {
                    edits.push(HeaderEdit::Add(SET_COOKIE.into(), cookie));
                    true
                }
                None => false,
            },
        };
        if handed_back {
            edits.push(HeaderEdit::Set("cache-control".into(), b"no-store".as_slice().into()));
            edits.extend(["age", "expires", "etag"].map(|name| HeaderEdit::Remove(name.into())));
        }
        edits
    }
}

/// The cookie with the token, unless it is longer than browsers keep.
fn cookie(rule: &Rule, token: &Secret, life: u64) -> Option<Secret> {
    let name = rule.cookie()?;
    // Between its name and its attributes: the token is no text yet.
    let empty = cookie_line(name, "", life);
    let attributes = empty.get(name.len().saturating_add(1)..)?;
    let line = [name.as_bytes(), b"=", token.expose(), attributes.as_bytes()].concat();
    (line.len() <= COOKIE_LIMIT).then(|| Secret::new(line))
}

/// Takes the cookies of ours out of what a service sets: one that plants somebody else's session, or says that the browser was
/// logged out.
fn without_own_cookies(head: &HeaderMap) -> HeaderEdits {
    let set = || head.values(SET_COOKIE.as_bytes());
    if !set().any(is_own_set_cookie) {
        return HeaderEdits::new();
    }
    let others = set().filter(|line| !is_own_set_cookie(line));
    [HeaderEdit::Remove(SET_COOKIE.into())]
        .into_iter()
        .chain(others.map(|line| HeaderEdit::Add(SET_COOKIE.into(), line.into())))
        .collect()
}

/// Removals of these names, for those that are there. Underscores count as hyphens: some upstreams read them so.
pub(crate) fn removals<N: AsRef<str>>(names: &[N], headers: &HeaderMap) -> HeaderEdits {
    let mut found: Vec<&[u8]> = Vec::new();
    for (name, _) in headers.iter() {
        // Few, whatever a client sends: Envoy bounds the headers of a request.
        if reads_as_one_of(names, name) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
        .into_iter()
        .map(|name| HeaderEdit::Remove(String::from_utf8_lossy(name).into()))
        .collect()
}

fn reads_as_one_of<N: AsRef<str>>(names: &[N], header: &[u8]) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    names
        .iter()
        .map(AsRef::as_ref)
        .any(|name| name.len() == header.len() && name.bytes().eq(header.iter().map(|byte| folded(*byte))))
}
