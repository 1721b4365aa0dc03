//! Names, once, everything that filter and broker say to each other.
//!
//! - [`policy`]: the one policy file; the broker reads it whole, the filter's configuration is rendered from it.
//! - [`clients`]: the lines of that file about clients of the broker.
//! - [`delegation`]: the lines of that file about Kerberos services behind Envoy.
//! - [`filter_config`]: the JSON that Envoy hands to the filter.
//! - [`exchange`]: request, reply and error of `POST /oauth2/token` (RFC 8693).
//! - [`feed`]: the pages of signed revocations, and the keys by which they name tokens.
//! - [`feed_query`]: which page of them is asked for.
//! - [`reason`]: the closed list of reasons, with the answer that each one gets.
//! - [`span`]: time spans as people write them (`15m`).
//! - [`spn`]: names of services that speak Kerberos.
//! - [`trace_context`]: the header lines by which spans of several programs become one trace.
//!
//! Types here have no behaviour beyond (de)serialising and looking up a table, and no dependency but `serde` and one hash.
//! Configuration is read strictly (`deny_unknown_fields`); replies are read leniently, so that filter and broker one
//! minor release apart understand each other.

#![forbid(unsafe_code)]

pub mod clients;
pub mod delegation;
pub mod exchange;
pub mod feed;
pub mod feed_query;
pub mod filter_config;
pub mod policy;
pub mod reason;
pub mod span;
pub mod spn;
pub mod trace_context;

pub use reason::{Fault, Reason};
pub use span::Span;
pub use spn::Spn;
pub use trace_context::TraceContext;
