//! Every reason of the closed list in a real Envoy: how it comes about, and the status, challenges, gRPC status,
//! response-code details and counter that go with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::{Request, Response};
use kerbridge_tests::issuer::{FEED, Issuer, token_entry};
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::shipped::repository;
use kerbridge_tests::token::{LabKey, alter_claims, claims, now, with};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::LAB_ISSUER;
use kerbridge_wire::Reason;
use kerbridge_wire::reason::ChallengeRule;
use serde_json::{Value, json};

/// The acceptor's token that the scripted broker sends along.
const REPLY_TOKEN: &str = "oYGzMIGw";

/// How a reason comes about.
enum How {
    /// A request that the filter refuses by itself.
    Shown(Request),
    /// A ticket, and the broker's word.
    Broker,
    /// Another scenario has a world of its own for it.
    Elsewhere(&'static str),
    /// No answer of the filter's has it, and why.
    Never(&'static str),
}

fn bearer(token: &str) -> Request {
    Request::get("/orders/1").header("authorization", format!("Bearer {token}"))
}

fn how(reason: Reason, key: &LabKey, revoked: &str) -> How {
    let good = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read");
    let signed = |header: &Value, claims: &Value| key.sign(header, claims).unwrap();
    let claiming = |member: &str, value: Value| bearer(&signed(&key.header(), &with(good.clone(), member, value)));
    let headed = |member: &str, value: &str| bearer(&signed(&with(key.header(), member, json!(value)), &good));
    let token = || signed(&key.header(), &good);
    How::Shown(match reason {
        Reason::Ok => bearer(&token()),
        Reason::NoCredentials => Request::get("/orders/1"),
        Reason::TokenMalformed => bearer("a.b"),
        Reason::AlgorithmNotAllowed => headed("alg", "HS256"),
        Reason::UnknownIssuer => claiming("iss", json!("https://nobody.example.com")),
        Reason::UnknownKey => headed("kid", "nobody's"),
        Reason::BadSignature => {
            bearer(&alter_claims(&token(), |claims| with(claims, "sub", json!("mallory"))).unwrap())
        }
        Reason::Expired => claiming("exp", json!(now().saturating_sub(1))),
        Reason::NotYetValid => claiming("nbf", json!(now().saturating_add(3600))),
        Reason::WrongAudience => claiming("aud", json!("reports")),
        Reason::WrongType => headed("typ", "JWT"),
        Reason::MissingClaim => claiming("sub", Value::Null),
        Reason::Revoked => bearer(revoked),
        Reason::MalformedCredentials => Request::get("/orders/1").header("authorization", "Bearer"),
        Reason::MultipleCredentials => bearer(&token()).header("authorization", "Negotiate YIIabc"),
        Reason::TokenInQuery => Request::get("/orders/1?access_token=a.b.c"),
        Reason::PathAmbiguous => Request::get("/orders/1;a/b"),
        Reason::TokenTooLarge => bearer(&"a".repeat(17_000)),
        Reason::NtlmToken => Request::get("/orders/1").header("authorization", "NTLM TlRMTVNTUAAB"),
        Reason::InsufficientScope => claiming("scope", json!("orders:list")),
        Reason::DeniedByPolicy => Request::get("/nowhere"),
        Reason::CrossSite => Request::post("/orders/1", "x")
            .header("authorization", "Negotiate YIIabc")
            .header("origin", "https://evil.example.com")
            .header("sec-fetch-site", "cross-site"),
        Reason::MechUnsupported
        | Reason::ContinueNeeded
        | Reason::ContinuationLost
        | Reason::Replay
        | Reason::TicketExpired
        | Reason::TicketNotYetValid
        | Reason::TicketTooShort
        | Reason::ClockSkew
        | Reason::ChannelBindingMissing
        | Reason::ChannelBindingMismatch
        | Reason::SpnUnknown
        | Reason::KvnoMismatch
        | Reason::EtypeUnavailable
        | Reason::RealmNotAllowed
        | Reason::PrincipalNotMapped
        | Reason::DelegationDenied
        | Reason::EvidenceNotForwardable
        | Reason::RateLimited
        | Reason::GroupsUnavailable
        | Reason::KdcUnreachable
        | Reason::BrokerUnavailable
        | Reason::BrokerOverloaded
        | Reason::StoreUnavailable
        | Reason::Internal => return How::Broker,
        Reason::CertificateMismatch => {
            return How::Elsewhere("bound.rs::a_token_that_is_bound_to_a_certificate_opens_with_it_and_with_no_other");
        }
        Reason::InsecureTransport => {
            return How::Elsewhere("headers.rs::a_credential_that_came_without_tls_is_refused");
        }
        Reason::KeysUnavailable => {
            return How::Elsewhere(
                "broker_away.rs::before_the_first_keys_everything_protected_is_503_and_then_all_is_well",
            );
        }
        Reason::FeedStale => {
            return How::Elsewhere("feeds.rs::without_a_fresh_feed_its_issuers_tokens_are_503_and_others_pass");
        }
        Reason::LoggedOut => {
            return How::Elsewhere(
                "logout.rs::a_browser_logs_out_of_all_audiences_stays_out_and_comes_in_when_it_wants",
            );
        }
        Reason::InvalidRequest => {
            return How::Elsewhere("logout.rs::a_login_leads_nowhere_else");
        }
        Reason::ClientUnauthenticated | Reason::InvalidTarget | Reason::UnsupportedGrantType | Reason::InvalidScope => {
            return How::Never("the exchange endpoint says it to whoever asks there; from it, the filter's own 503");
        }
        Reason::UpstreamRefusedTicket => {
            return How::Elsewhere(
                "legacy/attempts.rs::a_ticket_that_stays_refused_is_502_and_the_services_challenge_stays_here",
            );
        }
    })
}

/// The broker's answer for a reason, as the exchange endpoint has it.
fn broker_says(reason: Reason) -> Reply {
    let error = if matches!(reason.status(), 429 | 503) {
        "temporarily_unavailable"
    } else {
        "invalid_grant"
    };
    let body = json!({"error": error, "reason": reason.as_str(), "negotiate": REPLY_TOKEN}).to_string();
    let length = body.len();
    Reply::Raw(
        format!("HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

/// The challenges that a reason has on the route `orders`.
fn challenges(reason: Reason) -> Vec<String> {
    let bearer = |more: &str| format!("Bearer realm=\"orders\"{more}");
    match reason.challenge() {
        ChallengeRule::None => vec![],
        ChallengeRule::Every => vec!["Negotiate".into(), bearer("")],
        ChallengeRule::InvalidToken => vec!["Negotiate".into(), bearer(", error=\"invalid_token\"")],
        ChallengeRule::InsufficientScope => vec![bearer(", error=\"insufficient_scope\", scope=\"orders:read\"")],
        ChallengeRule::Others => vec![bearer("")],
        ChallengeRule::Negotiate => vec![format!("Negotiate {REPLY_TOKEN}"), bearer("")],
    }
}

/// How often a reason was counted, whatever the issuer.
fn counted(world: &mut World, reason: Reason) -> u64 {
    let filter = format!("/stats?filter=kerbridge.requests.reason.{reason}.issuer");
    let page = world.envoy().admin_get(&filter).unwrap().text();
    let values = page
        .lines()
        .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
    values.sum()
}

fn texts(response: &Response, name: &str) -> Vec<String> {
    response
        .all(name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
fn each_reason_has_its_status_its_challenges_its_grpc_status_its_details_and_its_counter() {
    let issuer = Issuer::start().unwrap();
    let answer: Arc<Mutex<Option<Reply>>> = Arc::default();
    let says = Arc::clone(&answer);
    let builder = World::builder().lab_issuer().intercept(move |call| {
        let is_exchange = target(call) == "/oauth2/token";
        is_exchange.then(|| says.lock().unwrap().clone()).flatten()
    });
    let feed =
        json!({"jwks": {"poll": "1s"}, "feed": {"cluster": "id", "path": FEED, "poll": "1s", "max_staleness": "1h"}});
    let mut world = issuer.join(builder, feed).start().unwrap();
    let revoked = issuer.token(&json!({"jti": "revoked"})).unwrap();
    issuer.revoke(&[token_entry("revoked")]);
    wait_until("the revocation", Duration::from_secs(20), || {
        world.send(&bearer(&revoked)).is_ok_and(|answer| answer.status == 401)
    })
    .unwrap();
    let ticket = || Request::get("/orders/1").header("authorization", "Negotiate YIIabc");
    for &reason in Reason::ALL {
        let request = match how(reason, world.lab_key().unwrap(), &revoked) {
            How::Shown(request) => request,
            How::Broker => {
                *answer.lock().unwrap() = Some(broker_says(reason));
                ticket()
            }
            How::Elsewhere(test) => {
                let (file, name) = test.split_once("::").unwrap();
                let text = std::fs::read_to_string(repository().join("tests/tests/scenarios").join(file)).unwrap();
                assert!(text.contains(&format!("fn {name}(")), "{reason}: {test}");
                continue;
            }
            How::Never(why) => {
                assert!(!why.is_empty());
                continue;
            }
        };
        let (before, upstream) = (counted(&mut world, reason), world.upstream().requests().len());
        let response = world.send(&request).unwrap();
        assert_eq!(response.status, reason.status(), "{reason}: {}", response.text());
        if reason == Reason::Ok {
            assert_eq!(counted(&mut world, reason), before + 1);
            continue;
        }
        assert_eq!(texts(&response, "www-authenticate"), challenges(reason), "{reason}");
        let is_to_come_back = matches!(reason.status(), 429 | 503);
        assert_eq!(
            texts(&response, "retry-after").len(),
            usize::from(is_to_come_back),
            "{reason}"
        );
        assert_eq!(texts(&response, "cache-control"), ["no-store"], "{reason}");
        // OAuth's own word and that of 429 happen to be ours too.
        let is_public = matches!(reason, Reason::InsufficientScope | Reason::RateLimited);
        assert_eq!(
            response.text().contains(reason.as_str()),
            is_public,
            "{reason}: the inside stays inside"
        );
        let refusal = world.refusal(response.status, &response.body).unwrap();
        assert_eq!(refusal.reason, reason.as_str(), "response-code details");
        let grpc = world.send(&request.header("content-type", "application/grpc")).unwrap();
        assert_eq!(
            (grpc.status, texts(&grpc, "grpc-status")),
            (200, vec![reason.grpc_status().to_string()]),
            "{reason}"
        );
        assert_eq!(counted(&mut world, reason), before + 2, "{reason}");
        assert_eq!(world.upstream().requests().len(), upstream, "{reason}: nothing arrives");
    }
    assert_eq!(world.reloads(), Some(0));
}
