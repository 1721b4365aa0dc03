//! Decides what happens to a request, purely: bytes and a time go in, a [`Step`] comes out.
//!
//! ```text
//! RequestHead ─▶ Credentials ─▶ PendingSignature ─▶ VerifiedClaims | PendingExchange ─▶ Step ─▶ Admitted
//! ```
//!
//! The crate has no host, no clock, no I/O and no globals: the filter carries its [`Step`]s out and comes back with the
//! answers. Each noun can be built only by the step before it, so an [`response::Admitted`] is the proof that a credential was
//! verified (or that the route is open), and a pending state is consumed by its answer: a request cannot be resumed
//! twice.
//!
//! Modules stand in flow order: [`config`] is parsed once; [`request`], [`credentials`] and [`route`] read the request;
//! [`jwt`] and [`jwk`] verify; [`snapshot`] is what one request is judged against; [`gate`] judges; [`exchange`] speaks
//! to the broker; [`session`] answers the paths of the filter's own; [`step`], [`response`] and [`refusal`] are what comes out;
//! [`upstream`] gets tickets for what passed.

#![forbid(unsafe_code)]

pub mod callbacks;
pub mod certificate;
pub mod config;
pub mod continuation;
pub mod credentials;
pub mod demand;
pub mod exchange;
pub mod feed;
pub mod gate;
pub mod header_map;
pub mod json;
pub mod jwk;
pub mod jwt;
pub mod network;
pub mod outcome;
pub mod pointer;
pub mod poll;
pub mod refusal;
pub mod request;
pub mod response;
pub mod revocation;
pub mod route;
pub mod rule;
pub mod secret;
pub mod session;
pub mod shape;
pub mod snapshot;
pub mod step;
pub mod time;
pub mod token_cache;
pub mod upstream;
pub mod verification;
pub mod verified;

pub use config::{Config, ConfigErrors, Role};
pub use gate::Gate;
pub use kerbridge_wire::Reason;
pub use request::RequestHead;
pub use snapshot::Snapshot;
pub use step::Step;
pub use time::UnixTime;
