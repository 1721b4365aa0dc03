//! Each attempt brings a ticket of its own, Envoy's retries and hedges included, and none after its token's end.

use std::sync::atomic::{AtomicBool, Ordering};

use kerbridge_tests::issuer::{FEED, Issuer, token_entry};
use kerbridge_tests::token::{now, with};

use super::*;

/// The retry policy of the legacy route.
fn retry(policy: &'static str) -> impl FnOnce(WorldBuilder) -> WorldBuilder {
    move |builder| {
        builder.yaml(move |yaml| {
            yaml.remove_block("retry_policy:")?;
            yaml.replace(
                "cluster: legacy\n",
                &format!("cluster: legacy\n                  {policy}\n"),
            )
        })
    }
}

const ON_5XX: &str = "retry_policy: {retry_on: 5xx, num_retries: 3}";

#[test]
fn an_upstream_that_fails_once_is_asked_again_with_another_ticket_and_the_whole_body() {
    let scene = Scene::start(
        |n, _| {
            if n == 0 {
                Reply::status(503, "")
            } else {
                Reply::ok("in")
            }
        },
        retry(ON_5XX),
    );
    let answer = scene
        .world
        .send(&scene.bearer(Request::post("/legacy/x", "a whole body")))
        .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "in"));
    assert_eq!(tickets_of(&scene.service), [negotiate(0), negotiate(1)]);
    assert!(
        scene
            .service
            .requests()
            .iter()
            .all(|request| request.body == b"a whole body")
    );
    assert_eq!(scene.counted("ok", "lab"), 2);
}

#[test]
fn two_hedged_attempts_have_two_tickets() {
    let scene = Scene::start(
        |n, _| if n == 0 { Reply::Never } else { Reply::ok("in") },
        retry(
            "retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.5s}\n                  \
             hedge_policy: {hedge_on_per_try_timeout: true}",
        ),
    );
    assert_eq!(
        scene
            .world
            .send(&scene.bearer(Request::get("/legacy/x")))
            .unwrap()
            .status,
        200
    );
    assert_eq!(tickets_of(&scene.service), [negotiate(0), negotiate(1)]);
}

/// A service that refuses its first tickets, as Apache does.
fn refuses(times: usize) -> impl Fn(usize, &Incoming) -> Reply + Send + Sync {
    move |n, _| {
        if n < times {
            Reply::Raw(
                b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Negotiate\r\nwww-authenticate: Basic realm=\"x\"\r\n\
                  content-length: 6\r\n\r\nsecret"
                    .to_vec(),
            )
        } else {
            Reply::ok("in")
        }
    }
}

#[test]
fn as_it_ships_a_refused_ticket_is_tried_once_more_where_the_method_may_be_sent_twice() {
    for (method, attempts, status) in [
        ("GET", 2, 200),
        ("HEAD", 2, 200),
        ("PUT", 2, 200),
        ("DELETE", 2, 200),
        ("POST", 1, 502),
        ("PATCH", 1, 502),
        ("PROPFIND", 1, 502),
    ] {
        let scene = Scene::start(refuses(1), |builder| builder);
        let answer = scene.world.curl("/legacy/x").bearer(&scene.token("alice"));
        let answer = if method == "HEAD" {
            answer.arg("--head")
        } else {
            answer.method(method)
        };
        assert_eq!(answer.send().unwrap().status, status, "{method}");
        let expected: Vec<_> = (0..attempts).map(negotiate).collect();
        assert_eq!(tickets_of(&scene.service), expected, "{method}");
    }
}

#[test]
fn a_ticket_that_stays_refused_is_502_and_the_services_challenge_stays_here() {
    let scene = Scene::start(refuses(9), |builder| builder);
    for (request, attempts) in [
        (Request::get("/legacy/x"), 2),
        (Request::post("/legacy/x", "a body"), 3),
    ] {
        let answer = scene.world.send(&scene.bearer(request)).unwrap();
        assert_eq!(scene.service.requests().len(), attempts);
        assert!(answer.header("www-authenticate").is_none() && !answer.text().contains("secret"));
        assert_eq!(answer.header_text("cache-control").as_deref(), Some("no-store"));
        let refusal = scene.world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.error.as_str(), refusal.reason.as_str()),
            (502, "temporarily_unavailable", "upstream_refused_ticket")
        );
    }
    assert_eq!(scene.counted("upstream_refused_ticket", "lab"), 2);
    assert_eq!(scene.counted("ok", "lab"), 3);
    assert!(
        scene
            .world
            .envoy_log()
            .contains("reason=upstream_refused_ticket route=legacy issuer=lab")
    );
    // A gRPC client is told so in its words.
    let grpc = Request::post("/legacy/x", "").header("content-type", "application/grpc");
    let answer = scene.world.send(&scene.bearer(grpc)).unwrap();
    assert_eq!(
        (answer.status, answer.header_text("grpc-status").as_deref()),
        (200, Some("14"))
    );
}

#[test]
fn other_answers_of_the_service_pass_without_its_challenges() {
    let scene = Scene::start(
        |_, request| {
            let status = target(request).rsplit('/').next().unwrap_or_default().to_owned();
            let head = format!("HTTP/1.1 {status} S\r\nwww-authenticate: Negotiate\r\nx-kept: 1\r\n");
            Reply::Raw(format!("{head}content-length: 4\r\n\r\nbody").into_bytes())
        },
        |builder| builder,
    );
    for status in [200, 302, 403, 404, 407, 500, 503] {
        let answer = scene
            .world
            .send(&scene.bearer(Request::get(&format!("/legacy/{status}"))))
            .unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, "body"));
        assert!(answer.header("www-authenticate").is_none() && answer.header("x-kept").is_some());
    }
}

/// Lets a second attempt come after something happened during the first.
fn second_attempt_after(
    scene: &Scene,
    request: &Request,
    is_released: &AtomicBool,
    happens: impl FnOnce(),
) -> (u16, String) {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let answer = scene.world.send(request).unwrap();
            let refusal = scene.world.refusal(answer.status, &answer.body).unwrap();
            (refusal.status, refusal.reason)
        });
        wait_until("the first attempt", WITHIN, || scene.service.requests().len() == 1).unwrap();
        happens();
        is_released.store(true, Ordering::SeqCst);
        first.join().unwrap()
    })
}

/// A service whose first answer is 503, once it is let go.
fn fails_when_released(is_released: &Arc<AtomicBool>) -> impl Fn(usize, &Incoming) -> Reply + Send + Sync + use<> {
    let is_released = Arc::clone(is_released);
    move |n, _| {
        if n == 0 {
            wait_until("the release", WITHIN, || is_released.load(Ordering::SeqCst)).unwrap();
            Reply::status(503, "")
        } else {
            Reply::ok("in")
        }
    }
}

/// Requests outlive their token here, so that only the next attempt meets its end.
fn long_streams(builder: WorldBuilder) -> WorldBuilder {
    builder.filter(|filter| {
        for route in filter["routes"].as_array_mut().unwrap() {
            if route["name"] == "legacy" {
                route["long_streams"] = json!("allow");
            }
        }
    })
}

#[test]
fn an_attempt_after_the_tokens_end_gets_no_ticket() {
    let is_released = Arc::default();
    let scene = Scene::start(fails_when_released(&is_released), |builder| {
        long_streams(retry(ON_5XX)(builder))
    });
    let key = scene.world.lab_key().unwrap();
    let ends = now().saturating_add(3);
    let claims = with(claims(LAB_ISSUER, "alice", "legacy", ""), "exp", json!(ends));
    let token = key.sign(&key.header(), &claims).unwrap();
    let request = Request::get("/legacy/x").header("authorization", format!("Bearer {token}"));
    let refused = second_attempt_after(&scene, &request, &is_released, || {
        wait_until("the token's end", WITHIN, || now() > ends).unwrap();
    });
    assert_eq!(refused, (401, "expired".to_owned()));
    // The broker was not even asked.
    assert_eq!((scene.tickets.asked().len(), scene.service.requests().len()), (1, 1));
}

#[test]
fn an_attempt_after_a_logout_gets_no_ticket() {
    let issuer = Issuer::start().unwrap();
    let is_released = Arc::default();
    let feed = json!({
        "jwks": {"poll": "1s"}, "feed": {"cluster": "id", "path": FEED, "poll": "1s", "max_staleness": "1h"}
    });
    let scene = Scene::start(fails_when_released(&is_released), |builder| {
        issuer.join(long_streams(retry(ON_5XX)(builder)), feed)
    });
    let token = issuer.token(&json!({"aud": "legacy", "jti": "away"})).unwrap();
    let request = Request::get("/legacy/x").header("authorization", format!("Bearer {token}"));
    let elsewhere = Request::get("/orders/1").header(
        "authorization",
        format!("Bearer {}", issuer.token(&json!({"jti": "away"})).unwrap()),
    );
    wait_until("the issuer's keys", WITHIN, || {
        scene.world.send(&elsewhere).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
    let refused = second_attempt_after(&scene, &request, &is_released, || {
        issuer.revoke(&[token_entry("away")]);
        wait_until("the revocation", WITHIN, || {
            scene.world.send(&elsewhere).is_ok_and(|answer| answer.status == 401)
        })
        .unwrap();
    });
    assert_eq!(refused, (401, "revoked".to_owned()));
    assert_eq!((scene.tickets.asked().len(), scene.service.requests().len()), (1, 1));
}
