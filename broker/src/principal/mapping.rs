//! Decides what a token calls a principal, so that no two principals have one name.
//!
//! A full principal has an `@`; a name that is given in its place has none, so that neither is ever taken for the other.
//! Among the names that are given each belongs to the first source that could give it, the rules in their order and then
//! the realm that is left out: another source that comes to the same name does not give it. Within one source the
//! principal can be read back from the name. What krb5.conf's `auth_to_local` gives is the one exception: there the
//! administrator of that file answers for two principals with one name.

mod rule;

use std::fmt;

use kerbridge_gss::Principal;

pub use rule::{NamePattern, PatternError, Rule, Template, TemplateError};

use crate::principal;

/// Longest name that is given in place of a principal, in bytes.
pub const LONGEST: usize = 255;

/// What a token calls somebody, its `sub`: a full principal, or a given name of visible ASCII without `@`, `/` and `\`.
/// Never empty, no control characters. Only [`NameRules::map`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What becomes of a principal of several components (`alice/admin`) for which there is no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instances {
    /// It is treated as any other that no rule names.
    #[default]
    Keep,
    /// It is refused.
    Refuse,
}

/// What becomes of a principal for which nothing has a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// The full principal is its name.
    #[default]
    Keep,
    /// It is refused.
    Refuse,
}

/// The rules, in the order in which they are asked. By default everybody is called by the full principal.
#[derive(Clone, Debug, Default)]
pub struct NameRules {
    /// The first that matches gives the name or, where it cannot, refuses.
    pub rules: Vec<Rule>,
    /// Whom no rule matches is called as krb5.conf says, or refused. Nothing below is asked then.
    pub auth_to_local: bool,
    /// Whether names of several components go on from here.
    pub instances: Instances,
    /// The one realm whose users, names of one component, are called by that component. A second one would make two people
    /// one, so there is none.
    pub stripped_realm: Option<String>,
    /// What becomes of all others.
    pub unmatched: Unmatched,
}

/// A name, and what gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The name.
    pub subject: Subject,
    /// What gave it.
    pub by: Source,
}

/// What decides about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The rule with this number, from 0.
    Rule(usize),
    /// krb5.conf.
    AuthToLocal,
    /// What is said of names of several components.
    Instances,
    /// The realm that is left out.
    StripRealm,
    /// What is said of all others.
    Unmatched,
    /// The principal itself, before anything of the configuration: it is a well-known name (RFC 6111).
    WellKnown,
}

impl fmt::Display for Source {
    /// Its field in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(index) => write!(f, "names.rule[{index}]"),
            Self::AuthToLocal => f.write_str("names.auth_to_local"),
            Self::Instances => f.write_str("names.instances"),
            Self::StripRealm => f.write_str("names.strip_realm_of"),
            Self::Unmatched => f.write_str("names.unmatched"),
            Self::WellKnown => f.write_str("WELLKNOWN"),
        }
    }
}

/// Why somebody has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMapped {
    /// What refused.
    pub by: Source,
    /// Why.
    pub why: Why,
}

/// Why a source refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is there to refuse.
    Said,
    /// The name would hold other characters than visible ASCII, or a separator.
    Characters,
    /// The name would be longer than [`LONGEST`] bytes, or empty.
    Length,
    /// Two principals that the rule matches would have this name.
    Ambiguous,
    /// The name is one that the rule with this number could give to somebody else.
    Reserved(usize),
    /// krb5.conf has no name for the principal.
    NoLocalName,
    /// Whoever has this name is nobody in particular: `WELLKNOWN/ANONYMOUS` (RFC 8062), for one.
    Nobody,
}

impl fmt::Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, why } = self;
        write!(f, "{by}: ")?;
        match why {
            Why::Said => f.write_str("refuses this principal"),
            Why::Characters => f.write_str("the name would not be visible ASCII without @, / and \\"),
            Why::Length => write!(f, "the name would not have 1 to {LONGEST} bytes"),
            Why::Ambiguous => f.write_str("two principals could have this name"),
            Why::Reserved(rule) => write!(f, "names.rule[{rule}] could give this name to somebody else"),
            Why::NoLocalName => f.write_str("krb5.conf has no local name for this principal"),
            Why::Nobody => f.write_str("such a name is nobody's in particular"),
        }
    }
}

impl NameRules {
    /// What tokens call a principal, with krb5.conf asked where the rules want that; `None` where they have no name for it.
    pub fn subject_of(&self, principal: &Principal) -> Option<Subject> {
        let local = self
            .asks_local_names()
            .then(|| kerbridge_gss::local_name(principal))
            .flatten();
        self.map(principal, local.as_deref()).ok().map(|mapped| mapped.subject)
    }

    /// Whether the local name of each principal must be asked for.
    pub const fn asks_local_names(&self) -> bool {
        self.auth_to_local
    }

    /// The name of a principal. `local` is what krb5.conf calls it, where that was asked for.
    pub fn map(&self, principal: &Principal, local: Option<&str>) -> Result<Mapped, NotMapped> {
        let components = principal::parts(principal);
        if is_well_known(&components, principal.realm()) {
            return Err(NotMapped {
                by: Source::WellKnown,
                why: Why::Nobody,
            });
        }
        let matching = self
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.pattern.matches(&components, principal.realm()));
        if let Some((index, rule)) = matching {
            let by = Source::Rule(index);
            let given = rule.template.fill(&components);
            return given
                .and_then(|name| self.unreserved(name, index))
                .map(|name| Mapped {
                    subject: Subject(name),
                    by,
                })
                .map_err(|why| NotMapped { by, why });
        }
        if self.auth_to_local {
            let by = Source::AuthToLocal;
            return local
                .ok_or(Why::NoLocalName)
                .and_then(|name| given_name(name.to_owned()))
                .and_then(|name| self.unreserved(name, self.rules.len()))
                .map(|name| Mapped {
                    subject: Subject(name),
                    by,
                })
                .map_err(|why| NotMapped { by, why });
        }
        let only = match components.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        if only.is_none() && self.instances == Instances::Refuse {
            return Err(NotMapped {
                by: Source::Instances,
                why: Why::Said,
            });
        }
        let stripped = only
            .filter(|_| self.stripped_realm.as_deref() == Some(principal.realm()))
            .and_then(|name| given_name(name.clone()).ok())
            .and_then(|name| self.unreserved(name, self.rules.len()).ok());
        match (stripped, self.unmatched) {
            (Some(name), _) => Ok(Mapped {
                subject: Subject(name),
                by: Source::StripRealm,
            }),
            (None, Unmatched::Keep) => Ok(Mapped {
                subject: Subject(principal.as_str().to_owned()),
                by: Source::Unmatched,
            }),
            (None, Unmatched::Refuse) => Err(NotMapped {
                by: Source::Unmatched,
                why: Why::Said,
            }),
        }
    }

    /// The name, unless one of the first `before` rules could give it.
    fn unreserved(&self, name: String, before: usize) -> Result<String, Why> {
        let earlier = self.rules.iter().take(before);
        match earlier.enumerate().find(|(_, rule)| rule.template.could_give(&name)) {
            None => Ok(name),
            Some((index, _)) => Err(Why::Reserved(index)),
        }
    }
}

/// Whether RFC 6111 §3 keeps the name or the realm for something other than somebody: no rule can give that a name.
fn is_well_known(components: &[String], realm: &str) -> bool {
    let is_name = matches!(components, [first, _, ..] if first == "WELLKNOWN");
    is_name || realm.starts_with("WELLKNOWN:")
}

/// Whether a byte may stand in a given name: visible ASCII, but nothing that stands in a full principal to divide it.
const fn may_stand(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'\\')
}

/// The text as a name in place of a principal.
fn given_name(text: String) -> Result<String, Why> {
    if !(1..=LONGEST).contains(&text.len()) {
        Err(Why::Length)
    } else if text.bytes().all(may_stand) {
        Ok(text)
    } else {
        Err(Why::Characters)
    }
}

#[cfg(test)]
mod tests;
