//! Keeps libkrb5 from reading a ticket that a client hands over (`KRB-CRED`, RFC 4121 §4.1.1.1): nobody here wants one.
//!
//! MIT's acceptor reads it even where no handle for it is given, and three malformed ones make it follow a null pointer: any
//! user of the realm could end the process with one request (MIT's tickets 9211, 9219 and 9220, in all versions up to 1.22). It
//! finds the function that reads by the dynamic linker, which looks into the program first. The function here reads nothing and
//! gives back a credential of nobody, which the acceptor then throws away. It can go when no version of MIT krb5 that is
//! supported reads what nobody wants.

#![expect(
    unsafe_code,
    reason = "stands in the place of a function of libkrb5, and allocates as it does"
)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use crate::sys;

/// Whose the credential is (RFC 8062 §3).
const NOBODY: &CStr = c"WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS";
/// `ENOMEM`.
const NO_MEMORY: c_int = 12;

/// Whether the libraries of this process find the function below, and not libkrb5's own.
pub(crate) fn is_kept_out() -> bool {
    // SAFETY: the name is a string, and null is the scope that libraries look into; what is found is not called.
    let found = unsafe { sys::dlsym(ptr::null_mut(), c"krb5_rd_cred".as_ptr()) };
    #[expect(clippy::as_conversions, reason = "the address of a function is had in no other way")]
    let ours = krb5_rd_cred as *const ();
    ptr::addr_eq(found, ours)
}

/// Reads nothing.
///
/// # Safety
/// As libkrb5's function of this name: `context` is one of libkrb5's, and `credentials` can be written to. The caller frees what
/// it gets by `krb5_free_tgt_creds`.
#[unsafe(no_mangle)]
unsafe extern "C" fn krb5_rd_cred(
    context: *mut c_void,
    _auth_context: *mut c_void,
    _message: *mut c_void,
    credentials: *mut *mut *mut sys::krb5_creds,
    _replay_data: *mut c_void,
) -> c_int {
    // SAFETY: each is null, or zeroed memory of its size: a list of one and the null that ends it, and a credential without
    // names, key, addresses and ticket.
    let (list, nobody) = unsafe {
        (
            sys::calloc(2, size_of::<*mut sys::krb5_creds>()).cast::<*mut sys::krb5_creds>(),
            sys::calloc(1, size_of::<sys::krb5_creds>()).cast::<sys::krb5_creds>(),
        )
    };
    let code = if list.is_null() || nobody.is_null() {
        NO_MEMORY
    } else {
        // SAFETY: the credential was just allocated; the names are written where they belong and freed with it.
        unsafe {
            match sys::krb5_parse_name(context, NOBODY.as_ptr(), &raw mut (*nobody).client) {
                0 => sys::krb5_parse_name(context, NOBODY.as_ptr(), &raw mut (*nobody).server),
                code => code,
            }
        }
    };
    // SAFETY: what was allocated is freed, or belongs to the caller from now on; null may be freed.
    unsafe {
        if code == 0 {
            *list = nobody;
            *credentials = list;
        } else {
            sys::krb5_free_creds(context, nobody);
            sys::free(list.cast());
        }
    }
    code
}
