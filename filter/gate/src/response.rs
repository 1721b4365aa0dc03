//! Edits the response of a request that passed: the last Negotiate leg, and the token where the route hands it back.

use std::rc::Rc;

use kerbridge_wire::policy::Deliver;

use crate::config::{Config, TOKEN_EXPIRES_HEADER, TOKEN_HEADER};
use crate::header_map::HeaderMap;
use crate::jwt::VerifiedClaims;
use crate::route::Route;
use crate::secret::Secret;
use crate::step::{Decision, HeaderEdit, HeaderEdits};
use crate::time::UnixTime;

/// Longest cookie that browsers keep, name and attributes included (RFC 6265 §6.1).
const COOKIE_LIMIT: usize = 4096;

/// The proof that a request may go upstream. Only the gate makes one: behind a verified credential, or on an open route.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    pub(crate) config: Rc<Config>,
    pub(crate) route: Rc<Route>,
    /// `None` on an open route.
    pub(crate) claims: Option<VerifiedClaims>,
    pub(crate) minted: Option<Minted>,
    pub(crate) secure: bool,
}

/// What an exchange brought, verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Minted {
    pub(crate) token: Secret,
    /// Base64 (token68) of the acceptor's reply token, for mutual authentication.
    pub(crate) negotiate: Option<Secret>,
}

impl Admitted {
    /// What was decided.
    pub fn decision(&self) -> Decision {
        Decision {
            reason: kerbridge_wire::Reason::Ok,
            route: Some(Rc::clone(&self.route)),
        }
    }

    /// Who calls, where a credential was verified.
    pub const fn claims(&self) -> Option<&VerifiedClaims> {
        self.claims.as_ref()
    }

    /// Edits of the response's head. The reply token of mutual authentication rides on the real response, once; a token
    /// is handed back only over TLS, and a response that carries one is never stored.
    pub fn respond(self, now: UnixTime, head: &HeaderMap) -> HeaderEdits {
        let mut edits = removals(&[TOKEN_HEADER, TOKEN_EXPIRES_HEADER], head);
        let Self {
            config: _,
            route,
            claims,
            minted,
            secure,
        } = self;
        let (Some(Minted { token, negotiate }), Some(claims)) = (minted, claims) else {
            return edits;
        };
        if let Some(negotiate) = negotiate {
            let value = [b"Negotiate ".as_slice(), negotiate.expose()].concat();
            edits.push(HeaderEdit::Add("www-authenticate".into(), Secret::new(value)));
        }
        let life = claims.expires().since(now);
        let deliver = route.proof().map_or(Deliver::None, |proof| proof.deliver);
        let handed_back = match deliver {
            Deliver::Header | Deliver::Cookie if !secure || life == 0 => false,
            Deliver::None => false,
            Deliver::Header => {
                edits.push(HeaderEdit::Set(TOKEN_HEADER.into(), token));
                edits.push(HeaderEdit::Set(
                    TOKEN_EXPIRES_HEADER.into(),
                    Secret::new(life.to_string().into_bytes()),
                ));
                true
            }
            Deliver::Cookie => match cookie(&route, &token, life) {
                Some(cookie) => {
                    edits.push(HeaderEdit::Add("set-cookie".into(), cookie));
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
fn cookie(route: &Route, token: &Secret, life: u64) -> Option<Secret> {
    let name = route.proof()?.cookie()?;
    let attributes = format!("; Path=/; Max-Age={life}; Secure; HttpOnly; SameSite=Lax");
    let line = [name.as_bytes(), b"=", token.expose(), attributes.as_bytes()].concat();
    (line.len() <= COOKIE_LIMIT).then(|| Secret::new(line))
}

/// Removals of these names, for those that are there. Underscores count as hyphens: some upstreams read them so.
pub(crate) fn removals(names: &[&str], headers: &HeaderMap) -> HeaderEdits {
    let mut found: Vec<&[u8]> = headers
        .iter()
        .map(|(name, _)| name)
        .filter(|name| reads_as_one_of(names, name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| HeaderEdit::Remove(String::from_utf8_lossy(name).into_owned()))
        .collect()
}

fn reads_as_one_of(names: &[&str], header: &[u8]) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    names
        .iter()
        .any(|name| name.len() == header.len() && name.bytes().eq(header.iter().map(|byte| folded(*byte))))
}
