//! Reads Kerberos principals as krb5 displays them, and refuses what could be read in two ways.

use std::fmt;
use std::ops::Range;

/// A full principal, `component/component@REALM`, in krb5's display form: a backslash escapes `/`, `@`, `\` and, as `\n`,
/// `\t`, `\b`, `\0`, control characters (`krb5_unparse_name`). Case matters; nothing is folded.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    text: String,
    realm: usize,
}

/// Why a text is no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalError {
    /// Longer than [`Principal::LONGEST`] bytes.
    TooLong,
    /// No `@REALM`, or an empty realm.
    NoRealm,
    /// A second `@` that is not escaped.
    SecondAt,
    /// An empty component, as in `/host@REALM`.
    EmptyComponent,
    /// A control character, or an escape that stands for one.
    ControlCharacter,
    /// Not UTF-8.
    NotUtf8,
    /// A backslash at the end.
    DanglingEscape,
    /// A service principal has a service and a host, `HTTP/host@REALM`.
    NotAService,
}

impl fmt::Display for PrincipalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a principal has at most 1024 bytes",
            Self::NoRealm => "a full principal ends in @REALM",
            Self::SecondAt => "a principal has one @ that is not escaped",
            Self::EmptyComponent => "a principal has no empty component",
            Self::ControlCharacter => "a principal has no control characters",
            Self::NotUtf8 => "a principal is utf-8",
            Self::DanglingEscape => "a principal does not end in a backslash",
            Self::NotAService => "a service principal has the form service/host@REALM",
        })
    }
}

impl std::error::Error for PrincipalError {}

impl Principal {
    /// Longest principal that is read, in bytes.
    pub const LONGEST: usize = 1024;

    /// Reads a full principal in display form.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let parts = Parts::read(text)?;
        Ok(Self {
            text: text.to_owned(),
            realm: parts.realm,
        })
    }

    /// The whole, in display form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands after the `@`, in display form.
    pub fn realm(&self) -> &str {
        self.text.get(self.realm..).unwrap_or_default()
    }

    /// What stands before the `@`, in display form.
    pub fn name(&self) -> &str {
        self.text.get(..self.realm.saturating_sub(1)).unwrap_or_default()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.text)
    }
}

/// A principal with a service and a host: `HTTP/api.example.com@EXAMPLE.COM`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePrincipal {
    principal: Principal,
    service: usize,
}

impl ServicePrincipal {
    /// Reads a full principal in display form that has two components or more.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let parts = Parts::read(text)?;
        let service = parts.first_slash.ok_or(PrincipalError::NotAService)?;
        Ok(Self {
            principal: Principal {
                text: text.to_owned(),
                realm: parts.realm,
            },
            service,
        })
    }

    /// As any principal.
    pub const fn as_principal(&self) -> &Principal {
        &self.principal
    }

    /// The whole, in display form.
    pub fn as_str(&self) -> &str {
        self.principal.as_str()
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        self.principal.realm()
    }

    /// The first component: `HTTP`.
    pub fn service(&self) -> &str {
        self.principal.text.get(..self.service).unwrap_or_default()
    }

    /// What follows the first slash, up to the realm: the host, or host and service name (RFC 4120 §6.2.1).
    pub fn host(&self) -> &str {
        self.principal
            .name()
            .get(self.service.saturating_add(1)..)
            .unwrap_or_default()
    }
}

impl TryFrom<Principal> for ServicePrincipal {
    type Error = PrincipalError;

    fn try_from(principal: Principal) -> Result<Self, PrincipalError> {
        Self::parse(principal.as_str())
    }
}

impl fmt::Display for ServicePrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.principal.fmt(f)
    }
}

impl fmt::Debug for ServicePrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServicePrincipal({})", self.principal)
    }
}

/// A name as a mail address, `alice@example.com`, that the KDC of its realm resolves to a principal (RFC 6806 §5): what
/// Active Directory calls a user principal name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnterpriseName {
    name: String,
    realm: String,
}

/// Why a text is no enterprise name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEnterpriseName;

impl EnterpriseName {
    /// Longest name that is taken, in bytes: `userPrincipalName` has 1,024, mail addresses have 254.
    pub const LONGEST: usize = 512;

    /// Takes a name with one `@` between other characters, and none that krb5 would read as something else (`/`, `\\`, a
    /// control character); and the realm that is asked for it.
    pub fn parse(name: &str, realm: &str) -> Result<Self, NotAnEnterpriseName> {
        let plain = |text: &str| {
            !text.is_empty()
                && !text
                    .chars()
                    .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '@'))
        };
        let is_name = name
            .split_once('@')
            .is_some_and(|(user, suffix)| plain(user) && plain(suffix));
        if is_name && plain(realm) && name.len() <= Self::LONGEST && realm.len() <= Principal::LONGEST {
            Ok(Self {
                name: name.to_owned(),
                realm: realm.to_owned(),
            })
        } else {
            Err(NotAnEnterpriseName)
        }
    }

    /// The name, `alice@example.com`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The realm that is asked for it.
    pub fn realm(&self) -> &str {
        &self.realm
    }
}

impl fmt::Debug for EnterpriseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnterpriseName({} in {})", self.name, self.realm)
    }
}

impl fmt::Display for NotAnEnterpriseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an enterprise name has the form user@suffix")
    }
}

impl std::error::Error for NotAnEnterpriseName {}

/// Where a principal's text divides.
struct Parts {
    /// Index of the realm's first byte.
    realm: usize,
    /// Index of the first slash that divides components.
    first_slash: Option<usize>,
}

impl Parts {
    fn read(text: &str) -> Result<Self, PrincipalError> {
        if text.len() > Principal::LONGEST {
            return Err(PrincipalError::TooLong);
        }
        let mut at = None;
        let mut first_slash = None;
        let mut part: Range<usize> = 0..0;
        let mut characters = text.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    None => return Err(PrincipalError::DanglingEscape),
                    Some((_, 'n' | 't' | 'b' | '0')) => return Err(PrincipalError::ControlCharacter),
                    Some((_, escaped)) if escaped.is_control() => return Err(PrincipalError::ControlCharacter),
                    Some(_) => {}
                },
                '@' if at.is_some() => return Err(PrincipalError::SecondAt),
                '@' | '/' if at.is_none() => {
                    part.end = index;
                    if part.is_empty() {
                        return Err(PrincipalError::EmptyComponent);
                    }
                    part.start = index.saturating_add(1);
                    if character == '@' {
                        at = Some(index);
                    } else {
                        first_slash = first_slash.or(Some(index));
                    }
                }
                _ if character.is_control() => return Err(PrincipalError::ControlCharacter),
                _ => {}
            }
        }
        let realm = at.ok_or(PrincipalError::NoRealm)?.saturating_add(1);
        if realm == text.len() {
            return Err(PrincipalError::NoRealm);
        }
        Ok(Self { realm, first_slash })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_principal_divides_at_the_at_that_is_not_escaped() {
        let principal = Principal::parse(r"a\@b/admin@LAB.TEST").unwrap();
        assert_eq!((principal.name(), principal.realm()), (r"a\@b/admin", "LAB.TEST"));
        assert_eq!(principal.as_str(), r"a\@b/admin@LAB.TEST");
    }

    #[test]
    fn case_and_instance_make_another_principal() {
        let alice = Principal::parse("alice@LAB.TEST").unwrap();
        assert_ne!(alice, Principal::parse("Alice@LAB.TEST").unwrap());
        assert_ne!(alice, Principal::parse("alice/admin@LAB.TEST").unwrap());
        assert_ne!(alice, Principal::parse("alice@lab.test").unwrap());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let refused = [
            ("", PrincipalError::NoRealm),
            ("alice", PrincipalError::NoRealm),
            ("alice@", PrincipalError::NoRealm),
            (r"alice\@LAB.TEST", PrincipalError::NoRealm),
            ("@LAB.TEST", PrincipalError::EmptyComponent),
            ("alice/@LAB.TEST", PrincipalError::EmptyComponent),
            ("HTTP//host@LAB.TEST", PrincipalError::EmptyComponent),
            ("alice@LAB.TEST@EVIL.TEST", PrincipalError::SecondAt),
            ("alice\u{1b}[2J@LAB.TEST", PrincipalError::ControlCharacter),
            ("alice\u{85}@LAB.TEST", PrincipalError::ControlCharacter),
            (r"alice\n@LAB.TEST", PrincipalError::ControlCharacter),
            (r"alice@LAB.TEST\", PrincipalError::DanglingEscape),
        ];
        for (text, error) in refused {
            assert_eq!(Principal::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(
            Principal::parse(&format!("{}@R", "a".repeat(1023))),
            Err(PrincipalError::TooLong)
        );
    }

    #[test]
    fn a_service_principal_has_a_host() {
        let service = ServicePrincipal::parse("HTTP/api.example.com@EXAMPLE.COM").unwrap();
        assert_eq!(
            (service.service(), service.host(), service.realm()),
            ("HTTP", "api.example.com", "EXAMPLE.COM")
        );
        assert_eq!(
            ServicePrincipal::parse("alice@LAB.TEST"),
            Err(PrincipalError::NotAService)
        );
        assert_eq!(
            ServicePrincipal::parse(r"alice\/x@LAB.TEST"),
            Err(PrincipalError::NotAService)
        );
    }

    #[test]
    fn an_enterprise_name_has_one_at_and_nothing_that_divides() {
        assert!(EnterpriseName::parse("alice@example.com", "LAB.TEST").is_ok());
        for name in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "a@b@c",
            "a/b@c",
            r"a\@c",
            r"a@b\",
            "a b@c",
            "a\n@c",
            &format!("{}@c", "a".repeat(EnterpriseName::LONGEST)),
        ] {
            assert_eq!(
                EnterpriseName::parse(name, "LAB.TEST"),
                Err(NotAnEnterpriseName),
                "{name:?}"
            );
        }
        for realm in ["", "A@B", "A/B", r"A\B"] {
            assert!(EnterpriseName::parse("a@b", realm).is_err(), "{realm:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_every_byte(text in ".{0,40}") {
            if let Ok(principal) = Principal::parse(&text) {
                prop_assert_eq!(format!("{}@{}", principal.name(), principal.realm()), text);
            }
        }
    }
}
