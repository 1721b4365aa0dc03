//! Fixtures that own their world: a test or the lab starts real parts here, and each part dies with its owner.
//!
//! - [`process`] starts a child that ends with its owner, with the test, and with a killed test.
//! - [`wait`] waits for a condition instead of sleeping.
//! - [`port`] names a free loopback port.
//! - [`http`] and [`http2`] speak in bytes, so that a test can send what no library would.
//! - [`kdc`] runs a real MIT KDC with a realm of its own.
//! - [`apache`] runs a real Apache that takes Kerberos only.
//! - [`bound_service`] takes Kerberos only, and only where it is bound to its channel.
//! - [`samba`] runs a real Samba domain controller, whose tickets say groups.
//! - [`delegation`] runs a realm with constrained delegation on either of the two.
//! - [`envoy`] runs a real Envoy with a given configuration.
//! - [`scripted_server`] answers HTTP as a test says, and records what it was asked.
//! - [`postgres`] runs a real PostgreSQL; [`tcp_relay`] is the network before a server, to be cut.
//! - [`upstream`] echoes what it received.
//! - [`certificates`] makes the lab's certificate authority; [`tls`] is a client that trusts it.
//! - [`collector`] takes spans as an OpenTelemetry collector does.
//! - [`curl`] sends a request with the real curl.
//! - [`token`] reads tokens and forges those that must be refused.
//! - [`openldap`] runs a real OpenLDAP server.
//! - [`shipped`] fits the repository's Envoy configuration to one world.
//! - [`broker`] runs the real broker; [`relay`] stands before it and records.
//! - [`initiator`] is a client that checks the service's reply; [`spnego`] builds what other clients send.
//! - [`tickets`] finds the Kerberos tickets in whatever was printed, sent or kept.
//! - [`exchange_world`] starts a KDC and a broker alone.
//! - [`world`] starts all of them for one scenario, [`oauth_world`] for clients of OAuth.
//! - [`engine`] runs the named [`scenarios`] of the lab, and records what each leg carried.
//! - [`faults`] lists what can go wrong between the filter and those that it asks.
//! - [`canary`] notes the credentials that pass, and finds them in what is printed.
//! - [`audit`] holds audit events to [`document`]s, and searches them.
//! - [`report`] writes what a run of the lab saw.
//! - [`mod@bench`] measures, and writes what was measured.
//! - [`error`] lists everything that can fail in a fixture.

#![forbid(unsafe_code)]

mod access_log;
pub mod apache;
pub mod audit;
pub mod bench;
pub mod bound_service;
pub mod broker;
pub mod browser;
pub mod canary;
pub mod certificates;
pub mod collector;
pub mod curl;
pub mod delegation;
pub mod document;
pub mod engine;
pub mod envoy;
pub mod error;
pub mod exchange_world;
pub mod faults;
pub mod http;
pub mod http2;
pub mod initiator;
pub mod issuer;
pub mod kdc;
pub mod oauth_world;
pub mod odd_tokens;
pub mod openldap;
pub mod person;
pub mod port;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod report;
pub mod samba;
pub mod scenarios;
pub mod scripted_server;
pub mod shifted_clock;
pub mod shipped;
pub mod spnego;
pub mod tcp_relay;
pub mod tickets;
pub mod tls;
pub mod token;
mod tool;
pub mod upstream;
pub mod wait;
pub mod world;

pub use error::HarnessError;
pub use world::World;
