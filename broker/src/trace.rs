//! Records what becomes of a request as spans, where whoever calls records it, and never lets the request wait for that.
//!
//! The recording goes beside the request's task, so that a step deep within needs no more than its name ([`step`]). Spans leave
//! together when the request ends: by a queue that is full they are dropped and counted ([`export`]).

pub mod export;
mod otlp;
mod span;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use hyper::header::{HeaderName, HeaderValue};
use kerbridge_wire::trace_context::{TRACEPARENT, TRACESTATE, TraceParent, TraceState};
use kerbridge_wire::{Fault, Reason, Span as TimeSpan, TraceContext};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{KeyPlace, ListenerName};
use crate::exchange::{Caller, ClientProof};
use crate::keyring::random;
use crate::metrics::TraceMetrics;
use crate::time::Clock;

pub(crate) use self::export::try_out;
pub use self::export::{Exporter, Exporting};
use self::span::{Kind, Span, Value};

/// Requests whose spans may wait.
const MOST_WAITING: usize = 1024;
/// Spans of one request, beyond which none is recorded. The longest way has about ten steps.
const MOST_STEPS: usize = 32;

/// Where spans go, and what they may say.
#[derive(Clone)]
pub struct TracingRules {
    /// What takes OTLP over HTTP, with the whole path.
    pub endpoint: KeyPlace,
    /// Header lines that it wants, such as a token of its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one export may take.
    pub timeout: TimeSpan,
    /// `service.name`
    pub service_name: String,
    /// Whether spans name the principal.
    pub principals: bool,
    /// How many in a thousand of the requests that come without a trace begin one.
    pub per_mille: u16,
}

impl fmt::Debug for TracingRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("TracingRules")
            .field("endpoint", &self.endpoint.to_string())
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("service_name", &self.service_name)
            .field("principals", &self.principals)
            .field("per_mille", &self.per_mille)
            .finish()
    }
}

/// Records requests, or nothing where there is no `[tracing]`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Vec<Span>>,
    metrics: TraceMetrics,
    principals: bool,
    per_mille: u16,
    clock: Clock,
}

/// Something that takes its time within a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// GSSAPI reads a ticket.
    Accept,
    /// The store notes that a ticket was used.
    FirstUse,
    /// The directory, or what was kept of it, says who is in which group.
    Groups,
    /// A token that was shown is verified.
    Verify,
    /// A token is signed.
    Sign,
    /// The KDC, or what was kept of it, says who somebody is.
    Resolve,
    /// The KDC, or what was kept of it, gives a ticket in a user's name.
    Ticket,
    /// The event of what is given is written.
    Audit,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept ticket",
            Self::FirstUse => "note first use",
            Self::Groups => "look up groups",
            Self::Verify => "verify token",
            Self::Sign => "sign token",
            Self::Resolve => "resolve user",
            Self::Ticket => "get ticket",
            Self::Audit => "write event",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::FirstUse | Self::Groups | Self::Resolve | Self::Ticket => Kind::Client,
            Self::Accept | Self::Verify | Self::Sign | Self::Audit => Kind::Internal,
        }
    }
}

/// What is traded for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A ticket, or what could not be read, for a token.
    TicketToToken,
    /// A token for another.
    TokenToToken,
    /// A token for a ticket.
    TokenToTicket,
}

impl Direction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TicketToToken => "ticket_to_token",
            Self::TokenToToken => "token_to_token",
            Self::TokenToTicket => "token_to_ticket",
        }
    }
}

/// What is recorded of one request, beside its task.
struct Recording {
    trace: [u8; 16],
    root: [u8; 8],
    caller: Option<[u8; 8]>,
    state: Option<TraceState>,
    /// Both are the same moment.
    began: Instant,
    at: u64,
    principals: bool,
    /// The innermost span that is open.
    open: Cell<[u8; 8]>,
    spans: Cell<Vec<Span>>,
    attributes: Cell<Vec<(&'static str, Value)>>,
}

tokio::task_local! {
    static CURRENT: Recording;
}

impl Tracer {
    /// What records as these rules say, and what hands on what it records.
    pub fn start(rules: TracingRules, metrics: TraceMetrics, clock: Clock) -> (Self, Exporter) {
        let (queue, taken) = mpsc::channel(MOST_WAITING);
        let inner = Inner {
            queue,
            metrics: metrics.clone(),
            principals: rules.principals,
            per_mille: rules.per_mille,
            clock,
        };
        (Self(Some(Arc::new(inner))), Exporter::new(rules, taken, metrics))
    }

    /// Answers a request, and records that as a span of this name where its caller's is recorded.
    pub async fn serve(
        &self,
        route: &'static str,
        headers: &HeaderMap,
        caller: &Caller,
        answer: impl Future<Output = Response>,
    ) -> Response {
        let begun = self.0.as_ref().and_then(|inner| {
            let recording = inner.begin(context(headers, caller), Instant::now())?;
            Some((inner, recording))
        });
        let Some((inner, recording)) = begun else {
            return answer.await;
        };
        let listener = caller.listener.as_str();
        let recorded = async {
            let response = answer.await;
            let status = response.status().as_u16();
            recorded(|recording| inner.send(recording.end(route, listener, status)));
            response
        };
        CURRENT.scope(recording, recorded).await
    }
}

impl Inner {
    /// A recording, where one is wanted.
    fn begin(&self, context: Option<TraceContext>, began: Instant) -> Option<Recording> {
        let (trace, caller, state) = match context {
            Some(TraceContext { parent, .. }) if !parent.is_sampled() => return None,
            Some(TraceContext { parent, state }) => (*parent.trace(), Some(*parent.span()), state),
            None if self.per_mille == 0 => return None,
            None => {
                let trace = *random::<16>().ok()?;
                if !is_chosen(&trace, self.per_mille) {
                    return None;
                }
                (trace, None, None)
            }
        };
        let root = *random::<8>().ok()?;
        // Identifiers of zero are none.
        TraceParent::new(trace, root, true)?;
        Some(Recording {
            trace,
            root,
            caller,
            state,
            began,
            at: u64::try_from(self.clock.since_1970().as_nanos()).unwrap_or(u64::MAX),
            principals: self.principals,
            open: Cell::new(root),
            spans: Cell::default(),
            attributes: Cell::default(),
        })
    }

    fn send(&self, spans: Vec<Span>) {
        let count = spans.len();
        if self.queue.try_send(spans).is_err() {
            self.metrics.queue_full(count);
        }
    }
}

/// Whether a trace that begins here is one of so many in a thousand.
fn is_chosen(trace: &[u8; 16], per_mille: u16) -> bool {
    // The last bytes, as samplers have it who decide by the trace's own identifier.
    let (_, last) = trace.split_at(14);
    let drawn = last.iter().fold(0_u32, |drawn, byte| (drawn << 8) | u32::from(*byte));
    drawn.wrapping_mul(1000) >> 16 < u32::from(per_mille)
}

/// The trace that a request belongs to. On `public` only a client with a certificate is believed: a stranger could have everything
/// recorded.
fn context(headers: &HeaderMap, caller: &Caller) -> Option<TraceContext> {
    let is_believed = match caller.listener {
        ListenerName::Mesh => true,
        ListenerName::Public => matches!(caller.proof, ClientProof::Certificate(_)),
        ListenerName::Observe | ListenerName::Admin => false,
    };
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (parents.next().filter(|_| is_believed), parents.next()) else {
        return None;
    };
    let states: Vec<&[u8]> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
    TraceContext::parse(parent.as_bytes(), &states.join(b",".as_slice()))
}

impl Recording {
    /// Nanoseconds since 1970, by the clock that only goes forward.
    fn now(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.at.saturating_add(since)
    }

    fn note(&self, name: &'static str, value: Value) {
        let mut attributes = self.attributes.take();
        attributes.push((name, value));
        self.attributes.set(attributes);
    }

    fn add(&self, span: Span) {
        let mut spans = self.spans.take();
        if spans.len() < MOST_STEPS {
            spans.push(span);
        }
        self.spans.set(spans);
    }

    fn span(&self, id: [u8; 8], parent: Option<[u8; 8]>, name: &'static str, kind: Kind, began: u64) -> Span {
        Span {
            trace: self.trace,
            id,
            parent,
            state: self.state.clone(),
            name,
            kind,
            began,
            ended: self.now(),
            attributes: Vec::new(),
            failed: false,
        }
    }

    /// All spans of the request, its own the last.
    fn end(&self, route: &'static str, listener: &'static str, status: u16) -> Vec<Span> {
        let mut root = self.span(self.root, self.caller, route, Kind::Server, self.at);
        root.attributes = vec![
            ("http.request.method", Value::Word("POST")),
            ("http.route", Value::Word(route.trim_start_matches("POST "))),
            ("http.response.status_code", Value::Number(i64::from(status))),
            ("kerbridge.listener", Value::Word(listener)),
        ];
        root.attributes.append(&mut self.attributes.take());
        // What a client did wrong is no error of the server's.
        root.failed = status >= 500;
        let mut spans = self.spans.take();
        spans.push(root);
        spans
    }
}

/// Does this with the recording of the request that this task answers, where it has one.
fn recorded<T>(work: impl FnOnce(&Recording) -> T) -> Option<T> {
    CURRENT.try_with(work).ok()
}

/// Does a step of the request that this task answers, and records it where the request is.
pub async fn step<T, E>(
    step: Step,
    work: impl Future<Output = Result<T, E>>,
    reason: impl FnOnce(&E) -> Reason,
) -> Result<T, E> {
    let begun = recorded(|recording| {
        let id = *random::<8>().ok()?;
        Some((id, recording.open.replace(id), recording.now()))
    });
    let Some(Some((id, parent, began))) = begun else {
        return work.await;
    };
    let outcome = work.await;
    let reason = outcome.as_ref().map_or_else(reason, |_| Reason::Ok);
    recorded(|recording| {
        recording.open.set(parent);
        let mut span = recording.span(id, Some(parent), step.name(), step.kind(), began);
        span.attributes.push(("kerbridge.reason", Value::Word(reason.as_str())));
        span.failed = is_ours(reason);
        recording.add(span);
    });
    outcome
}

/// Notes how an exchange was answered, and to whom where that is wanted.
pub fn decided<'p>(direction: Direction, reason: Reason, principal: impl FnOnce() -> Option<&'p str>) {
    recorded(|recording| {
        recording.note("kerbridge.direction", Value::Word(direction.as_str()));
        recording.note("kerbridge.reason", Value::Word(reason.as_str()));
        recording.note("kerbridge.fault", Value::Word(reason.fault().as_str()));
        if let Some(principal) = principal().filter(|_| recording.principals) {
            recording.note("enduser.id", Value::Text(principal.to_owned()));
        }
    });
}

/// Notes for which audience of the policy something was given.
pub fn given(audience: &str) {
    recorded(|recording| recording.note("kerbridge.audience", Value::Text(audience.to_owned())));
}

const fn is_ours(reason: Reason) -> bool {
    matches!(reason.fault(), Fault::Us | Fault::ClientOrUs) && reason.status() >= 500
}

#[cfg(test)]
mod tests;
