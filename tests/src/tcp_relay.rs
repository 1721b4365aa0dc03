//! Passes TCP on to a server, and at a word passes nothing: the network between the two is cut, and neither is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::HarnessError;
use crate::wait::POLL;

/// How soon a thread that waits for bytes looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A listener on loopback in front of a server.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

impl TcpRelay {
    /// Listens on a free port of 127.0.0.1 for the server at this port.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start(behind: u16) -> Result<Self, HarnessError> {
        let failed = |source| HarnessError::io("listen in front of a server", source);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let relay = Self {
            address: listener.local_addr().map_err(failed)?,
            state: Arc::default(),
        };
        let state = Arc::clone(&relay.state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let state = Arc::clone(&state);
                std::thread::spawn(move || drop(serve(&client, behind, &state)));
            }
        });
        Ok(relay)
    }

    /// On 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing passes, and no connection ends: whoever waits for an answer waits.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
    }

    /// Everything passes again, first what was sent meanwhile: TCP sends again what was lost.
    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a client.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    /// Waits until something may pass; false where nothing will any more.
    fn lets_pass(&self) -> bool {
        while self.is_cut.load(Ordering::SeqCst) && !self.is_over.load(Ordering::SeqCst) {
            std::thread::sleep(POLL);
        }
        !self.is_over.load(Ordering::SeqCst)
    }
}

fn serve(client: &TcpStream, behind: u16, state: &State) -> std::io::Result<()> {
    if !state.lets_pass() {
        return Ok(());
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind))?;
    for stream in [client, &server] {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| pass(client, &server, state));
        pass(&server, client, state);
    });
    Ok(())
}

/// Passes one direction on until it is over; the other side is then told so.
fn pass(mut from: &TcpStream, mut to: &TcpStream, state: &State) {
    let mut bytes = [0; 16 * 1024];
    while state.lets_pass() {
        let sent = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) if state.lets_pass() => to.write_all(bytes.get(..count).unwrap_or_default()),
            Ok(_) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            break;
        }
    }
    // One that is closed already needs no telling.
    drop(to.shutdown(Shutdown::Write));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_while_the_network_is_cut_arrives_once_it_is_mended() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = TcpRelay::start(server.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        let (mut inside, _) = server.accept().unwrap();
        inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut read = [0; 1];
        client.write_all(b"1").unwrap();
        inside.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"1");
        relay.cut();
        client.write_all(b"2").unwrap();
        assert_eq!(inside.read(&mut read).unwrap_err().kind(), ErrorKind::WouldBlock);
        relay.mend();
        inside.set_read_timeout(None).unwrap();
        inside.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"2");
        drop(client);
        assert_eq!(inside.read(&mut read).unwrap(), 0);
    }
}
