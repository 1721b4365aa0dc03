//! Tokens whose algorithm or key is forged: the key fixes the algorithm, and the issuer the keys (RFC 8725 §3.1, §3.5).

use kerbridge_gate::Reason;
use ring::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::Value;

use crate::signer::{Signer, hmac};
use crate::world::{FOREIGN, World, claims, header};

#[test]
fn no_token_chooses_an_algorithm_that_its_key_is_not_for() {
    let world = World::new();
    for name in FOREIGN {
        for other in FOREIGN.iter().filter(|other| **other != name) {
            let token = world.foreign.sign(name, &header(other, name), &claims(name));
            assert_eq!(
                world.judge(&token),
                Some(Reason::AlgorithmNotAllowed),
                "{name} called {other}"
            );
            let token = world.foreign.sign(other, &header(name, name), &claims(name));
            assert_eq!(
                world.judge(&token),
                Some(Reason::BadSignature),
                "{name} signed as {other}"
            );
        }
    }
    for written in ["es256", "ES256 ", "Es256", "ES256K", "ES512", "Ed25519", "RS1", ""] {
        let token = world.with_header(&header(written, "ES256"));
        assert_eq!(world.judge(&token), Some(Reason::AlgorithmNotAllowed), "{written:?}");
    }
}

#[test]
fn an_issuer_is_pinned_to_its_algorithms_whatever_its_keys_are_for() {
    let signer = Signer::new();
    let world = World {
        gate: World::gate(
            &[signer.jwk("ES256", "ES256"), signer.jwk("RS256", "RS256")],
            &[signer.jwk("ES256", "ES256"), signer.jwk("RS256", "RS256")],
        ),
        ours: Signer::new(),
        foreign: Signer::new(),
    };
    let token = signer.sign("RS256", &header("RS256", "RS256"), &claims("ES256"));
    assert_eq!(world.judge(&token), Some(Reason::AlgorithmNotAllowed));
    let token = signer.sign("ES256", &header("ES256", "ES256"), &claims("RS256"));
    assert_eq!(world.judge(&token), Some(Reason::AlgorithmNotAllowed));
    let token = signer.sign("ES256", &header("ES256", "ES256"), &claims("ES256"));
    assert_eq!(world.judge(&token), None);
}

#[test]
fn rsa_with_and_without_salt_are_never_interchanged_where_the_key_says_which() {
    let world = World::new();
    let judge = |kid: &str, called: &str, signed: &str| {
        world.judge(&world.foreign.sign(signed, &header(called, kid), &claims("RS256")))
    };
    assert_eq!(judge("RS256", "PS256", "PS256"), Some(Reason::AlgorithmNotAllowed));
    assert_eq!(judge("PS256", "RS256", "RS256"), Some(Reason::AlgorithmNotAllowed));
    assert_eq!(judge("RS256", "RS256", "PS256"), Some(Reason::BadSignature));
    assert_eq!(judge("PS256", "PS256", "RS256"), Some(Reason::BadSignature));
    // A key that says nothing is for each RSA algorithm of its issuer, still only as the token calls it.
    assert_eq!(
        (judge("any", "RS256", "RS256"), judge("any", "PS256", "PS256")),
        (None, None)
    );
    assert_eq!(judge("any", "RS256", "PS256"), Some(Reason::BadSignature));
    assert_eq!(judge("any", "PS256", "RS256"), Some(Reason::BadSignature));
    assert_eq!(judge("any", "ES384", "ES384"), Some(Reason::AlgorithmNotAllowed));
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let world = World::new();
    for name in ["none", "None", "NONE", "nOnE", "null"] {
        let good = world.ours.sign("ES256", &header(name, "ES256"), &claims("ES256"));
        let (signed, _) = good.rsplit_once('.').unwrap();
        for token in [good.clone(), format!("{signed}.")] {
            assert_eq!(world.judge(&token), Some(Reason::AlgorithmNotAllowed), "{name}");
        }
    }
    for name in FOREIGN.iter().chain(&["ES256"]) {
        let good = world.good(name);
        let (signed, _) = good.rsplit_once('.').unwrap();
        assert_eq!(world.judge(&format!("{signed}.")), Some(Reason::BadSignature), "{name}");
    }
}

#[test]
fn no_public_key_is_a_shared_secret() {
    let world = World::new();
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let jwk = world.signer(algorithm).jwk(algorithm, algorithm);
        let secrets = [
            jwk.to_string(),
            jwk["x"].as_str().unwrap_or_default().to_owned(),
            jwk["n"].as_str().unwrap_or_default().to_owned(),
            String::new(),
        ];
        for (name, hash) in [("HS256", HMAC_SHA256), ("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)] {
            for secret in &secrets {
                let token = hmac(hash, secret.as_bytes(), &header(name, algorithm), &claims(algorithm));
                assert_eq!(
                    world.judge(&token),
                    Some(Reason::AlgorithmNotAllowed),
                    "{name} {algorithm}"
                );
                let token = hmac(
                    hash,
                    secret.as_bytes(),
                    &header(algorithm, algorithm),
                    &claims(algorithm),
                );
                assert_eq!(world.judge(&token), Some(Reason::BadSignature), "{name} {algorithm}");
            }
        }
    }
}

#[test]
fn an_rsa_key_that_is_too_short_or_too_long_is_no_key() {
    let corpus: Value = serde_json::from_str(include_str!("forged.json")).unwrap();
    let signer = Signer::new();
    for case in corpus["key_cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if ![
            "RSA of 512 bits",
            "RSA of 1024 bits",
            "RSA of 2047 bits",
            "RSA of 8192 bits",
        ]
        .contains(&name)
        {
            continue;
        }
        let gate = World::gate(
            &[signer.jwk("ES256", "ES256")],
            &[case["jwk"].clone(), signer.jwk("RS256", "long")],
        );
        let world = World {
            gate,
            ours: Signer::new(),
            foreign: Signer::new(),
        };
        let token = |kid: &str| signer.sign("RS256", &header("RS256", kid), &claims("RS256"));
        assert_eq!(world.judge(&token("k")), Some(Reason::UnknownKey), "{name}");
        assert_eq!(world.judge(&token("long")), None, "the other keys stay");
    }
}

#[test]
fn a_key_is_looked_up_by_its_whole_name_in_its_issuers_set_only() {
    let world = World::new();
    // A key of the other issuer, which knows the name or not.
    let token = world.foreign.sign("ES384", &header("ES384", "ES384"), &claims("ES256"));
    assert_eq!(world.judge(&token), Some(Reason::AlgorithmNotAllowed));
    let token = world.foreign.sign("ES256", &header("ES256", "ES256"), &claims("ES256"));
    assert_eq!(world.judge(&token), Some(Reason::BadSignature));
    let token = world.ours.sign("ES384", &header("ES384", "ES256"), &claims("ES384"));
    assert_eq!(world.judge(&token), Some(Reason::UnknownKey));
    let token = world.ours.sign("ES384", &header("ES384", "same"), &claims("ES384"));
    assert_eq!(world.judge(&token), Some(Reason::BadSignature));
    for kid in [
        "",
        "es256",
        "ES25",
        "ES2566",
        " ES256",
        "ES256\\u0000",
        "../ES256",
        "' OR '1'='1",
        "*",
        "ES256,any",
        "https://evil.test/jwks",
        &"k".repeat(1000),
    ] {
        let token = world.with_header(&header("ES256", kid));
        assert_eq!(world.judge(&token), Some(Reason::UnknownKey), "{kid}");
    }
    let token = world.with_header(r#"{"alg":"ES256","typ":"at+jwt"}"#);
    assert_eq!(world.judge(&token), Some(Reason::UnknownKey), "no name at all");
    for kid in ["1", "null", "[\"ES256\"]", "{}"] {
        let token = world.with_header(&format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":{kid}}}"#));
        assert_eq!(world.judge(&token), Some(Reason::TokenMalformed), "{kid}");
    }
}

#[test]
fn keys_that_a_token_brings_or_points_at_are_never_used() {
    let world = World::new();
    let evil = Signer::new();
    let own = evil.jwk("ES256", "ES256");
    let certificate = r#""x5c":["MIIBszCCAVmgAwIBAgI="]"#;
    for (more, reason) in [
        (r#""jku":"https://evil.test/jwks""#, Reason::BadSignature),
        (r#""x5u":"https://evil.test/cert""#, Reason::BadSignature),
        (certificate, Reason::BadSignature),
        (r#""x5t":"dGh1bWI","x5t#S256":"dGh1bWI""#, Reason::BadSignature),
        (&format!(r#""jwk":{own}"#), Reason::TokenMalformed),
        (r#""jwk":"text""#, Reason::TokenMalformed),
        (r#""jku":["https://evil.test/jwks"]"#, Reason::TokenMalformed),
        (r#""x5c":"MIIB""#, Reason::TokenMalformed),
        (r#""x5c":[1]"#, Reason::TokenMalformed),
    ] {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"ES256",{more}}}"#);
        assert_eq!(
            world.judge(&evil.sign("ES256", &header, &claims("ES256"))),
            Some(reason),
            "{more}"
        );
        // Pointers alone do a good token no harm.
        let wanted = (reason != Reason::BadSignature).then_some(reason);
        assert_eq!(world.judge(&world.with_members(more)), wanted, "{more}");
    }
}
