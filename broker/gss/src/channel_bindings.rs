//! Binds an authentication to the TLS channel that it came over (RFC 5929).
//!
//! Passing bindings does not enforce them: MIT accepts an initiator that sent none. Where they are required, look at
//! [`ContextFlags::channel_bound`](crate::ContextFlags::channel_bound).

use std::fmt;
use std::ptr;

use crate::buffer::borrowed;
use crate::sys;

/// The application data of a channel binding; addresses are never used.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelBindings(Vec<u8>);

impl ChannelBindings {
    /// The type `tls-server-end-point` (RFC 5929 §4): `certificate_hash` is the hash of the server's certificate in DER, by
    /// the hash function of its signature (SHA-256 where that is MD5 or SHA-1).
    pub fn tls_server_end_point(certificate_hash: &[u8]) -> Self {
        Self([b"tls-server-end-point:".as_slice(), certificate_hash].concat())
    }

    /// What no channel is bound to: a client that binds is refused, whatever it binds to; one that does not is taken.
    pub fn of_no_channel() -> Self {
        Self(b"no channel is known".to_vec())
    }

    /// Describes the bindings to a C call that only reads them. The description must not outlive `self`.
    pub(crate) const fn describe(&self) -> sys::gss_channel_bindings_struct {
        const NOTHING: sys::gss_buffer_desc = sys::gss_buffer_desc {
            length: 0,
            value: ptr::null_mut(),
        };
        sys::gss_channel_bindings_struct {
            initiator_addrtype: sys::GSS_C_AF_UNSPEC,
            initiator_address: NOTHING,
            acceptor_addrtype: sys::GSS_C_AF_UNSPEC,
            acceptor_address: NOTHING,
            application_data: borrowed(self.0.as_slice()),
        }
    }
}

impl fmt::Debug for ChannelBindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelBindings({} bytes)", self.0.len())
    }
}
