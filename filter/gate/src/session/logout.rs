//! Ends a browser's session: at the broker, for every token that the browser has, and in the browser.

use std::rc::Rc;

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::LOGOUT_TOKENS;

use super::{Headers, OwnPaths};
use crate::credentials::{is_session_token, token_in_headers};
use crate::exchange::{BrokerCall, BrokerReply, PendingCall, read_logout};
use crate::refusal::{Asked, LocalReply};
use crate::request::{COOKIE_PREFIX, LOGGED_OUT_COOKIE, RequestHead, Site};
use crate::step::Step;

/// A logout that waits for the broker. Consumed by the answer.
#[derive(Debug)]
pub struct PendingLogout {
    asked: Asked,
    own: Rc<OwnPaths>,
    cookies: SessionCookies,
    /// The broker is told of all tokens that came.
    is_whole: bool,
}

/// Names of the session cookies that a browser has, each once.
#[derive(Debug)]
pub(super) struct SessionCookies(Vec<Box<str>>);

impl SessionCookies {
    /// Those of a request: as many as a browser keeps.
    pub(super) fn of(head: &RequestHead<'_>) -> Self {
        let mut names: Vec<Box<str>> = Vec::new();
        for (name, _) in head.our_cookies().filter(|(name, _)| is_session_cookie(name)) {
            let name: Box<str> = String::from_utf8_lossy(name).into();
            if names.len() < LOGOUT_TOKENS && !names.contains(&name) {
                names.push(name);
            }
        }
        Self(names)
    }

    /// The headers by which all of them go.
    pub(super) fn emptied(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|name| ("set-cookie", cookie_line(name, "", 0)))
    }

    /// The headers by which all of them go, and the pages that the browser has kept of this host, and by which it is marked as
    /// logged out for so many seconds. Cookies are named one by one: of `"cookies"` browsers take those of sibling hosts, too.
    fn headers(&self, stay_out: u64) -> Headers {
        let marked = ("set-cookie", cookie_line(LOGGED_OUT_COOKIE, "1", stay_out));
        let forgotten = ("clear-site-data", "\"cache\"".to_owned());
        self.emptied().chain([marked, forgotten]).collect()
    }
}

/// A value of `set-cookie` with the attributes that all cookies of ours have.
pub(crate) fn cookie_line(name: &str, value: &str, seconds: u64) -> String {
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

/// Whether a value of `set-cookie` sets a cookie of ours, as browsers read it: a cookie without a name is sent back as its value
/// alone, which reads as one with a name.
pub(crate) fn is_own_set_cookie(line: &[u8]) -> bool {
    let is_skipped = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || *byte == b'=';
    let start = line.iter().position(|byte| !is_skipped(byte)).unwrap_or(line.len());
    let name = line.get(start..).unwrap_or_default();
    name.get(..COOKIE_PREFIX.len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(COOKIE_PREFIX))
}

/// Whether a name is one that an audience's cookie has: the prefix and 16 hexadecimal digits.
fn is_session_cookie(name: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    name.strip_prefix(COOKIE_PREFIX)
        .is_some_and(|rest| rest.len() == 16 && rest.iter().all(is_digit))
}

/// Begins a logout. A page of another origin cannot, and neither can what says nothing of its origin, as old browsers do, unless
/// it shows a token that no browser sends by itself.
pub(super) fn begin(own: &Rc<OwnPaths>, asked: Asked, head: &RequestHead<'_>) -> Step {
    let Some(config) = asked.config.clone() else {
        return asked.refuse(Reason::Internal);
    };
    let shown = match token_in_headers(head, config.token_header.as_ref()) {
        Ok(shown) => shown,
        Err(reason) => return asked.refuse(reason),
    };
    match (head.site(), shown) {
        (Site::Own, _) | (Site::Unsaid, Some(_)) => {}
        (Site::Foreign, _) | (Site::Unsaid, None) => return asked.refuse(Reason::CrossSite),
    }
    let mut tokens: Vec<&[u8]> = Vec::new();
    let held = head.our_cookies().filter(|(name, _)| is_session_cookie(name));
    for token in shown.into_iter().chain(held.map(|(_, value)| value)) {
        if is_session_token(token) && !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    let pending = PendingLogout {
        asked,
        own: Rc::clone(own),
        cookies: SessionCookies::of(head),
        is_whole: tokens.len() <= LOGOUT_TOKENS,
    };
    tokens.truncate(LOGOUT_TOKENS);
    match &config.broker {
        Some(broker) if !tokens.is_empty() => {
            let call = BrokerCall::log_out(broker, &pending.asked, &tokens);
            Step::Call(call, PendingCall::Logout(pending))
        }
        // There is nothing to take back.
        Some(_) | None => Step::Respond(pending.end(Ok(()))),
    }
}

impl PendingLogout {
    /// Goes on with the broker's answer.
    pub fn resume(self, reply: BrokerReply<'_>) -> Step {
        Step::Respond(self.end(read_logout(reply)))
    }

    /// The answer. Whatever the broker said, the browser has no session any more.
    fn end(self, outcome: Result<(), Reason>) -> LocalReply {
        let Self {
            asked,
            own,
            cookies,
            is_whole,
        } = self;
        let headers = cookies.headers(own.stay_out);
        match outcome {
            Ok(()) if is_whole => own.logged_out(asked, headers),
            // Nobody says that sessions have ended which have not.
            Ok(()) => own.logged_out_here(asked, headers, Reason::BrokerOverloaded),
            Err(reason) => own.logged_out_here(asked, headers, reason),
        }
    }
}
