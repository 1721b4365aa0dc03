//! Decides where a login may lead back to: a path of this very host, which no browser reads as another site's address.

use crate::request::{RequestHead, percent_decoded, query_values};
use crate::route::path::unambiguous;

/// Longest, in bytes.
const LIMIT: usize = 2048;

/// A path of this host, its query included: visible ASCII without what HTML or a browser's reader of addresses (WHATWG URL) would
/// read as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReturnPath(Box<str>);

impl ReturnPath {
    /// The root of the host.
    pub(crate) fn root() -> Self {
        Self("/".into())
    }

    /// The path that stands in `return` of a target's query, the root where there is none. `None` where it is none of ours.
    pub(crate) fn asked_for(target: &[u8], own: &str) -> Option<Self> {
        let mut values = query_values(target, b"return");
        match (values.next(), values.next()) {
            (None, _) => Some(Self::root()),
            (Some(value), None) => Self::read(&strictly_decoded(value)?, own),
            (Some(_), Some(_)) => None,
        }
    }

    /// The path that a request asked for, where one may come back to it by a link, otherwise the root.
    pub(crate) fn of_request(head: &RequestHead<'_>, own: &str) -> Self {
        let target = Some(head.path()).filter(|_| matches!(head.method(), b"GET" | b"HEAD"));
        target
            .and_then(|target| Self::read(target, own))
            .unwrap_or_else(Self::root)
    }

    /// A target that is a path of an application, not of our own `own` paths: one would lead to the next and back.
    fn read(target: &[u8], own: &str) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\\\"<>#".contains(byte);
        if target.len() > LIMIT || !target.iter().all(is_plain) {
            return None;
        }
        // Neither "//host" nor "/\host", in whatever encoding: they would be another site's.
        let path = unambiguous(target)?;
        let is_own = path
            .strip_prefix(own.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if is_own {
            return None;
        }
        std::str::from_utf8(target).ok().map(|text| Self(text.into()))
    }

    /// As it stands in `Location`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As it stands in a query, and in an attribute of HTML.
    pub(crate) fn encoded(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }
}

/// A value of a query, of which every `%` begins an escape. A `+` is a space to some and itself to others.
fn strictly_decoded(value: &[u8]) -> Option<Vec<u8>> {
    if value.contains(&b'+') {
        return None;
    }
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let escape = rest.get(at.saturating_add(1)..at.saturating_add(3))?;
        if !escape.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = rest.get(at.saturating_add(3)..)?;
    }
    Some(percent_decoded(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(query: &str) -> Option<String> {
        let target = format!("/.kerbridge/login{query}");
        ReturnPath::asked_for(target.as_bytes(), "/.kerbridge").map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_of_this_host_is_led_back_to() {
        for (query, path) in [
            ("", "/"),
            ("?", "/"),
            ("?x=1", "/"),
            ("?return=/", "/"),
            ("?return=/app", "/app"),
            ("?return=%2Fapp%2Fa%20b", ""),
            ("?return=/app%3Fq%3D1%262", "/app?q=1&2"),
            ("?return=/app?q=1", "/app?q=1"),
            ("?x=1&return=/app%2520b", "/app%20b"),
            ("?return=/a:b@c/%7Euser/", "/a:b@c/~user/"),
            ("?return=/%2ekerbridge2", "/.kerbridge2"),
        ] {
            let wanted = (!path.is_empty()).then(|| path.to_owned());
            assert_eq!(asked(query), wanted, "{query}");
        }
    }

    #[test]
    fn what_a_browser_could_read_as_another_site_is_refused() {
        for value in [
            "",
            "app",
            "https://evil.test/",
            "https:/evil.test",
            "//evil.test",
            "///evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "%2F%2Fevil.test",
            "/%2Fevil.test",
            "/%2fevil.test",
            "/%252Fevil.test",
            "/%5Cevil.test",
            "/%5cevil.test",
            "/%255Cevil.test",
            "%5C/evil.test",
            "/%09/evil.test",
            "%09//evil.test",
            "/%0a/evil.test",
            "/app%0d%0aset-cookie:a=b",
            "/app%00",
            "/app%7f",
            "/app%20b",
            "/app+b",
            "/a/..//evil.test",
            "/../app",
            "/%2e%2e/app",
            "/./app",
            "/app;x",
            "/app%23x",
            "/app%22x",
            "/app%3Cx",
            "/app%C3%A4",
            "/app%",
            "/app%2",
            "/app%zz",
            "javascript:alert(1)",
            "/.kerbridge/login",
            "/.kerbridge/login?return=/",
            "/.kerbridge",
            "/.%6Berbridge/logout",
        ] {
            assert_eq!(asked(&format!("?return={value}")), None, "{value}");
        }
        assert_eq!(asked("?return=/a&return=/b"), None);
        let long = |length: usize| asked(&format!("?return=/{}", "a".repeat(length)));
        assert!(long(LIMIT - 1).is_some());
        assert_eq!(long(LIMIT), None);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_on_this_host(value in "[/\\\\%a-f0-9.:@?&=+#;\t\r\n]{0,24}") {
            if let Some(path) = asked(&format!("?return={value}")) {
                prop_assert!(path.starts_with('/') && !path.starts_with("//"));
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
            }
        }

        #[test]
        fn what_was_asked_for_comes_back_as_it_was(target: Vec<u8>) {
            let path = ReturnPath::read(&target, "/.kerbridge").unwrap_or_else(ReturnPath::root);
            let encoded = path.encoded();
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)));
            prop_assert_eq!(asked(&format!("?return={encoded}")), Some(path.as_str().to_owned()));
        }

        #[test]
        fn a_path_with_a_query_comes_back_as_it_was(target in "/[a-z]{1,8}(/[a-z~!$'()*,:@-]{1,4}){0,3}[?][a-z=&+%20]{0,12}") {
            let path = ReturnPath::read(target.as_bytes(), "/.kerbridge").unwrap();
            prop_assert_eq!(path.as_str(), target.as_str());
            prop_assert_eq!(asked(&format!("?return={}", path.encoded())), Some(target));
        }
    }
}
