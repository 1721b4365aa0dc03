//! Hands spans on to a collector (OTLP over HTTP), a few hundred at a time, and forgets those that it does not take.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::span::Span;
use super::{TracingRules, otlp};
use crate::metrics::TraceMetrics;
use crate::outgoing::{Missed, post};

/// As many spans as go at once, or a few more: those of a request stay together.
const BATCH: usize = 512;
/// How long spans wait for more of them.
const APART: Duration = Duration::from_secs(1);
/// How often spans are tried that could not be handed on for now.
const TRIES: u32 = 3;
/// Between two of these.
const AGAIN: Duration = Duration::from_secs(1);
/// Largest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;

/// What hands spans on. It runs beside the requests.
#[derive(Debug)]
pub struct Exporter {
    rules: TracingRules,
    queue: mpsc::Receiver<Vec<Span>>,
    metrics: TraceMetrics,
    complaint: Option<String>,
}

/// An exporter that runs.
#[derive(Debug)]
pub struct Exporting {
    end: Arc<Notify>,
    task: JoinHandle<()>,
    within: Duration,
}

/// Why an export came to nothing, and whether it may be tried again (OTLP, "Failures").
struct Failure {
    problem: String,
    for_now: bool,
}

impl Exporter {
    pub(super) const fn new(rules: TracingRules, queue: mpsc::Receiver<Vec<Span>>, metrics: TraceMetrics) -> Self {
        Self {
            rules,
            queue,
            metrics,
            complaint: None,
        }
    }

    /// Begins, on this runtime.
    pub fn run(self) -> Exporting {
        let end = Arc::new(Notify::new());
        let within = timeout_of(&self.rules);
        let task = tokio::spawn(self.work(Arc::clone(&end)));
        Exporting { end, task, within }
    }

    async fn work(mut self, end: Arc<Notify>) {
        let ended = end.notified();
        tokio::pin!(ended);
        let mut ends = false;
        loop {
            let first = tokio::select! {
                first = self.queue.recv() => first,
                () = &mut ended, if !ends => {
                    // What waits is handed on, and nothing more is taken.
                    ends = true;
                    self.queue.close();
                    continue;
                }
            };
            let Some(mut batch) = first else { return };
            let until = Instant::now().checked_add(APART).filter(|_| !ends);
            while batch.len() < BATCH {
                let next = match until {
                    Some(until) => tokio::select! {
                        next = timeout_at(until, self.queue.recv()) => next.ok().flatten(),
                        () = &mut ended, if !ends => {
                            ends = true;
                            self.queue.close();
                            self.queue.try_recv().ok()
                        }
                    },
                    None => self.queue.try_recv().ok(),
                };
                let Some(more) = next else { break };
                batch.extend(more);
            }
            self.hand_on(&batch, ends).await;
        }
    }

    async fn hand_on(&mut self, batch: &[Span], ends: bool) {
        // Texts and numbers can always be written.
        let Ok(body) = otlp::body(&self.rules.service_name, batch) else {
            self.metrics.not_taken(batch.len());
            return;
        };
        let tries = if ends { 1 } else { TRIES };
        let mut complaint = None;
        for tried in 1..=tries {
            match self.send(&body).await {
                Ok(answer) => {
                    let refused = otlp::refused(&answer);
                    let count = refused
                        .as_ref()
                        .map_or(0, |(count, _)| usize::try_from(*count).unwrap_or(usize::MAX));
                    let count = count.min(batch.len());
                    self.metrics.not_taken(count);
                    self.metrics.taken(batch.len().saturating_sub(count));
                    complaint = refused.map(|(count, why)| format!("{count} spans were refused: {}", start_of(&why)));
                    break;
                }
                Err(Failure { problem, for_now }) => {
                    complaint = Some(problem);
                    if !for_now || tried == tries {
                        self.metrics.not_taken(batch.len());
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        self.tell(complaint);
    }

    async fn send(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        send(&self.rules, body).await
    }

    /// Says once what has changed since the complaint before.
    fn tell(&mut self, complaint: Option<String>) {
        if complaint != self.complaint {
            let endpoint = self.rules.endpoint.to_string();
            match &complaint {
                Some(problem) => tracing::warn!(endpoint, problem, "spans are lost: the collector does not take them"),
                None => tracing::info!(endpoint, "the collector takes spans"),
            }
        }
        self.complaint = complaint;
    }
}

impl Exporting {
    /// Hands on what waits, for as long as one export may take.
    pub async fn finish(self) {
        let Self { end, task, within } = self;
        end.notify_one();
        let stop = task.abort_handle();
        if tokio::time::timeout(within, task).await.is_err() {
            stop.abort();
            tracing::warn!("the last spans are lost: the collector did not take them in time");
        }
    }
}

/// Posts the body of an export; what was answered.
async fn send(rules: &TracingRules, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let TracingRules { endpoint, headers, .. } = rules;
    match post(endpoint, headers, body.to_vec(), timeout_of(rules), LARGEST).await {
        Ok((status, answer)) if status.is_success() => Ok(answer),
        Ok((status, _)) => Err(Failure {
            problem: format!("the answer is {status}"),
            for_now: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
        }),
        Err(missed) => Err(Failure {
            for_now: matches!(missed, Missed::Io(_) | Missed::Http(_) | Missed::Late),
            problem: missed.to_string(),
        }),
    }
}

/// Hands on no spans at all, to see whether some would be taken.
pub(crate) async fn try_out(rules: &TracingRules) -> Result<(), String> {
    let body = otlp::body(&rules.service_name, &[]).map_err(|error| error.to_string())?;
    send(rules, &body).await.map(drop).map_err(|failure| failure.problem)
}

fn timeout_of(rules: &TracingRules) -> Duration {
    Duration::from_secs(rules.timeout.seconds().into())
}

/// As much of a stranger's text as a log line has room for.
fn start_of(text: &str) -> &str {
    let end = text.char_indices().nth(200).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
