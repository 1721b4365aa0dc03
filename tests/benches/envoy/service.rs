//! Is what the measured Envoy asks: a minimal native responder for ext_authz that looks revocations up, and the feed of
//! the same revocations.
//!
//! It runs in the benchmark's own process, on the load's core: a thread for each connection, and for a request nothing but
//! its head and the look-up.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::signer::Signer;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_wire::exchange::FEED_PATH;
use kerbridge_wire::feed::RevocationKey;

use crate::bootstrap::LOOKED_UP;
use crate::feed::Feed;

/// How many revocations there are.
pub(crate) const REVOCATIONS: usize = 1_000_000;
/// The longest line of a request's head that is read.
const LINE: u64 = 16 * 1024;

/// A running service; it ends with the process.
pub(crate) struct Service {
    port: u16,
}

/// What all connections share.
struct Revocations {
    table: HashSet<RevocationKey>,
    feed: Feed,
}

impl Service {
    /// Starts it. The one revoked token that is ever shown has this `jti`; nobody has the others.
    pub(crate) fn start(signer: Arc<Signer>, revoked: &str) -> Result<Self, HarnessError> {
        let failed = |source| HarnessError::io("start the responder", source);
        let others = (1..REVOCATIONS).map(|number| RevocationKey::token(ISSUER, &format!("revoked-{number}")));
        let keys: Vec<RevocationKey> = others.chain([RevocationKey::token(ISSUER, revoked)]).collect();
        let revocations = Arc::new(Revocations {
            feed: Feed::new(signer, &keys),
            table: keys.into_iter().collect(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let revocations = Arc::clone(&revocations);
                std::thread::spawn(move || {
                    // A connection that breaks is Envoy's end of it.
                    serve(connection, &revocations).unwrap_or(());
                });
            }
        });
        Ok(Self { port })
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Answers requests until the connection ends.
fn serve(connection: TcpStream, revocations: &Revocations) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut answers = connection.try_clone()?;
    let mut requests = BufReader::new(connection);
    let mut line = String::new();
    loop {
        if read_line(&mut requests, &mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default();
        let page = target.starts_with(FEED_PATH).then(|| revocations.feed.answer(target));
        let mut revoked = false;
        let mut shown = 0_usize;
        while read_line(&mut requests, &mut line)? > 2 {
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            let key = match LOOKED_UP.iter().find(|(header, _)| *header == name) {
                Some((_, "jti")) => RevocationKey::token(ISSUER, value),
                Some((_, "sid")) => RevocationKey::session(ISSUER, value),
                Some((_, "sub")) => RevocationKey::subject(ISSUER, value),
                Some(_) | None => continue,
            };
            revoked |= revocations.table.contains(&key);
            shown = shown.saturating_add(1);
        }
        let (status, body) = match page {
            Some(Ok(page)) => ("200 OK", page),
            Some(Err(_)) => ("500 Internal Server Error", Vec::new()),
            // Whoever shows fewer than all three was not let in by jwt_authn.
            None if revoked || shown < 3 => ("403 Forbidden", Vec::new()),
            None => ("200 OK", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        answers.write_all(&[head.as_bytes(), &body].concat())?;
    }
}

/// Reads the next line with its end; 2 bytes are the empty one, none is the end of the connection.
fn read_line(requests: &mut BufReader<TcpStream>, line: &mut String) -> std::io::Result<usize> {
    line.clear();
    requests.by_ref().take(LINE).read_line(line)
}
