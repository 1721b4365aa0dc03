//! Calls the host directly where the SDK drops a parameter or panics on a status that is itself the answer.

#![expect(
    unsafe_code,
    reason = "raw imports of the host; the SDK's wrappers hide what is asked here"
)]

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;

    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;

    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
}

/// Answers the request with a body and response-code details; returns the host's status.
pub(crate) fn send_local_response(status: u32, details: &str, body: &[u8]) -> u32 {
    let no_headers = 0_u32.to_le_bytes();
    // SAFETY: every pointer comes with the length of the slice that it points into, and all outlive the call.
    unsafe {
        proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            no_headers.as_ptr(),
            no_headers.len(),
            -1,
        )
    }
}

/// Writes filter state `wasm.<name>`; returns the host's status.
pub(crate) fn set_property(name: &str, value: &[u8]) -> u32 {
    // SAFETY: both pointers come with the length of their slice, and both outlive the call.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
}

/// Writes shared data under exactly this compare-and-swap number; returns the host's status.
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> u32 {
    // SAFETY: both pointers come with the length of their slice, and both outlive the call.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) }
}
