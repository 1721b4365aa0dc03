//! Tickets: what one is traded for, whose principal arrives, and by which reason a bad one is refused.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::relay::Recorded;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::{decode, now};
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{SERVICE, lab_program};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Value, json};

/// What the echo shows of a header: all its values.
fn shown(answer: &Answer, name: &str) -> Vec<String> {
    let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let pairs = headers
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    pairs
        .filter(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}

fn exchanges(world: &World) -> Vec<Recorded> {
    let mut recorded = world.relay().unwrap().recorded();
    recorded.retain(|recorded| recorded.call.line.starts_with("POST /oauth2/token "));
    recorded
}

fn negotiate(token: &str) -> Request {
    Request::get("/orders/1").header("authorization", format!("Negotiate {token}"))
}

/// Status and reason of a refused request as bytes.
fn refused(world: &World, request: &Request) -> (u16, String) {
    let before = world.upstream().requests().len();
    let answer = world.send(request).unwrap();
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!(world.upstream().requests().len(), before, "a refused request arrived");
    (refusal.status, refusal.reason)
}

#[test]
fn the_first_request_with_a_ticket_passes_and_brings_a_token() {
    let world = World::start().unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!((answer.status, answer.responses), (200, 1), "{}", answer.text());

    // The service learns who calls, and gets neither ticket nor token.
    assert_eq!(shown(&answer, "x-kerbridge-subject"), ["alice@LAB.TEST"]);
    assert_eq!(shown(&answer, "x-kerbridge-scope"), ["orders:read orders:write"]);
    assert_eq!(shown(&answer, "authorization"), Vec::<String>::new());

    // The client gets the acceptor's reply and a token, and no cache keeps either.
    let challenges = answer.all("www-authenticate");
    assert_eq!(challenges.len(), 1, "{challenges:?}");
    assert!(challenges[0].starts_with("Negotiate o"), "{challenges:?}");
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    for cached in ["age", "expires", "etag"] {
        assert_eq!(answer.all(cached), Vec::<&str>::new(), "{cached}");
    }
    let expires_in: u64 = answer.header("x-kerbridge-token-expires-in").unwrap().parse().unwrap();
    assert!((890..=900).contains(&expires_in), "{expires_in}");

    // RFC 9068 §2.
    let token = decode(answer.header("x-kerbridge-token").unwrap()).unwrap();
    assert_eq!(token.header["typ"], "at+jwt");
    assert_eq!(token.header["alg"], "ES256");
    assert_eq!(token.signature_bytes, 64);
    let claims = &token.claims;
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], "alice@LAB.TEST");
    assert_eq!(claims["aud"], "orders");
    assert_eq!(claims["amr"], json!(["kerberos"]));
    assert_eq!(claims["kerbridge_cb"], false);
    let mut scopes: Vec<&str> = claims["scope"].as_str().unwrap().split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["orders:read", "orders:write"]);
    let (issued, ends) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert_eq!(ends - issued, 900);
    assert!(now().abs_diff(issued) < 10);
    assert!(claims["auth_time"].as_u64().unwrap() <= issued);
    for text in ["jti", "sid", "client_id"] {
        assert!(
            claims[text].as_str().is_some_and(|text| !text.is_empty()),
            "{text}: {claims}"
        );
    }
}

#[test]
fn the_reply_proves_the_service_to_a_client_that_checks_it() {
    let world = World::start().unwrap();
    let outcome = world.complete("alice", "/orders/1").unwrap();
    assert_eq!(outcome["status"], 200, "{outcome}");
    assert_eq!(outcome["established"], true, "{outcome}");
    assert!(outcome["token"].as_str().is_some_and(|token| decode(token).is_some()));
}

#[test]
fn a_token_alone_passes_without_a_call_to_the_broker() {
    let world = World::builder().record().start().unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    assert_eq!(exchanges(&world).len(), 1);
    for path in ["/orders/2", "/orders/3?x=1", "/orders"] {
        let answer = world.curl(path).bearer(&token).send().unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(shown(&answer, "x-kerbridge-subject"), ["alice@LAB.TEST"]);
        // Nothing was minted, so nothing is handed back, and the service's caching stays.
        assert_eq!(answer.header("x-kerbridge-token"), None);
        assert_eq!(answer.all("www-authenticate"), Vec::<&str>::new());
        assert_eq!(answer.header("etag"), Some("\"echo\""));
    }
    assert_eq!(exchanges(&world).len(), 1);
}

#[test]
fn two_users_at_once_are_two_principals_with_their_own_scopes() {
    let world = World::builder().concurrency(2).start().unwrap();
    std::thread::scope(|scope| {
        for (user, scopes) in [("alice", "orders:read orders:write"), ("bob", "orders:read")] {
            let world = &world;
            scope.spawn(move || {
                for round in 0..10 {
                    let answer = world.curl_as(user, &format!("/orders/{user}-{round}")).send().unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json()["target"], format!("/orders/{user}-{round}"));
                    assert_eq!(shown(&answer, "x-kerbridge-subject"), [format!("{user}@LAB.TEST")]);
                    assert_eq!(shown(&answer, "x-kerbridge-scope"), [scopes]);
                }
            });
        }
    });
    assert_eq!(world.upstream().requests().len(), 20);
}

#[test]
fn a_user_gets_no_more_than_the_grants_say() {
    let world = World::start().unwrap();
    let write = world.curl_as("bob", "/orders/1").body("{}").send().unwrap();
    assert_eq!(world.reason(&write).unwrap(), (403, "insufficient_scope".to_owned()));
    let report = world.curl_as("bob", "/reports/1").send().unwrap();
    assert_eq!(world.reason(&report).unwrap(), (403, "denied_by_policy".to_owned()));
    assert_eq!(world.upstream().requests().len(), 0);

    assert_eq!(
        world.curl_as("alice", "/orders/1").body("{}").send().unwrap().status,
        200
    );
    let report = world.token("alice", "/reports/1").unwrap();
    let elsewhere = world.curl("/orders/1").bearer(&report).send().unwrap();
    assert_eq!(world.reason(&elsewhere).unwrap(), (401, "wrong_audience".to_owned()));
    assert_eq!(world.curl("/reports/2").bearer(&report).send().unwrap().status, 200);
}

#[test]
fn the_same_ticket_bytes_twice_are_a_replay() {
    let world = World::start().unwrap();
    let token = world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(world.send(&negotiate(&token)).unwrap().status, 200);
    let again = world.send(&negotiate(&token)).unwrap();
    let refusal = world.refusal(again.status, &again.body).unwrap();
    assert_eq!((refusal.status, refusal.reason.as_str()), (401, "replay"));
    assert_eq!(
        again
            .all("www-authenticate")
            .filter(|line| line.starts_with(b"Negotiate"))
            .count(),
        1
    );
    assert_eq!(world.upstream().requests().len(), 1);
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
}

#[test]
fn the_same_ticket_bytes_after_a_restart_of_the_broker_are_a_replay() {
    let mut world = World::start().unwrap();
    let token = world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(world.send(&negotiate(&token)).unwrap().status, 200);
    world.broker().kill().unwrap();
    world.broker().start().unwrap();
    assert_eq!(refused(&world, &negotiate(&token)), (401, "replay".to_owned()));
}

#[test]
fn a_ticket_for_another_service_is_refused_and_not_asked_for_again() {
    let world = World::start().unwrap();
    let token = world.negotiate_token("alice", "HTTP/other.localhost@LAB.TEST").unwrap();
    let answer = world.send(&negotiate(&token)).unwrap();
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!((refusal.status, refusal.reason.as_str()), (401, "spn_unknown"));
    // Negotiate again would make a browser ask for the same wrong ticket.
    let challenges: Vec<_> = answer.all("www-authenticate").collect();
    assert!(
        challenges.len() == 1 && challenges[0].starts_with(b"Bearer"),
        "{challenges:?}"
    );
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_broken_negotiate_token_is_refused_and_the_next_request_passes() {
    let world = World::builder().record().start().unwrap();
    let good = world.negotiate_token("alice", SERVICE).unwrap();
    let cut = |length: usize| good.get(..length / 4 * 4).unwrap().to_owned();
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    for (what, value) in [
        ("nothing", String::new()),
        ("no base64", "!!!".to_owned()),
        ("four bytes", "AAAA".to_owned()),
        ("a lone letter", "A".to_owned()),
        ("one byte", "YA==".to_owned()),
        ("zeroes", "A".repeat(4096)),
        ("the first quarter", cut(good.len() / 4)),
        ("the first half", cut(good.len() / 2)),
        ("all but the end", cut(good.len() - 4)),
        ("one flipped bit", String::from_utf8(flipped).unwrap()),
        ("a token of the longest length", "YIIB".repeat(16 * 1024)),
    ] {
        let (status, reason) = refused(&world, &negotiate(&value));
        assert!([400, 401].contains(&status), "{what}: {status} {reason}");
        assert_ne!(reason, "token_too_large", "{what}");
    }
    // 64 KiB reach the broker; one character more does not, and is told apart from an ordinary bad token.
    let asked = exchanges(&world).len();
    for length in [64 * 1024 + 4, 80 * 1024] {
        let (status, reason) = refused(&world, &negotiate(&"A".repeat(length)));
        assert_eq!((status, reason.as_str()), (401, "token_too_large"), "{length}");
    }
    // Past Envoy's own limit it is Envoy that answers.
    assert_eq!(world.send(&negotiate(&"A".repeat(120 * 1024))).unwrap().status, 431);
    assert_eq!(exchanges(&world).len(), asked);
    assert_eq!(world.send(&negotiate(&good)).unwrap().status, 200);
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn ntlm_is_refused_by_name_and_not_asked_for_again() {
    let world = World::start().unwrap();
    // An NTLM type 1 message, as Windows sends it where it finds no ticket (MS-NLMP §2.2.1.1).
    let ntlm = "TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAAKAO5CAAAADw==";
    for scheme in ["Negotiate", "NTLM"] {
        let request = Request::get("/orders/1").header("authorization", format!("{scheme} {ntlm}"));
        let answer = world.send(&request).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.reason.as_str()),
            (401, "ntlm_token"),
            "{scheme}"
        );
        let challenges: Vec<_> = answer.all("www-authenticate").collect();
        assert!(
            challenges.len() == 1 && challenges[0].starts_with(b"Bearer"),
            "{challenges:?}"
        );
    }
}

/// The environment of a client with these tickets.
fn client_of(world: &World, tickets: &Path) -> [(&'static str, OsString); 2] {
    let config = world.kdc().krb5_config().as_os_str().to_owned();
    [("KRB5_CONFIG", config), ("KRB5CCNAME", tickets.as_os_str().to_owned())]
}

#[test]
fn a_ticket_near_its_end_gives_a_token_that_ends_with_it() {
    let world = World::start().unwrap();
    // Ten seconds are left when she logs in.
    let tickets = world.kdc().kinit_with("alice", &["-l", "10s"]).unwrap();
    let answer = world
        .curl("/orders/1")
        .negotiate(client_of(&world, tickets.path()))
        .send()
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.header("x-kerbridge-token").unwrap();
    let claims = decode(token).unwrap().claims;
    let (issued, ends) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!((6..=10).contains(&(ends - issued)), "{claims}");
    // Until its last second it opens; from the second of its end on nothing of it arrives.
    let mut connection = world.connect().unwrap();
    let request = Request::get("/orders/2").header("authorization", format!("Bearer {token}"));
    let before = world.upstream().requests().len();
    let mut opened = 0;
    wait_until("the end of the token", Duration::from_secs(20), || {
        let sent = now();
        let answer = connection.exchange(&request).unwrap();
        if answer.status == 200 {
            assert!(sent < ends, "it opened at {sent}, and ended at {ends}");
            opened += 1;
            return false;
        }
        assert!(now() >= ends, "it was refused before {ends}");
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!((refusal.status, refusal.reason.as_str()), (401, "expired"));
        true
    })
    .unwrap();
    assert!(opened > 10, "{opened}");
    assert_eq!(world.upstream().requests().len() - before, opened);
    // Nor does the ticket buy another one: KDCs and acceptors allow for clocks that differ, we do not.
    let spent = world
        .curl("/orders/1")
        .negotiate(client_of(&world, tickets.path()))
        .send()
        .unwrap();
    assert_eq!(spent.status, 401, "{}", spent.text());
    assert_eq!(world.upstream().requests().len() - before, opened);
}

#[test]
fn a_ticket_with_less_life_than_a_token_is_worth_is_refused_by_name() {
    let world = World::builder()
        .broker_table("[limits]\nticket_floor = \"10m\"")
        .start()
        .unwrap();
    let tickets = world.kdc().kinit_with("alice", &["-l", "9m"]).unwrap();
    let lab = lab_program().unwrap();
    let token = token_in_child(&lab, world.kdc(), &tickets, SERVICE).unwrap();
    assert_eq!(
        refused(&world, &negotiate(&token)),
        (401, "ticket_too_short".to_owned())
    );
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
}

#[test]
fn the_broker_is_told_who_asks_and_the_ticket_goes_in_the_body() {
    let world = World::builder().record().start().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    let recorded = exchanges(&world);
    let call = &recorded[0].call;
    let head = format!("{:?}", call.headers);
    assert!(!head.contains("Negotiate") && !head.contains("uthorization"), "{head}");
    let body = String::from_utf8(call.body.clone()).unwrap();
    for parameter in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
        "subject_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate",
        "subject_token=YII",
        "audience=orders",
        "route=orders",
        "source=127.0.0.1",
        "server_name=localhost",
        "request_id=",
    ] {
        assert!(
            body.split('&').any(|pair| pair.starts_with(parameter)),
            "{parameter} in {body}"
        );
    }
    let answer = recorded[0].answer.as_ref().unwrap();
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, reply["token_type"].as_str()), (200, Some("Bearer")));
}

#[test]
fn a_ticket_that_another_site_made_a_browser_send_changes_nothing() {
    let world = World::builder().record().start().unwrap();
    let post = |header: &str| {
        world
            .curl_as("alice", "/orders/1")
            .body("{}")
            .header(header)
            .send()
            .unwrap()
    };
    for foreign in ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example.com"] {
        let answer = post(foreign);
        assert_eq!(
            world.reason(&answer).unwrap(),
            (403, "cross_site".to_owned()),
            "{foreign}"
        );
    }
    assert_eq!(exchanges(&world).len(), 0, "the ticket was used up");
    assert_eq!(post("Sec-Fetch-Site: same-origin").status, 200);
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn a_broker_that_hangs_on_a_ticket_says_so_before_the_filter_gives_up_and_still_ends() {
    let mut world = World::start().unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    // What a file system that hangs does to it: MIT waits for the lock on its replay cache without end.
    let replay = world.folder().join("state/replay");
    let held = OpenOptions::new().read(true).write(true).open(replay).unwrap();
    fcntl_lock(&held, FlockOperation::LockExclusive).unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&answer).unwrap(), (503, "broker_overloaded".to_owned()));
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    world.broker().stop().unwrap();
    drop(held);
    world.broker().start().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
}

/// A text as it stands in a form, where the filter sends it to the broker (the characters of base64 only).
fn in_a_form(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[test]
fn no_ticket_and_no_token_stands_in_any_log() {
    let mut world = World::builder().record().start().unwrap();
    let ticket = world.negotiate_token("alice", SERVICE).unwrap();
    let first = world.send(&negotiate(&ticket)).unwrap();
    let token = first.header_text("x-kerbridge-token").unwrap();
    assert_eq!(refused(&world, &negotiate(&ticket)).1, "replay");
    world.curl("/reports/1").bearer(&token).send().unwrap();
    let logs = format!("{}{}", world.envoy_log(), world.broker().log());
    assert!(logs.contains("kerbridge_replay") && logs.contains("\"reason\":\"replay\""));
    // This is the form in which it went through both; a search for another would find nothing anywhere.
    let body = String::from_utf8(exchanges(&world)[0].call.body.clone()).unwrap();
    assert!(ticket.contains(['+', '/']) && body.contains(&in_a_form(&ticket)));
    let reply = first.header_text("www-authenticate").unwrap();
    let reply = reply.strip_prefix("Negotiate ").unwrap();
    for secret in [ticket.as_str(), token.as_str(), reply] {
        // A line that was cut short holds the beginning, one that was cut in front the end.
        let end = secret.get(secret.len() - 80..).unwrap();
        for part in [secret.get(..80).unwrap(), secret.get(40..120).unwrap(), end] {
            for form in [part.to_owned(), in_a_form(part), in_a_form(part).to_lowercase()] {
                assert!(!logs.contains(&form), "{form}");
            }
        }
    }
}
