//! Chooses the route of a request: by the path that Envoy will route by, whole segments at a time, first match decides.

use std::rc::Rc;

use kerbridge_wire::policy::{Deliver, Scheme};

use crate::request::{RequestHead, cookie_name};

/// One route, checked. Built by the configuration only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(crate) name: Box<str>,
    /// Lower case, no port; `None` is every host.
    pub(crate) host: Option<Box<str>>,
    pub(crate) path: PathMatch,
    /// Empty is every method.
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) need: Need,
}

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathMatch {
    /// This path.
    Exact(Box<str>),
    /// This path, without a slash at its end, and what lies below it; empty is every path.
    Prefix(Box<str>),
}

/// What a route wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing; `forward` leaves `Authorization` as it came.
    Open {
        /// Whether `Authorization` goes on as it came, instead of being removed.
        forward: bool,
    },
    /// A credential.
    Proof(Rc<Proof>),
}

/// What a credential must be for a route, and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub(crate) accept: Vec<Scheme>,
    pub(crate) audience: Box<str>,
    pub(crate) scopes_all: Vec<Box<str>>,
    pub(crate) deliver: Deliver,
    pub(crate) forward: bool,
    pub(crate) allow_insecure: bool,
    /// The audience's cookie, where the route takes one.
    pub(crate) cookie: Option<Box<str>>,
}

impl Proof {
    /// Whether this scheme is a proof here.
    pub fn accepts(&self, scheme: Scheme) -> bool {
        self.accept.contains(&scheme)
    }

    /// Name of the audience's cookie, where the route takes one.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    pub(crate) fn cookie_of(accept: &[Scheme], audience: &str) -> Option<Box<str>> {
        accept.contains(&Scheme::Cookie).then(|| cookie_name(audience).into())
    }
}

impl Route {
    /// What logs and the broker call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it wants of a credential; `None` on an open route.
    pub(crate) const fn proof(&self) -> Option<&Rc<Proof>> {
        match &self.need {
            Need::Open { forward: _ } => None,
            Need::Proof(proof) => Some(proof),
        }
    }

    fn matches(&self, host: &[u8], path: &[u8], method: &[u8]) -> bool {
        self.host
            .as_deref()
            .is_none_or(|own| own.as_bytes().eq_ignore_ascii_case(host))
            && self.path.matches(path)
            && (self.methods.is_empty() || self.methods.iter().any(|own| own.as_bytes() == method))
    }

    /// Whether every request that matches `other` matches this route too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let host = self.host.is_none() || self.host == other.host;
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method)));
        host && methods && self.path.covers(&other.path)
    }
}

impl PathMatch {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(own) => own.as_bytes() == path,
            Self::Prefix(own) => path
                .strip_prefix(own.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/')),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(own), Self::Exact(theirs)) => own == theirs,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(_), Self::Exact(theirs) | Self::Prefix(theirs)) => self.matches(theirs.as_bytes()),
        }
    }
}

/// The route of a request; `None` where no route is for it.
///
/// # Errors
/// [`PathAmbiguous`] for a path that Envoy, this filter and an upstream could read differently.
pub(crate) fn find<'r>(
    routes: &'r [Rc<Route>],
    head: &RequestHead<'_>,
) -> Result<Option<&'r Rc<Route>>, PathAmbiguous> {
    let path = unambiguous_path(head.path()).ok_or(PathAmbiguous)?;
    let host = host_without_port(head.authority());
    Ok(routes.iter().find(|route| route.matches(host, path, head.method())))
}

/// The path holds what two readers could read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathAmbiguous;

/// The path without its query, if every reader reads it alike: it begins with a slash; holds no empty or dot segment,
/// no escaped slash, backslash, dot, percent sign, semicolon or control, no `;` (servlet containers cut there), no `\`,
/// no `#`, no byte outside visible ASCII.
fn unambiguous_path(target: &[u8]) -> Option<&[u8]> {
    let path = target.split(|byte| *byte == b'?').next()?;
    let rest = path.strip_prefix(b"/")?;
    if !path
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b';'))
    {
        return None;
    }
    for (at, byte) in path.iter().enumerate() {
        if *byte == b'%' {
            let high = char::from(*path.get(at.checked_add(1)?)?).to_digit(16)?;
            let low = char::from(*path.get(at.checked_add(2)?)?).to_digit(16)?;
            let decoded = u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?;
            if decoded.is_ascii_control() || matches!(decoded, b'/' | b'\\' | b'.' | b'%' | b';') {
                return None;
            }
        }
    }
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return None;
        }
    }
    Some(path)
}

/// Whether every reader reads this path alike.
pub(crate) fn is_unambiguous(path: &[u8]) -> bool {
    unambiguous_path(path).is_some()
}

/// The host of an authority: port and one dot at the end cut off, brackets of an IPv6 address kept.
fn host_without_port(authority: &[u8]) -> &[u8] {
    let host = match authority.iter().rposition(|byte| *byte == b':') {
        Some(at) => {
            let (host, port) = authority.split_at_checked(at).unwrap_or((authority, b""));
            let is_port = port.iter().skip(1).all(u8::is_ascii_digit);
            let is_whole = !host.contains(&b':') || host.ends_with(b"]");
            if is_port && is_whole { host } else { authority }
        }
        None => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_ambiguous() {
        for path in [
            "",
            "orders",
            "*",
            "//",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00b",
            "/a%2e%2e/b",
            "/a%2e",
            "/a%252f",
            "/a\\b",
            "/a;x=1/b",
            "/a%3bx",
            "/a#b",
            "/a b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a\u{e4}",
            "/a%0ab",
            "/a\x7f",
        ] {
            assert_eq!(unambiguous_path(path.as_bytes()), None, "{path}");
        }
        for (target, path) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a?x=//..;%2f", "/a"),
            ("/a%20b", "/a%20b"),
            ("/%C3%A4", "/%C3%A4"),
        ] {
            assert_eq!(unambiguous_path(target.as_bytes()), Some(path.as_bytes()), "{target}");
        }
    }

    #[test]
    fn a_prefix_matches_by_whole_segments() {
        let prefix = PathMatch::Prefix("/orders".into());
        assert!(prefix.matches(b"/orders") && prefix.matches(b"/orders/") && prefix.matches(b"/orders/1"));
        assert!(!prefix.matches(b"/orders2") && !prefix.matches(b"/order") && !prefix.matches(b"/x/orders"));
        let every = PathMatch::Prefix("".into());
        assert!(every.matches(b"/") && every.matches(b"/x"));
        let exact = PathMatch::Exact("/health".into());
        assert!(exact.matches(b"/health") && !exact.matches(b"/health/") && !exact.matches(b"/health/x"));
    }

    #[test]
    fn the_port_of_an_authority_is_cut_off() {
        for (authority, host) in [
            ("api.example.com", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com.:8443", "api.example.com"),
            ("[::1]:443", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:b", "a:b"),
            ("", ""),
        ] {
            assert_eq!(host_without_port(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }

    proptest! {
        #[test]
        fn no_target_panics_and_what_passes_has_no_dot_segment(target in "[/.%a2fFe;?\\\\]{0,24}") {
            if let Some(path) = unambiguous_path(target.as_bytes()) {
                prop_assert!(!path.split(|b| *b == b'/').any(|s| s == b".." || s == b"."));
                prop_assert!(path.starts_with(b"/") && !path.windows(2).any(|w| w == b"//"));
            }
        }

        #[test]
        fn no_bytes_panic(target: Vec<u8>, authority: Vec<u8>) {
            let _path = unambiguous_path(&target);
            let _host = host_without_port(&authority);
        }
    }
}
