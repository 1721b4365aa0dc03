//! Says what is sent, in which proportions, and what must come of each: who is seen by the service, or the refusal.

use std::collections::BTreeMap;
use std::fmt;

use kerbridge_tests::World;
use kerbridge_tests::canary;
use kerbridge_tests::http::Request;
use kerbridge_tests::token::{alter_claims, claims, decode, now, with};
use kerbridge_tests::world::LAB_ISSUER;
use serde_json::{Value, json};

/// The cookie of the audience `orders`.
const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";
/// Subjects of the lab's issuer. Each has one token, so that most requests come with a known one.
const SUBJECTS: usize = 200;
/// Users of the realm.
const USERS: [&str; 2] = ["alice", "bob"];
/// Seconds that tokens live: longer than any run.
const LIFE: u64 = 86_400;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bearer,
    /// A token that nobody has seen before.
    Fresh,
    Cookie,
    Ticket,
    /// A token for a service that takes tickets only.
    Inverse,
    Anonymous,
    Forged,
    Expired,
    Revoked,
}

/// How many of a hundred requests are of each kind.
const SHARES: [(Kind, u32); 9] = [
    (Kind::Bearer, 35),
    (Kind::Fresh, 8),
    (Kind::Cookie, 15),
    (Kind::Ticket, 10),
    (Kind::Inverse, 10),
    (Kind::Anonymous, 5),
    (Kind::Forged, 7),
    (Kind::Expired, 5),
    (Kind::Revoked, 5),
];

/// A request, and what must come of it.
pub(crate) struct Shot {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    /// Name and value of the header with the credential.
    pub(crate) credential: Option<(&'static str, String)>,
    expected: Expected,
}

enum Expected {
    /// The echo service is told this subject.
    Subject(String),
    /// The service that takes tickets sees this principal.
    Principal(String),
    Refused(u16),
}

/// What all clients send from.
pub(crate) struct Mix {
    tokens: Vec<String>,
    expired: Vec<String>,
    revoked: Vec<String>,
    /// By user: a token for the service that takes tickets.
    inverse: Vec<String>,
}

/// A client's own part.
pub(crate) struct Hand {
    client: usize,
    state: u64,
    sent: usize,
    tickets: [Vec<String>; 2],
}

/// How many of each kind were answered as they must be.
#[derive(Clone, Default)]
pub(crate) struct Tally(BTreeMap<Kind, usize>);

fn subject(number: usize) -> String {
    format!("user-{number}@LAB.TEST")
}

fn lab_token(world: &World, subject: &str, change: impl FnOnce(Value) -> Value) -> String {
    let key = world.lab_key().unwrap();
    let claims = with(
        claims(LAB_ISSUER, subject, "orders", "orders:read"),
        "exp",
        json!(now() + LIFE),
    );
    key.sign(&key.header(), &change(claims)).unwrap()
}

impl Mix {
    /// Fetches and signs the tokens, and takes some of them back.
    pub(crate) fn new(world: &mut World) -> Self {
        let tokens = (0..SUBJECTS)
            .map(|number| lab_token(world, &subject(number), |claims| claims))
            .collect();
        let ended = |claims| with(claims, "exp", json!(now() - 1));
        let expired = (0..SUBJECTS)
            .map(|number| lab_token(world, &subject(number), ended))
            .collect();
        let revoked: Vec<String> = (0..20).map(|_| world.token("alice", "/orders/1").unwrap()).collect();
        for token in &revoked {
            let id = decode(token).unwrap().claims["jti"].as_str().unwrap().to_owned();
            world.broker().revoke(&["--jti", &id]).unwrap();
        }
        let inverse = USERS.map(|user| world.token(user, "/legacy/1").unwrap()).to_vec();
        Self {
            tokens,
            expired,
            revoked,
            inverse,
        }
    }

    /// Whether what was taken back is refused on one more connection.
    pub(crate) fn revoked_is_refused(&self, world: &World) -> bool {
        self.revoked.iter().all(|token| {
            let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
            world.send(&request).unwrap().status == 401
        })
    }

    /// The next request of a client.
    pub(crate) fn next(&self, world: &World, hand: &mut Hand) -> Shot {
        let mut left = u32::try_from(hand.draw(100)).unwrap();
        let (kind, _) = *SHARES
            .iter()
            .find(|(_, share)| {
                let is_it = left < *share;
                left = left.saturating_sub(*share);
                is_it
            })
            .unwrap();
        hand.sent += 1;
        let front = if kind == Kind::Inverse { "/legacy" } else { "/orders" };
        let path = format!("{front}/{}-{}", hand.client, hand.sent);
        let (number, user) = (hand.draw(SUBJECTS), hand.draw(USERS.len()));
        let bearer = |token: &str| Some(("authorization", format!("Bearer {token}")));
        let (credential, expected) = match kind {
            Kind::Bearer => (bearer(&self.tokens[number]), Expected::Subject(subject(number))),
            Kind::Fresh => {
                let id = json!(format!("soak-{}-{}", hand.client, hand.sent));
                let token = lab_token(world, &subject(number), |claims| with(claims, "jti", id));
                (bearer(&token), Expected::Subject(subject(number)))
            }
            Kind::Cookie => (
                Some(("cookie", format!("{COOKIE}={}", self.tokens[number]))),
                Expected::Subject(subject(number)),
            ),
            Kind::Ticket => (
                Some(("authorization", format!("Negotiate {}", hand.ticket(world, user)))),
                Expected::Subject(format!("{}@LAB.TEST", USERS[user])),
            ),
            Kind::Inverse => (
                bearer(&self.inverse[user]),
                Expected::Principal(format!("{}@LAB.TEST", USERS[user])),
            ),
            Kind::Anonymous => (None, Expected::Refused(401)),
            Kind::Forged => {
                let other = subject(hand.draw(SUBJECTS));
                let forged = alter_claims(&self.tokens[number], |claims| {
                    with(with(claims, "sub", json!(other)), "jti", json!(hand.sent.to_string()))
                });
                (bearer(&forged.unwrap()), Expected::Refused(401))
            }
            Kind::Expired => (bearer(&self.expired[number]), Expected::Refused(401)),
            Kind::Revoked => (
                bearer(&self.revoked[hand.draw(self.revoked.len())]),
                Expected::Refused(401),
            ),
        };
        if let Some((name, value)) = &credential {
            canary::note_header(name.as_bytes(), value.as_bytes());
        }
        Shot {
            kind,
            path,
            credential,
            expected,
        }
    }
}

impl Hand {
    pub(crate) fn new(client: usize) -> Self {
        Self {
            client,
            state: client as u64 + 1,
            sent: 0,
            tickets: [Vec::new(), Vec::new()],
        }
    }

    /// A number below this one, by a sequence that each run repeats (Knuth's MMIX).
    fn draw(&mut self, below: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap() % below
    }

    fn ticket(&mut self, world: &World, user: usize) -> String {
        if self.tickets[user].is_empty() {
            self.tickets[user] = world.negotiate_tokens(USERS[user], 100).unwrap();
        }
        self.tickets[user].pop().unwrap()
    }
}

impl Shot {
    /// Holds an answer to what must come.
    pub(crate) fn check(&self, status: u16, body: &[u8]) {
        let shown = || String::from_utf8_lossy(body).into_owned();
        let seen: Value = serde_json::from_slice(body).unwrap_or_default();
        match &self.expected {
            Expected::Refused(expected) => {
                assert_eq!(status, *expected, "{:?}: {}", self.kind, shown());
                canary::search("the body of a refusal", body).unwrap();
            }
            Expected::Subject(subject) => {
                assert_eq!(status, 200, "{:?}: {}", self.kind, shown());
                let told: Vec<&Value> = seen["headers"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|header| header[0] == "x-kerbridge-subject")
                    .map(|header| &header[1])
                    .collect();
                assert_eq!(told, [subject.as_str()], "{:?}", self.kind);
                assert_eq!(seen["target"], self.path, "somebody else's answer");
            }
            Expected::Principal(principal) => {
                assert_eq!(status, 200, "{:?}: {}", self.kind, shown());
                assert_eq!(seen["remote_user"], *principal);
                assert_eq!(seen["target"], self.path, "somebody else's answer");
            }
        }
    }
}

impl Tally {
    pub(crate) fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, number) in &other.0 {
            *self.0.entry(*kind).or_default() += number;
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Each kind had its part.
    pub(crate) fn has_all_kinds(&self) {
        for (kind, share) in SHARES {
            let had = self.0.get(&kind).copied().unwrap_or(0);
            assert!(had * 200 >= self.total() * share as usize, "{kind:?}: {had}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, number) in &self.0 {
            write!(f, "{kind:?} {number}, ")?;
        }
        f.write_str("each as it must be")
    }
}
