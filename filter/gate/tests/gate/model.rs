//! The whole gate against a plain reference, after random steps: time passes, keys rotate and are fetched late or not at all,
//! tokens are revoked and the feed comes late, tickets wait while all of this happens.
//!
//! The gate has a cache, a warm path, tables and snapshots; the reference has none of them, and they must agree on every
//! request: who passed, or why not.

mod moves;
mod outside;
mod reference;
mod verdicts;

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
use moves::{Action, Draft, action, draft, sign};
use outside::natively;
use reference::{
    BROKER, Feed, Keys, Knowledge, Named, Place, Refetch, Revocation, SKEW, STALENESS, Shape, Token, Verdict,
};
use verdicts::{check, is, path};

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
