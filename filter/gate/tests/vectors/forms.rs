//! Tokens of a form that a strict reading refuses (RFC 7515 §5.2, §7.1, RFC 8725 §2.4), however good their signature.

use kerbridge_gate::Reason;
use serde_json::Value;

use crate::signer::base64url;
use crate::world::{FOREIGN, World, claims, header};

#[test]
fn what_must_be_understood_is_not() {
    let world = World::new();
    for more in [
        r#""crit":["exp"],"exp":1"#,
        r#""crit":["b64"],"b64":true"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":"exp""#,
        r#""b64":false"#,
    ] {
        assert_eq!(
            world.judge(&world.with_members(more)),
            Some(Reason::TokenMalformed),
            "{more}"
        );
    }
    assert_eq!(
        world.judge(&world.with_members(r#""of-no-matter":{"a":[1,null]}"#)),
        None
    );
}

#[test]
fn a_token_has_three_parts_and_no_other_form() {
    let world = World::new();
    let good = world.good("ES256");
    let parts: Vec<&str> = good.split('.').collect();
    let [head, payload, signature] = parts[..] else {
        panic!("{good}")
    };
    for token in [
        head.to_owned(),
        format!("{head}.{payload}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
        format!("{head}..{signature}"),
        format!(".{payload}.{signature}"),
        "..".to_owned(),
        "....".to_owned(),
    ] {
        assert_eq!(world.judge(&token), Some(Reason::TokenMalformed), "{token}");
    }
    // Members are parted by commas, which in this header part credentials.
    let json = format!(r#"{{"protected":"{head}","payload":"{payload}","signature":"{signature}"}}"#);
    assert_eq!(world.judge(&json), Some(Reason::MultipleCredentials));
}

#[test]
fn a_member_that_stands_twice_is_refused_wherever_it_stands() {
    let world = World::new();
    for head in [
        r#"{"alg":"ES256","alg":"ES256","typ":"at+jwt","kid":"ES256"}"#,
        r#"{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"ES256","typ":"at+jwt","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"at+jwt","kid":"other","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"at+jwt","kid":"ES256","x":{"y":1,"y":1}}"#,
    ] {
        assert_eq!(
            world.judge(&world.with_header(head)),
            Some(Reason::TokenMalformed),
            "{head}"
        );
    }
    let good = claims("ES256");
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "scope"] {
        let twice = good.replace('{', &format!(r#"{{"{name}":"x","{name}":"x","#));
        let token = world.ours.sign("ES256", &header("ES256", "ES256"), &twice);
        assert_eq!(world.judge(&token), Some(Reason::TokenMalformed), "{name}");
    }
}

#[test]
fn base64url_has_one_form_for_the_same_bytes() {
    let world = World::new();
    let good = world.good("ES256");
    let parts: Vec<&str> = good.split('.').collect();
    for at in 0..3 {
        let with = |part: String| {
            let mut parts: Vec<&str> = parts.clone();
            parts[at] = &part;
            parts.join(".")
        };
        let part = parts[at];
        let half = part.len() / 2;
        for token in [
            with(format!("{part}=")),
            with(format!("{part}==")),
            with(format!("{} {}", &part[..half], &part[half..])),
            with(format!("{}\t{}", &part[..half], &part[half..])),
            with(format!("{}%{}", &part[..half], &part[half..])),
            with(format!("{}+{}", &part[..half], &part[half + 1..])),
            with(format!("{}/{}", &part[..half], &part[half + 1..])),
        ] {
            assert!(
                matches!(
                    world.judge(&token),
                    Some(Reason::TokenMalformed | Reason::MalformedCredentials)
                ),
                "{token}"
            );
        }
    }
    // The last character of 64 bytes has four bits that say nothing; only zeros are the canonical form (RFC 4648 §3.5).
    let (rest, last) = good.split_at(good.len() - 1);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.iter().position(|letter| last.as_bytes() == [*letter]).unwrap();
    for bits in 1..16 {
        let token = format!("{rest}{}", char::from(alphabet[place | bits]));
        assert_eq!(world.judge(&token), Some(Reason::TokenMalformed), "{token}");
    }
}

#[test]
fn a_signature_has_exactly_its_length() {
    let world = World::new();
    for name in FOREIGN.iter().chain(&["ES256"]) {
        let good = world.good(name);
        let (signed, _) = good.rsplit_once('.').unwrap();
        let signature = world.signer(name).signature(name, signed.as_bytes());
        for bytes in [
            &signature[1..],
            &signature[..signature.len() - 1],
            &signature[..signature.len() / 2],
            &[&signature[..], &[0]].concat(),
            &[&[0], &signature[..]].concat(),
            &signature.repeat(2),
        ] {
            let token = format!("{signed}.{}", base64url(bytes));
            assert_eq!(
                world.judge(&token),
                Some(Reason::BadSignature),
                "{name} {}",
                bytes.len()
            );
        }
    }
}

/// Whatever a truly signed token says beside what it must: it is refused for its form, or its signature is good in pure Rust
/// too, which reads it with another parser. Otherwise it would matter which way was taken.
#[test]
fn a_true_signature_is_good_both_ways() {
    let world = World::new();
    let (good_header, good_claims) = (header("ES256", "ES256"), claims("ES256"));
    let members = [
        "typ", "cty", "kid", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "salt", "crit", "zip", "a",
    ];
    let names = [
        "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "kid", "scope", "groups", "custom", "a",
    ];
    let (mut passed, mut refused) = (0, 0);
    for value in ODD {
        let headers = members.map(|name| (changed(&good_header, name, value), good_claims.clone()));
        let payloads = names.map(|name| (good_header.clone(), changed(&good_claims, name, value)));
        for (header, claims) in headers.iter().chain(&payloads) {
            match world.judge(&world.ours.sign("ES256", header, claims)) {
                None => passed += 1,
                Some(reason) => {
                    assert_ne!(reason, Reason::BadSignature, "{header} {claims}");
                    refused += 1;
                }
            }
        }
    }
    assert!(passed > 150 && refused > 150, "{passed} passed, {refused} were refused");
}

/// The object with this member, first, instead of what it had under the name.
fn changed(object: &str, name: &str, value: &str) -> String {
    let mut members: serde_json::Map<String, Value> = serde_json::from_str(object).unwrap();
    members.remove(name);
    let rest = serde_json::to_string(&members).unwrap();
    format!("{{\"{name}\":{value},{}", &rest[1..])
}

/// JSON values that one parser may take and another not.
const ODD: [&str; 26] = [
    "null",
    "true",
    "0",
    "-1",
    "-0.0",
    "1.5",
    "1e3",
    "1e300",
    "1e-300",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1800000030",
    "1800000030.5",
    "\"\"",
    "\"text\"",
    "\"at+jwt\"",
    "\"ES256\"",
    "\"a\\u0000b\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "[\"orders\"]",
    "[\"orders\",\"orders\"]",
    "[1]",
    "{}",
    "{\"a\":{\"b\":[1]}}",
];
