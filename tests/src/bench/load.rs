//! Sends each of some requests once, over connections that are kept, and counts: what loads whoever wants a fresh ticket with
//! each request, which wrk has no end of. As wrk, it is one thread that waits for all connections at once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::wrk::{Counted, Latency};
use crate::error::HarnessError;
use crate::http::{Connection, HttpError};
use crate::wait::Deadline;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where whoever is loaded listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// A port of 127.0.0.1.
    Tcp(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

trait Stream: Read + Write + AsFd {}

impl<S: Read + Write + AsFd> Stream for S {}

impl Place {
    fn connect(&self) -> Result<Connection<Box<dyn Stream>>, HttpError> {
        let stream: Box<dyn Stream> = match self {
            Self::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Connection::new(stream))
    }
}

/// A connection, and since when it waits for an answer.
struct Sender {
    connection: Connection<Box<dyn Stream>>,
    since: Option<Deadline>,
}

/// Sends every request, whole ones in bytes; each connection sends its next when the last was answered.
///
/// # Errors
///
/// [`HarnessError::Http`] where one is not answered, [`HarnessError::UnexpectedAnswer`] where an answer is no 200: what refuses
/// is not measured.
pub fn send_each(place: &Place, requests: &[Vec<u8>], connections: usize) -> Result<Counted, HarnessError> {
    let connect = |_| {
        let connection = place.connect()?;
        Ok(Sender {
            connection,
            since: None,
        })
    };
    let mut senders = (0..connections)
        .map(connect)
        .collect::<Result<Vec<Sender>, _>>()
        .map_err(failed)?;
    let (mut next, mut took) = (requests.iter(), Vec::with_capacity(requests.len()));
    let clock = Deadline::after(PATIENCE);
    for sender in &mut senders {
        sender.send(next.next())?;
    }
    while took.len() < requests.len() {
        for at in answered(&mut senders)? {
            let Some(sender) = senders.get_mut(at) else { continue };
            took.push(sender.receive()?);
            sender.send(next.next())?;
        }
    }
    let all = clock.elapsed();
    took.sort_unstable();
    Ok(Counted {
        requests: took.len() as u64,
        microseconds: microseconds(all),
        latency: latency(&took),
    })
}

/// Waits for answers, and says to whom some came.
fn answered(senders: &mut [Sender]) -> Result<Vec<usize>, HarnessError> {
    let (mut indices, mut waiting) = (Vec::new(), Vec::new());
    for (at, sender) in senders.iter_mut().enumerate() {
        if sender.since.is_some() {
            indices.push(at);
            let stream: &dyn Stream = &**sender.connection.stream();
            waiting.push(PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN));
        }
    }
    let patience = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let ready =
        poll(&mut waiting, Some(&patience)).map_err(|error| HarnessError::io("wait for answers", error.into()))?;
    if ready == 0 {
        return Err(HarnessError::TimedOut {
            what: "an answer to a load".to_owned(),
            within: PATIENCE,
            log: String::new(),
        });
    }
    let answered = indices
        .into_iter()
        .zip(&waiting)
        .filter(|(_, one)| !one.revents().is_empty());
    Ok(answered.map(|(at, _)| at).collect())
}

impl Sender {
    fn send(&mut self, request: Option<&Vec<u8>>) -> Result<(), HarnessError> {
        self.since = None;
        if let Some(request) = request {
            let since = Deadline::after(PATIENCE);
            self.connection.send_raw(request).map_err(failed)?;
            self.since = Some(since);
        }
        Ok(())
    }

    /// Reads an answer of which something has come, and says how many microseconds it took.
    fn receive(&mut self) -> Result<u64, HarnessError> {
        let answer = self.connection.read_response().map_err(failed)?;
        if answer.status != 200 {
            return Err(HarnessError::UnexpectedAnswer {
                what: "a request of a load".to_owned(),
                answer: format!("{} {}", answer.status, answer.text()),
            });
        }
        Ok(self.since.map_or(0, |since| microseconds(since.elapsed())))
    }
}

fn failed(source: HttpError) -> HarnessError {
    HarnessError::Http {
        what: "a request of a load".to_owned(),
        source,
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Of times in ascending order.
fn latency(sorted: &[u64]) -> Latency {
    let at = |per_thousand: usize| {
        let index = sorted.len().saturating_mul(per_thousand) / 1000;
        let index = index.min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    };
    Latency {
        p50: at(500),
        p90: at(900),
        p99: at(990),
        p999: at(999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::upstream::{Upstream, target};

    #[test]
    fn each_request_is_sent_once_and_counted() {
        let upstream = Upstream::start().unwrap();
        let request = |number| Request::get(&format!("/{number}")).encode();
        let requests: Vec<Vec<u8>> = (0..50).map(request).collect();
        let counted = send_each(&Place::Tcp(upstream.port()), &requests, 4).unwrap();
        assert_eq!(counted.requests, 50);
        let mut seen: Vec<String> = upstream.requests().iter().map(target).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 50);
        // More connections than requests, too.
        assert_eq!(
            send_each(&Place::Tcp(upstream.port()), &requests[..2], 4)
                .unwrap()
                .requests,
            2
        );
    }

    #[test]
    fn a_load_with_one_refusal_is_no_measurement() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for status in ["200 OK", "401 Unauthorized"] {
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream
                    .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                    .unwrap();
            }
        });
        let requests = vec![Request::get("/").encode(); 3];
        let refused = send_each(&Place::Tcp(port), &requests, 1).unwrap_err().to_string();
        assert!(refused.contains("401"), "{refused}");
        server.join().unwrap();
    }

    #[test]
    fn percentiles_are_of_the_times_in_order() {
        let times: Vec<u64> = (1..=1000).collect();
        let Latency { p50, p90, p99, p999 } = latency(&times);
        assert_eq!((p50, p90, p99, p999), (501, 901, 991, 1000));
        assert_eq!(latency(&[7]).p999, 7);
    }
}
