//! Says what a check found, whose refusal it would be, and what mends it.

use kerbridge_wire::Reason;
use serde::{Serialize, Serializer};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not looked at; the text says what it takes.
    Skipped,
    /// It works, and will not for everybody or for ever.
    Warning,
    /// Clients are refused, or something that protects is missing.
    Bad,
}

/// A command that mends something, and where it is typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// `mit`, `ad`, `samba`, `freeipa`, or `any`.
    pub system: &'static str,
    /// To be pasted, once names in capitals are filled in.
    pub command: String,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: `keytab`, `ticket`, `clock`, …
    pub check: &'static str,
    /// What was looked at: a principal, a host, a folder.
    pub subject: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What clients are refused under, where they are.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "word")]
    pub reason: Option<Reason>,
    /// What was found.
    pub found: String,
    /// What mends it; empty where nothing is to be mended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn word<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    match reason {
        Some(reason) => serializer.serialize_str(reason.as_str()),
        None => serializer.serialize_none(),
    }
}

impl Remedy {
    /// For MIT's `kadmin`.
    pub fn mit(command: impl Into<String>) -> Self {
        Self::of("mit", command)
    }

    /// For Active Directory.
    pub fn ad(command: impl Into<String>) -> Self {
        Self::of("ad", command)
    }

    /// For a domain of Samba's, where its tools differ from Active Directory's.
    pub fn samba(command: impl Into<String>) -> Self {
        Self::of("samba", command)
    }

    /// For FreeIPA.
    pub fn freeipa(command: impl Into<String>) -> Self {
        Self::of("freeipa", command)
    }

    /// The same everywhere.
    pub fn any(command: impl Into<String>) -> Self {
        Self::of("any", command)
    }

    fn of(system: &'static str, command: impl Into<String>) -> Self {
        Self {
            system,
            command: command.into(),
        }
    }
}

impl Finding {
    /// As it should be.
    pub fn good(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(check, subject, Verdict::Good, found)
    }

    /// Not looked at.
    pub fn skipped(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(check, subject, Verdict::Skipped, found)
    }

    /// Not for everybody or for ever.
    pub fn warning(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(check, subject, Verdict::Warning, found)
    }

    /// Clients are refused under this reason.
    pub fn bad(check: &'static str, subject: impl Into<String>, reason: Reason, found: impl Into<String>) -> Self {
        Self {
            reason: Some(reason),
            ..Self::of(check, subject, Verdict::Bad, found)
        }
    }

    /// Something that protects is missing.
    pub fn gap(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(check, subject, Verdict::Bad, found)
    }

    fn of(check: &'static str, subject: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            check,
            subject: subject.into(),
            verdict,
            reason: None,
            found: found.into(),
            remedies: Vec::new(),
        }
    }

    /// The same, with what mends it.
    #[must_use]
    pub fn mended_by(mut self, remedies: impl IntoIterator<Item = Remedy>) -> Self {
        self.remedies.extend(remedies);
        self
    }
}
