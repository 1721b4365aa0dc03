//! Asks a real Envoy the questions on which the design rests, as a script tells it.
//!
//! The plugin configuration is lines of `key=value`: `configure`, `tick`, `headers` and `reply` hold a script (words and
//! semicolons, see [`script`]) for that callback, `response` too; `period` is the tick in milliseconds; `body` and `trailers` say what
//! those callbacks return. Without `headers` the request brings its script in `x-probe`. What was seen is answered to
//! the client or logged with the prefix `probe:`. With `empty` requests are not looked at. Nothing of this module is shipped.

#![expect(missing_docs, reason = "proxy_wasm::main exports a function without documentation")]

mod host;
mod root;
mod script;
mod stream;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_context| Box::new(root::Root::default()));
}}
