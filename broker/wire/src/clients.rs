//! Gives the policy's lines about clients of the broker their shape: who may do what with tokens that are others'.
//!
//! Raw forms, as [`policy`](crate::policy): the broker checks what they must fulfil together.

use serde::{Deserialize, Serialize};

/// Where the metadata of a protected resource are, before its path (RFC 9728 §3).
pub const PROTECTED_RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource";

/// Where the metadata of a service are: its address, with [`PROTECTED_RESOURCE_PATH`] between host and path (RFC 9728 §3.1).
/// `None` where that is no address: an `http` or `https` URI of visible ASCII without query, fragment, quote and backslash.
pub fn metadata_url(resource: &str) -> Option<String> {
    let (scheme, rest) = resource.split_once("://")?;
    let is_good = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\<>".contains(&byte);
    if !matches!(scheme, "http" | "https") || !rest.bytes().all(is_good) {
        return None;
    }
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // A slash that ends the host goes before the path is put behind it.
    let path = if path == "/" { "" } else { path };
    (!host.is_empty()).then(|| format!("{scheme}://{host}{PROTECTED_RESOURCE_PATH}{path}"))
}

/// A line that lets some clients trade users' tokens for one audience for tokens for another (RFC 8693). Lines add up; nothing
/// takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRule {
    /// The clients, by the names that they authenticate with.
    pub clients: Vec<String>,
    /// The audience that the user's token must be for, by name.
    pub from: String,
    /// The audience that may be had for it, by name.
    pub to: String,
    /// Scopes that it lets through, of those that the user's token has. It adds none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A line that lets some clients ask what tokens of some audiences say (RFC 7662). No line, no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionRule {
    /// The clients, by the names that they authenticate with.
    pub clients: Vec<String>,
    /// The audiences, by name: those whose services they are.
    pub audiences: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_a_service_are_between_host_and_path() {
        for (resource, url) in [
            ("https://a.test", "https://a.test/.well-known/oauth-protected-resource"),
            ("https://a.test/", "https://a.test/.well-known/oauth-protected-resource"),
            (
                "http://a.test:8080/v1/orders",
                "http://a.test:8080/.well-known/oauth-protected-resource/v1/orders",
            ),
        ] {
            assert_eq!(metadata_url(resource).as_deref(), Some(url));
        }
        for other in [
            "a.test",
            "https://",
            "https:///x",
            "ftp://a.test",
            "https://a?b",
            "https://a#b",
            "https://a\"b",
            "https://a b",
        ] {
            assert_eq!(metadata_url(other), None, "{other}");
        }
    }
}
