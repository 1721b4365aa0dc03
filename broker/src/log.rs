//! Writes log lines on a thread of its own, and decides which it drops and counts, so that a reader who stands still does
//! not make the broker stand still.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
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
/// How long the last lines may take at the end.
const END_TIME: Duration = Duration::from_secs(1);

/// Where lines are put, by any thread, without ever waiting for the reader.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is a line to be written. Only who finds the thread waiting says so: it is a call to the system.
    added: Condvar,
    /// All lines were written. Said only where somebody asked.
    done: Condvar,
    lost: Counter,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    thread: Thread,
    /// Somebody waits until all lines are written.
    awaited: bool,
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

/// Waits for the last lines when it is dropped, for a second at most.
#[derive(Debug)]
pub struct LogEnd(LogQueue);

impl LogQueue {
    /// Starts the thread that writes the lines. What has no room is counted in `lost`.
    pub fn start(to: impl Write + Send + 'static, lost: Counter) -> io::Result<(Self, LogEnd)> {
        Self::start_with(to, lost, MOST_LINES)
    }

    pub(crate) fn start_with(
        to: impl Write + Send + 'static,
        lost: Counter,
        most: usize,
    ) -> io::Result<(Self, LogEnd)> {
        let queue = Self(Arc::new(Shared {
            state: Mutex::default(),
            added: Condvar::new(),
            done: Condvar::new(),
            lost,
            most,
        }));
        let own = queue.clone();
        // It ends with the process: until then there may be another line.
        thread::Builder::new().name("log".into()).spawn(move || own.work(to))?;
        Ok((queue.clone(), LogEnd(queue)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut to: impl Write) {
        let mut reported = 0;
        loop {
            let lines = self.next();
            // A reader that is gone is nobody to tell.
            drop(to.write_all(&lines).and_then(|()| to.flush()));
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
                tracing::warn!(lost, "log lines were lost: nobody reads them");
            }
            thread::sleep(APART);
        }
    }

    /// The oldest lines, one behind the other.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        while state.lines.is_empty() {
            state.thread = Thread::Waiting;
            state = self.0.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.thread = Thread::Writing;
        let count = state.lines.len().min(BATCH);
        let mut lines = Vec::new();
        for line in state.lines.drain(..count) {
            lines.extend_from_slice(&line);
        }
        lines
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
    /// It is dropped where so many wait.
    room: usize,
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        let most = self.0.most;
        LogLine {
            queue: self,
            room: most.saturating_sub(most / 4),
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LogLine<'a> {
        if event.name() == KEPT {
            LogLine {
                queue: self,
                room: self.0.most,
            }
        } else {
            self.make_writer()
        }
    }
}

/// Each call is one whole line.
impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_of_ours = line.to_vec();
        let mut state = self.queue.state();
        if state.lines.len() >= self.room {
            self.queue.0.lost.inc();
            return Ok(line.len());
        }
        state.lines.push_back(line_of_ours);
        if state.thread == Thread::Waiting {
            // The next line finds it told.
            state.thread = Thread::Looking;
            drop(state);
            self.queue.0.added.notify_one();
        }
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
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes a line only when told to, and shows what it took.
    struct Reader {
        go: Receiver<()>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            self.took.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_stands_still_costs_lines_and_no_time() {
        let (go, told) = channel();
        let (took, taken) = channel();
        let lost = Counter::default();
        let (queue, _end) = LogQueue::start_with(Reader { go: told, took }, lost.clone(), 2).unwrap();
        queue.make_writer().write_all(b"0").unwrap();
        while queue.state().thread != Thread::Writing {
            thread::yield_now();
        }
        // One is being written, two have room.
        for line in [b"1", b"2", b"3", b"4"] {
            queue.make_writer().write_all(line).unwrap();
        }
        assert_eq!(lost.get(), 2);
        assert!(!queue.written(Duration::from_millis(20)));
        // What waited is written at once.
        for lines in [b"0".as_slice(), b"12"] {
            go.send(()).unwrap();
            assert_eq!(taken.recv().unwrap(), lines);
        }
        assert!(queue.written(Duration::from_secs(10)));
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (go, told) = channel();
        let (took, taken) = channel();
        let (queue, end) = LogQueue::start_with(Reader { go: told, took }, Counter::default(), 10).unwrap();
        queue.make_writer().write_all(b"stopped").unwrap();
        let reader = thread::spawn(move || go.send(()).map(|()| go));
        drop(end);
        assert_eq!(taken.try_recv().unwrap(), b"stopped");
        drop(reader.join());
    }
}
