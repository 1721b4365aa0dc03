//! Makes the module panic, or its host fail, where a test asks for it. No module that ships has this.

use proxy_wasm::types::MapType;

use crate::host::{self, HostError};

/// The request's header that asks for a panic. It does not begin as ours do, which the listener removes.
const HEADER: &str = "x-trap-for-tests";
/// The response's header for which its attributes cannot be had.
const FAILURE: &str = "x-host-fails-for-tests";

pub(crate) fn spring() {
    #[expect(clippy::panic, reason = "the trap that the tests ask for")]
    if matches!(host::header(MapType::HttpRequestHeaders, HEADER), Ok(Some(_))) {
        panic!("a test asked for a trap");
    }
}

/// Fails in the host's place.
pub(crate) fn refuse_attribute(path: &[&str]) -> Result<(), HostError> {
    let is_asked = || matches!(host::header(MapType::HttpResponseHeaders, FAILURE), Ok(Some(_)));
    if path.first() == Some(&"response") && is_asked() {
        return Err(HostError);
    }
    Ok(())
}
