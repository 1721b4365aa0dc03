//! Owns the handles of the system's GSSAPI (MIT krb5 1.19 or later): acceptor credentials, security contexts, names.
//!
//! The one thing to know: [`AcceptorCredential::accept`] turns a client's token into an [`EstablishedContext`], and nothing
//! else can build one. Every handle is released when its owner is dropped, and every error text is taken at once, on the
//! thread that failed, since MIT keeps the texts per thread.
//!
//! ```no_run
//! use kerbridge_gss::{AcceptOutcome, AcceptorCredential, ServicePrincipal};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServicePrincipal::parse("HTTP/api.example.com@EXAMPLE.COM")?;
//! let credential = AcceptorCredential::acquire(&service, "/etc/http.keytab".as_ref(), "/var/lib/x/rcache".as_ref())?;
//! # let token: &[u8] = &[];
//! match credential.accept(token, None)? {
//!     AcceptOutcome::Established(context) => println!("{} until {}", context.initiator(), context.ticket_end()),
//!     AcceptOutcome::ContinueNeeded { reply, .. } => println!("{} bytes to send back", reply.as_bytes().len()),
//! }
//! # Ok(()) }
//! ```
//!
//! In flow order: [`environment`] (before the first thread), [`keytab`], [`principal`], [`credential`], [`accept`],
//! [`bindings_probe`], [`context`], [`attribute`], [`status`]; [`initiate`] is the other side, [`s4u`] that side
//! for somebody else.
//!
//! Calls block (a replay cache is a file, a KDC is a network away): keep them off an asynchronous runtime's threads.

pub mod accept;
pub mod attribute;
pub mod bindings_probe;
mod buffer;
pub mod channel_bindings;
mod configuration;
pub mod context;
pub mod credential;
pub mod environment;
mod forwarded;
pub mod host_service;
pub mod initiate;
pub mod keytab;
mod name;
pub mod oid;
pub mod principal;
pub mod s4u;
pub mod status;
mod sys;

pub use accept::{AcceptError, AcceptErrorKind, AcceptOutcome, SecurityContext};
pub use attribute::LogonInfo;
pub use bindings_probe::{BindingsProbe, BindingsVerdict};
pub use buffer::MechToken;
pub use channel_bindings::ChannelBindings;
pub use context::{ContextFlags, EstablishedContext, TicketFlags};
pub use credential::{AcceptorCredential, AcquireError, AcquireErrorKind, InitiatorCredential};
pub use host_service::{HostService, NotAHostService};
pub use initiate::{InitiateError, InitiateErrorKind, InitiateRequest, Initiation, InitiatorContext};
pub use keytab::{Enctype, Keytab, KeytabEntry, KeytabError, UnknownEnctype};
pub use name::local_name;
pub use oid::{Mechanism, Oid};
pub use principal::{EnterpriseName, NotAnEnterpriseName, Principal, PrincipalError, ServicePrincipal};
pub use s4u::{
    DelegatedUser, DelegationError, DelegationErrorKind, DelegationStep, DelegationTarget, Delegator, Identified,
    NotATarget, ServiceToken, UserCredential,
};
pub use status::{RoutineError, StatusText};
