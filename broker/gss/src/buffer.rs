//! Passes bytes to GSSAPI and takes over the buffers that it allocates.

#![expect(unsafe_code, reason = "reads and releases buffers that the C library allocated")]

use std::fmt;
use std::ptr;

use zeroize::{Zeroize as _, Zeroizing};

use crate::sys;

/// A token of a security mechanism, as it travels between initiator and acceptor; never empty. It does not show itself in
/// `Debug`, and leaves nothing behind in memory, since an initiator's token is a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct MechToken(Zeroizing<Vec<u8>>);

impl MechToken {
    /// The token, unless `bytes` is empty: an empty token is none.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        if bytes.is_empty() {
            None
        } else {
            Some(Self(Zeroizing::new(bytes)))
        }
    }

    /// The bytes, as they go into the base64 of a `Negotiate` header (RFC 4559 §4.2).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for MechToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MechToken({} bytes)", self.0.len())
    }
}

/// A buffer that GSSAPI fills and that is released here.
pub(crate) struct OwnedBuffer(sys::gss_buffer_desc);

impl OwnedBuffer {
    pub(crate) const fn empty() -> Self {
        Self(sys::gss_buffer_desc {
            length: 0,
            value: ptr::null_mut(),
        })
    }

    /// For the C call that fills it. Not to be used twice: the first content would leak.
    pub(crate) const fn as_mut_ptr(&mut self) -> sys::gss_buffer_t {
        &raw mut self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.0.value.is_null() || self.0.length == 0 {
            return &[];
        }
        // SAFETY: the library filled `value` with `length` readable bytes, which live until `drop` releases them, and the
        // returned slice borrows `self`.
        unsafe { std::slice::from_raw_parts(self.0.value.cast::<u8>().cast_const(), self.0.length) }
    }

    pub(crate) fn to_token(&self) -> Option<MechToken> {
        MechToken::new(self.as_bytes().to_vec())
    }
}

impl Drop for OwnedBuffer {
    fn drop(&mut self) {
        if !self.0.value.is_null() {
            // SAFETY: the library filled `value` with `length` bytes, which are its owner's to change, and nobody else refers to
            // them. It may have been a credential, which the library does not clear.
            unsafe { std::slice::from_raw_parts_mut(self.0.value.cast::<u8>(), self.0.length) }.zeroize();
        }
        let mut minor = 0;
        // SAFETY: the buffer is either empty or was allocated by the library, and nothing refers to it any more. Releasing an
        // empty buffer does nothing (RFC 2744 §5.27).
        unsafe { sys::gss_release_buffer(&raw mut minor, &raw mut self.0) };
    }
}

/// Describes `bytes` to a C call that only reads them. The description must not outlive `bytes`.
pub(crate) const fn borrowed(bytes: &[u8]) -> sys::gss_buffer_desc {
    sys::gss_buffer_desc {
        length: bytes.len(),
        value: bytes.as_ptr().cast_mut().cast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_show_itself_in_debug() {
        let token = MechToken::new(b"secret".to_vec()).unwrap();
        assert_eq!(format!("{token:?}"), "MechToken(6 bytes)");
    }

    #[test]
    fn an_empty_token_is_none() {
        assert_eq!(MechToken::new(Vec::new()), None);
    }
}
