//! Breaks the lab's set-up on purpose, in ways in which people break theirs, so that it is seen what a report says of it.

use crate::error::HarnessError;

/// The name that the service's account has in place of the one that clients ask for: two letters are turned around.
pub const MISSPELT: &str = "HTTP/localhots";
/// What the policy asks for at `/orders`, and what somebody wrote in its place.
const GUARDED: &str = "accept = [\"negotiate\", \"bearer\"]\naudience = \"orders\"\nscopes_all = [\"orders:read\"]\n\
                       deliver = \"header\" # the client gets the token and can use it from then on\n";
const OPEN: &str = "access = \"open\" # to try it out\n";

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The KDC has the service under another name than clients ask for.
    WrongSpn,
    /// The brokers' clock is ten minutes ahead.
    SkewedClock,
    /// A route of the policy lets everybody in.
    OpenRule,
}

impl Broken {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 3] = [
        ("wrong-spn", Self::WrongSpn),
        ("skewed-clock", Self::SkewedClock),
        ("open-rule", Self::OpenRule),
    ];

    /// The one of this name.
    ///
    /// # Errors
    ///
    /// A sentence with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(own, _)| *own == name);
        found
            .map(|(_, broken)| broken)
            .ok_or_else(|| format!("it is one of {}", Self::ALL.map(|(name, _)| name).join(", ")))
    }

    /// It in a sentence.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::WrongSpn => "The service's account has a misspelt service principal name.",
            Self::SkewedClock => "The broker's clock is ten minutes ahead.",
            Self::OpenRule => "A route of the policy is open to everybody.",
        }
    }

    /// Whether no ticket is taken at all, so that there is nothing to wait for.
    #[must_use]
    pub const fn keeps_everybody_out(self) -> bool {
        match self {
            Self::WrongSpn | Self::SkewedClock => true,
            Self::OpenRule => false,
        }
    }

    /// By how much the brokers' clock is off.
    pub(super) const fn offset(self) -> Option<&'static str> {
        match self {
            Self::SkewedClock => Some("+10m"),
            Self::WrongSpn | Self::OpenRule => None,
        }
    }

    /// A policy as it is then.
    pub(super) fn policy(self, policy: &str) -> Result<String, HarnessError> {
        match self {
            Self::OpenRule if policy.contains(GUARDED) => Ok(policy.replacen(GUARDED, OPEN, 1)),
            Self::OpenRule => Err(HarnessError::UnexpectedAnswer {
                what: "a guarded route of envoy/policy.toml".to_owned(),
                answer: policy.to_owned(),
            }),
            Self::WrongSpn | Self::SkewedClock => Ok(policy.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegation::ACCEPTOR;
    use crate::shipped;

    #[test]
    fn of_the_shipped_policy_one_route_becomes_open_and_no_other() {
        let policy = shipped::policy("localhost", "LAB.TEST").unwrap();
        let count = |text: &str| text.matches("access = \"open\"").count();
        let open = Broken::OpenRule.policy(&policy).unwrap();
        assert_eq!(count(&open), count(&policy) + 1);
        assert_eq!(Broken::WrongSpn.policy(&policy).unwrap(), policy);
        assert!(Broken::OpenRule.policy("").is_err());
        assert_ne!(MISSPELT, ACCEPTOR);
    }
}
