//! Says what a span is, in the words of OpenTelemetry.

use kerbridge_wire::trace_context::TraceState;

/// Which side of a call it is (`SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal,
    Server,
    Client,
}

/// What an attribute says. No text is a token's or a ticket's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Word(&'static str),
    Text(String),
    Number(i64),
}

/// A piece of work that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) state: Option<TraceState>,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Nanoseconds since 1970, as the end.
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: bool,
}
