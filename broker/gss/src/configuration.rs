//! Keeps libkrb5's reading of its configuration, so that it is not read anew for every call.
//!
//! Nearly every function of GSSAPI makes a `krb5_context` of its own and throws it away, a dozen of them for one ticket. Each
//! looks whether the files have changed since another context that is still there read them; where there is none, it reads
//! and parses them all (`profile_open_file` in MIT's `prof_file.c`).

#![expect(unsafe_code, reason = "calls krb5_init_context and krb5_cc_default_name")]

use std::ffi::{CStr, CString, c_void};
use std::ptr;

use crate::status::StatusText;
use crate::sys;

/// A context that no call of GSSAPI uses. As long as one lives, krb5.conf is parsed only when it has changed.
pub(crate) struct KeptConfiguration(*mut c_void);

// SAFETY: a context has no thread affinity, and this one is used by nobody between its making and its end.
unsafe impl Send for KeptConfiguration {}

impl KeptConfiguration {
    /// Reads the configuration of this process.
    pub(crate) fn read() -> Result<Self, StatusText> {
        let mut context = ptr::null_mut();
        // SAFETY: the out pointer is valid; it is filled where the answer is 0.
        let code = unsafe { sys::krb5_init_context(&raw mut context) };
        if code == 0 {
            return Ok(Self(context));
        }
        StatusText::check(sys::GSS_S_FAILURE, code.cast_unsigned())?;
        Err(StatusText::of_our_own(sys::GSS_S_FAILURE))
    }

    /// The name of the cache that whoever runs this process has tickets in, of any type: `KRB5CCNAME`, otherwise krb5.conf's
    /// default. `None` where no name can be made.
    pub(crate) fn default_cache(&self) -> Option<CString> {
        // SAFETY: the context is owned and not null, and nobody else uses it meanwhile; the answer is null, or a string that
        // the context owns, which lives as long as it, and is copied here.
        unsafe {
            let name = sys::krb5_cc_default_name(self.0);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
        }
    }
}

impl Drop for KeptConfiguration {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and not used again.
        unsafe { sys::krb5_free_context(self.0) };
    }
}
