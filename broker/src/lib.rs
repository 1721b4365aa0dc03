//! The broker: validates Kerberos tickets by GSSAPI and mints short-lived tokens for them.
//!
//! In flow order: a request reaches [`server`]; its [`negotiate::FirstToken`] is accepted by an
//! [`acceptor::Acceptor`]; a [`replay::ReplayGuard`] lets it through once; [`identity::Identity`] says who came, and
//! [`groups`] which groups they are in; [`policy::Policy`] grants; [`revocation::Revocations`] has nothing against it;
//! [`token::Minter`] mints with a key of the [`keyring`].
//! Each of these can be built only by the step before it. [`config`] is what cannot be wrong when that begins, [`cli`] what
//! a person types; `client` is the other side, which gets tokens for people.

#![forbid(unsafe_code)]

pub mod acceptor;
pub mod admin;
pub mod audit;
pub mod channel_bindings;
pub mod cli;
mod client;
pub mod client_assertion;
pub mod client_certificate;
pub mod config;
pub mod continuation;
pub mod delegation;
pub mod doctor;
pub mod exchange;
pub mod failure_limit;
pub mod groups;
mod hexadecimal;
pub mod identity;
mod jws;
pub mod keyring;
pub mod krb5_conf;
pub mod ldap;
pub mod log;
pub mod metrics;
pub mod negotiate;
mod outgoing;
pub mod pasted;
pub mod policy;
pub mod principal;
pub mod problem;
pub mod published_keys;
mod queue;
pub mod rate_limit;
pub mod readiness;
pub mod reload;
pub mod render;
pub mod replay;
pub mod revocation;
pub mod server;
mod signature;
pub mod state_lock;
pub mod store;
pub mod strict_toml;
pub mod subject_token;
pub mod time;
pub mod token;
pub mod trace;
pub mod work_pool;
