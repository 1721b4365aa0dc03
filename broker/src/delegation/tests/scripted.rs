//! A KDC that does what the test says, a policy that lets everybody be acted for, and what asks the two.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use kerbridge_gss::{ChannelBindings, MechToken};
use kerbridge_wire::policy::Policy as RawPolicy;

use super::super::kdc::{Acting, Credential, Failed, Made};
use super::super::*;
use crate::metrics::Metrics;
use crate::negotiate::FirstToken;
use crate::negotiate::tests::token_for as spnego;
use crate::policy::Policy;
use crate::problem::Problems;

/// Long enough for a thread to begin on a machine that has much to do.
pub(super) const DEADLINE: Duration = Duration::from_millis(700);

/// A KDC that says what the test says, and may hang.
#[derive(Default)]
pub(super) struct Script {
    asked: AtomicUsize,
    /// Realms whose KDCs do not answer.
    hanging: Mutex<Vec<String>>,
    answers: Condvar,
    refusal: Mutex<Option<Failed>>,
    /// Another service than the one that was asked for.
    pub(super) gives: Mutex<Option<String>>,
}

impl Script {
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn hang(&self, realms: &[&str]) {
        *self.hanging.lock().unwrap() = realms.iter().map(|realm| (*realm).to_owned()).collect();
        self.answers.notify_all();
    }

    pub(super) fn refuse(&self, reason: Option<Reason>) {
        *self.refusal.lock().unwrap() = reason.map(|reason| Failed::Answered(NoTicket::new(reason, "scripted")));
    }

    /// As if our own log-in were paused.
    pub(super) fn ask_nobody(&self) {
        let why = NoTicket::new(Reason::Internal, "scripted");
        *self.refusal.lock().unwrap() = Some(Failed::Unanswered(why));
    }

    fn answer(&self, realm: &str) -> Result<(), Failed> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut hanging = self.hanging.lock().unwrap();
        while hanging.iter().any(|one| one == realm) {
            hanging = self.answers.wait(hanging).unwrap();
        }
        drop(hanging);
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

pub(super) const EVERYBODY: [&str; 3] = ["A.TEST", "B.TEST", "C.TEST"];

pub(super) struct ScriptedKdc(Arc<Script>);

/// Tickets end at 10,000; the ciphertext says whose they are.
pub(super) struct ScriptedCredential {
    pub(super) host: String,
    pub(super) user: Principal,
}

impl Kdc for ScriptedKdc {
    fn resolve(&mut self, user: &DelegatedUser) -> Result<Principal, Failed> {
        match user {
            DelegatedUser::Principal(principal) => self.0.answer(principal.realm())?,
            DelegatedUser::Enterprise(name) => self.0.answer(name.realm())?,
        }
        match user {
            DelegatedUser::Principal(principal) => Ok(principal.clone()),
            DelegatedUser::Enterprise(name) => {
                let (user, _) = name.name().split_once('@').unwrap();
                Ok(principal(&format!("{user}@A.TEST")))
            }
        }
    }

    fn act(&mut self, user: &Principal, target: &DelegationTarget) -> Result<Acting, Failed> {
        self.0.answer(user.realm())?;
        let host = self.0.gives.lock().unwrap().clone();
        let credential = ScriptedCredential {
            host: host.unwrap_or_else(|| target.service().host().to_owned()),
            user: user.clone(),
        };
        Ok(Acting::new(Box::new(credential), at(10_000)))
    }
}

impl Credential for ScriptedCredential {
    fn token(&self, _: &DelegationTarget, _: Option<&ChannelBindings>) -> Result<Made, NoTicket> {
        Ok(Made {
            token: MechToken::new(spnego(&self.host, self.user.as_str().as_bytes())).unwrap(),
            ticket_end: at(10_000),
        })
    }
}

pub(super) fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

pub(super) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

pub(super) const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST", "*@B.TEST", "*@C.TEST", "HTTP/api.test@A.TEST"]
    clients = ["mesh"]
    max_life = "1h"
    [[delegation]]
    target = "HTTP/api.test@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST"]
    clients = ["mesh"]
    [[delegation]]
    target = "host/api@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST"]
    clients = ["mesh"]
    [[delegation]]
    target = "HTTP/tokens.test@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST"]
    clients = ["mesh"]
    [[route]]
    path = "/"
    access = "open"
"#;

pub(super) fn policy() -> (RawPolicy, Policy) {
    let mut problems = Problems::default();
    let file: RawPolicy = crate::strict_toml::read(POLICY, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    (file, policy)
}

pub(super) fn grant_towards(target: &str, user: &str) -> DelegationGrant {
    let token = VerifiedToken::for_test(user, None, &[]);
    let (_, policy) = policy();
    let candidates = policy.towards(target).unwrap().shown(&token, "mesh").unwrap();
    candidates.grant(&principal(user)).unwrap()
}

pub(super) fn grant(user: &str) -> DelegationGrant {
    grant_towards("HTTP/legacy.test@A.TEST", user)
}

pub(super) const LIMITS: DelegationLimits = DelegationLimits {
    workers: 2,
    queue: 1024,
    entries: 100,
    user_per_minute: 0,
    target_per_minute: 0,
};

pub(super) fn start(limits: DelegationLimits) -> (Delegation, Arc<Script>) {
    let script = Arc::new(Script::default());
    let mut kdcs: Vec<Box<dyn FnOnce() -> Box<dyn Kdc> + Send>> = Vec::new();
    for _ in 0..limits.workers {
        let script = Arc::clone(&script);
        kdcs.push(Box::new(move || Box::new(ScriptedKdc(script))));
    }
    let (file, policy) = policy();
    let keys = r#"{"keys":[]}"#.to_owned();
    let terms = crate::subject_token::KeyTerms {
        issuer: "https://broker.test".into(),
        poll: kerbridge_wire::Span::FIVE_SECONDS,
        max_staleness: kerbridge_wire::Span::FIVE_MINUTES,
    };
    let issuers = Issuers::new("https://broker.test", &file, &policy, None, &[terms], &[]).unwrap();
    issuers.publish("https://broker.test", keys.as_bytes(), at(1)).unwrap();
    let parts = Parts {
        kdcs,
        threads: 2,
        issuers: Arc::new(issuers),
        feeds: Vec::new(),
        limits,
        home: "A.TEST".into(),
        own: vec![principal("HTTP/api.test@A.TEST")],
        refused_targets: vec![principal("HTTP/Tokens.test@A.TEST")],
        bindings: Vec::new(),
        clock_skew: 300,
        deadline: DEADLINE,
        metrics: Metrics::new().delegation().clone(),
    };
    (Delegation::start(parts).unwrap(), script)
}

pub(super) async fn ticket_at(delegation: &Delegation, user: &str, now: u64) -> Result<ServiceTicket, NoTicket> {
    ticket_until(delegation, user, now, 5000).await
}

pub(super) async fn ticket_until(
    delegation: &Delegation,
    user: &str,
    now: u64,
    end: u64,
) -> Result<ServiceTicket, NoTicket> {
    let deadline = Instant::now().checked_add(DEADLINE).unwrap();
    delegation.ticket(&grant(user), at(end), at(now), deadline).await
}

pub(super) async fn ticket(delegation: &Delegation, user: &str) -> Result<ServiceTicket, NoTicket> {
    ticket_at(delegation, user, 1000).await
}

pub(super) fn reason(outcome: Result<ServiceTicket, NoTicket>) -> Reason {
    outcome.unwrap_err().reason
}

/// Whose ticket it is, as the scripted KDC says in its ciphertext.
pub(super) fn owner(ticket: ServiceTicket) -> String {
    let text = ticket.into_token();
    let FirstToken::Ticket(token) = FirstToken::parse(&text).unwrap() else {
        panic!("no ticket")
    };
    String::from_utf8(token.ticket().to_vec()).unwrap()
}
