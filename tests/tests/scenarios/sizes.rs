//! How much a client may send, and which bytes: over HTTP/1.1 and HTTP/2 something refuses it, and the next request passes.

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::http2::Outcome;
use kerbridge_tests::token::{claims, with};
use kerbridge_tests::world::LAB_ISSUER;
use serde_json::json;

/// Largest token that the filter reads.
const TOKEN_LIMIT: usize = 16 * 1024;
const KIB: usize = 1024;

fn world() -> World {
    World::builder().broker_stopped().lab_issuer().start().unwrap()
}

/// A good token, larger by so many letters in a claim that nobody reads.
fn token(world: &World, padding: usize) -> String {
    let key = world.lab_key().unwrap();
    let claims = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read");
    key.sign(&key.header(), &with(claims, "pad", json!("x".repeat(padding))))
        .unwrap()
}

/// Sends this `Authorization` over HTTP/1.1; the status.
fn over_http1(world: &World, authorization: &str) -> u16 {
    let request = Request::get("/orders/1").header("authorization", authorization);
    world.send(&request).unwrap().status
}

/// The same over HTTP/2, with more lines beside it.
fn over_http2(world: &World, authorization: &str, more: &[(&[u8], &[u8])]) -> Outcome {
    let own: [(&[u8], &[u8]); 1] = [(b"authorization", authorization.as_bytes())];
    world.get_http2("/orders/1", &[&own, more].concat()).unwrap()
}

fn refused(world: &World, reason: &str, issuer: &str) -> u64 {
    let name = format!("wasmcustom.kerbridge.requests.reason.{reason}.issuer.{issuer}");
    world.stat(&name).unwrap_or(0)
}

#[test]
fn a_token_over_the_limit_is_refused_and_one_over_envoys_own_limit_never_reaches_the_filter() {
    let world = world();
    let short = token(&world, 0);
    // Base64 has four letters for three.
    let longest = token(&world, (TOKEN_LIMIT - short.len()) * 3 / 4 - 12);
    assert!(
        (TOKEN_LIMIT - 32..=TOKEN_LIMIT).contains(&longest.len()),
        "{}",
        longest.len()
    );
    let good = |when: &str| {
        for token in [&short, &longest] {
            let authorization = format!("Bearer {token}");
            assert_eq!(over_http1(&world, &authorization), 200, "{when}");
            assert_eq!(over_http2(&world, &authorization, &[]), Outcome::Status(200), "{when}");
        }
    };
    good("at first");
    let mut expected = 0;
    let genuine = token(&world, TOKEN_LIMIT);
    for value in [TOKEN_LIMIT + 1, 32 * KIB, 64 * KIB - 7]
        .map(|length| "a".repeat(length))
        .iter()
        .chain([&genuine])
    {
        let (authorization, length) = (format!("Bearer {value}"), value.len());
        assert_eq!(over_http1(&world, &authorization), 401, "{length}");
        assert_eq!(
            over_http2(&world, &authorization, &[]),
            Outcome::Status(401),
            "{length}"
        );
        expected += 2;
        assert_eq!(refused(&world, "token_too_large", "-"), expected, "{length}");
        good("after one that is too large");
    }
    // Over HTTP/2 Envoy takes no line of more than 64 KiB, whatever its limit for all of them is; Envoy 1.36 does.
    for length in [64 * KIB, 90 * KIB] {
        let authorization = format!("Bearer {}", "a".repeat(length));
        assert_eq!(over_http1(&world, &authorization), 401, "{length}");
        let outcome = over_http2(&world, &authorization, &[]);
        expected += match outcome {
            Outcome::Ended(_) => 1,
            Outcome::Status(401) => 2,
            other => panic!("{length}: {other:?}"),
        };
        good("after a line over 64 KiB");
    }
    assert_eq!(refused(&world, "token_too_large", "-"), expected);
    for length in [96 * KIB, 100 * KIB] {
        let authorization = format!("Bearer {}", "a".repeat(length));
        assert_eq!(over_http1(&world, &authorization), 431, "{length}");
        let padding = "a".repeat(length / 4);
        let more: [(&[u8], &[u8]); 3] = [(b"x-pad", padding.as_bytes()); 3];
        let outcome = over_http2(&world, &format!("Bearer {padding}"), &more);
        // There is no 431 over HTTP/2: the stream is reset.
        assert!(matches!(outcome, Outcome::Ended(_)), "{length}: {outcome:?}");
        good("after one over Envoy's limit");
    }
    assert_eq!(refused(&world, "token_too_large", "-"), expected);
    assert_eq!(world.reloads(), Some(0));
}

/// Numbers that are the same in each run (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap().checked_rem(below).unwrap()
    }

    /// Bytes that HTTP allows in a value (RFC 9110 §5.5), and in one value of eight any others.
    fn value(&mut self) -> Vec<u8> {
        let is_any = self.next(8) == 0;
        let length = self.next(60);
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(self.next(256)).unwrap()).collect();
        let is_allowed = |byte: &u8| is_any || (*byte > b' ' && *byte != 0x7f);
        bytes.into_iter().filter(is_allowed).collect()
    }
}

#[test]
fn whatever_bytes_stand_in_headers_something_answers_and_the_next_request_passes() {
    let world = world();
    let bearer = format!("Bearer {}", token(&world, 0)).into_bytes();
    let names: [&[u8]; 8] = [
        b"authorization",
        b"cookie",
        b"origin",
        b"sec-fetch-site",
        b"x-request-id",
        b"x-kerbridge-subject",
        b"accept",
        b"x-any",
    ];
    let send = |numbers: &mut Numbers| {
        let mut lines: Vec<(&[u8], Vec<u8>)> = vec![(b"authorization", bearer.clone())];
        for _ in 0..=numbers.next(3) {
            lines.push((names[numbers.next(names.len())], numbers.value()));
        }
        // What is no HTTP is ended by Envoy, in one way or another.
        let borrowed: Vec<(&[u8], &[u8])> = lines.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        drop(world.get_http2("/orders/1", &borrowed));
        // A line that does not end where it seems to is a test of Envoy's reader.
        if lines
            .iter()
            .all(|(_, value)| !value.iter().any(|byte| b"\r\n".contains(byte)))
        {
            let request = Request::get("/orders/1");
            let request = lines
                .iter()
                .fold(request, |request, (name, value)| request.header(name, value));
            drop(world.send(&request));
        }
    };
    let good = || {
        let normal = Request::get("/orders/1").header("authorization", &bearer);
        assert_eq!(world.send(&normal).unwrap().status, 200);
        let line: [(&[u8], &[u8]); 1] = [(b"authorization", &bearer)];
        assert_eq!(world.get_http2("/orders/1", &line).unwrap(), Outcome::Status(200));
    };
    // Envoy closes a broken connection after a second only.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let mut numbers = Numbers(20_261_125 + thread);
                for _ in 0..5 {
                    (0..8).for_each(|_| send(&mut numbers));
                    good();
                }
            });
        }
    });
    assert_eq!(world.reloads(), Some(0));
    // Some of it was judged, not all of it ended before.
    let judged = (
        refused(&world, "multiple_credentials", "-"),
        refused(&world, "ok", "lab"),
    );
    assert!(judged.0 > 30 && judged.1 > 100, "{judged:?}");
}
