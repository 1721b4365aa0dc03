//! Matches principals: exactly, or by whole components in one realm.

use std::fmt;
use std::str::FromStr;

use kerbridge_gss::{Principal, PrincipalError};

use crate::principal;

/// Whom a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// This principal and no other.
    Exactly(Principal),
    /// `*@REALM`, `*/admin@REALM`, `HTTP/*@REALM`: every principal of as many components in that realm. A `*` stands for one
    /// whole component that is no machine's name: `WS01$`, as Active Directory calls machines and managed service accounts
    /// (MS-SAMR §3.1.1.8.4).
    Like {
        /// The components, unescaped; any where there is none.
        components: Vec<Option<Box<str>>>,
        /// The realm, as it is spelt.
        realm: String,
    },
}

/// The text is neither a principal nor a pattern of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// A `*` that is only a part of a component, or in the realm.
    Star,
    /// Not a principal.
    Principal(PrincipalError),
}

impl PrincipalPattern {
    /// Whether it names this principal.
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::Exactly(exactly) => exactly == principal,
            Self::Like { components, realm } => {
                if principal.realm() != realm {
                    return false;
                }
                let parts = principal::parts(principal);
                let alike = |(wanted, part): (&Option<Box<str>>, &String)| match wanted {
                    Some(wanted) => **wanted == **part,
                    None => !part.ends_with('$'),
                };
                parts.len() == components.len() && components.iter().zip(&parts).all(alike)
            }
        }
    }

    /// The same, where a name is not taken for another one's word: a `*` is no name with an escaped separator in it, and nothing is a
    /// name of the KDC's own.
    pub fn matches_plainly(&self, principal: &Principal) -> bool {
        let is_plain = match self {
            Self::Exactly(_) => true,
            Self::Like { .. } => !principal::is_escaped(principal),
        };
        is_plain && !principal::is_of_the_kdc(principal) && self.matches(principal)
    }

    /// Whether every principal that the other one names is named by this one.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exactly(principal)) => self.matches(principal),
            (Self::Exactly(_), Self::Like { .. }) => false,
            (
                Self::Like { components, realm },
                Self::Like {
                    components: others,
                    realm: other,
                },
            ) => {
                let wider = |(own, other): (&Option<Box<str>>, &Option<Box<str>>)| match (own, other) {
                    (None, None) => true,
                    (None, Some(other)) => !other.ends_with('$'),
                    (Some(own), other) => other.as_ref() == Some(own),
                };
                realm == other && components.len() == others.len() && components.iter().zip(others).all(wider)
            }
        }
    }

    /// The realm that it is about.
    pub fn realm(&self) -> &str {
        match self {
            Self::Exactly(principal) => principal.realm(),
            Self::Like { realm, .. } => realm,
        }
    }
}

impl FromStr for PrincipalPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let principal = principal::canonical(text).map_err(PatternError::Principal)?;
        if !text.contains('*') {
            return Ok(Self::Exactly(principal));
        }
        // Nobody who escapes it means everybody.
        if text.contains(r"\*") {
            return Err(PatternError::Star);
        }
        let components = principal::parts(&principal)
            .into_iter()
            .map(|part| match part.as_str() {
                "*" => Ok(None),
                part if part.contains('*') => Err(PatternError::Star),
                part => Ok(Some(part.into())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if principal.realm().contains('*') {
            return Err(PatternError::Star);
        }
        Ok(Self::Like {
            components,
            realm: principal.realm().to_owned(),
        })
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star => f.write_str("a * stands for one whole component, and never for a realm"),
            Self::Principal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, principal: &str) -> bool {
        pattern
            .parse::<PrincipalPattern>()
            .unwrap()
            .matches(&principal::canonical(principal).unwrap())
    }

    #[test]
    fn a_star_means_people_and_not_their_other_names() {
        assert!(matches("*@R.TEST", "alice@R.TEST"));
        assert!(!matches("*@R.TEST", "alice/admin@R.TEST"));
        assert!(!matches("*@R.TEST", "alice@S.TEST"));
        assert!(!matches("*@R.TEST", "alice@r.test"));
        assert!(matches("*@R.TEST", r"a\/b@R.TEST"));
        assert!(!matches("*@R.TEST", "WS01$@R.TEST"));
        assert!(matches("*@R.TEST", "a$b@R.TEST"));
        assert!(matches("WS01$@R.TEST", "WS01$@R.TEST"));
        assert!(matches("alice/admin@R.TEST", "alice/admin@R.TEST"));
        assert!(!matches("alice/admin@R.TEST", "alice@R.TEST"));
    }

    #[test]
    fn a_star_is_one_whole_component_and_the_others_are_as_they_are_written() {
        assert!(matches("*/admin@R.TEST", "alice/admin@R.TEST"));
        assert!(matches("HTTP/*@R.TEST", "HTTP/api.r.test@R.TEST"));
        assert!(matches("*/*@R.TEST", "alice/admin@R.TEST"));
        assert!(matches(r"*/a\/b@R.TEST", r"alice/a\/b@R.TEST"));
        for (pattern, other) in [
            ("*/admin@R.TEST", "alice@R.TEST"),
            ("*/admin@R.TEST", "alice/Admin@R.TEST"),
            ("*/admin@R.TEST", "alice/admin@S.TEST"),
            ("*/admin@R.TEST", "alice/admin/more@R.TEST"),
            ("*/admin@R.TEST", r"alice\/admin@R.TEST"),
            ("*/admin@R.TEST", "WS01$/admin@R.TEST"),
            ("HTTP/*@R.TEST", "HTTP@R.TEST"),
            ("HTTP/*@R.TEST", "http/api@R.TEST"),
            ("HTTP/*@R.TEST", "HTTP/WS01$@R.TEST"),
            ("*/*@R.TEST", "alice@R.TEST"),
        ] {
            assert!(!matches(pattern, other), "{pattern} {other}");
        }
    }

    #[test]
    fn a_star_is_plainly_nobody_with_an_escape_and_no_pattern_is_the_kdc() {
        let plainly = |pattern: &str, principal: &str| {
            let pattern: PrincipalPattern = pattern.parse().unwrap();
            pattern.matches_plainly(&principal::canonical(principal).unwrap())
        };
        assert!(plainly("*@R", "alice@R") && plainly("*/admin@R", "alice/admin@R"));
        assert!(plainly(r"bob\@corp@R", r"bob\@corp@R"));
        for (pattern, other) in [
            ("*@R", r"bob\@corp@R"),
            ("*/*@R", r"HTTP/a\/b@R"),
            ("*@R", "krbtgt@R"),
            ("*/*@R", "krbtgt/R@R"),
            ("krbtgt/R@R", "krbtgt/R@R"),
        ] {
            assert!(matches(pattern, other), "{pattern} {other}");
            assert!(!plainly(pattern, other), "{pattern} {other}");
        }
    }

    #[test]
    fn a_pattern_covers_those_that_name_nobody_else() {
        let covers = |one: &str, other: &str| {
            let parse = |text: &str| text.parse::<PrincipalPattern>().unwrap();
            parse(one).covers(&parse(other))
        };
        for (one, other) in [
            ("*@R", "alice@R"),
            ("*@R", "*@R"),
            ("*/*@R", "*/admin@R"),
            ("*/*@R", "HTTP/*@R"),
            ("*/admin@R", "alice/admin@R"),
            ("WS01$@R", "WS01$@R"),
        ] {
            assert!(covers(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("alice@R", "*@R"),
            ("*@R", "*@S"),
            ("*@R", "*/admin@R"),
            ("*/admin@R", "*/*@R"),
            ("*@R", "WS01$@R"),
            ("*/*@R", "HTTP/WS01$@R"),
            ("*/*@R", "*/WS01$@R"),
        ] {
            assert!(!covers(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for text in [
            "a*@R",
            "*/ad*@R",
            "alice@*",
            "*@*",
            "*@R*",
            "**@R",
            r"\*@R",
            r"\*/admin@R",
        ] {
            assert_eq!(text.parse::<PrincipalPattern>(), Err(PatternError::Star), "{text}");
        }
        assert!(matches!(
            "*".parse::<PrincipalPattern>(),
            Err(PatternError::Principal(_))
        ));
    }
}
