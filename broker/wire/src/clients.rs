//! Gives the policy's lines about clients of the broker their shape: who may do what with tokens that are others'.
//!
//! Raw forms, as [`policy`](crate::policy): the broker checks what they must fulfil together.

use serde::{Deserialize, Serialize};

/// A line that lets some clients trade users' tokens for one audience for tokens for another (RFC 8693). Lines add up; nothing
/// takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRule {
    /// The clients, by the names that they authenticate with.
    pub clients: Vec<String>,
    /// The audience that the user's token must be for, by name.
    pub from: String,
    /// The audience that may be had for it, by name.
    pub to: String,
    /// Scopes that it lets through, of those that the user's token has. It adds none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A line that lets some clients ask what tokens of some audiences say (RFC 7662). No line, no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionRule {
    /// The clients, by the names that they authenticate with.
    pub clients: Vec<String>,
    /// The audiences, by name: those whose services they are.
    pub audiences: Vec<String>,
}
