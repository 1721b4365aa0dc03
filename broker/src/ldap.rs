//! Asks a directory (LDAP, RFC 4511): binds, searches in pages, and believes no more than it must.
//!
//! Written here and not taken: what comes before TLS is a stranger's, and the readers to be had nest as deep as the bytes say,
//! panic on what they do not expect, and keep as much as is sent. Five requests are all that is needed.

mod connection;
mod error;
pub mod message;
mod pool;
#[cfg(test)]
pub(crate) mod scripted;

pub use connection::{Bind, Connection, Found, Place, Security, Server};
pub use error::LdapError;
pub use message::{Entry, Filter, Scope, Search};
pub use pool::{Lent, Pool};
