//! What the module sees of a request, and how it answers one.

use std::process::Command;
use std::time::Duration;

use kerbridge_tests::http::Request;
use kerbridge_tests::wait::wait_for;

use crate::bootstrap::{Bootstrap, access_log, ask, direct, probe, scripted};

/// RFC 7515 appendix A.3: the key as SPKI, the signature as DER.
const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200047fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13\
    bacf6e3c7bd15445c7f144cd1bbd9b7e872cdfedb9eeb9f4b3695d6ea90b24ad8a4623288588e5ad";
const DER_SIGNATURE: &str = "304502200ed1215379636c483c2f7f155807d402a3b228033af97c7e17819ac3169ea665022100c50a07d38c3c70e5\
    d8f12daf084a5480a66590c5f293509a8f3f7f8a83a354d5";
const RAW_SIGNATURE: &str = "0ed1215379636c483c2f7f155807d402a3b228033af97c7e17819ac3169ea665c50a07d38c3c70e5d8f12daf084a54\
    80a66590c5f293509a8f3f7f8a83a354d5";
const TEXT: &[u8] = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvb\
    S9pc19yb290Ijp0cnVlfQ";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One length-delimited protobuf field, tag and value in hex; all of ours are shorter than 16 KiB.
fn field(tag: &str, hex_value: &str) -> String {
    let length = hex_value.len().div_ceil(2);
    let (low, high) = (length & 0x7f, length >> 7);
    if high == 0 {
        format!("{tag}{low:02x}{hex_value}")
    } else {
        format!("{tag}{:02x}{high:02x}{hex_value}", low | 0x80)
    }
}

fn verify(hash: &str, key: &str, signature: &str, text: &[u8]) -> String {
    let hash = field("0a", &hex(hash.as_bytes()));
    let argument = [hash, field("12", key), field("1a", signature), field("22", &hex(text))].concat();
    format!("foreign verify_signature {argument}; answer")
}

#[test]
fn verify_signature_answers_within_the_headers_callback() {
    let envoy = scripted().start();
    let answer = |script: &str| {
        let text = ask(&envoy, script).text();
        text.split_once(" -> ").unwrap().1.trim_end().to_owned()
    };
    let failed = "\"\\x12&Failed to verify digest. Error code: 0\"";
    assert_eq!(answer(&verify("sha256", SPKI, DER_SIGNATURE, TEXT)), "\"\\x08\\x01\"");
    assert_eq!(answer(&verify("sha256", SPKI, DER_SIGNATURE, b"another text")), failed);
    assert_eq!(
        answer(&verify("sha256", SPKI, RAW_SIGNATURE, TEXT)),
        failed,
        "r and s without DER"
    );
    assert_eq!(answer(&verify("sha256", SPKI, "00", TEXT)), failed);
    assert_eq!(
        answer(&verify("sha256", "00", DER_SIGNATURE, TEXT)),
        "\"\\x12#Failed to initialize digest verify.\""
    );
    assert_eq!(
        answer(&verify("sha999", SPKI, DER_SIGNATURE, TEXT)),
        "\"\\x12\\x18sha999 is not supported.\""
    );
    assert_eq!(
        answer("foreign verify_signature ffff; answer"),
        "Err(BadArgument)",
        "not protobuf"
    );
    // Envoy 1.39 and later refuse the call, earlier ones an algorithm without a name.
    let nothing = answer("foreign verify_signature; answer");
    assert!(
        ["Err(BadArgument)", "\"\\x12\\x12 is not supported.\""].contains(&nothing.as_str()),
        "no argument: {nothing}"
    );
    assert_eq!(answer("foreign no_such_function; answer"), "Err(NotFound)");
}

#[test]
fn response_code_details_reach_the_access_log_unchanged() {
    let log = access_log("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%.");
    let envoy = Bootstrap::default()
        .listener("front", &[probe("")], &direct(418), &log)
        .start();
    assert_eq!(ask(&envoy, "refuse 401 kerbridge_no_credentials").status, 401);
    assert_eq!(ask(&envoy, "answer").status, 200);
    assert_eq!(ask(&envoy, "").status, 418);
    let expected = [
        "access: 401 kerbridge_no_credentials.",
        "access: 200 .",
        "access: 418 direct_response.",
    ];
    let written = || expected.iter().all(|line| envoy.log().contains(line)).then_some(());
    wait_for("three lines of the access log", Duration::from_secs(5), written).unwrap();
}

#[test]
fn authorization_lines_arrive_joined_and_a_getter_shows_only_the_first_of_other_lines() {
    let envoy = scripted().start();
    let request = Request::get("/")
        .header("Authorization", "Bearer aaa")
        .header("authorization", "Negotiate bbb")
        .header("x-kerbridge-subject", "a")
        .header("X-Kerbridge-Subject", "b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-bytes", b"\xff\x80\xe9");
    let script = "first authorization; first x-kerbridge-subject; first cookie; first x-bytes; \
        property request/headers/authorization; property request/headers/x-kerbridge-subject; map; answer";
    let text = envoy.send("front", &request.header("x-probe", script)).unwrap().text();
    for line in [
        "first authorization -> \"Bearer aaa,Negotiate bbb\"",
        "first x-kerbridge-subject -> \"a\"",
        "first cookie -> \"a=1\"",
        "first x-bytes -> \"\\xff\\x80\\xe9\"",
        "property request/headers/authorization -> \"Bearer aaa,Negotiate bbb\"",
        "property request/headers/x-kerbridge-subject -> \"a,b\"",
        "map authorization -> Bearer aaa,Negotiate bbb",
        "map x-kerbridge-subject -> a",
        "map x-kerbridge-subject -> b",
        "map cookie -> a=1",
        "map cookie -> b=2",
        "map x-bytes -> \\xff\\x80\\xe9",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in {text}");
    }
    let odd_name = Request::get("/")
        .header(b"x\xffn", "1")
        .header("x-probe", "map; answer");
    assert_eq!(
        envoy.send("front", &odd_name).unwrap().status,
        400,
        "a byte over 0x7f in a name"
    );
}

#[test]
fn http_2_joins_authorization_and_cookie_lines() {
    let envoy = scripted().start();
    let port = envoy.listener_port("front").unwrap();
    let output = Command::new("nghttp")
        .args(["-H", "authorization: Bearer aaa", "-H", "authorization: Negotiate bbb"])
        .args(["-H", "cookie: a=1", "-H", "cookie: b=2", "-H", "x-probe: map; answer"])
        .arg(format!("http://localhost:{port}/"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("authorization") || line.contains("cookie"))
        .collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.contains("x-probe")).collect();
    assert_eq!(
        lines,
        [
            "map authorization -> Bearer aaa,Negotiate bbb",
            "map cookie -> a=1; b=2"
        ]
    );
}
