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

use kerbridge_gate::exchange::{BrokerCall, Connection};
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::jwt::signature::native::{self, NativeCheck};
use kerbridge_gate::step::HeaderEdit;
use kerbridge_gate::{Reason, UnixTime};
use kerbridge_wire::TraceContext;
use kerbridge_wire::exchange::{FORM, SOURCE_HEADER};
use kerbridge_wire::trace_context::{TRACEPARENT, TRACESTATE};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType};

/// `proxy_status_t` of the ABI: what was asked was done.
const OK: u32 = 0;
/// There is no such thing.
const NOT_FOUND: u32 = 1;
/// Somebody else wrote in between.
const CAS_MISMATCH: u32 = 8;
/// `proxy_stream_type_t::HTTP_REQUEST` of the ABI.
const HTTP_REQUEST: u32 = 0;
/// `proxy_stream_type_t::HTTP_RESPONSE` of the ABI.
const HTTP_RESPONSE: u32 = 1;

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
    fn proxy_get_header_map_value(
        kind: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
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
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
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
    UnixTime::from_seconds(nanoseconds().ok()?.checked_div(1_000_000_000)?)
}

/// The host's clock in nanoseconds, to see how long something took.
pub(crate) fn nanoseconds() -> Result<u64, HostError> {
    let mut nanoseconds: u64 = 0;
    // SAFETY: the host writes one `u64` to a place that lives through the call.
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) }).map(|()| nanoseconds)
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
    HeaderMap::parse(buffer).ok_or(HostError)
}

/// The first value of a header; `None` where there is no such header. Envoy shows `authorization` lines joined by commas
/// here, of other names only the first line.
pub(crate) fn header(kind: MapType, name: &str) -> Result<Option<Vec<u8>>, HostError> {
    let mut status = OK;
    let value = take_bytes(|data, size| {
        // SAFETY: the host reads the name and writes a pointer and a size; all live through the call.
        status = unsafe { proxy_get_header_map_value(kind as u32, name.as_ptr(), name.len(), data, size) };
        status
    });
    if status == NOT_FOUND { Ok(None) } else { value.map(Some) }
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

/// An attribute of the request or its connection; `None` where it has none.
pub(crate) fn attribute(path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
    #[cfg(feature = "trap")]
    crate::trap::refuse_attribute(path)?;
    let path = path.join("\0");
    let mut status = OK;
    let value = take_bytes(|data, size| {
        // SAFETY: the host reads the path and writes a pointer and a size; all live through the call.
        status = unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) };
        status
    });
    if status == NOT_FOUND { Ok(None) } else { value.map(Some) }
}

/// The same, for those of which nothing follows that an empty one would not say: empty where there is none, and where the host
/// fails.
pub(crate) fn property(path: &[&str]) -> Vec<u8> {
    attribute(path).ok().flatten().unwrap_or_default()
}

/// Writes a value of the stream's filter state, where Envoy keeps it as `wasm.<name>`. A name that was declared read-only is
/// written once.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host reads two slices that live through the call.
    check(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Declares a value of filter state, to be asked in the root: a string, written once, as long as the request lives, or only for
/// its way through the chain. A second declaration of the name is refused, and the first stays.
pub(crate) fn declare_filter_state(name: &str, is_for_one_pass: bool) -> Result<(), HostError> {
    // Envoy's `DeclarePropertyArguments`: 1 name, 2 readonly, 3 type (1 string), 5 span (0 the chain, 1 the request).
    let mut argument = vec![0x0a, u8::try_from(name.len()).map_err(|_| HostError)?];
    argument.extend(name.as_bytes());
    argument.extend([0x10, 1, 0x18, 1, 0x28, u8::from(!is_for_one_pass)]);
    call_foreign("declare_property", &argument).map(drop)
}

/// An entry of the data that the VMs with this `vm_id` share, and the number to compare and swap by.
pub(crate) fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>, HostError> {
    let (mut status, mut cas) = (OK, 0_u32);
    let value = take_bytes(|data, size| {
        // SAFETY: the host reads the key and writes a pointer, a size and a number; all live through the call.
        status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) };
        status
    });
    if status == NOT_FOUND {
        Ok(None)
    } else {
        value.map(|value| Some((value, cas)))
    }
}

/// Writes an entry, if it still has this number; 0 compares nothing. Whether it was written.
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<bool, HostError> {
    // SAFETY: the host reads two slices that live through the call.
    match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) } {
        CAS_MISMATCH => Ok(false),
        status => check(status).map(|()| true),
    }
}

/// Makes the calls that follow those of another context, until the callback ends.
pub(crate) fn act_for(context: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Lets a held request go on.
pub(crate) fn resume_request() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_continue_stream(HTTP_REQUEST) })
}

/// Ends a stream at once.
pub(crate) fn reset() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_close_stream(HTTP_RESPONSE) })
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
    more: &[(&str, String)],
    timeout: Duration,
) -> Result<u32, HostError> {
    let mut headers = vec![(":method", method), (":authority", authority), (":path", path)];
    if let Some((content_type, _)) = form {
        headers.push(("content-type", content_type));
    }
    headers.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    hostcalls::dispatch_http_call(cluster, headers, form.map(|(_, body)| body), vec![], timeout).map_err(|_| HostError)
}

/// Asks the broker on behalf of this client, within the trace of the request for which that is done.
pub(crate) fn ask_broker(to: &BrokerCall, client: &Connection<'_>) -> Result<u32, HostError> {
    let (form, timeout) = (to.form(client), Duration::from_millis(to.timeout));
    let mut more = trace_lines();
    more.extend(client.source_line().map(|source| (SOURCE_HEADER, source.to_owned())));
    call(
        &to.cluster,
        "POST",
        &to.authority,
        to.path,
        Some((FORM, &form)),
        &more,
        timeout,
    )
}

/// The lines by which the request belongs to a trace. The attribute has all lines of a name: of two nobody knows which is meant.
fn trace_lines() -> Vec<(&'static str, String)> {
    let line = |name| property(&["request", "headers", name]);
    let context = TraceContext::parse(&line(TRACEPARENT), &line(TRACESTATE));
    context.map(|context| context.lines()).unwrap_or_default()
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

/// Asks the host's native crypto whether a signature is good (Envoy's foreign function `verify_signature`).
pub(crate) fn verify_signature(check: &NativeCheck<'_>) -> Result<bool, HostError> {
    let answer = call_foreign("verify_signature", &check.request())?;
    native::read_answer(&answer).ok_or(HostError)
}

fn call_foreign(name: &str, argument: &[u8]) -> Result<Vec<u8>, HostError> {
    take_bytes(|data, size| {
        // SAFETY: the host reads two slices and writes a pointer and a size; all live through the call.
        unsafe { proxy_call_foreign_function(name.as_ptr(), name.len(), argument.as_ptr(), argument.len(), data, size) }
    })
}
