//! Decides which names of the configuration a TLS server name stands under, by Envoy's own rule.

use std::fmt;

/// Longest name, in bytes (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// A name of `server_names`: `api.example.com`, `*.example.com` (which any number of labels may stand before), or `*` (any
/// name, and none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNamePattern(Box<str>);

impl ServerNamePattern {
    /// Reads one; letters become small.
    pub fn parse(text: &str) -> Option<Self> {
        let host = text.strip_prefix("*.").unwrap_or(text);
        let good = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = text.len() <= LONGEST && host.split('.').all(good);
        (text == "*" || is_name).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The name, where it is one and no pattern.
    pub fn as_host(&self) -> Option<&str> {
        (!self.0.starts_with('*')).then_some(&*self.0)
    }

    /// How closely it fits: the longer, the closer; `None` where it does not fit.
    pub(super) fn fits(&self, name: Option<&str>) -> Option<usize> {
        match (self.0.strip_prefix('*'), name) {
            (Some(""), _) => Some(0),
            (_, None) => None,
            (Some(suffix), Some(name)) => {
                let end = name.len().checked_sub(suffix.len())?;
                let (labels, rest) = (name.get(..end)?, name.get(end..)?);
                (!labels.is_empty() && rest.eq_ignore_ascii_case(suffix)).then_some(suffix.len())
            }
            (None, Some(name)) => name.eq_ignore_ascii_case(&self.0).then_some(usize::MAX),
        }
    }
}

impl fmt::Display for ServerNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_as_envoy_would_choose() {
        let fits = |pattern: &str, name| ServerNamePattern::parse(pattern).unwrap().fits(name);
        for (closer, farther, name) in [
            ("api.Example.com", "*.example.com", "API.example.com"),
            ("*.api.example.com", "*.example.com", "a.api.example.com"),
            ("*.com", "*", "example.com"),
        ] {
            assert!(fits(closer, Some(name)) > fits(farther, Some(name)), "{name}");
        }
        for (pattern, name) in [
            ("*.example.com", Some("example.com")),
            ("*.example.com", Some(".example.com")),
            ("*.example.com", Some("badexample.com")),
            ("api.example.com", Some("a.api.example.com")),
            ("api.example.com", None),
            ("*.example.com", None),
            ("*.example.com", Some("é.com")),
        ] {
            assert_eq!(fits(pattern, name), None, "{pattern} {name:?}");
        }
        assert_eq!(fits("*", None), Some(0));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a.".repeat(127);
        for text in [
            "", ".", "*.", "**", "a.*", "*a.test", "a..test", "a.test.", "a b", "a/b", "é", &long,
        ] {
            assert_eq!(ServerNamePattern::parse(text), None, "{text}");
        }
    }
}
