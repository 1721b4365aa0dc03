//! Makes the module panic for a request that asks for it, so that tests see what a trap does. No module that ships has this.

use proxy_wasm::types::MapType;

use crate::host;

/// The request's header that asks for it. It does not begin as ours do, which the listener removes.
const HEADER: &str = "x-trap-for-tests";

pub(crate) fn spring() {
    #[expect(clippy::panic, reason = "the trap that the tests ask for")]
    if matches!(host::header(MapType::HttpRequestHeaders, HEADER), Ok(Some(_))) {
        panic!("a test asked for a trap");
    }
}
