//! Reads the name of a service on a host, of which a client knows the address and not the realm.

use std::fmt;

/// A service on a host, `HTTP@api.example.com` (RFC 2743 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostService(String);

/// The text names no service on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHostService;

impl HostService {
    /// Longest host that is taken, in bytes (RFC 1035 §2.3.4).
    pub const LONGEST: usize = 255;

    /// The HTTP service of a host (RFC 4559 §4.1), by its name or address: letters, digits, `.`, `-`, `_`, `:`.
    pub fn http(host: &str) -> Result<Self, NotAHostService> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || host.len() > Self::LONGEST || !host.bytes().all(plain) {
            return Err(NotAHostService);
        }
        Ok(Self(format!("HTTP@{host}")))
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAHostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a host has letters, digits, dots and hyphens")
    }
}

impl std::error::Error for NotAHostService {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_plain_and_nothing_in_it_names_a_realm_or_another_service() {
        for host in ["api.example.com", "localhost", "127.0.0.1", "::1", "a-b_c"] {
            assert_eq!(HostService::http(host).unwrap().as_str(), format!("HTTP@{host}"));
        }
        for host in [
            "",
            "a/b",
            "a@B",
            r"a\b",
            "a b",
            "a\0b",
            "\u{e6}.example",
            &"a".repeat(HostService::LONGEST + 1),
        ] {
            assert_eq!(HostService::http(host), Err(NotAHostService), "{host:?}");
        }
    }
}
