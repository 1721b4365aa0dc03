//! Lists what can go wrong between the filter and those that it asks: the table that `docs/faults.md` shows, and of which
//! `tests/tests/faults` brings about each cell, for each proof that a client may show and each protocol that it may speak.

use std::fmt;

use kerbridge_wire::Reason;

/// What the filter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// The broker: a token for a ticket, or a ticket for a token.
    Exchange,
    /// The broker: to end the sessions of a logout.
    Logout,
    /// An issuer: its keys, for a worker that has none yet.
    Keys,
    /// An issuer: its revocations, the same.
    Feed,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Envoy has no cluster of that name: the call fails before it begins.
    NoCluster,
    /// Nobody listens.
    Refused,
    /// The cluster speaks TLS, the peer does not.
    NoTls,
    /// The connection is closed before a byte.
    Closed,
    /// The answer is no HTTP.
    NoHttp,
    /// The connection is closed in the middle of the head.
    HalfAHead,
    /// The connection is closed in the middle of the body.
    HalfABody,
    /// No answer comes.
    Silent,
    /// The answer comes a byte at a time.
    Trickles,
    /// 500, with a text.
    ServerError,
    /// 503 of somebody in between, with a page for people.
    Gateway,
    /// A redirection to elsewhere.
    Redirects,
    /// 200, and more than Envoy keeps: the filter sees no header.
    NoHeaders,
    /// 200, and bytes that mean nothing.
    Garbage,
    /// 200, and an answer that breaks off.
    Truncated,
    /// 200, and an answer over the filter's limit.
    TooLarge,
    /// 200, and the right answer as another content type.
    OtherType,
    /// 200, and a token for another audience.
    OtherAudience,
    /// 200, and a token that has ended.
    Ended,
    /// 200, and a token of a key that the broker does not publish.
    UnknownSigner,
    /// 200, and a token whose signature is another's.
    Forged,
    /// 200, and what was not asked for: a ticket for a token, a token for a ticket.
    OtherKind,
    /// 200, and a page that another key signed.
    ForgedPage,
    /// 200, and a page of another issuer's.
    OtherIssuer,
    /// 200, and a page from a time before `max_staleness`.
    OldPage,
}

/// What a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// A token.
    Bearer,
    /// A token, in a cookie.
    Cookie,
    /// A ticket.
    Negotiate,
    /// A token, for a service that takes tickets only.
    Inverse,
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// A WebSocket that is to be opened, over HTTP/1.1.
    WebSocket,
}

/// One line of the table: what becomes of a request.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the filter asks for.
    pub asked: Asked,
    /// What goes wrong.
    pub fault: Fault,
    /// What the request is refused with.
    pub reason: Reason,
    /// Seconds that it may be held before that.
    pub held: u32,
    /// The proofs with which the filter asks for it.
    pub proofs: &'static [Proof],
}

/// One case: a line, a proof and a protocol.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The line.
    pub row: &'static Row,
    /// What the client shows.
    pub proof: Proof,
    /// How it speaks.
    pub protocol: Protocol,
}

const BOTH: &[Proof] = &[Proof::Negotiate, Proof::Inverse];
const TICKET: &[Proof] = &[Proof::Negotiate];
const TOKEN: &[Proof] = &[Proof::Bearer, Proof::Cookie, Proof::Inverse];
const SESSION: &[Proof] = &[Proof::Bearer, Proof::Cookie];

const fn exchange(fault: Fault, held: u32, proofs: &'static [Proof]) -> Row {
    Row {
        asked: Asked::Exchange,
        fault,
        reason: Reason::BrokerUnavailable,
        held,
        proofs,
    }
}

const fn logout(fault: Fault, held: u32) -> Row {
    Row {
        asked: Asked::Logout,
        ..exchange(fault, held, SESSION)
    }
}

const fn keys(fault: Fault) -> Row {
    Row {
        asked: Asked::Keys,
        fault,
        reason: Reason::KeysUnavailable,
        held: 0,
        proofs: TOKEN,
    }
}

const fn feed(fault: Fault) -> Row {
    Row {
        asked: Asked::Feed,
        fault,
        reason: Reason::FeedStale,
        held: 0,
        proofs: TOKEN,
    }
}

/// The table.
pub static ROWS: &[Row] = &[
    exchange(Fault::NoCluster, 0, BOTH),
    exchange(Fault::Refused, 0, BOTH),
    exchange(Fault::NoTls, 0, BOTH),
    exchange(Fault::Closed, 0, BOTH),
    exchange(Fault::NoHttp, 0, BOTH),
    exchange(Fault::HalfAHead, 0, BOTH),
    exchange(Fault::HalfABody, 0, BOTH),
    exchange(Fault::Silent, 2, BOTH),
    exchange(Fault::Trickles, 2, BOTH),
    exchange(Fault::ServerError, 0, BOTH),
    exchange(Fault::Gateway, 0, BOTH),
    exchange(Fault::Redirects, 0, BOTH),
    exchange(Fault::NoHeaders, 2, BOTH),
    exchange(Fault::Garbage, 0, BOTH),
    exchange(Fault::Truncated, 0, BOTH),
    exchange(Fault::TooLarge, 0, BOTH),
    exchange(Fault::OtherType, 0, BOTH),
    exchange(Fault::OtherKind, 0, BOTH),
    exchange(Fault::OtherAudience, 0, TICKET),
    exchange(Fault::Ended, 0, TICKET),
    exchange(Fault::Forged, 0, TICKET),
    Row {
        reason: Reason::KeysUnavailable,
        ..exchange(Fault::UnknownSigner, 2, TICKET)
    },
    logout(Fault::NoCluster, 0),
    logout(Fault::Refused, 0),
    logout(Fault::NoTls, 0),
    logout(Fault::Closed, 0),
    logout(Fault::NoHttp, 0),
    logout(Fault::HalfAHead, 0),
    logout(Fault::HalfABody, 0),
    logout(Fault::Silent, 2),
    logout(Fault::Trickles, 2),
    logout(Fault::ServerError, 0),
    logout(Fault::Gateway, 0),
    logout(Fault::Redirects, 0),
    logout(Fault::NoHeaders, 2),
    logout(Fault::Garbage, 0),
    logout(Fault::Truncated, 0),
    logout(Fault::TooLarge, 0),
    logout(Fault::OtherType, 0),
    keys(Fault::NoCluster),
    keys(Fault::Refused),
    keys(Fault::NoTls),
    keys(Fault::Closed),
    keys(Fault::NoHttp),
    keys(Fault::HalfAHead),
    keys(Fault::HalfABody),
    keys(Fault::Silent),
    keys(Fault::Trickles),
    keys(Fault::ServerError),
    keys(Fault::Gateway),
    keys(Fault::Redirects),
    keys(Fault::Garbage),
    keys(Fault::Truncated),
    keys(Fault::TooLarge),
    feed(Fault::NoCluster),
    feed(Fault::Refused),
    feed(Fault::NoTls),
    feed(Fault::Closed),
    feed(Fault::NoHttp),
    feed(Fault::HalfAHead),
    feed(Fault::HalfABody),
    feed(Fault::Silent),
    feed(Fault::Trickles),
    feed(Fault::ServerError),
    feed(Fault::Gateway),
    feed(Fault::Redirects),
    feed(Fault::Garbage),
    feed(Fault::Truncated),
    feed(Fault::TooLarge),
    feed(Fault::ForgedPage),
    feed(Fault::OtherIssuer),
    feed(Fault::OldPage),
];

impl Asked {
    /// Everything that is asked for.
    pub const ALL: [Self; 4] = [Self::Exchange, Self::Logout, Self::Keys, Self::Feed];

    /// Its word in the names of cells.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Logout => "logout",
            Self::Keys => "keys",
            Self::Feed => "feed",
        }
    }

    /// Whether it is the broker that is asked while a request is held.
    #[must_use]
    pub const fn is_a_call_to_the_broker(self) -> bool {
        match self {
            Self::Exchange | Self::Logout => true,
            Self::Keys | Self::Feed => false,
        }
    }

    /// The protocols of requests for which it is asked for: nobody logs out by opening a WebSocket.
    #[must_use]
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Logout => &[Protocol::Http1, Protocol::Http2, Protocol::Grpc],
            Self::Exchange | Self::Keys | Self::Feed => &Protocol::ALL,
        }
    }
}

impl Fault {
    /// Its word in the names of cells.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.told().0
    }

    /// What it is, in the words of the documents.
    #[must_use]
    pub const fn words(self) -> &'static str {
        self.told().1
    }

    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::NoCluster => ("no-cluster", "Envoy has no cluster of that name"),
            Self::Refused => ("refused", "nobody listens"),
            Self::NoTls => ("no-tls", "the TLS handshake fails"),
            Self::Closed => ("closed", "the connection is closed before a byte of the answer"),
            Self::NoHttp => ("no-http", "the answer is no HTTP"),
            Self::HalfAHead => ("half-a-head", "the connection is closed in the middle of the head"),
            Self::HalfABody => ("half-a-body", "the connection is closed in the middle of the body"),
            Self::Silent => ("silent", "no answer comes"),
            Self::Trickles => ("trickles", "the answer comes a byte at a time"),
            Self::ServerError => ("server-error", "500, with a text"),
            Self::Gateway => ("gateway", "503 of somebody in between, with a page for people"),
            Self::Redirects => ("redirects", "302 to elsewhere"),
            Self::NoHeaders => ("no-headers", "200 with more than the 32 MiB that Envoy keeps"),
            Self::Garbage => ("garbage", "200 with bytes that mean nothing"),
            Self::Truncated => ("truncated", "200 with an answer that breaks off"),
            Self::TooLarge => ("too-large", "200 with an answer over the filter's limit"),
            Self::OtherType => ("other-type", "200 with the right answer as `text/html`"),
            Self::OtherKind => (
                "other-kind",
                "200 with a ticket in place of a token, or a token in place of a ticket",
            ),
            Self::OtherAudience => ("other-audience", "200 with a token for another audience"),
            Self::Ended => ("ended", "200 with a token that has ended"),
            Self::UnknownSigner => (
                "unknown-signer",
                "200 with a token of a key that the broker does not publish",
            ),
            Self::Forged => ("forged", "200 with a token whose signature does not fit"),
            Self::ForgedPage => ("forged-page", "200 with a page that somebody else signed"),
            Self::OtherIssuer => ("other-issuer", "200 with a page of another issuer's"),
            Self::OldPage => ("old-page", "200 with a good page, from before `max_staleness`"),
        }
    }
}

impl Proof {
    /// Every proof.
    pub const ALL: [Self; 4] = [Self::Bearer, Self::Cookie, Self::Negotiate, Self::Inverse];

    /// Its word in the names of cells.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
            Self::Negotiate => "negotiate",
            Self::Inverse => "inverse",
        }
    }
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Grpc, Self::WebSocket];

    /// Its word in the names of cells.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, fault) = (self.row.asked.name(), self.row.fault.name());
        write!(f, "{asked}/{fault}/{}/{}", self.proof.name(), self.protocol.name())
    }
}

/// Every cell of the table.
pub fn cells() -> impl Iterator<Item = Cell> {
    ROWS.iter().flat_map(|row| {
        let each = |proof: &'static Proof| row.asked.protocols().iter().map(|protocol| (*proof, *protocol));
        let pairs = row.proofs.iter().flat_map(each);
        pairs.map(move |(proof, protocol)| Cell { row, proof, protocol })
    })
}

/// The lines of the documents' table for what is asked for.
#[must_use]
pub fn documented(asked: Asked) -> Vec<Vec<String>> {
    let rows = ROWS.iter().filter(|row| row.asked == asked);
    rows.map(|row| {
        let proofs: Vec<&str> = row.proofs.iter().map(|proof| proof.name()).collect();
        let held = match row.held {
            0 => "at once".to_owned(),
            seconds => format!("{seconds} s"),
        };
        vec![
            format!("`{}`", row.fault.name()),
            row.fault.words().to_owned(),
            proofs.join(", "),
            format!("`{}`", row.reason),
            held,
        ]
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_proof_is_tried_over_every_protocol_and_no_cell_has_the_name_of_another() {
        let all: Vec<String> = cells().map(|cell| cell.to_string()).collect();
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for proof in Proof::ALL {
            for protocol in Protocol::ALL {
                let of = cells().filter(|cell| cell.proof == proof && cell.protocol == protocol);
                assert!(of.count() >= 15, "{} over {}", proof.name(), protocol.name());
            }
        }
    }

    #[test]
    fn whatever_goes_wrong_between_us_is_our_fault() {
        for row in ROWS {
            assert_eq!((row.reason.status(), row.reason.grpc_status()), (503, 14), "{row:?}");
        }
    }
}
