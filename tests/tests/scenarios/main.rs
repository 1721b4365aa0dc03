//! Scenarios in a whole lab: real KDC, broker, Envoy, curl and service. Each test has a world of its own.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails in a test ends the test"
)]

mod audit;
mod bound;
mod broker_away;
mod broker_nonsense;
mod causes;
mod channel_bindings;
mod clients;
mod clocks;
mod configuration;
mod cookies;
mod credentials;
mod doctor;
mod documented;
mod feeds;
mod feeds_refused;
mod groups;
mod hardware_keys;
mod headers;
mod host_calls;
mod identities;
mod identity;
mod key_rotation;
mod lab;
mod lab_run;
mod legacy;
mod limits;
mod login;
mod logout;
mod mesh_over_tls;
mod oauth;
mod openldap;
mod outcomes;
mod realms;
mod reasons;
mod replays;
mod revocations;
mod rolled_back;
mod routes;
mod secrets;
mod several_brokers;
mod shipped;
mod sizes;
mod spnego;
mod streams;
mod system_krb5_conf;
mod taken_out;
mod tickets;
mod tokens;
mod tracing;
mod traps;
mod undecided;
