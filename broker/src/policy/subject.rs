//! Decides which principal a verified token is about; where that cannot be said for sure, nobody.
//!
//! Our own tokens: `sub` is the full principal, or a name that `[names]` gives in its place. The two are never taken for each
//! other, since a principal has an `@` and a given name has none. A given name is not traced back here, since
//! `auth_to_local` cannot be, and a delegation process need not know the rules: the broker that minted the token says the
//! principal in a claim of its own ([`PRINCIPAL_CLAIM`]), under its signature. Tokens of others: one claim, by the one
//! `[[subject]]` line of their issuer.

use std::fmt;

use kerbridge_gate::pointer::Pointer;
use kerbridge_gss::{DelegatedUser, EnterpriseName, Principal};
use kerbridge_wire::Reason;
use kerbridge_wire::delegation::{SubjectForm, SubjectRule};
use kerbridge_wire::exchange::PRINCIPAL_CLAIM;
use kerbridge_wire::policy::Policy as RawPolicy;

use super::{Policy, PrincipalPattern, patterns};
use crate::principal;
use crate::problem::Problems;
use crate::subject_token::{Author, VerifiedToken};

/// The `[[subject]]` lines.
#[derive(Clone, Debug, Default)]
pub struct SubjectRules {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    issuer: Box<str>,
    claim: Box<str>,
    form: Form,
    named: Named,
}

/// Whom of its realms a line may name. An issuer is trusted with people; services and machines have tickets of their own, and whoever
/// speaks for one is somebody whom others believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named(Vec<PrincipalPattern>);

#[derive(Clone, Debug)]
enum Form {
    Principal { realms: Vec<String> },
    Upn { realm: String, realms: Vec<String> },
    Account { realm: String },
}

/// Who a token is about. Only [`SubjectRules::sought`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// This principal.
    Principal(Principal),
    /// Whom the KDC knows by this name.
    ByKdc(ByKdc),
}

/// A name that only the KDC can trace to a principal, and which principals it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByKdc {
    user: DelegatedUser,
    realms: Vec<String>,
    named: Named,
}

/// Why a token is about nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTraced {
    /// A token of ours has a given name, and not the claim with the principal.
    GivenName,
    /// There is no line for the token's issuer.
    NoRule,
    /// The claim is missing or no text.
    NoClaim,
    /// The claim does not hold what the line says.
    Form,
    /// The principal is of a realm that is not listed.
    Realm,
    /// It is no name of people, or none that the line lets the issuer speak for.
    Name,
    /// The KDC resolved the name to a principal that does not fit it.
    AnotherName,
}

impl NotTraced {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::GivenName | Self::NoRule | Self::Form | Self::Name | Self::AnotherName => Reason::PrincipalNotMapped,
            Self::NoClaim => Reason::MissingClaim,
            Self::Realm => Reason::RealmNotAllowed,
        }
    }
}

impl fmt::Display for NotTraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenName => write!(
                f,
                "the token's sub is a given name and it has no {PRINCIPAL_CLAIM}: it was minted by a broker whose policy has no \
                 [[delegation]] for its audience"
            ),
            Self::NoRule => f.write_str("there is no [[subject]] for the token's issuer"),
            Self::NoClaim => f.write_str("the claim that the [[subject]] names is missing or no text"),
            Self::Form => f.write_str("the claim does not hold what the [[subject]] says"),
            Self::Realm => f.write_str("the principal's realm is not listed"),
            Self::Name => f.write_str(
                "the [[subject]] is for other principals: for people unless its principals name others, and never for the KDC's own",
            ),
            Self::AnotherName => f.write_str("the KDC knows the user by another name"),
        }
    }
}

impl SubjectRules {
    /// Who a token is about.
    pub fn sought(&self, token: &VerifiedToken) -> Result<Sought, NotTraced> {
        match token.author() {
            Author::Ours { subject, principal } => {
                let text = match principal {
                    Some(principal) => principal,
                    None if subject.contains('@') => subject,
                    None => return Err(NotTraced::GivenName),
                };
                exactly(text).map(Sought::Principal)
            }
            Author::Another { issuer, claim } => {
                let line = self.lines.iter().find(|line| *line.issuer == **issuer);
                let line = line.ok_or(NotTraced::NoRule)?;
                line.form.read(claim.as_deref().ok_or(NotTraced::NoClaim)?, &line.named)
            }
        }
    }

    /// The claim that says who the tokens of an issuer are about, where there is a line for it.
    pub fn claim_of(&self, issuer: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| *line.issuer == *issuer)?;
        Some(&line.claim)
    }

    /// The issuers, each with its field.
    pub fn issuers(&self) -> impl Iterator<Item = (String, &str)> {
        let lines = self.lines.iter().enumerate();
        lines.map(|(index, line)| (format!("subject[{index}].issuer"), &*line.issuer))
    }
}

impl Form {
    /// The realms that its principals may be of.
    fn realms(&self) -> &[String] {
        match self {
            Self::Principal { realms } | Self::Upn { realms, .. } => realms,
            Self::Account { realm } => std::slice::from_ref(realm),
        }
    }

    fn read(&self, text: &str, named: &Named) -> Result<Sought, NotTraced> {
        match self {
            Self::Principal { realms } => {
                let principal = exactly(text)?;
                if !realms.iter().any(|realm| realm == principal.realm()) {
                    return Err(NotTraced::Realm);
                }
                named.check(&principal)?;
                Ok(Sought::Principal(principal))
            }
            Self::Upn { realm, realms } => {
                let name = EnterpriseName::parse(text, realm).map_err(|_| NotTraced::Form)?;
                Ok(Sought::ByKdc(ByKdc {
                    user: DelegatedUser::Enterprise(name),
                    realms: realms.clone(),
                    named: named.clone(),
                }))
            }
            Self::Account { realm } => {
                let principal = principal::of_account(text, realm).ok_or(NotTraced::Form)?;
                named.check(&principal)?;
                Ok(Sought::ByKdc(ByKdc {
                    user: DelegatedUser::Principal(principal),
                    realms: vec![realm.clone()],
                    named: named.clone(),
                }))
            }
        }
    }
}

impl Named {
    fn check(&self, principal: &Principal) -> Result<(), NotTraced> {
        let is_named = if self.0.is_empty() {
            principal::is_persons(principal)
        } else {
            self.0.iter().any(|pattern| pattern.matches_plainly(principal))
        };
        if is_named { Ok(()) } else { Err(NotTraced::Name) }
    }
}

/// A principal that is written as we write it.
fn exactly(text: &str) -> Result<Principal, NotTraced> {
    principal::canonical(text)
        .ok()
        .filter(|principal| principal.as_str() == text)
        .ok_or(NotTraced::Form)
}

/// Whether two principals are one to a KDC that folds case: of one realm, and the same but for the case of ASCII letters.
pub fn same_but_for_case(one: &Principal, other: &Principal) -> bool {
    one.realm() == other.realm() && one.name().eq_ignore_ascii_case(other.name())
}

impl ByKdc {
    #[cfg(test)]
    pub(crate) fn for_test(user: DelegatedUser, realms: &[&str]) -> Self {
        Self {
            user,
            realms: realms.iter().map(|realm| (*realm).to_owned()).collect(),
            named: Named::default(),
        }
    }

    /// Whom to ask the KDC for.
    pub fn user(&self) -> &DelegatedUser {
        &self.user
    }

    /// The principal that the KDC resolved the name to, if it may be that one.
    pub fn resolved(&self, principal: &Principal) -> Result<Principal, NotTraced> {
        if !self.realms.iter().any(|realm| realm == principal.realm()) {
            return Err(NotTraced::Realm);
        }
        self.named.check(principal)?;
        match &self.user {
            DelegatedUser::Principal(asked) if !same_but_for_case(asked, principal) => Err(NotTraced::AnotherName),
            DelegatedUser::Principal(_) | DelegatedUser::Enterprise(_) => Ok(principal.clone()),
        }
    }
}

impl Policy {
    /// Who tokens are about.
    pub fn subjects(&self) -> &SubjectRules {
        &self.subjects
    }

    /// Realms that subject lines name, each with its field.
    pub(super) fn subject_realms(&self) -> impl Iterator<Item = (String, &str)> {
        self.subjects.lines.iter().enumerate().flat_map(|(index, line)| {
            let (one, list): (Option<&str>, &[String]) = match &line.form {
                Form::Principal { realms } => (None, realms),
                Form::Upn { realm, realms } => (Some(realm), realms),
                Form::Account { realm } => (Some(realm), &[]),
            };
            let one = one.map(|realm| (format!("subject[{index}].realm"), realm));
            let list = list.iter().enumerate();
            one.into_iter()
                .chain(list.map(move |(at, realm)| (format!("subject[{index}].realms[{at}]"), realm.as_str())))
        })
    }
}

/// The lines, or notes all that is wrong with them.
pub(super) fn build(file: &RawPolicy, problems: &mut Problems) -> SubjectRules {
    let mut lines: Vec<Line> = Vec::new();
    for (index, rule) in file.subject.iter().enumerate() {
        let field = format!("subject[{index}]");
        let SubjectRule {
            issuer,
            claim,
            form: _,
            realm: _,
            realms: _,
            principals,
        } = rule;
        if !file.issuer.iter().any(|known| known.issuer == *issuer) {
            problems.note(
                format!("{field}.issuer"),
                format!("{issuer:?} is no [[issuer]] of this file"),
                "write the issuer of one of them; the broker's own tokens need no [[subject]]",
            );
        }
        if lines.iter().any(|line| *line.issuer == **issuer) {
            problems.note(
                format!("{field}.issuer"),
                "has an earlier [[subject]] already",
                "keep one of the two: a token is about one user",
            );
        }
        if Pointer::parse(claim).is_none() {
            problems.note(
                format!("{field}.claim"),
                format!("{claim:?} is no claim"),
                "write a claim's name, such as \"upn\", or a JSON pointer, such as \"/user/upn\"",
            );
        }
        let named = Named(patterns(principals, &format!("{field}.principals"), problems));
        if let Some(form) = check_form(rule, &field, problems) {
            for (at, pattern) in named.0.iter().enumerate() {
                if !form.realms().iter().any(|realm| realm == pattern.realm()) {
                    problems.note(
                        format!("{field}.principals[{at}]"),
                        format!("{} is none of the realms of this line", pattern.realm()),
                        "name principals of its realms",
                    );
                }
            }
            lines.push(Line {
                issuer: issuer.as_str().into(),
                claim: claim.as_str().into(),
                form,
                named,
            });
        }
    }
    SubjectRules { lines }
}

fn check_form(rule: &SubjectRule, field: &str, problems: &mut Problems) -> Option<Form> {
    let SubjectRule {
        issuer: _,
        claim: _,
        form,
        realm,
        realms,
        principals: _,
    } = rule;
    let (needs_realm, needs_realms) = match form {
        SubjectForm::Principal => (false, true),
        SubjectForm::Upn => (true, true),
        SubjectForm::Account => (true, false),
    };
    if needs_realm && realm.is_none() {
        problems.missing(
            &format!("{field}.realm"),
            "name the realm of the accounts, or whose KDC resolves the names",
        );
    }
    if !needs_realm && realm.is_some() {
        problems.note(
            format!("{field}.realm"),
            "is not for this form, whose names have a realm",
            "remove it",
        );
    }
    if needs_realms && realms.is_empty() {
        problems.missing(
            &format!("{field}.realms"),
            "list the realms that its users may be of, such as [\"EXAMPLE.COM\"]",
        );
    }
    if !needs_realms && !realms.is_empty() {
        problems.note(
            format!("{field}.realms"),
            "is not for this form, whose users are all of its realm",
            "remove it",
        );
    }
    match (form, realm) {
        (SubjectForm::Principal, _) => Some(Form::Principal { realms: realms.clone() }),
        (SubjectForm::Upn, Some(realm)) => Some(Form::Upn {
            realm: realm.clone(),
            realms: realms.clone(),
        }),
        (SubjectForm::Account, Some(realm)) => Some(Form::Account { realm: realm.clone() }),
        (SubjectForm::Upn | SubjectForm::Account, None) => None,
    }
}

#[cfg(test)]
mod tests;
