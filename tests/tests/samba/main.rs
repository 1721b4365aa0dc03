//! Groups from a real Samba domain, in a whole lab: its tickets, broker, Envoy, curl and service.
//!
//! A domain controller listens on port 88 of a loopback address of its own, so these tests run as root; without they fail and
//! say so. `make test-quick` leaves them out.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails in a test ends the test"
)]

mod documented;
mod lab_run;
mod samba_directory;
mod samba_domain;
mod samba_pac;
