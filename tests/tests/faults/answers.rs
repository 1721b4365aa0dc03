//! Makes the wrong answers.

use kerbridge_tests::faults::{Asked, Fault};
use kerbridge_tests::issuer::{empty_page, sign_page};
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::{LabKey, alter_claims, claims, now, with};
use serde_json::{Value, json};

/// A ticket, by its first byte.
const TICKET: &str = "YAAAabcdefghijklmnopqrstuvwxyz0123456789";
/// The subject of what the broker mints.
pub(crate) const SUBJECT: &str = "alice@LAB.TEST";
/// More than the filter reads of any answer.
const OVER_EVERY_LIMIT: usize = 2 << 20;
/// More than Envoy keeps of an answer.
const OVER_ENVOYS_LIMIT: usize = 33 << 20;
/// How old a page is that is too old, in seconds.
const LONG_AGO: u64 = 3600;

/// A whole answer.
fn http(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn granted(token: &str, kind: &str) -> Vec<u8> {
    let issued = if kind == "N_A" {
        "urn:kerbridge:token-type:negotiate"
    } else {
        "urn:ietf:params:oauth:token-type:access_token"
    };
    let body = json!({
        "access_token": token, "token_type": kind, "expires_in": 300, "scope": "orders:read", "issued_token_type": issued,
    });
    http("200 OK", "application/json", body.to_string().as_bytes())
}

/// What the broker answers when all is well: a token for a ticket, a ticket for a token.
pub(crate) fn minted(key: &LabKey, for_ticket: bool, change: impl FnOnce(Value) -> Value) -> Vec<u8> {
    if for_ticket {
        granted(&token(key, ISSUER, "orders", change), "Bearer")
    } else {
        granted(TICKET, "N_A")
    }
}

/// A token.
pub(crate) fn token(key: &LabKey, issuer: &str, audience: &str, change: impl FnOnce(Value) -> Value) -> String {
    let claims = change(claims(issuer, SUBJECT, audience, "orders:read"));
    key.sign(&key.header(), &claims).unwrap()
}

/// What an issuer answers when all is well.
pub(crate) fn good(asked: Asked, key: &LabKey, issuer: &str) -> Vec<u8> {
    match asked {
        Asked::Exchange => minted(key, true, |claims| claims),
        Asked::Logout => http("200 OK", "application/json", b"{\"sessions\":1}"),
        Asked::Keys => http("200 OK", "application/json", key.key_set().to_string().as_bytes()),
        Asked::Feed => http("200 OK", "application/octet-stream", &page(key, issuer, now())),
    }
}

fn page(key: &LabKey, issuer: &str, issued: u64) -> Vec<u8> {
    sign_page(key, &empty_page(issuer, issued), b"").unwrap()
}

/// The wrong answer. `right` is what would have been right, `issuer` whose it would have been.
pub(crate) fn wrong(fault: Fault, right: &[u8], key: &LabKey, issuer: &str, for_ticket: bool) -> Reply {
    let body_at = right.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let body = &right[body_at..];
    let another = |token: &str| Reply::Raw(granted(token, "Bearer"));
    let serves = |page: &[u8]| Reply::Raw(http("200 OK", "application/octet-stream", page));
    Reply::Raw(match fault {
        Fault::Closed => return Reply::Cut(Vec::new()),
        Fault::NoHttp => return Reply::Cut(b"\x16\x03\x01\x02\x00 SSH-2.0 \r\n\r\n".to_vec()),
        Fault::HalfAHead => return Reply::Cut(right[..body_at / 2].to_vec()),
        Fault::HalfABody => return Reply::Cut(right[..body_at + body.len() / 2].to_vec()),
        Fault::Silent => return Reply::Never,
        Fault::Trickles => return Reply::Trickle(right.to_vec()),
        Fault::ServerError => http("500 Internal Server Error", "text/plain", b"it broke"),
        Fault::Gateway => http(
            "503 Service Unavailable",
            "text/html",
            b"<h1>upstream connect error</h1>",
        ),
        Fault::Redirects => {
            let head = "HTTP/1.1 302 Found\r\nlocation: https://evil.example.com/\r\ncontent-length: 0\r\n\r\n";
            head.as_bytes().to_vec()
        }
        Fault::NoHeaders => http("200 OK", "application/json", &vec![b' '; OVER_ENVOYS_LIMIT]),
        Fault::Garbage => http("200 OK", "application/json", b"\xff\xfe\0 {]"),
        Fault::Truncated => http("200 OK", "application/json", &body[..body.len() / 2]),
        Fault::TooLarge => http(
            "200 OK",
            "application/json",
            &[body, &vec![b' '; OVER_EVERY_LIMIT]].concat(),
        ),
        Fault::OtherType => http("200 OK", "text/html", body),
        Fault::OtherKind if for_ticket => granted(TICKET, "N_A"),
        Fault::OtherKind => minted(key, true, |claims| claims),
        Fault::OtherAudience => return another(&token(key, ISSUER, "reports", |claims| claims)),
        Fault::Ended => {
            return another(&token(key, ISSUER, "orders", |claims| {
                with(claims, "exp", json!(now() - 1))
            }));
        }
        Fault::UnknownSigner => {
            let stranger = LabKey::generate().unwrap();
            return another(&token(&stranger, ISSUER, "orders", |claims| claims));
        }
        Fault::Forged => {
            let good = token(key, ISSUER, "orders", |claims| claims);
            return another(&alter_claims(&good, |claims| with(claims, "sub", json!("root@LAB.TEST"))).unwrap());
        }
        Fault::ForgedPage => {
            // Under the name of the right key.
            let stranger = LabKey::generate().unwrap();
            let right = page(key, issuer, now());
            let forged = page(&stranger, issuer, now());
            let cut = |page: &[u8]| page.iter().position(|byte| *byte == b'.').unwrap();
            return serves(&[&right[..cut(&right)], &forged[cut(&forged)..]].concat());
        }
        Fault::OtherIssuer => return serves(&page(key, "https://nobody.example.com", now())),
        Fault::OldPage => return serves(&page(key, issuer, now() - LONG_AGO)),
        // What never comes to an answer.
        Fault::NoCluster | Fault::Refused | Fault::NoTls => return Reply::Cut(Vec::new()),
    })
}
