//! Keeps, for a client's connection, the handle with which the second leg of its handshake goes to the broker.
//!
//! SPNEGO with two legs authenticates by connection (RFC 4559 §6): the second leg is told from others' only by the connection
//! that it comes on. A connection stays on its worker, so that each worker's own table is enough.

use std::collections::HashMap;

use crate::secret::Secret;
use crate::time::UnixTime;

/// Connections for which a handle may be kept at once, in one worker.
pub const MOST: usize = 1000;
/// Seconds that the broker waits for the second leg.
pub const LIFE: u64 = 10;

/// A connection that has one request at a time: HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

/// The handles that are kept. Where there is no room the second leg is lost, and no other is pushed out for it.
#[derive(Debug, Default)]
pub struct Continuations(HashMap<ConnectionId, Kept>);

#[derive(Debug)]
struct Kept {
    handle: Secret,
    until: UnixTime,
}

impl ConnectionId {
    /// From Envoy's attributes `connection.id` (eight bytes, least first) and `request.protocol`. `None` for HTTP/2 and 3, where
    /// proxies and browsers send the requests of several handshakes over one connection.
    pub fn read(id: &[u8], protocol: &[u8]) -> Option<Self> {
        let id = u64::from_le_bytes(id.try_into().ok()?);
        (protocol == b"HTTP/1.1").then_some(Self(id))
    }
}

impl Continuations {
    /// Keeps the handle of a connection's handshake, in place of an earlier one's.
    pub fn keep(&mut self, now: UnixTime, connection: ConnectionId, handle: Secret) {
        self.forget_the_old(now);
        let has_room = self.0.len() < MOST || self.0.contains_key(&connection);
        if has_room {
            let until = now.plus(LIFE);
            self.0.insert(connection, Kept { handle, until });
        }
    }

    /// The handle of a connection's handshake, which is then forgotten.
    pub fn take(&mut self, now: UnixTime, connection: ConnectionId) -> Option<Secret> {
        self.forget_the_old(now);
        self.0.remove(&connection).map(|kept| kept.handle)
    }

    fn forget_the_old(&mut self, now: UnixTime) {
        self.0.retain(|_, kept| now < kept.until);
    }
}

/// Whether a Negotiate credential (base64) is a later leg: SPNEGO's `NegTokenResp` begins with a1 (RFC 4178 §4.2).
pub(crate) fn is_later_leg(credential: &[u8]) -> bool {
    // In base64: `o` has the first six bits of a1, the last two are the first of the next character.
    matches!(credential, [b'o', b'Q'..=b'Z' | b'a'..=b'f', ..])
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds).unwrap()
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::read(&number.to_le_bytes(), b"HTTP/1.1").unwrap()
    }

    fn handle(number: u64) -> Secret {
        Secret::new(number.to_string().into_bytes())
    }

    #[test]
    fn a_handle_is_for_its_connection_and_once() {
        let mut kept = Continuations::default();
        kept.keep(at(100), connection(1), handle(1));
        kept.keep(at(100), connection(2), handle(2));
        assert_eq!(kept.take(at(101), connection(3)), None);
        assert_eq!(kept.take(at(101), connection(1)), Some(handle(1)));
        assert_eq!(kept.take(at(101), connection(1)), None);
        // A client that begins anew has the handshake that it began last.
        kept.keep(at(102), connection(2), handle(3));
        assert_eq!(kept.take(at(102), connection(2)), Some(handle(3)));
    }

    #[test]
    fn a_handle_is_forgotten_after_ten_seconds() {
        let mut kept = Continuations::default();
        kept.keep(at(100), connection(1), handle(1));
        kept.keep(at(100), connection(2), handle(2));
        assert_eq!(kept.take(at(109), connection(1)), Some(handle(1)));
        assert_eq!(kept.take(at(110), connection(2)), None);
        assert!(kept.0.is_empty());
    }

    #[test]
    fn there_are_never_more_than_a_thousand_and_none_is_pushed_out() {
        let mut kept = Continuations::default();
        for number in 0..2000 {
            kept.keep(at(100), connection(number), handle(number));
        }
        assert_eq!(kept.0.len(), MOST);
        assert_eq!(kept.take(at(100), connection(0)), Some(handle(0)));
        assert_eq!(kept.take(at(100), connection(1000)), None);
        kept.keep(at(100), connection(1), handle(5));
        assert_eq!(kept.take(at(100), connection(1)), Some(handle(5)));
        kept.keep(at(110), connection(1), handle(1));
        assert_eq!(kept.0.len(), 1);
    }

    #[test]
    fn only_a_connection_of_http_1_1_is_one_clients() {
        let id = 7_u64.to_le_bytes();
        for protocol in ["HTTP/2", "HTTP/3", "HTTP/1.0", ""] {
            assert_eq!(ConnectionId::read(&id, protocol.as_bytes()), None, "{protocol}");
        }
        assert_eq!(ConnectionId::read(b"", b"HTTP/1.1"), None);
        assert_eq!(ConnectionId::read(&[0; 9], b"HTTP/1.1"), None);
        assert_ne!(connection(1), connection(1 << 32));
    }

    #[test]
    fn a_later_leg_is_told_by_its_first_byte() {
        for first in 0..=u8::MAX {
            for next in [0, 0x3f, 0x81, 0xff] {
                let text = STANDARD.encode([first, next, 5]);
                assert_eq!(is_later_leg(text.as_bytes()), first == 0xa1, "{text}");
            }
        }
        assert!(!is_later_leg(b"o") && !is_later_leg(b""));
    }
}
