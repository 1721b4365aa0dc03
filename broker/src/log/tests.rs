use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::server::tests::log::Log;

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

fn put(queue: &LogQueue, line: &[u8]) {
    queue.make_writer().write_all(line).unwrap();
}

#[test]
fn a_reader_who_stands_still_costs_lines_and_no_time() {
    let (go, told) = channel();
    let (took, taken) = channel();
    let lost = Counter::default();
    let reader = Stream(Reader { go: told, took });
    let (queue, _end) = LogQueue::start_with("log", reader, lost.clone(), 2).unwrap();
    put(&queue, b"0");
    while queue.state().thread != Thread::Writing {
        thread::yield_now();
    }
    // One is being written, two have room.
    for line in [b"1", b"2", b"3", b"4"] {
        put(&queue, line);
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
fn a_reader_who_stands_still_is_a_failure_until_he_reads_on() {
    let (go, told) = channel();
    let (took, _taken) = channel();
    let reader = Stream(Reader { go: told, took });
    let (queue, _end) = LogQueue::start("log", reader, Counter::default()).unwrap();
    put(&queue, b"0");
    let patience = soon();
    while !queue.is_failing() && Instant::now() < patience {
        thread::yield_now();
    }
    assert!(queue.is_failing());
    go.send(()).unwrap();
    assert!(queue.written(Duration::from_secs(10)));
    assert!(!queue.is_failing());
}

#[test]
fn only_what_was_opened_anew_is_said_to_be() {
    let (queue, _end) = LogQueue::start("log", Stream(io::sink()), Counter::default()).unwrap();
    let (log, _own) = Log::of_this_thread();
    queue.reopen_now(&mut Stream(io::sink()));
    assert!(log.take().is_empty());
    let (_room, told) = channel();
    let (took, _taken) = channel();
    queue.reopen_now(&mut Failing { room: told, took });
    assert_eq!(log.take()[0]["message"], "opened anew");
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let (go, told) = channel();
    let (took, taken) = channel();
    let reader = Stream(Reader { go: told, took });
    let (queue, end) = LogQueue::start_with("log", reader, Counter::default(), 10).unwrap();
    put(&queue, b"stopped");
    let reader = thread::spawn(move || go.send(()).map(|()| go));
    drop(end);
    assert_eq!(taken.try_recv().unwrap(), b"stopped");
    drop(reader.join());
}

/// Takes as many lines as it is told to and fails with the next; shows what it took.
struct Failing {
    room: Receiver<usize>,
    took: Sender<Vec<u8>>,
}

impl Sink for Failing {
    fn write(&mut self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        let room = self.room.recv().unwrap_or(usize::MAX).min(lines.len());
        for line in lines.iter().take(room) {
            drop(self.took.send(line.clone()));
        }
        if room == lines.len() {
            (room, Ok(()))
        } else {
            (room, Err(io::Error::from(io::ErrorKind::StorageFull)))
        }
    }

    fn reopen(&mut self) -> Option<io::Result<()>> {
        drop(self.took.send(b"reopened".to_vec()));
        Some(Ok(()))
    }
}

fn in_milliseconds(count: u64) -> Instant {
    Instant::now().checked_add(Duration::from_millis(count)).unwrap()
}

fn soon() -> Instant {
    in_milliseconds(10_000)
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_again_in_order_and_who_waits_for_it_hears_when_it_is() {
    let (room, told) = channel();
    let (took, taken) = channel();
    let (queue, _end) = LogQueue::start_with("log", Failing { room: told, took }, Counter::default(), 10).unwrap();
    let mark = queue.mark();
    put(&queue, b"0");
    put(&queue, b"1");
    room.send(0).unwrap();
    let shortly = in_milliseconds(50);
    assert!(!queue.is_written(mark, shortly).await);
    assert!(queue.is_failing());
    for room_for in [1, 9, 9] {
        room.send(room_for).unwrap();
    }
    assert!(queue.is_written(mark, soon()).await);
    assert!(!queue.is_failing());
    assert_eq!([taken.recv().unwrap(), taken.recv().unwrap()], [b"0", b"1"]);
    // Between lines it is opened anew at once.
    queue.reopen();
    assert_eq!(taken.recv().unwrap(), b"reopened");
}

#[tokio::test]
async fn a_line_without_room_is_not_taken_for_written() {
    let (room, told) = channel();
    let (took, _taken) = channel();
    let lost = Counter::default();
    let (queue, _end) = LogQueue::start_with("log", Failing { room: told, took }, Counter::default(), 1).unwrap();
    put(&queue, b"0");
    while queue.state().thread != Thread::Writing {
        thread::yield_now();
    }
    let mark = queue.mark();
    let mut kept = LogLine {
        queue: &queue,
        lost: &lost,
        room: 1,
        kept: true,
    };
    kept.write_all(b"1").unwrap();
    kept.write_all(b"2").unwrap();
    assert_eq!(lost.get(), 1);
    drop(room);
    assert!(!queue.is_written(mark, soon()).await);
    assert!(queue.is_written(queue.mark(), soon()).await);
}
