//! Says which requests a route is for, and what it wants of them.

pub(crate) mod index;
pub(crate) mod path;

use std::rc::Rc;

use crate::request::RequestHead;
use crate::rule::Rule;
use crate::session::OwnPaths;
use index::RouteIndex;
use path::PathPattern;

/// One route, checked. Built by the configuration only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(crate) name: Rc<str>,
    pub(crate) host: HostMatch,
    pub(crate) path: PathPattern,
    /// Empty is every method.
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) need: Need,
    pub(crate) cors_preflight: bool,
    pub(crate) dry_run: bool,
}

/// Which hosts a route is for. Names are in lower case and have no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostMatch {
    /// Every host.
    Every,
    /// This one.
    Exact(Box<str>),
    /// Every name that ends with a dot and this.
    Below(Box<str>),
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
    Proof(Rc<Rule>),
    /// Nothing: its paths are the filter's own, and nothing goes upstream from there.
    Own(Rc<OwnPaths>),
}

impl Route {
    /// What logs and the broker call it.
    pub const fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// Whether its verdict is only logged and counted.
    pub const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// What it wants of a credential; `None` on an open route.
    pub(crate) const fn rule(&self) -> Option<&Rc<Rule>> {
        match &self.need {
            Need::Open { forward: _ } | Need::Own(_) => None,
            Need::Proof(rule) => Some(rule),
        }
    }

    pub(crate) fn is_for_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own.as_bytes() == method)
    }

    /// Whether every request that matches `other` matches this route too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method)));
        methods && self.host.covers(&other.host) && self.path.covers(&other.path)
    }
}

impl HostMatch {
    fn covers(&self, other: &Self) -> bool {
        let is_below = |own: &str, their: &str| their.strip_suffix(own).is_some_and(|rest| rest.ends_with('.'));
        match (self, other) {
            (Self::Every, _) => true,
            (Self::Exact(own), Self::Exact(their)) => own == their,
            (Self::Below(own), Self::Exact(their)) => is_below(own, their),
            (Self::Below(own), Self::Below(their)) => own == their || is_below(own, their),
            (Self::Exact(_), Self::Every | Self::Below(_)) | (Self::Below(_), Self::Every) => false,
        }
    }
}

/// The route of a request; `None` where no route is for it.
///
/// # Errors
/// [`PathAmbiguous`] for a path or a host that Envoy, this filter and an upstream could read differently.
pub(crate) fn find<'r>(routes: &'r RouteIndex, head: &RequestHead<'_>) -> Result<Option<&'r Rc<Route>>, PathAmbiguous> {
    find_for(routes, head.authority(), head.path(), head.method())
}

/// The same for a method that a CORS preflight asks about, or for a head of which only these are known.
pub(crate) fn find_for<'r>(
    routes: &'r RouteIndex,
    authority: &[u8],
    target: &[u8],
    method: &[u8],
) -> Result<Option<&'r Rc<Route>>, PathAmbiguous> {
    let path = path::unambiguous(target).ok_or(PathAmbiguous)?;
    let host = unambiguous_host(authority).ok_or(PathAmbiguous)?;
    Ok(routes.find(host, &path, method))
}

/// The path or the host holds what two readers could read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathAmbiguous;

/// The host of an authority, if every reader reads it alike: letters, digits, `-`, `_` and single dots, or an IPv6 address in
/// brackets; one dot at its end and a port of digits are cut off.
fn unambiguous_host(authority: &[u8]) -> Option<&[u8]> {
    let end = match authority.iter().position(|byte| *byte == b']') {
        Some(bracket) => bracket.checked_add(1)?,
        None => authority
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end)?;
    let is_port = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    let is_address = host
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .is_some_and(|address| {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        });
    let name = host.strip_suffix(b".").unwrap_or(host);
    let is_name = name.split(|byte| *byte == b'.').all(|label| {
        !label.is_empty()
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    (is_port && (is_address || is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_port_of_an_authority_is_cut_off_and_an_odd_host_is_nobodys() {
        for (authority, host) in [
            ("api.example.com", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("api.example.com:", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com.:8443", "api.example.com"),
            ("my_host", "my_host"),
            ("[::1]:443", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(
                unambiguous_host(authority.as_bytes()),
                Some(host.as_bytes()),
                "{authority}"
            );
        }
        for authority in [
            "", ".", "a..", "a..b", ".a", "x@a", "a,b", "a%2eb", "a:b", "a:0x1", "a:1:2", "a:123456", "[::1", "::1",
            "[a]", "[::1]x", "a b", "\u{e4}", "a/b", "[::1].",
        ] {
            assert_eq!(unambiguous_host(authority.as_bytes()), None, "{authority}");
        }
    }

    #[test]
    fn a_wildcard_covers_the_names_below_it_and_not_its_own() {
        let below = HostMatch::Below("b.c".into());
        assert!(below.covers(&HostMatch::Exact("a.b.c".into())));
        assert!(below.covers(&HostMatch::Below("a.b.c".into())));
        assert!(!below.covers(&HostMatch::Exact("b.c".into())) && !below.covers(&HostMatch::Exact("xb.c".into())));
        assert!(!below.covers(&HostMatch::Below("c".into())) && !below.covers(&HostMatch::Every));
        assert!(HostMatch::Every.covers(&below));
    }

    proptest! {
        #[test]
        fn no_authority_panics(authority: Vec<u8>) {
            let _host = unambiguous_host(&authority);
        }
    }
}
