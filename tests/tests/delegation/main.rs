//! A token opens a service that takes Kerberos only, in a realm of either kind of KDC.
//!
//! Each scenario is written once and runs on both: on an MIT KDC whose realm is in a directory, and, as root, on a Samba
//! domain, which `make test-quick` leaves out.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper that fails in a test ends the test"
)]

mod apart;
mod away;
mod bound;
mod bridge;
mod broker;
mod channel;
mod circle;
mod crowd;
mod doctor;
mod names;
mod outputs;
mod realms;
mod resource_based;
mod rights;
mod s4u;
mod split;
mod taken_out;
mod trader;
