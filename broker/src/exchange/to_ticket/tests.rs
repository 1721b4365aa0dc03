use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kerbridge_gss::{ChannelBindings, DelegatedUser, MechToken};
use kerbridge_wire::policy::Policy as RawPolicy;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::{ClientProof, Peer};
use super::*;
use crate::config::DelegationLimits;
use crate::delegation::Parts;
use crate::delegation::kdc::{Acting, Credential, Failed, Kdc, Made};
use crate::metrics::Metrics;
use crate::negotiate::tests::token_for;
use crate::problem::Problems;
use crate::store::{Kind, Revocation, Store as _, StoreError, Target};
use crate::subject_token::Issuers;
use crate::subject_token::tests::Key;

const ISSUER: &str = "https://broker.test";
const TARGET: &str = "HTTP/legacy.test@A.TEST";
const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST"]
    clients = ["mesh"]
    [[route]]
    path = "/"
    access = "open"
"#;
/// When the request comes.
const CAME: u64 = 2000;
/// When its token ends.
const ENDS: u64 = 2300;

/// Takes its time, until a moment that the test says.
struct SlowKdc {
    clock: &'static AtomicU64,
    until: u64,
}

struct Unchanging;

impl Kdc for SlowKdc {
    fn resolve(&mut self, _: &DelegatedUser) -> Result<Principal, Failed> {
        panic!("nobody is looked up")
    }

    fn act(&mut self, _: &Principal, _: &DelegationTarget) -> Result<Acting, Failed> {
        self.clock.store(self.until, Ordering::SeqCst);
        Ok(Acting::new(Box::new(Unchanging), UnixTime::from_seconds(10_000)))
    }
}

impl Credential for Unchanging {
    fn token(&self, _: &DelegationTarget, _: Option<&ChannelBindings>) -> Result<Made, NoTicket> {
        Ok(Made {
            token: MechToken::new(token_for("legacy.test", b"alice")).unwrap(),
            ticket_end: UnixTime::from_seconds(10_000),
        })
    }
}

fn direction(key: &Key, kdc: SlowKdc) -> TokenToTicket {
    let mut problems = Problems::default();
    let file: RawPolicy = crate::strict_toml::read(POLICY, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    let issuers = Issuers::new(ISSUER, &file, &policy, Some(key.set()), &[], &[]).unwrap();
    let delegation = Delegation::start(Parts {
        kdcs: vec![Box::new(move || Box::new(kdc))],
        threads: 1,
        issuers: Arc::new(issuers),
        feeds: Vec::new(),
        limits: DelegationLimits {
            workers: 1,
            queue: 4,
            entries: 4,
            user_per_minute: 0,
            target_per_minute: 0,
        },
        home: "A.TEST".into(),
        own: vec![Principal::parse("HTTP/api.test@A.TEST").unwrap()],
        refused_targets: vec![Principal::parse("HTTP/other-broker.test@A.TEST").unwrap()],
        bindings: Vec::new(),
        clock_skew: 0,
        deadline: Duration::from_secs(10),
        metrics: Metrics::new().delegation().clone(),
    });
    TokenToTicket {
        policy,
        realms: vec!["A.TEST".into()],
        names: NameRules::default(),
        revocations: None,
        delegation: delegation.unwrap(),
    }
}

/// What comes of a good token where the KDC answers at this moment: for how long the ticket is of use.
async fn answered_at(until: u64) -> Result<u64, Reason> {
    answered(until, None).await
}

/// The same of a broker with these revocations.
async fn answered(until: u64, revocations: Option<Arc<Revocations>>) -> Result<u64, Reason> {
    let key = Key::new();
    let clock: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(CAME)));
    let claims = json!({
        "iss": ISSUER, "sub": "alice@A.TEST", "aud": "orders", "client_id": "mesh", "jti": "j", "iat": CAME, "exp": ENDS,
    });
    let request = ToTicket {
        subject_token: Zeroizing::new(key.sign_as("at+jwt", &claims)),
        target: TARGET.into(),
    };
    let caller = Caller {
        listener: ListenerName::Mesh,
        client: "mesh".into(),
        proof: ClientProof::Socket,
        peer: Peer::default(),
    };
    let direction = TokenToTicket {
        revocations,
        ..direction(&key, SlowKdc { clock, until })
    };
    let outcome = direction
        .exchange(request, &caller, &Hints::default(), Clock::Set(clock), Instant::now())
        .await;
    let reply = outcome.map(Delegated::into_reply);
    reply.map(|reply| reply.expires_in).map_err(|refusal| refusal.reason)
}

#[tokio::test]
async fn how_long_a_ticket_is_of_use_counts_from_when_the_kdc_has_answered() {
    assert_eq!(answered_at(CAME).await, Ok(ENDS - CAME));
    assert_eq!(answered_at(ENDS - 1).await, Ok(1));
}

#[tokio::test]
async fn a_token_that_ends_while_the_kdc_is_asked_gets_no_ticket() {
    assert_eq!(answered_at(ENDS).await, Err(Reason::Expired));
}

#[tokio::test]
async fn who_was_taken_out_at_another_broker_gets_no_ticket_here_from_its_answer_on() {
    let (store, revocations) = crate::revocation::tests::fresh();
    let ask = async || answered(CAME, Some(Arc::clone(&revocations))).await;
    assert_eq!(ask().await, Ok(ENDS - CAME));
    let ban = Revocation {
        target: Target::new(Kind::Subject, "alice@A.TEST").unwrap(),
        issued_at_or_before: None,
        needed_until: None,
    };
    store.revoke(ban, UnixTime::from_seconds(CAME)).await.unwrap();
    assert_eq!(ask().await, Err(Reason::Revoked));
    // Where the store cannot be asked, nobody knows.
    let (store, revocations) = crate::revocation::tests::fresh();
    store.fail(Some(StoreError::Late));
    assert_eq!(answered(CAME, Some(revocations)).await, Err(Reason::StoreUnavailable));
}

#[tokio::test]
async fn a_target_of_nobodys_is_told_by_its_kind_and_under_one_reason() {
    let key = Key::new();
    let clock: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(CAME)));
    let direction = direction(&key, SlowKdc { clock, until: CAME });
    let caller = Caller {
        listener: ListenerName::Mesh,
        client: "mesh".into(),
        proof: ClientProof::Socket,
        peer: Peer::default(),
    };
    for (target, said) in [
        ("HTTP/nowhere.test@A.TEST", "no [[delegation]] line"),
        ("krbtgt/A.TEST@A.TEST", "the KDC's own"),
        ("KADMIN/changepw@A.TEST", "the KDC's own"),
        ("HTTP/api.test@A.TEST", "this broker itself"),
        ("http/API.test@A.TEST", "this broker itself"),
        // As a domain may read them.
        ("host/api@A.TEST", "this broker itself"),
        ("HTTP/other-broker.test@A.TEST", "refused_targets"),
        ("www/Other-Broker:8443@A.TEST", "refused_targets"),
        ("HTTP/legacy.test", "no service principal"),
        ("%&/(", "no service principal"),
    ] {
        let request = ToTicket {
            subject_token: Zeroizing::new("not looked at".to_owned()),
            target: target.into(),
        };
        let outcome = direction
            .exchange(request, &caller, &Hints::default(), Clock::Set(clock), Instant::now())
            .await;
        let refusal = outcome.map(drop).unwrap_err();
        assert!(refusal.detail.contains(said), "{target}: {}", refusal.detail);
        let error = refusal.for_listener(ListenerName::Mesh);
        assert_eq!(error.reason, Some(Reason::InvalidTarget), "{target}");
        assert!(error.error_description.unwrap().contains(said), "{target}");
    }
}
