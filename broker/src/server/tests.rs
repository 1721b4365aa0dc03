mod admin;
mod clients;
mod exchanges;
mod failures;
mod legs;
pub(crate) mod log;
mod logout;
mod metadata;
mod openapi;
mod revocations;
mod token_revocation;
mod trades;

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kerbridge_gate::network::Network;
use kerbridge_gss::{MechToken, Principal};
use kerbridge_wire::exchange::{ExchangeError, ExchangeReply, FORM, NEGOTIATE_LIMIT, OauthError};
use kerbridge_wire::filter_config::Algorithm;
use kerbridge_wire::{Reason, policy as raw};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::acceptor::{Accepted, Acceptor, AcceptorPool, Leg, Progress, Rejection};
use crate::audit::Audit;
use crate::channel_bindings::Channel;
use crate::continuation::Continuations;
use crate::exchange::{Caller, ClientProof, Peer, TicketToToken, TokenToToken};
use crate::failure_limit::FailureLimit;
use crate::groups::GroupSource;
use crate::identity::IdentityRules;
use crate::keyring::{KeyEncryptionKey, KeyRing};
use crate::metrics::Metrics;
use crate::negotiate::tests::token_text;
use crate::policy::Policy;
use crate::principal::mapping::NameRules;
use crate::problem::Problems;
use crate::replay::ReplayGuard;
use crate::subject_token::{Issuers, Verifiers};
use crate::time::UnixTime;

/// Accepts everybody as one client, or nobody for one reason.
#[derive(Clone, Copy)]
struct Scripted(Result<&'static str, Reason>);

impl Acceptor for Scripted {
    fn accept(&self, _: Leg, _: &Channel) -> Result<Progress, Rejection> {
        match self.0 {
            Ok(client) => Ok(Progress::Established(Accepted::for_test(
                Principal::parse(client).unwrap(),
            ))),
            Err(reason) => Err(Rejection {
                reply: MechToken::new(b"error".to_vec()),
                ..Rejection::new(reason, "scripted")
            }),
        }
    }
}

/// So many failures of one source pass within a minute.
const FAILURES: u32 = 20;

const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[audience]]
    name = "billing"
    resource = "https://billing.test"
    [[exchange]]
    clients = ["mesh", "orders.test"]
    from = "orders"
    to = "billing"
    scopes = ["read", "refund"]
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "orders"
    scopes = ["read", "write"]
    [[route]]
    path = "/"
    access = "open"
"#;

pub(super) fn broker(outcome: Result<&'static str, Reason>) -> Arc<Broker> {
    broker_with(outcome, || Ok(()))
}

fn broker_with(
    outcome: Result<&'static str, Reason>,
    look: impl Fn() -> readiness::Outcome + Send + 'static,
) -> Arc<Broker> {
    broker_of(POLICY, outcome, look)
}

fn broker_of(
    policy: &str,
    outcome: Result<&'static str, Reason>,
    look: impl Fn() -> readiness::Outcome + Send + 'static,
) -> Arc<Broker> {
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(policy, &mut problems).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
    let metrics = Arc::new(Metrics::new());
    let acceptors: Vec<Box<dyn Acceptor>> = vec![Box::new(Scripted(outcome))];
    let to_token = TicketToToken {
        issuer: "https://broker.test".into(),
        policy: Policy::build(&file, &mut problems).unwrap_or_else(|| panic!("{problems}")),
        rules: IdentityRules {
            names: NameRules::default(),
            realms: vec!["A.TEST".into()],
            ticket_floor: 5,
        },
        groups: GroupSource::None,
        keyring: KeyRing::open_or_create(folder.path(), &key).unwrap(),
        acceptors: AcceptorPool::start(acceptors, 16, Duration::from_secs(10), metrics.queue_depth()).unwrap(),
        replay: ReplayGuard::new(None, 300),
        revocations: crate::revocation::tests::none(),
        deadline: Duration::from_secs(10),
        continuations: Continuations::new(metrics.half_open(), metrics.pushed_out()),
        metrics: Arc::clone(&metrics),
    };
    let exchange = Exchange {
        trade: Some(TokenToToken {
            verifiers: verifiers(&file, &to_token, &metrics),
            names: None,
            feeds: crate::subject_token::Feeds::none(),
        }),
        clients: None,
        to_token: Some(to_token),
        to_ticket: None,
        failures: FailureLimit::new(FAILURES, vec![Network::parse("10.0.0.9").unwrap()]),
        metrics,
        audit: Audit::default(),
    };
    Arc::new(Broker::new(
        exchange,
        Clock::Fixed(UnixTime::from_seconds(2000)),
        Readiness::watch(look).unwrap(),
        ClientAuthentication {
            by_certificate: true,
            by_signature: Algorithm::ALL.to_vec(),
        },
    ))
}

/// What verifies its tokens.
fn verifiers(file: &raw::Policy, minting: &TicketToToken, metrics: &Metrics) -> Verifiers {
    let keys = Some(minting.keyring.jwks());
    let issuers = Issuers::new(&minting.issuer, file, &minting.policy, keys, &[], &[]).unwrap();
    Verifiers::start(&Arc::new(issuers), 1, metrics.verify_queue()).unwrap()
}

/// What makes its tokens.
fn tokens(broker: &Broker) -> &TicketToToken {
    broker.exchange.to_token.as_ref().unwrap()
}

pub(super) fn body(more: &[(&str, &str)]) -> String {
    let token = token_text();
    let mut fields = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token.as_str()),
        ("subject_token_type", "urn:kerbridge:token-type:negotiate"),
        ("audience", "orders"),
    ];
    fields.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    fields.extend(more);
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace('+', "%2B")
            .replace('=', "%3D")
            .replace(' ', "+")
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    pairs.join("&")
}

async fn send(listener: ListenerName, broker: &Arc<Broker>, request: Request<Body>) -> Response<Body> {
    let mut request = request;
    request.extensions_mut().insert(Caller {
        listener,
        client: listener.as_str().into(),
        proof: ClientProof::Socket,
        peer: Peer {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            server_name: None,
            uid: None,
        },
    });
    router(listener, Arc::clone(broker)).oneshot(request).await.unwrap()
}

async fn ask(listener: ListenerName, broker: &Arc<Broker>, body: String) -> Response<Body> {
    let request = Request::post("/oauth2/token")
        .header(header::CONTENT_TYPE, FORM)
        .body(body.into())
        .unwrap();
    send(listener, broker, request).await
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn error(response: Response<Body>) -> (StatusCode, ExchangeError) {
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let status = response.status();
    assert_eq!(
        response.headers().contains_key(header::RETRY_AFTER),
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS),
        "{status}"
    );
    (status, serde_json::from_str(&text(response).await).unwrap())
}

#[tokio::test]
async fn each_listener_has_its_endpoints_and_no_others() {
    let broker = broker(Ok("alice@A.TEST"));
    let paths = [
        "/.well-known/jwks.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/revocations",
    ];
    for (listener, there) in [
        (ListenerName::Mesh, [true, true, true, false, true]),
        (ListenerName::Public, [true, false, false, false, false]),
        (ListenerName::Observe, [false, true, true, true, false]),
        (ListenerName::Admin, [false, false, false, false, true]),
    ] {
        for (path, there) in paths.into_iter().zip(there) {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let status = send(listener, &broker, request).await.status();
            assert_eq!(
                status,
                if there { StatusCode::OK } else { StatusCode::NOT_FOUND },
                "{listener} {path}"
            );
        }
        let status = ask(listener, &broker, body(&[])).await.status();
        let exchanges = matches!(listener, ListenerName::Mesh | ListenerName::Public);
        assert_eq!(status != StatusCode::NOT_FOUND, exchanges);
    }
}

#[tokio::test]
async fn the_published_keys_are_a_set_with_the_signing_key() {
    let broker = broker(Ok("alice@A.TEST"));
    let request = Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let response = send(ListenerName::Mesh, &broker, request).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/jwk-set+json");
    let set: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        set["keys"][0]["kid"],
        broker.exchange.to_token.as_ref().unwrap().keyring.signing().id()
    );
}

#[tokio::test]
async fn a_broker_that_could_accept_no_ticket_is_alive_and_not_ready() {
    let broker = broker_with(Ok("alice@A.TEST"), || Err("kerberos.acceptor[0].keytab: gone".into()));
    for (path, status, said) in [
        ("/healthz", StatusCode::OK, "ok\n"),
        (
            "/readyz",
            StatusCode::SERVICE_UNAVAILABLE,
            "kerberos.acceptor[0].keytab: gone\n",
        ),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = send(ListenerName::Observe, &broker, request).await;
        assert_eq!(response.status(), status);
        assert_eq!(text(response).await, said);
    }
}

#[tokio::test]
async fn a_draining_broker_is_alive_and_not_ready() {
    let broker = broker(Ok("alice@A.TEST"));
    broker.drain();
    for (path, status) in [
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(send(ListenerName::Mesh, &broker, request).await.status(), status);
    }
}
