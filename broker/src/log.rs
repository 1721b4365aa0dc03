//! Writes lines on a thread of its own, and decides which it drops and counts, so that a reader who stands still does not make
//! the broker stand still.
//!
//! What cannot be written is kept and tried again, in order. Whoever must know that a line was written can wait for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The name of events that say who was given what, or that it was taken back. A quarter of the queue is theirs alone: a
/// flood of refusals, which anybody can cause, drops none of them.
pub const KEPT: &str = "kept";

/// Lines that may wait. The longest are about 2 KiB: all texts of others in them are bounded.
const MOST_LINES: usize = 4096;
/// As many lines as are written at once.
const BATCH: usize = 64;
/// From one write to the next. Under load more lines come meanwhile, and to be woken for each and to write it alone costs
/// more than to make it; a line that comes alone is written at once.
const APART: Duration = Duration::from_millis(1);
/// From a write that failed to the next.
const AGAIN: Duration = Duration::from_millis(100);
/// A write that takes longer has come to somebody who stands still.
pub const LONGEST_WRITE: Duration = Duration::from_secs(1);
/// How long the last lines may take at the end.
const END_TIME: Duration = Duration::from_secs(1);

/// What lines are written to.
pub trait Sink: Send + 'static {
    /// Writes lines, each with its line feed, oldest first; says how many are written for good, and why not all.
    fn write(&mut self, lines: &[Vec<u8>]) -> (usize, io::Result<()>);

    /// Opens anew what it writes to; `None` where that is nothing that may have been put aside.
    fn reopen(&mut self) -> Option<io::Result<()>> {
        None
    }
}

/// A stream, such as standard output, which takes several lines at once.
#[derive(Debug)]
pub struct Stream<W>(pub W);

impl<W: Write + Send + 'static> Sink for Stream<W> {
    fn write(&mut self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        match self.0.write_all(&lines.concat()).and_then(|()| self.0.flush()) {
            Ok(()) => (lines.len(), Ok(())),
            Err(error) => (0, Err(error)),
        }
    }
}

/// Where lines are put, by any thread, without ever waiting for the reader.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What the lines are, for a line about them.
    what: &'static str,
    state: Mutex<State>,
    /// There is something to do. Only who finds the thread waiting says so: it is a call to the system.
    added: Condvar,
    /// All lines were written. Said only where somebody asked.
    done: Condvar,
    progress: watch::Sender<Progress>,
    lost: Counter,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// How many were taken in so far.
    accepted: u64,
    /// How many of those that are to be kept had no room.
    dropped: u64,
    thread: Thread,
    /// Somebody waits until all lines are written.
    awaited: bool,
    /// Somebody wants the sink opened anew.
    reopen: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
    /// It looks for lines, or was told that there are some.
    #[default]
    Looking,
    /// It has to be told.
    Waiting,
    /// It has taken lines out that are not yet written.
    Writing,
}

/// How far the thread has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Lines that were written so far.
    written: u64,
    /// The last write failed, and is tried again.
    failing: bool,
    /// Since when a write goes on.
    writing: Option<Instant>,
}

/// How many lines that are to be kept had been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// Waits for the last lines when it is dropped, for a second at most.
#[derive(Debug)]
pub struct LogEnd(LogQueue);

impl LogQueue {
    /// Starts the thread that writes the lines. What has no room is counted in `lost`.
    pub fn start(what: &'static str, to: impl Sink, lost: Counter) -> io::Result<(Self, LogEnd)> {
        Self::start_with(what, to, lost, MOST_LINES)
    }

    pub(crate) fn start_with(
        what: &'static str,
        to: impl Sink,
        lost: Counter,
        most: usize,
    ) -> io::Result<(Self, LogEnd)> {
        let queue = Self(Arc::new(Shared {
            what,
            state: Mutex::default(),
            added: Condvar::new(),
            done: Condvar::new(),
            progress: watch::Sender::default(),
            lost,
            most,
        }));
        let own = queue.clone();
        // It ends with the process: until then there may be another line.
        thread::Builder::new().name(what.into()).spawn(move || own.work(to))?;
        Ok((queue.clone(), LogEnd(queue)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut to: impl Sink) {
        let mut reported = 0;
        loop {
            let lines = self.next(&mut to);
            self.write_all(lines, &mut to);
            let mut state = self.state();
            state.thread = Thread::Looking;
            if state.awaited && state.lines.is_empty() {
                self.0.done.notify_all();
            }
            drop(state);
            let lost = self.0.lost.get();
            if lost != reported {
                reported = lost;
                // It is a line like any other; where it is lost too, the count grows and the next one says so.
                tracing::warn!(what = self.0.what, lost, "lines were lost: nobody reads them");
            }
            thread::sleep(APART);
        }
    }

    /// The oldest lines, which may be none after the sink was opened anew.
    fn next(&self, to: &mut impl Sink) -> Vec<Vec<u8>> {
        let mut state = self.state();
        while state.lines.is_empty() && !state.reopen {
            state.thread = Thread::Waiting;
            state = self.0.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.thread = Thread::Writing;
        let reopen = std::mem::take(&mut state.reopen);
        let count = state.lines.len().min(BATCH);
        let lines = state.lines.drain(..count).collect();
        drop(state);
        if reopen {
            self.reopen_now(to);
        }
        lines
    }

    fn reopen_now(&self, to: &mut impl Sink) {
        let what = self.0.what;
        match to.reopen() {
            None => {}
            Some(Ok(())) => tracing::info!(what, "opened anew"),
            Some(Err(error)) => tracing::error!(what, %error, "cannot be opened anew, and is written to as before"),
        }
    }

    /// Writes these lines, however long that takes.
    fn write_all(&self, mut lines: Vec<Vec<u8>>, to: &mut impl Sink) {
        let what = self.0.what;
        let mut failing = false;
        while !lines.is_empty() {
            // Nobody waits for that.
            self.0.progress.send_if_modified(|progress| {
                progress.writing = Some(Instant::now());
                false
            });
            let (written, outcome) = to.write(&lines);
            lines.drain(..written.min(lines.len()));
            let progress = |progress: &mut Progress| {
                progress.written = progress
                    .written
                    .saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
                progress.failing = outcome.is_err();
                progress.writing = None;
            };
            self.0.progress.send_modify(progress);
            let Err(error) = outcome else { continue };
            if !failing {
                failing = true;
                tracing::error!(what, %error, "cannot be written, and is tried again");
            }
            thread::sleep(AGAIN);
            if std::mem::take(&mut self.state().reopen) {
                self.reopen_now(to);
            }
        }
        if failing {
            tracing::info!(what, "written again");
        }
    }

    /// Has the sink opened anew, before the next line.
    pub fn reopen(&self) {
        let mut state = self.state();
        state.reopen = true;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if state.thread == Thread::Waiting {
            // The next one finds it told.
            state.thread = Thread::Looking;
            drop(state);
            self.0.added.notify_one();
        }
    }

    /// Whether the last write failed, or one takes longer than any should: a full pipe or socket gives no error.
    pub fn is_failing(&self) -> bool {
        let progress = *self.0.progress.borrow();
        progress.failing || progress.writing.is_some_and(|since| since.elapsed() > LONGEST_WRITE)
    }

    /// To be taken before a line is put in that must not be lost, for [`LogQueue::is_written`].
    pub fn mark(&self) -> Mark {
        Mark(self.state().dropped)
    }

    /// Whether all lines were written that are in by now, until then at the latest, and none that is to be kept was dropped
    /// since the mark was taken.
    pub async fn is_written(&self, since: Mark, until: Instant) -> bool {
        let (accepted, dropped) = {
            let state = self.state();
            (state.accepted, state.dropped)
        };
        if dropped != since.0 {
            return false;
        }
        let mut progress = self.0.progress.subscribe();
        let written = progress.wait_for(|progress| progress.written >= accepted);
        tokio::time::timeout_at(until, written)
            .await
            .is_ok_and(|written| written.is_ok())
    }

    /// The way of one line into the queue; where it has no room, `lost` counts it.
    pub(crate) fn line<'a>(&'a self, event: &Metadata<'_>, lost: &'a Counter) -> LogLine<'a> {
        self.line_of(event.name() == KEPT, lost)
    }

    fn line_of<'a>(&'a self, kept: bool, lost: &'a Counter) -> LogLine<'a> {
        let most = self.0.most;
        LogLine {
            queue: self,
            lost,
            room: if kept { most } else { most.saturating_sub(most / 4) },
            kept,
        }
    }

    /// Whether all lines were written within this time.
    fn written(&self, within: Duration) -> bool {
        let busy = |state: &mut State| state.thread == Thread::Writing || !state.lines.is_empty();
        let mut state = self.state();
        state.awaited = true;
        let waited = self.0.done.wait_timeout_while(state, within, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The way of one line into the queue.
#[derive(Debug)]
pub struct LogLine<'a> {
    queue: &'a LogQueue,
    lost: &'a Counter,
    /// It is dropped where so many wait.
    room: usize,
    kept: bool,
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        self.line_of(false, &self.0.lost)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LogLine<'a> {
        self.line(event, &self.0.lost)
    }
}

/// Each call is one whole line.
impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_of_ours = line.to_vec();
        let mut state = self.queue.state();
        if state.lines.len() >= self.room {
            state.dropped = state.dropped.saturating_add(self.kept.into());
            self.lost.inc();
            return Ok(line.len());
        }
        state.lines.push_back(line_of_ours);
        state.accepted = state.accepted.saturating_add(1);
        self.queue.wake(state);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        self.0.written(END_TIME);
    }
}

#[cfg(test)]
mod tests;
