//! Gives the policy's lines about Kerberos services behind Envoy their shape: who may be shown there in whose name.
//!
//! Raw forms, as [`policy`](crate::policy): the broker checks what they must fulfil together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::is_default;
use crate::span::Span;
use crate::spn::Spn;

/// In [`Delegation::clients`]: each client of the mesh, by whatever name.
pub const EACH_CLIENT: &str = "*";
/// In [`Delegation::issuers`]: the broker whose policy this is.
pub const OURS: &str = "broker";

/// A line that lets the broker act for some users towards one service. Lines add up; nothing takes away. No line, no ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The service.
    pub target: Spn,
    /// The audience that the user's token must be for, by name.
    pub audience: String,
    /// Users, as [`Grant::principals`](crate::policy::Grant::principals) names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// Groups in one of which the token must say that its user is. With `principals` too, both must hold; without, anybody
    /// of an accepted realm who is in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whose tokens the line takes: issuers that a [`SubjectRule`] is about, [`OURS`] for the broker's own; all of them where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<String>>,
    /// The mesh clients that may ask, by the names that they authenticate with, or [`EACH_CLIENT`] alone. It must be there; it is
    /// optional here so that its absence is named like any other mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
    /// How long a ticket is used before the KDC is asked anew, 15 minutes where absent.
    #[serde(default = "fifteen_minutes", skip_serializing_if = "is_fifteen_minutes")]
    pub max_life: Span,
    /// The certificate that the service shows, a PEM file, where it wants tickets to be bound to it (RFC 5929).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_binding: Option<PathBuf>,
}

/// A line that says which principal the tokens of another issuer are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectRule {
    /// The issuer, as its `[[issuer]]` names it.
    pub issuer: String,
    /// The claim that says who it is: a name, or a JSON pointer (RFC 6901). It must be one that users cannot choose.
    pub claim: String,
    /// What the claim holds.
    pub form: SubjectForm,
    /// The realm of an account, or the one whose KDC resolves a `upn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Realms that the principal may be of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub realms: Vec<String>,
    /// Principals that it may be, as [`Grant::principals`](crate::policy::Grant::principals) names them; people (one component, no
    /// machine) where absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub principals: Vec<String>,
}

/// What a claim says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectForm {
    /// A full principal, `alice@EXAMPLE.COM`.
    Principal,
    /// A user principal name, `alice@example.com`, that the KDC resolves (an enterprise name, RFC 6806).
    Upn,
    /// A short name, `alice` (`sAMAccountName`), in the line's `realm`.
    Account,
}

const fn fifteen_minutes() -> Span {
    Span::FIFTEEN_MINUTES
}

fn is_fifteen_minutes(span: &Span) -> bool {
    *span == fifteen_minutes()
}
