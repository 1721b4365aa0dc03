//! Matches principals: exactly, or all of one component in one realm.

use std::fmt;
use std::str::FromStr;

use kerbridge_gss::{Principal, PrincipalError};

use crate::principal;

/// Whom a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// This principal and no other.
    Exactly(Principal),
    /// `*@REALM`: every principal of one component in that realm that is no machine: `alice` but not `alice/admin`, `HTTP/host`
    /// or `WS01$`, as Active Directory calls machines and managed service accounts (MS-SAMR §3.1.1.8.4).
    AnyoneOf {
        /// The realm, as it is spelt.
        realm: String,
    },
}

/// The text is neither a principal nor `*@REALM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// A `*` elsewhere than alone before `@REALM`.
    Star,
    /// Not a principal.
    Principal(PrincipalError),
}

impl PrincipalPattern {
    /// Whether it names this principal.
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::Exactly(exactly) => exactly == principal,
            Self::AnyoneOf { realm } => {
                principal.realm() == realm && principal::components(principal) == 1 && !principal.name().ends_with('$')
            }
        }
    }

    /// The realm that it is about.
    pub fn realm(&self) -> &str {
        match self {
            Self::Exactly(principal) => principal.realm(),
            Self::AnyoneOf { realm } => realm,
        }
    }
}

impl FromStr for PrincipalPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let principal = principal::canonical(text).map_err(PatternError::Principal)?;
        if text.strip_prefix("*@").is_some() && !principal.realm().contains('*') {
            return Ok(Self::AnyoneOf {
                realm: principal.realm().to_owned(),
            });
        }
        if text.contains('*') {
            return Err(PatternError::Star);
        }
        Ok(Self::Exactly(principal))
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star => f.write_str("a * stands only alone before @REALM"),
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
    fn a_star_elsewhere_is_refused() {
        for text in ["a*@R", "*/admin@R", "alice@*", "*@*", "*@R*"] {
            assert_eq!(text.parse::<PrincipalPattern>(), Err(PatternError::Star), "{text}");
        }
        assert!(matches!(
            "*".parse::<PrincipalPattern>(),
            Err(PatternError::Principal(_))
        ));
    }
}
