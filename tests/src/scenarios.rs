//! The named scenarios of the lab: what an engineer proves before going live, each in a file of its own.

use crate::engine::stage::{Stage, Stop};

mod big_pac;
mod broker_down;
mod channel_binding;
mod delegation_allowed;
mod delegation_denied;
mod expiry;
mod kdc_down;
mod key_rotation;
mod keytab_rotation;
mod logout;
mod mapping;
mod ntlm;
mod replay;
mod revocation;
mod skew;
mod spoofed_headers;
mod store_down;
mod wrong_audience;

/// Where a scenario can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere: it asks as clients ask, and changes nothing.
    Anywhere,
    /// On the lab's own parts alone, because of what it does: "stops the broker".
    Own(&'static str),
}

/// A scenario.
pub struct Definition {
    /// On the command line: lower case, words joined by hyphens.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it proves, in one sentence.
    pub purpose: &'static str,
    /// Where it can be played.
    pub reach: Reach,
    /// Plays it.
    pub play: fn(&mut Stage<'_>) -> Result<(), Stop>,
}

/// All of them, in the order in which a report reads well.
pub const ALL: &[Definition] = &[
    mapping::SCENARIO,
    spoofed_headers::SCENARIO,
    wrong_audience::SCENARIO,
    replay::SCENARIO,
    ntlm::SCENARIO,
    channel_binding::SCENARIO,
    expiry::SCENARIO,
    big_pac::SCENARIO,
    logout::SCENARIO,
    revocation::SCENARIO,
    delegation_allowed::SCENARIO,
    delegation_denied::SCENARIO,
    key_rotation::SCENARIO,
    keytab_rotation::SCENARIO,
    skew::SCENARIO,
    broker_down::SCENARIO,
    kdc_down::SCENARIO,
    store_down::SCENARIO,
];
