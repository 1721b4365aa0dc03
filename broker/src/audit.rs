//! Brings audit events to where the configuration wants them, whatever the log's level is, and decides what becomes of an
//! exchange whose event cannot be written.
//!
//! An audit event is a `tracing` event of the target [`TARGET`]. Its fields are those of docs/audit.md, and no others.

mod file;
mod syslog;

use std::fmt;
use std::io;

use kerbridge_wire::Reason;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{self as shape, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;

pub use file::FileRules;
pub use syslog::{Facility, SyslogForm, SyslogRules};

use self::file::AuditFile;
use self::syslog::Syslog;
use crate::log::{LogEnd, LogLine, LogQueue, Mark, Stream};
use crate::metrics::Metrics;
use crate::problem::Problem;

/// The target of every audit event, and of nothing else.
pub const TARGET: &str = "kerbridge::audit";

/// Where audit events go, and how much they matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRules {
    /// Where to.
    pub to: AuditTo,
    /// Nothing is given whose event is not written.
    pub refuse: bool,
}

/// Where audit events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditTo {
    /// To standard output, among the lines of the log.
    #[default]
    Stdout,
    /// To a file of their own.
    File(FileRules),
    /// To the system's log.
    Syslog(SyslogRules),
}

/// Where lines go: the log's, and those of the audit. Each is written to its end when this is dropped.
#[derive(Debug)]
pub struct Lines {
    log: LogQueue,
    audit: LogQueue,
    lost: Counter,
    refuse: bool,
    _ends: Vec<LogEnd>,
}

/// What exchanges ask of the audit.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Absent where nobody waits for events.
    awaited: Option<LogQueue>,
}

/// The event of a decision could not be written, and the configuration wants none without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

impl NotWritten {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        Reason::Internal
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the audit event could not be written, and audit.on_failure is refuse")
    }
}

impl std::error::Error for NotWritten {}

impl Lines {
    /// Opens what audit events go to, and starts the threads that write.
    pub fn start(rules: &AuditRules, metrics: &Metrics) -> Result<Self, Problem> {
        Self::start_with(rules, metrics, io::stdout())
    }

    fn start_with(
        rules: &AuditRules,
        metrics: &Metrics,
        stream: impl io::Write + Send + 'static,
    ) -> Result<Self, Problem> {
        let no_thread = |error: io::Error| Problem {
            field: "audit".into(),
            problem: format!("no thread could be started: {error}"),
            remedy: "raise the limit of threads (LimitNPROC=, ulimit -u)".into(),
        };
        let lost = metrics.audit_events_lost();
        let (log, end) = LogQueue::start("log", Stream(stream), metrics.log_lines_lost()).map_err(no_thread)?;
        let mut ends = vec![end];
        let audit = match &rules.to {
            AuditTo::Stdout => None,
            AuditTo::File(rules) => Some(LogQueue::start("audit", AuditFile::open(rules)?, lost.clone())),
            AuditTo::Syslog(rules) => Some(LogQueue::start("audit", Syslog::connect(rules)?, lost.clone())),
        };
        let audit = match audit.transpose().map_err(no_thread)? {
            None => log.clone(),
            Some((audit, end)) => {
                ends.push(end);
                audit
            }
        };
        Ok(Self {
            log,
            audit,
            lost,
            refuse: rules.refuse,
            _ends: ends,
        })
    }

    /// Those of a command that changes something while no broker runs: audit events go where the broker's go, or to standard
    /// error where that is its standard output; what else there is to say goes to standard error.
    pub fn of_command(rules: &AuditRules) -> Result<Self, Problem> {
        Self::start_with(rules, &Metrics::new(), io::stderr())
    }

    /// What exchanges ask.
    pub fn audit(&self) -> Audit {
        Audit {
            awaited: self.refuse.then(|| self.audit.clone()),
        }
    }

    /// The queue of audit events, to have what they go to opened anew.
    pub fn queue(&self) -> LogQueue {
        self.audit.clone()
    }

    /// What brings events there: audit events always, others down to this level.
    pub fn subscriber(&self, level: LevelFilter) -> impl Subscriber + Send + Sync + use<> {
        let audit = AuditWriter {
            queue: self.audit.clone(),
            lost: self.lost.clone(),
        };
        subscriber(level, self.log.clone(), audit)
    }
}

/// Brings events to these two.
pub(crate) fn subscriber<L, A>(level: LevelFilter, log: L, audit: A) -> impl Subscriber + Send + Sync + use<L, A>
where
    L: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    A: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_audit = |event: &Metadata<'_>| event.target() == TARGET;
    let log =
        shape::layer().json().flatten_event(true).with_writer(log).with_filter(
            filter_fn(move |event| !is_audit(event) && *event.level() <= level).with_max_level_hint(level),
        );
    let audit = shape::layer()
        .json()
        .flatten_event(true)
        .with_writer(audit)
        .with_filter(filter_fn(is_audit).with_max_level_hint(LevelFilter::INFO));
    tracing_subscriber::registry().with(log).with(audit)
}

/// The way of audit events into their queue, with a count of their own.
#[derive(Debug)]
struct AuditWriter {
    queue: LogQueue,
    lost: Counter,
}

impl<'a> MakeWriter<'a> for AuditWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        self.queue.make_writer()
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LogLine<'a> {
        self.queue.line(event, &self.lost)
    }
}

impl Audit {
    /// Whether something may be given now: events of before could be written.
    pub fn ready(&self) -> Result<(), NotWritten> {
        match &self.awaited {
            Some(queue) if queue.is_failing() => Err(NotWritten),
            Some(_) | None => Ok(()),
        }
    }

    /// To be taken before the event is made.
    pub fn mark(&self) -> Option<Mark> {
        self.awaited.as_ref().map(LogQueue::mark)
    }

    /// Waits until the event is written that was made since the mark, where somebody wants that.
    pub async fn written(&self, since: Option<Mark>, until: Instant) -> Result<(), NotWritten> {
        match (&self.awaited, since) {
            (Some(queue), Some(mark)) if !queue.is_written(mark, until).await => Err(NotWritten),
            (Some(_) | None, _) => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn awaiting(queue: LogQueue) -> Self {
        Self { awaited: Some(queue) }
    }
}

#[cfg(test)]
mod tests;
