//! What is rendered and shipped for Kubernetes: held to real schemas, to Envoy itself, and the chart to Helm.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails in a test ends the test"
)]

mod chart;
mod image;
mod istio;
mod observe;
mod tools;
mod traffic;
