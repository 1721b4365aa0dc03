//! Asks a directory (LDAP, RFC 4511): binds, searches in pages, and believes no more than it must.
//!
//! Written here and not taken: what comes before TLS is a stranger's, and the readers to be had nest as deep as the bytes say,
//! panic on what they do not expect, and keep as much as is sent. Four requests are all that is needed.

mod connection;
mod error;
mod message;

pub use connection::{Connection, Security, Server};
pub use error::LdapError;
pub use message::{Entry, Filter, Scope, Search};
