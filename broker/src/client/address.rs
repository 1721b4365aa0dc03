//! Takes https addresses apart, and says which of them lie within another.

use std::fmt;

/// An https address without user, fragment and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
    path: String,
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnAddress {
    NotHttps,
    TooLong,
    Character,
    User,
    Host,
    Port,
    Dots,
}

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttps => "an address begins with https://, since without TLS anybody may answer",
            Self::TooLong => "an address has at most 2048 bytes",
            Self::Character => "an address has visible ascii characters only, and no quotes or backslashes",
            Self::User => "an address names no user",
            Self::Host => "an address has a host",
            Self::Port => "a port is a number from 1 to 65535",
            Self::Dots => "an address has no . or .. among its segments",
        })
    }
}

impl Address {
    const LONGEST: usize = 2048;
    const HTTPS: u16 = 443;

    /// Reads an address; what follows `?` or `#` is left out.
    pub(crate) fn parse(text: &str) -> Result<Self, NotAnAddress> {
        if text.len() > Self::LONGEST {
            return Err(NotAnAddress::TooLong);
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>^`{|}".contains(&byte);
        if !text.bytes().all(is_plain) {
            return Err(NotAnAddress::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotAnAddress::NotHttps)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(NotAnAddress::NotHttps);
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if authority.contains('@') {
            return Err(NotAnAddress::User);
        }
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(NotAnAddress::Dots);
        }
        let (host, port) = split(authority)?;
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            path,
        })
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where a request goes to: `/` or more.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as `Host` has them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == Self::HTTPS {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Host and port are the same.
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// Whether this address is `other`, or lies below it by whole segments.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let below = other.path.trim_end_matches('/');
        let rest = self.path.strip_prefix(below);
        self.is_same_origin(other) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The same host at another path, which begins with a slash.
    pub(crate) fn at(&self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self.clone()
        }
    }

    /// The same without slashes at its end: the name of whatever lies within it.
    pub(crate) fn trimmed(&self) -> Self {
        let path = self.path.trim_end_matches('/');
        self.at(if path.is_empty() { "/" } else { path })
    }

    /// The path, or nothing where it is the host's root: what the places of RFC 8414 §3.1 and RFC 9728 §3.1 are formed of.
    pub(crate) fn suffix(&self) -> &str {
        if self.path == "/" { "" } else { &self.path }
    }

    /// This address and those that it lies within, the longest first: [`Self::DEEPEST`] at most.
    pub(crate) fn and_above(&self) -> Vec<Self> {
        let mut all = vec![self.clone()];
        let mut path = self.path.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            if above.is_empty() || all.len() >= Self::DEEPEST {
                break;
            }
            all.push(self.at(above));
            path = above;
        }
        if self.path != "/" {
            all.push(self.at("/"));
        }
        all
    }

    /// Most addresses that one is looked for within.
    const DEEPEST: usize = 64;
}

fn split(authority: &str) -> Result<(&str, u16), NotAnAddress> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(NotAnAddress::Host)?;
            (host, port.strip_prefix(':').or((!port.is_empty()).then_some("x")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(NotAnAddress::Host);
    }
    let port = match port {
        None => Address::HTTPS,
        Some(port) => {
            let number = port
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| port.parse::<u16>());
            match number {
                Some(Ok(number)) if number > 0 => number,
                Some(_) | None => return Err(NotAnAddress::Port),
            }
        }
    };
    Ok((host, port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.suffix())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_has_a_host_a_port_and_a_path() {
        for (text, shown, path) in [
            ("https://API.example.com", "https://api.example.com", "/"),
            ("https://api.example.com/", "https://api.example.com", "/"),
            ("https://localhost:8443/a/b?c=d#e", "https://localhost:8443/a/b", "/a/b"),
            ("HTTPS://api:443/a/", "https://api/a/", "/a/"),
            ("https://[::1]:8443/a", "https://[::1]:8443/a", "/a"),
            ("https://[::1]", "https://[::1]", "/"),
        ] {
            assert_eq!(address(text).to_string(), shown);
            assert_eq!(address(text).path(), path);
        }
        for (text, error) in [
            ("http://api.example.com", NotAnAddress::NotHttps),
            ("api.example.com", NotAnAddress::NotHttps),
            ("https://", NotAnAddress::Host),
            ("https://a@b/", NotAnAddress::User),
            ("https://a/%20\"", NotAnAddress::Character),
            ("https://a/\n", NotAnAddress::Character),
            ("https://a:0/", NotAnAddress::Port),
            ("https://a:65536", NotAnAddress::Port),
            ("https://a:+1", NotAnAddress::Port),
            ("https://a:", NotAnAddress::Port),
            ("https://[::1]8443", NotAnAddress::Port),
            ("https://[::1", NotAnAddress::Host),
            ("https://a/b/../c", NotAnAddress::Dots),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_address_lies_within_another_by_whole_segments_of_one_host() {
        let orders = address("https://a/orders");
        for within in ["https://a/orders", "https://a/orders/", "https://a/orders/1"] {
            assert!(address(within).is_within(&orders), "{within}");
        }
        for outside in [
            "https://a/ordersx",
            "https://a/",
            "https://b/orders",
            "https://a:8/orders",
        ] {
            assert!(!address(outside).is_within(&orders), "{outside}");
        }
        assert!(orders.is_within(&address("https://a")));
        let above: Vec<String> = address("https://a/x/y/")
            .and_above()
            .iter()
            .map(Address::to_string)
            .collect();
        assert_eq!(above, ["https://a/x/y/", "https://a/x/y", "https://a/x", "https://a"]);
        assert!(address(&format!("https://a/{}", "x/".repeat(500))).and_above().len() < 70);
        assert_eq!(address("https://a/x//").trimmed().to_string(), "https://a/x");
        assert_eq!(address("https://a/").trimmed().to_string(), "https://a");
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_the_same_again(text in "https://[a-z.:\\[\\]0-9]{0,12}(/[a-z.%?#]{0,4}){0,4}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()));
                prop_assert!(address.and_above().iter().all(|above| address.is_within(above)));
                // Whatever a service calls itself, its token is found again by all that lies within it.
                let within = address.at(format!("{}/x", address.trimmed().suffix()));
                prop_assert!(within.and_above().contains(&address.trimmed()));
            }
        }
    }
}
