//! Talks to the host in bytes; the only file that names `proxy_wasm::hostcalls` or imports of its own.
//!
//! The SDK's wrappers panic on statuses that they do not expect, read headers as UTF-8, and drop the response-code
//! details of a local reply. A panic ends the worker's VM and leaves its waiting streams unanswered, so what a request
//! touches is imported here and every status is an answer. What is left to the SDK:
//!
//! | SDK call | panics on | why it does not happen |
//! |---|---|---|
//! | `hostcalls::dispatch_http_call` | a status other than `Ok`, `BadArgument`, `InternalFailure`; a token twice | Envoy returns these three (a missing cluster is `BadArgument`) and counts tokens up; the SDK must be told of the token to bring the answer to its context |
//! | dispatcher `on_http_call_response` | a token that it does not know; `set_effective_context` failing | tokens come from the call above; the context is looked up before |
//! | dispatcher, other callbacks | a context that it does not know | Envoy creates a context before it calls it and deletes it last |
//! | `log` | a status other than `Ok` | Envoy knows the levels that the SDK uses |

#![expect(
    unsafe_code,
    reason = "raw imports: the SDK's wrappers panic or drop a parameter, see above"
)]

use std::ptr::null_mut;
use std::time::Duration;

use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::step::HeaderEdit;
use kerbridge_gate::{Reason, UnixTime};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType};

/// `proxy_status_t::OK` of the ABI.
const OK: u32 = 0;
/// `proxy_stream_type_t::HTTP_REQUEST` of the ABI.
const HTTP_REQUEST: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(kind: u32, n: *const u8, n_size: usize, v: *const u8, v_size: usize) -> u32;
    fn proxy_add_header_map_value(kind: u32, n: *const u8, n_size: usize, v: *const u8, v_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
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
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

/// The host did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostError;

fn check(status: u32) -> Result<(), HostError> {
    if status == OK { Ok(()) } else { Err(HostError) }
}

/// Runs a call that hands bytes over, and takes them.
fn take_bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let mut data: *mut u8 = null_mut();
    let mut size: usize = 0;
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() || size == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: by the ABI, the host got these `size` bytes from `proxy_on_memory_allocate`, which the SDK implements by
    // giving away a `Vec<u8>` of that capacity, and wrote them all; nobody else knows the pointer.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The host's clock; `None` if it has none or it is past the year 9999.
pub(crate) fn now() -> Option<UnixTime> {
    let mut nanoseconds: u64 = 0;
    // SAFETY: the host writes one `u64` to a place that lives through the call.
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) }).ok()?;
    UnixTime::from_seconds(nanoseconds.checked_div(1_000_000_000)?)
}

/// Asks for a tick every so many milliseconds.
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// The plugin configuration.
pub(crate) fn plugin_configuration() -> Result<Vec<u8>, HostError> {
    buffer(BufferType::PluginConfiguration, usize::MAX)
}

/// The body of a callout's answer, at most `limit` bytes of it.
pub(crate) fn callout_body(limit: usize) -> Result<Vec<u8>, HostError> {
    buffer(BufferType::HttpCallResponseBody, limit)
}

fn buffer(kind: BufferType, limit: usize) -> Result<Vec<u8>, HostError> {
    // SAFETY: the host writes a pointer and a size to places that live through the call.
    take_bytes(|data, size| unsafe { proxy_get_buffer_bytes(kind as u32, 0, limit, data, size) })
}

/// A header map, every value as often as it came.
pub(crate) fn header_map(kind: MapType) -> Result<HeaderMap, HostError> {
    // SAFETY: the host writes a pointer and a size to places that live through the call.
    let buffer = take_bytes(|data, size| unsafe { proxy_get_header_map_pairs(kind as u32, data, size) })?;
    HeaderMap::parse(&buffer).ok_or(HostError)
}

/// Edits a header map, in order; stops at the first edit that the host refuses.
pub(crate) fn edit(kind: MapType, edits: &[HeaderEdit]) -> Result<(), HostError> {
    let kind = kind as u32;
    for edit in edits {
        let status = match edit {
            // SAFETY: the host reads the bytes of slices that live through the call.
            HeaderEdit::Remove(name) => unsafe { proxy_remove_header_map_value(kind, name.as_ptr(), name.len()) },
            HeaderEdit::Set(name, value) => {
                let value = value.expose();
                // SAFETY: as above.
                unsafe { proxy_replace_header_map_value(kind, name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
            }
            HeaderEdit::Add(name, value) => {
                let value = value.expose();
                // SAFETY: as above.
                unsafe { proxy_add_header_map_value(kind, name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
            }
        };
        check(status)?;
    }
    Ok(())
}

/// An attribute of the request or its connection; empty where it has none.
pub(crate) fn property(path: &[&str]) -> Vec<u8> {
    let path = path.join("\0");
    // SAFETY: the host reads the path and writes a pointer and a size; all live through the call.
    take_bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }).unwrap_or_default()
}

/// Lets a held request go on.
pub(crate) fn resume_request() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_continue_stream(HTTP_REQUEST) })
}

/// Answers the request here, for a reason that stands in the response-code details. Envoy makes a gRPC answer of it where
/// the request is gRPC, with the reason's status: its own translation has INTERNAL (13) for what is the client's mistake.
pub(crate) fn respond(reason: Reason, status: u16, headers: &[(&str, &[u8])], body: &[u8]) -> Result<(), HostError> {
    let details = format!("kerbridge_{reason}");
    let headers = serialise(headers).ok_or(HostError)?;
    // SAFETY: the host reads slices that live through the call.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            i32::from(reason.grpc_status()),
        )
    })
}

/// The ABI's form of a header map: count, lengths, then names and values, each ended by a zero byte.
fn serialise(headers: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let mut out = u32::try_from(headers.len()).ok()?.to_le_bytes().to_vec();
    for (name, value) in headers {
        out.extend(u32::try_from(name.len()).ok()?.to_le_bytes());
        out.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_bytes(), value] {
            out.extend(part);
            out.push(0);
        }
    }
    Some(out)
}

/// Calls out over HTTP; the answer comes to the context that called, under the returned number.
pub(crate) fn call(
    cluster: &str,
    method: &str,
    authority: &str,
    path: &str,
    form: Option<(&str, &[u8])>,
    timeout: Duration,
) -> Result<u32, HostError> {
    let mut headers = vec![(":method", method), (":authority", authority), (":path", path)];
    if let Some((content_type, _)) = form {
        headers.push(("content-type", content_type));
    }
    hostcalls::dispatch_http_call(cluster, headers, form.map(|(_, body)| body), vec![], timeout).map_err(|_| HostError)
}

/// The number of a counter or gauge; the same for the same name.
pub(crate) fn define_metric(kind: MetricType, name: &str) -> Result<u32, HostError> {
    let mut id: u32 = 0;
    // SAFETY: the host reads the name and writes one number; both live through the call.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Adds one to a counter.
pub(crate) fn count(id: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_increment_metric(id, 1) })
}

/// Sets a gauge.
pub(crate) fn record(id: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_record_metric(id, value) })
}
