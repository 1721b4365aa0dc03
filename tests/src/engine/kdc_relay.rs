//! Stands between a KDC and those who ask it, over TCP (RFC 4120 §7.2.2), and keeps what was said in the clear.
//!
//! By UDP nobody gets past it: its port is closed there, so that a client that tries that first is told so at once and asks over TCP.
//! A relay of datagrams could not say that the KDC is away, and clients would wait.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kerberos::{self, Message};
use crate::error::HarnessError;
use crate::wait::moment;

/// Longer than any KDC takes.
const IO: Duration = Duration::from_secs(10);
/// More than a message with a PAC of 64 KiB in its ticket.
const LARGEST: u32 = 1 << 20;

/// One question, and its answer, where there was one.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it came.
    pub at: Instant,
    /// What it was.
    pub question: Message,
    /// When the answer came, or none.
    pub answered_at: Instant,
    /// The answer.
    pub answer: Option<Message>,
}

/// A listener on loopback that passes on to the KDC.
#[derive(Debug)]
pub struct KdcRelay {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

impl KdcRelay {
    /// Listens on a free port of 127.0.0.1 for the KDC at `behind`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start(behind: SocketAddr) -> Result<Self, HarnessError> {
        let failed = |source| HarnessError::io("listen in front of the KDC", source);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let relay = Self {
            address: listener.local_addr().map_err(failed)?,
            asked: Arc::default(),
            stopped: Arc::default(),
        };
        let (asked, stopped) = (Arc::clone(&relay.asked), Arc::clone(&relay.stopped));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let asked = Arc::clone(&asked);
                // A connection that breaks off is the client's to tell of.
                std::thread::spawn(move || serve(client, behind, &asked).unwrap_or(()));
            }
        });
        Ok(relay)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything from the `from`th question on.
    #[must_use]
    pub fn asked(&self, from: usize) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(from..).unwrap_or_default().to_vec()
    }
}

impl Drop for KdcRelay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener; where that fails it has ended.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut client: TcpStream, behind: SocketAddr, asked: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    client.set_read_timeout(Some(IO))?;
    let question = frame(&mut client)?;
    let at = moment();
    let answer = ask(behind, &question).ok();
    let record = Asked {
        at,
        question: kerberos::read(&question),
        answered_at: moment(),
        answer: answer.as_deref().map(kerberos::read),
    };
    // Before the client goes on: whoever looks after that finds it.
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    match answer {
        Some(answer) => send(&mut client, &answer),
        None => Ok(()),
    }
}

fn ask(behind: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut kdc = TcpStream::connect_timeout(&behind, IO)?;
    kdc.set_read_timeout(Some(IO))?;
    send(&mut kdc, question)?;
    frame(&mut kdc)
}

/// Four bytes of length, and so many bytes.
fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0_u8; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LARGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0_u8; usize::try_from(length).unwrap_or(0)];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kdc::Kdc;

    #[test]
    fn who_asks_through_it_gets_tickets_and_what_was_asked_is_told_by_name() {
        let kdc = Kdc::start("LAB.TEST").unwrap();
        kdc.add_users(&["alice"]).unwrap();
        let text = std::fs::read_to_string(kdc.krb5_config()).unwrap();
        let place = text.lines().find_map(|line| line.strip_prefix("kdc = ")).unwrap();
        let relay = KdcRelay::start(place.parse().unwrap()).unwrap();
        let moved = text.replace(place, &relay.address().to_string());
        std::fs::write(kdc.krb5_config(), moved).unwrap();
        kdc.kinit("alice").unwrap();
        let asked = relay.asked(0);
        let last = asked.last().unwrap();
        assert_eq!(last.question.summary, "AS-REQ for krbtgt/LAB.TEST@LAB.TEST");
        let answer = last.answer.as_ref().unwrap();
        assert_eq!(
            answer.summary,
            "AS-REP: a ticket of alice@LAB.TEST for krbtgt/LAB.TEST@LAB.TEST"
        );
        assert!(kdc.kinit("stranger").is_err());
    }

    #[test]
    fn who_would_rather_ask_by_udp_asks_over_tcp_and_is_seen() {
        let kdc = Kdc::start("LAB.TEST").unwrap();
        kdc.add_users(&["alice"]).unwrap();
        let text = std::fs::read_to_string(kdc.krb5_config()).unwrap();
        let place = text.lines().find_map(|line| line.strip_prefix("kdc = ")).unwrap();
        let relay = KdcRelay::start(place.parse().unwrap()).unwrap();
        let moved = text
            .replace(place, &relay.address().to_string())
            .replace("udp_preference_limit = 1\n", "udp_preference_limit = 32700\n");
        assert!(moved.contains("32700"), "{moved}");
        std::fs::write(kdc.krb5_config(), moved).unwrap();
        kdc.kinit("alice").unwrap();
        let last = relay.asked(0).pop().unwrap();
        assert!(last.answer.unwrap().summary.starts_with("AS-REP"));
    }
}
