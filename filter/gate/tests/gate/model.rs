//! The whole gate against a plain reference, after random steps: time passes, keys rotate and are fetched late or not at all,
//! tokens are revoked and the feed comes late, tickets wait while all of this happens.
//!
//! The gate has a cache, a warm path, tables and snapshots; the reference has none of them, and they must agree on every
//! request: who passed, or why not.

#[path = "model/reference.rs"]
mod reference;

use std::cell::RefCell;
use std::rc::Rc;

use kerbridge_gate::exchange::{BrokerReply, PendingCall};
use kerbridge_gate::feed::{Accepted, Feed as GateFeed, Origin, Progress, UnverifiedPage};
use kerbridge_gate::gate::{PendingKeys, WarmHead};
use kerbridge_gate::jwt::SignatureInput;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::step::{HeaderEdit, HeaderEdits};
use kerbridge_gate::upstream::TicketStep;
use kerbridge_gate::{Config, Gate, Reason, Snapshot, Step};
use kerbridge_wire::Spn;
use kerbridge_wire::feed::{
    ENTRY_BYTES, Entry, FORMAT, Hex, PageClaims, RevocationKey, TYPE, body_hash, hash_of_pages, join_page,
};
use proptest::prelude::*;
use proptest::sample::Index;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::world::{Key, NOW, at, head, request};
use reference::{
    BROKER, Feed, Keys, Knowledge, Named, Place, Refetch, Revocation, SKEW, STALENESS, Shape, Token, Verdict,
};

const ISSUERS: [&str; 2] = ["https://broker.test", "https://login.test"];
/// Keys that each issuer has in its life.
const KEYS: usize = 3;
/// Every revocation is needed longer than any test lasts.
const NEEDED_UNTIL: u64 = NOW + 1_000_000;
/// The cookie of the audience `orders`.
const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";

/// A cache of three tokens, so that they are evicted; the warm path is on.
const CONFIG: &str = r#"{
  "issuers": [
    {"issuer": "https://broker.test", "jwks": {"cluster": "broker", "max_staleness": "300s"},
     "feed": {"cluster": "broker", "max_staleness": "300s"}},
    {"issuer": "https://login.test", "jwks": {"cluster": "login", "max_staleness": "300s"},
     "audiences": {"orders": ["api://orders"]}, "expiry_skew_seconds": 30}
  ],
  "broker": {"cluster": "broker", "issuer": "https://broker.test"},
  "underscores_rejected": true,
  "token_cache": {"entries": 3, "mebibytes": 1},
  "routes": [
    {"name": "orders", "path_prefix": "/orders", "accept": ["negotiate", "bearer", "cookie"], "audience": "orders",
     "scopes_all": ["read"]},
    {"name": "open", "path": "/open", "access": "open"},
    {"name": "optional", "path_prefix": "/optional", "access": "optional", "accept": ["bearer"], "audience": "orders"},
    {"name": "dry", "path_prefix": "/dry", "accept": ["bearer"], "audience": "orders", "scopes_all": ["read"],
     "dry_run": true},
    {"name": "legacy", "path_prefix": "/legacy", "accept": ["bearer", "cookie"], "audience": "orders",
     "scopes_all": ["read"], "upstream": {"kerberos": {"spn": "HTTP/legacy.test@LAB.TEST"}}},
    {"name": "billing", "path_prefix": "/billing", "accept": ["bearer"], "audience": "billing"}
  ]
}"#;

/// A token to be signed; times are seconds around [`NOW`].
#[derive(Clone, Debug)]
struct Draft {
    issuer: usize,
    kid: usize,
    forged_by: Option<(usize, usize)>,
    issued: u64,
    life: u64,
    audience: &'static str,
    may_read: bool,
    person: u8,
}

#[derive(Clone, Debug)]
enum Action {
    Pass(u64),
    /// An issuer publishes these keys from now on.
    Rotate(usize, Vec<usize>),
    /// The poller fetches an issuer's keys.
    FetchKeys(usize),
    /// Somebody takes a token, a session or a person's tokens back at the broker.
    Revoke {
        token: Index,
        by: u8,
        bounded: bool,
    },
    /// The broker's feed arrives, signed that long ago.
    FeedArrives(u64),
    /// A request; `brings` says whether a fetch for an unknown key brings what is published.
    Present {
        place: Place,
        shape: Shape,
        token: Index,
        brings: bool,
    },
    /// A ticket comes and waits for the broker.
    Ticket,
    /// The broker answers one that waits: with a token, with a refusal, or not at all.
    Answer {
        waiting: Index,
        with: Result<Index, Option<Reason>>,
    },
    /// The root looks after the requests that passed and are still open.
    LookAfter,
}

fn draft() -> impl Strategy<Value = Draft> {
    (
        0..2_usize,
        0..KEYS,
        proptest::option::weighted(0.15, (0..2_usize, 0..KEYS)),
        0..400_u64,
        1..900_u64,
        prop_oneof![6 => Just("orders"), 2 => Just("billing"), 3 => Just("api://orders")],
        proptest::bool::weighted(0.8),
        0..3_u8,
    )
        .prop_map(
            |(issuer, kid, forged_by, issued, life, audience, may_read, person)| Draft {
                issuer,
                kid,
                forged_by,
                issued: NOW - 200 + issued,
                life,
                audience,
                may_read,
                person,
            },
        )
}

fn action() -> impl Strategy<Value = Action> {
    let place = prop_oneof![
        6 => Just(Place::Orders), 1 => Just(Place::Open), 2 => Just(Place::Optional), 2 => Just(Place::Dry),
        2 => Just(Place::Billing), 4 => Just(Place::Legacy), 1 => Just(Place::Nowhere),
    ];
    let shape = prop_oneof![
        8 => Just(Shape::Header), 2 => Just(Shape::Cookie), 1 => Just(Shape::Nothing), 1 => Just(Shape::HeaderTwice),
        1 => Just(Shape::HeaderAndBadCookie), 1 => Just(Shape::Query), 1 => Just(Shape::HeaderWithoutTls),
    ];
    let refusal = prop_oneof![
        Just(None),
        Just(Some(Reason::Replay)),
        Just(Some(Reason::RealmNotAllowed)),
        Just(Some(Reason::BrokerOverloaded)),
    ];
    prop_oneof![
        4 => prop_oneof![0..5_u64, 0..60_u64, 200..320_u64].prop_map(Action::Pass),
        2 => (0..2_usize, proptest::sample::subsequence(vec![0, 1, 2], 1..=KEYS)).prop_map(|(i, k)| Action::Rotate(i, k)),
        4 => (0..2_usize).prop_map(Action::FetchKeys),
        2 => (any::<Index>(), 0..3_u8, any::<bool>())
            .prop_map(|(token, by, bounded)| Action::Revoke { token, by, bounded }),
        4 => prop_oneof![3 => Just(0), 1 => 0..400_u64].prop_map(Action::FeedArrives),
        20 => (place, shape, any::<Index>(), any::<bool>())
            .prop_map(|(place, shape, token, brings)| Action::Present { place, shape, token, brings }),
        2 => Just(Action::Ticket),
        2 => (any::<Index>(), prop_oneof![4 => any::<Index>().prop_map(Ok), 1 => refusal.prop_map(Err)])
            .prop_map(|(waiting, with)| Action::Answer { waiting, with }),
        2 => Just(Action::LookAfter),
    ]
}

/// The gate, the world around it, and what the reference knows.
struct World {
    keys: [Vec<Key>; 2],
    published: [Vec<usize>; 2],
    /// The broker's revocations, with the time of each, in their order.
    revoked: Vec<(u64, Revocation)>,
    tokens: Vec<Token>,
    gate: RefCell<Gate>,
    feed: GateFeed,
    known: Knowledge,
    now: u64,
    waiting: Vec<(PendingCall, Knowledge)>,
    open: Vec<(Admitted, Token)>,
}

impl World {
    fn new(drafts: &[Draft]) -> Self {
        let keys = [0, 1].map(|issuer| {
            (0..KEYS)
                .map(|key| Key::new(&format!("{issuer}-{key}")))
                .collect::<Vec<_>>()
        });
        let config = Rc::new(Config::parse(CONFIG.as_bytes()).unwrap());
        let tokens = drafts
            .iter()
            .enumerate()
            .map(|(number, draft)| sign(&keys, number, draft));
        Self {
            tokens: tokens.collect(),
            keys,
            published: [vec![0], vec![0]],
            revoked: Vec::new(),
            gate: RefCell::new(Gate::new(Rc::new(Snapshot::new(config, at(NOW))))),
            feed: GateFeed::new(ISSUERS[BROKER].into(), SKEW, STALENESS.try_into().unwrap()),
            known: Knowledge::default(),
            now: NOW,
            waiting: Vec::new(),
            open: Vec::new(),
        }
    }

    fn replace(&self, next: Snapshot) {
        self.gate.borrow_mut().replace(Rc::new(next));
    }

    fn fetch_keys(&mut self, issuer: usize) {
        let kids = self.published[issuer].clone();
        let jwks: Vec<String> = kids.iter().map(|kid| self.keys[issuer][*kid].jwk()).collect();
        let set = format!(r#"{{"keys":[{}]}}"#, jwks.join(","));
        let next = self
            .gate
            .borrow()
            .snapshot()
            .with_keys(issuer, set.as_bytes(), at(self.now));
        self.replace(next.unwrap());
        self.known.keys[issuer] = Some(Keys {
            kids,
            fetched: self.now,
        });
    }

    /// A page that says all that was revoked until it was signed; the gate takes it where it has the key that signed it.
    fn feed_arrives(&mut self, age: u64) {
        let signed = self.now.saturating_sub(age).max(NOW);
        let all: Vec<Revocation> = self
            .revoked
            .iter()
            .filter(|(when, _)| *when <= signed)
            .map(|(_, revocation)| revocation.clone())
            .collect();
        // As the filter asks: for what came after the version that it has.
        let base = self.feed.position().map(|position| position.version);
        let after = usize::try_from(base.unwrap_or(1) - 1).unwrap();
        let entries = all.get(after..).unwrap_or_default().iter().map(entry);
        let body: Vec<u8> = entries.flat_map(Entry::to_bytes).collect();
        let hash = body_hash(&body);
        let claims = PageClaims {
            format: FORMAT,
            iss: ISSUERS[BROKER].into(),
            iat: signed,
            epoch: Hex([7; 16]),
            version: u64::try_from(all.len()).unwrap() + 1,
            base,
            page: 0,
            pages: 1,
            entries: (body.len() / ENTRY_BYTES).try_into().unwrap(),
            sha256: hash,
            sha256_of_pages: Some(hash_of_pages(&[hash])),
        };
        let signer = self.published[BROKER][0];
        let key = &self.keys[BROKER][signer];
        let header = format!(r#"{{"alg":"ES256","typ":"{TYPE}","kid":"{}"}}"#, key.kid);
        let page = join_page(&key.sign(&header, &serde_json::to_string(&claims).unwrap()), &body);
        self.take_page(page);
        let is_readable = self.known.keys[BROKER]
            .as_ref()
            .is_some_and(|keys| self.now <= keys.fetched + STALENESS && keys.kids.contains(&signer));
        let is_newer = self
            .known
            .feed
            .as_ref()
            .is_none_or(|feed| all.len() >= feed.revocations.len());
        if is_readable && is_newer {
            let as_of = self.known.feed.as_ref().map_or(signed, |feed| feed.as_of.max(signed));
            self.known.feed = Some(Feed {
                revocations: all,
                as_of,
            });
        }
    }

    fn take_page(&mut self, page: Vec<u8>) {
        let snapshot = Rc::clone(self.gate.borrow().snapshot());
        let Some(keys) = snapshot.issuer_keys(BROKER, at(self.now)) else {
            return;
        };
        let Ok(page) = UnverifiedPage::read(page, keys) else {
            return;
        };
        let is_good = natively(page.signature());
        let Ok(page) = page.resume(is_good) else { return };
        match self.feed.accept(page, Origin::Fetched, at(self.now)) {
            Ok(Accepted::Reading) => while self.feed.step(at(self.now)).unwrap() == Progress::Working {},
            Ok(Accepted::Refreshed | Accepted::Known) | Err(_) => {}
        }
        if let Some(known) = self.feed.known() {
            self.replace(snapshot.with_revocations(BROKER, known));
        }
    }

    fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::Pass(seconds) => self.now += seconds,
            Action::Rotate(issuer, kids) => self.published[*issuer].clone_from(kids),
            Action::FetchKeys(issuer) => self.fetch_keys(*issuer),
            Action::Revoke { token, by, bounded } => {
                let token = token.get(&self.tokens);
                let named = match by {
                    0 => Named::Token(token.id.clone()),
                    1 => Named::Session(token.session.clone()),
                    _ => Named::Subject(token.subject.clone()),
                };
                let issued_until = bounded.then_some(self.now);
                self.revoked.push((self.now, Revocation { named, issued_until }));
            }
            Action::FeedArrives(age) => self.feed_arrives(*age),
            Action::Present {
                place,
                shape,
                token,
                brings,
            } => self.present(*place, *shape, &token.get(&self.tokens).clone(), *brings)?,
            Action::Ticket => {
                let headers = head("/orders/1", &[("authorization", b"Negotiate YIIabc+/=")]);
                let step = self.gate.borrow_mut().admit(at(self.now), &request(&headers, true));
                match (step, self.known.takes_tickets(self.now)) {
                    (Step::Call(_, pending), Ok(())) => self.waiting.push((pending, self.known.clone())),
                    (Step::Respond(reply), Err(reason)) => prop_assert_eq!(reply.decision.reason, reason),
                    (step, expected) => prop_assert!(false, "{:?} where {:?} was expected", step, expected),
                }
            }
            Action::Answer { waiting, with } => self.answer(waiting, with)?,
            Action::LookAfter => self.look_after()?,
        }
        Ok(())
    }

    fn present(&mut self, place: Place, shape: Shape, token: &Token, brings: bool) -> Result<(), TestCaseError> {
        let path = path(place, shape, token);
        let bearer = format!("Bearer {}", token.text).into_bytes();
        let cookie = format!("a=1; {COOKIE}={}", token.text).into_bytes();
        let bad = format!("{COOKIE}=bad");
        let mut shown: Vec<(&str, &[u8])> = vec![("x-kerbridge-subject", b"admin@LAB.TEST")];
        match shape {
            Shape::Nothing | Shape::Query => {}
            Shape::Header | Shape::HeaderWithoutTls => shown.push(("authorization", &bearer)),
            Shape::Cookie => shown.push(("cookie", &cookie)),
            Shape::HeaderTwice => shown.extend([("authorization", &*bearer), ("authorization", &*bearer)]),
            Shape::HeaderAndBadCookie => {
                shown.extend([("authorization", &*bearer), ("cookie", bad.as_bytes())]);
            }
        }
        let headers = head(&path, &shown);
        let secure = shape != Shape::HeaderWithoutTls;
        if matches!(shape, Shape::Header | Shape::HeaderWithoutTls) {
            self.compare_warm(place, shape, &path, &bearer, token)?;
        }
        let step = self.gate.borrow_mut().admit(at(self.now), &request(&headers, secure));
        let step = self.settle(step, token, brings, &self.known.clone())?;
        let verdict = self.known.judge(place, shape, token, self.now);
        let admitted = check(step, place, &verdict)?;
        if let (Some(admitted), Ok(Some(_))) = (admitted, verdict) {
            self.open.push((admitted, token.clone()));
        }
        Ok(())
    }

    /// The warm path says yes exactly as the whole head would, or leaves it to that.
    fn compare_warm(
        &self,
        place: Place,
        shape: Shape,
        path: &str,
        bearer: &[u8],
        token: &Token,
    ) -> Result<(), TestCaseError> {
        let mut gate = self.gate.borrow_mut();
        prop_assert!(gate.warm_path().is_some());
        let warm = WarmHead {
            method: b"GET",
            path: path.as_bytes(),
            authority: b"api.test",
            secure: shape != Shape::HeaderWithoutTls,
            certificate: None,
        };
        let now = at(self.now);
        let recalled = gate.recall(now, bearer);
        let Some(step) = recalled.and_then(|recalled| gate.admit_warm(now, &warm, recalled)) else {
            return Ok(());
        };
        drop(gate);
        let verdict = self.known.judge(place, shape, token, self.now);
        prop_assert!(verdict.is_ok(), "the warm path passed what is {:?}", verdict);
        check(step, place, &verdict).map(drop)
    }

    fn answer(&mut self, waiting: &Index, with: &Result<Index, Option<Reason>>) -> Result<(), TestCaseError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (pending, then) = self.waiting.swap_remove(waiting.index(self.waiting.len()));
        match with {
            Ok(token) => {
                let token = token.get(&self.tokens).clone();
                let body = format!(
                    r#"{{"access_token":"{}","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
                        "token_type":"Bearer","expires_in":1}}"#,
                    token.text
                );
                let step = self.reply(pending, "200", &body);
                // It is judged by what was known when it came, unless its key was not: then by what is known now.
                let is_waited_for =
                    token.issuer == BROKER && then.takes_tickets(self.now).is_ok() && !then.has_key(&token);
                let judged_by = Knowledge {
                    keys: then.keys.clone(),
                    ..self.known.clone()
                };
                let step = self.settle(step, &token, false, &judged_by)?;
                let old = then.minted(&token, self.now);
                let verdict = if is_waited_for && is(&step, &self.known.minted(&token, self.now)) {
                    self.known.minted(&token, self.now)
                } else {
                    old
                };
                if let (Some(admitted), Ok(_)) = (check(step, Place::Orders, &verdict)?, verdict) {
                    self.open.push((admitted, token));
                }
            }
            Err(Some(reason)) => {
                let error = if *reason == Reason::BrokerOverloaded {
                    "temporarily_unavailable"
                } else {
                    "invalid_grant"
                };
                let body = format!(r#"{{"error":"{error}","reason":"{reason}"}}"#);
                let step = self.reply(pending, "400", &body);
                check(step, Place::Orders, &Err(*reason))?;
            }
            Err(None) => {
                let now = at(self.now);
                let step = pending.resume(&mut self.gate.borrow_mut(), now, BrokerReply::Nothing);
                check(step, Place::Orders, &Err(Reason::BrokerUnavailable))?;
            }
        }
        Ok(())
    }

    fn reply(&self, pending: PendingCall, status: &str, body: &str) -> Step {
        let reply = BrokerReply::Response {
            status: Some(status.as_bytes()),
            content_type: Some(b"application/json"),
            body: body.as_bytes(),
        };
        pending.resume(&mut self.gate.borrow_mut(), at(self.now), reply)
    }

    fn look_after(&mut self) -> Result<(), TestCaseError> {
        let now = self.now;
        let open = std::mem::take(&mut self.open);
        for (admitted, token) in open {
            let ends = admitted.ends_at();
            let is_over = ends.is_some_and(|ends| ends <= at(now));
            let gate = self.gate.borrow();
            let still_good = admitted.is_still_good(gate.snapshot(), at(now));
            drop(gate);
            if admitted.decision().dry_run {
                prop_assert!(ends.is_none() && still_good.is_ok(), "a dry run ends nothing");
                continue;
            }
            prop_assert_eq!(is_over, reference::has_ended(&token, now));
            prop_assert_eq!(still_good, self.known.may_stay(&token, now));
            self.deliver(&admitted, &token)?;
            if !is_over && still_good.is_ok() {
                self.open.push((admitted, token));
            }
        }
        Ok(())
    }

    /// An attempt at the Kerberos service, if the request is for one: it gets a ticket as long as the token stands, and never
    /// somebody else's.
    fn deliver(&self, admitted: &Admitted, token: &Token) -> Result<(), TestCaseError> {
        let Some(spn) = admitted.spn() else { return Ok(()) };
        let begin = |spn: &Spn| {
            let gate = self.gate.borrow();
            admitted.attempt(at(self.now), gate.snapshot(), spn)
        };
        match begin(&"HTTP/other.test@LAB.TEST".parse().unwrap()) {
            TicketStep::Respond(reply) => prop_assert_eq!(reply.decision.reason, Reason::Internal),
            other => prop_assert!(false, "{:?} at another service", other),
        }
        match (begin(spn), self.known.delegates(token, self.now)) {
            (TicketStep::Call(call, pending), Ok(())) => {
                let form = String::from_utf8(call.body.expose().to_vec()).unwrap();
                prop_assert!(form.contains(&format!("&subject_token={}&", token.text)), "{}", form);
                let ticket = format!("YII{:0>5}", token.id);
                let body = format!(
                    r#"{{"access_token":"{ticket}","issued_token_type":"urn:kerbridge:token-type:negotiate",
                        "token_type":"N_A","expires_in":1}}"#
                );
                let reply = BrokerReply::Response {
                    status: Some(b"200"),
                    content_type: Some(b"application/json"),
                    body: body.as_bytes(),
                };
                match pending.resume(reply) {
                    TicketStep::Continue(HeaderEdit::Set(name, value), decision) => {
                        prop_assert_eq!(&*name, "authorization");
                        prop_assert_eq!(value.expose().to_vec(), format!("Negotiate {ticket}").into_bytes());
                        prop_assert_eq!(decision.reason, Reason::Ok);
                    }
                    other => prop_assert!(false, "{:?} with a ticket", other),
                }
            }
            (TicketStep::Respond(reply), Err(reason)) => prop_assert_eq!(reply.decision.reason, reason),
            (step, expected) => prop_assert!(false, "{:?} where {:?} was expected", step, expected),
        }
        Ok(())
    }

    /// Goes on with what needs no client: signatures are checked natively; keys that are missing are fetched, which brings
    /// what is published or nothing.
    fn settle(
        &mut self,
        mut step: Step,
        token: &Token,
        brings: bool,
        judged_by: &Knowledge,
    ) -> Result<Step, TestCaseError> {
        loop {
            step = match step {
                Step::Verify(input, pending) => {
                    let is_good = natively(&input);
                    pending.resume(&mut self.gate.borrow_mut(), at(self.now), is_good)
                }
                Step::Wait(pending) => {
                    prop_assert!(judged_by.waits(token, self.now), "{:?} waits", token);
                    self.fetch_for(pending, token, brings)
                }
                other => return Ok(other),
            };
        }
    }

    fn fetch_for(&mut self, pending: PendingKeys, token: &Token, brings: bool) -> Step {
        self.known.note_wait(token, self.now);
        let wanted = self.gate.borrow_mut().demand().wanted();
        for issuer in wanted {
            self.gate.borrow_mut().demand().began(issuer, at(self.now));
            if brings {
                self.fetch_keys(issuer);
            }
            self.gate.borrow_mut().demand().ended(issuer, at(self.now), brings);
            let refetch = Refetch {
                began: self.now,
                brought: brings,
            };
            self.known.note_refetch(issuer, refetch);
        }
        // Where the fetch brings nothing, its time passes.
        if !brings {
            self.now = pending.deadline().seconds();
        }
        pending.resume(&mut self.gate.borrow_mut(), at(self.now))
    }
}

fn path(place: Place, shape: Shape, token: &Token) -> String {
    let path = match place {
        Place::Orders => "/orders/1",
        Place::Open => "/open",
        Place::Optional => "/optional",
        Place::Dry => "/dry/1",
        Place::Billing => "/billing",
        Place::Legacy => "/legacy/1",
        Place::Nowhere => "/nowhere",
    };
    match shape {
        Shape::Query => format!("{path}?access_token={}", token.text),
        Shape::Nothing
        | Shape::Header
        | Shape::Cookie
        | Shape::HeaderTwice
        | Shape::HeaderAndBadCookie
        | Shape::HeaderWithoutTls => path.to_owned(),
    }
}

/// The step must be what the reference says; the proof that the request passed, if it did.
fn check(step: Step, place: Place, verdict: &Verdict) -> Result<Option<Admitted>, TestCaseError> {
    match (step, verdict) {
        (Step::Continue(edits, admitted), Ok(subject)) => {
            prop_assert_eq!(admitted.decision().reason, Reason::Ok);
            prop_assert_eq!(subjects(&edits), subject.clone());
            Ok(Some(admitted))
        }
        (Step::Continue(edits, admitted), Err(reason)) if place.is_dry() => {
            prop_assert!(admitted.decision().dry_run);
            prop_assert_eq!(admitted.decision().reason, *reason);
            prop_assert_eq!(subjects(&edits), None);
            Ok(None)
        }
        (Step::Respond(reply), Err(reason)) => {
            prop_assert_eq!(reply.decision.reason, *reason);
            prop_assert!(reply.status >= 400);
            Ok(None)
        }
        (step, verdict) => {
            prop_assert!(false, "{:?} where {:?} was expected", step, verdict);
            Ok(None)
        }
    }
}

/// Whether a step says what a verdict says.
fn is(step: &Step, verdict: &Verdict) -> bool {
    match (step, verdict) {
        (Step::Continue(..), Ok(_)) => true,
        (Step::Respond(reply), Err(reason)) => reply.decision.reason == *reason,
        _ => false,
    }
}

/// The subject that the upstream reads: the last that is set, where what the client sent was taken away.
fn subjects(edits: &HeaderEdits) -> Option<String> {
    let mut read = Some("what the client sent".to_owned());
    for edit in edits {
        match edit {
            HeaderEdit::Remove(name) if **name == *"x-kerbridge-subject" => read = None,
            HeaderEdit::Set(name, value) if **name == *"x-kerbridge-subject" => {
                read = Some(String::from_utf8(value.expose().to_vec()).unwrap());
            }
            _ => {}
        }
    }
    read
}

fn sign(keys: &[Vec<Key>; 2], number: usize, draft: &Draft) -> Token {
    let (id, session) = (format!("j{number}"), format!("s{}", number / 2));
    let subject = format!("person{}@LAB.TEST", draft.person);
    let signed_by = draft.forged_by.unwrap_or((draft.issuer, draft.kid));
    let (issued, expires, scope) = (
        draft.issued,
        draft.issued + draft.life,
        if draft.may_read { "read" } else { "list" },
    );
    let header = keys[draft.issuer][draft.kid].header();
    let payload = format!(
        r#"{{"iss":"{}","sub":"{subject}","aud":"{}","client_id":"c","iat":{issued},"exp":{expires},"jti":"{id}","sid":"{session}","scope":"{scope}"}}"#,
        ISSUERS[draft.issuer], draft.audience
    );
    Token {
        text: keys[signed_by.0][signed_by.1].sign(&header, &payload),
        issuer: draft.issuer,
        kid: draft.kid,
        signed_by,
        issued,
        expires,
        audience: draft.audience,
        may_read: draft.may_read,
        id,
        session,
        subject,
    }
}

fn entry(revocation: &Revocation) -> Entry {
    let issuer = ISSUERS[BROKER];
    let key = match &revocation.named {
        Named::Token(id) => RevocationKey::token(issuer, id),
        Named::Session(session) => RevocationKey::session(issuer, session),
        Named::Subject(subject) => RevocationKey::subject(issuer, subject),
    };
    Entry::new(key, NEEDED_UNTIL, revocation.issued_until)
}

/// The check that Envoy does.
fn natively(input: &SignatureInput) -> bool {
    let check = input.native().unwrap();
    // The key's point is the end of its SubjectPublicKeyInfo.
    let point = &check.key[check.key.len() - 65..];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(check.text, &check.signature)
        .is_ok()
}

proptest! {
    #[test]
    fn whatever_happens_the_gate_decides_as_the_requirements_say(
        drafts in proptest::collection::vec(draft(), 1..8),
        actions in proptest::collection::vec(action(), 1..80),
    ) {
        let mut world = World::new(&drafts);
        // Most of a life happens with keys and a feed there.
        world.fetch_keys(0);
        world.fetch_keys(1);
        world.feed_arrives(0);
        for action in &actions {
            world.act(action)?;
        }
    }
}
