//! Bad signatures and keys, each refused, beside good ones of the same make, each accepted, whichever way is asked.

use kerbridge_gate::Reason;
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_wire::filter_config::Algorithm;
use serde_json::Value;

use crate::host;

fn corpus() -> Value {
    serde_json::from_str(include_str!("forged.json")).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// Each case with the check that it asks for; `Err` where none is made.
fn cases() -> Vec<(String, bool, Result<SignatureInput, Reason>)> {
    let corpus = corpus();
    let set = serde_json::json!({"keys": corpus["keys"]}).to_string();
    let keys = KeySet::parse(set.as_bytes(), Algorithm::ALL).unwrap();
    let check = |token: &str| {
        let jws = CompactJws::parse(token.as_bytes())?;
        let key = keys.find(jws.key_id.as_deref().unwrap(), &jws.algorithm)?;
        SignatureInput::new(key, &jws)
    };
    let case = |case: &Value| {
        let good = case["good"].as_bool().unwrap();
        (text(case, "name").to_owned(), good, check(text(case, "token")))
    };
    corpus["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn pure_rust_accepts_the_good_signatures_and_no_forged_one() {
    for (name, good, input) in cases() {
        match input {
            Ok(input) => assert_eq!(input.verify(), good, "{name}"),
            Err(reason) => assert_eq!((reason, good), (Reason::BadSignature, false), "{name}"),
        }
    }
}

#[test]
fn the_host_accepts_the_same_ones() {
    let mut asked = 0;
    for (name, good, input) in cases() {
        let answer = input.as_ref().ok().and_then(host::verify);
        if let Some(answer) = answer {
            asked += 1;
            assert_eq!(answer, good, "{name}");
        } else if let Ok(input) = input {
            assert!(
                matches!(input.algorithm(), Algorithm::Ps256 | Algorithm::EdDsa),
                "{name}"
            );
        }
    }
    assert!(asked > 80, "only {asked} of the corpus were native");
}

#[test]
fn a_signature_of_another_length_is_never_checked() {
    let mut refused = 0;
    for ((name, _, input), case) in cases().into_iter().zip(corpus()["cases"].as_array().unwrap()) {
        let jws = CompactJws::parse(text(case, "token").as_bytes()).unwrap();
        let length = match jws.key_id.as_deref().unwrap() {
            "es256" | "ed25519" => 64,
            "es384" => 96,
            "rsa" => 256,
            "rsa3072" => 384,
            "rsa4096" => 512,
            other => panic!("{other}"),
        };
        assert_eq!(input.is_ok(), jws.signature.len() == length, "{name}");
        refused += usize::from(input.is_err());
    }
    assert!(refused > 25, "only {refused} were refused for their length");
}

#[test]
fn every_algorithm_has_good_and_bad_cases() {
    for algorithm in Algorithm::ALL {
        let of = |wanted: bool| {
            cases()
                .into_iter()
                .filter(|(name, good, _)| name.starts_with(algorithm.name()) && *good == wanted)
                .count()
        };
        assert!(of(true) >= 1 && of(false) >= 8, "{algorithm:?}");
    }
}

#[test]
fn a_key_is_usable_for_exactly_the_algorithms_that_it_fits() {
    for case in corpus()["key_cases"].as_array().unwrap() {
        let set = serde_json::json!({"keys": [case["jwk"]]}).to_string();
        let keys = KeySet::parse(set.as_bytes(), Algorithm::ALL).unwrap();
        let wanted: Vec<&str> = case["algorithms"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let names = Algorithm::ALL.iter().map(|algorithm| algorithm.name());
        let usable: Vec<&str> = names.filter(|name| keys.find("k", name).is_ok()).collect();
        assert!(
            usable.len() == wanted.len() && usable.iter().all(|name| wanted.contains(name)),
            "{}: {usable:?}, expected {wanted:?}",
            text(case, "name")
        );
        assert_eq!(keys.is_empty(), wanted.is_empty());
    }
}

#[test]
fn an_algorithm_that_is_not_configured_has_no_keys() {
    let corpus = corpus();
    let set = serde_json::json!({"keys": corpus["keys"]}).to_string();
    for only in Algorithm::ALL {
        let keys = KeySet::parse(set.as_bytes(), &[*only]).unwrap();
        for kid in ["es256", "es384", "rsa", "ed25519"] {
            for algorithm in Algorithm::ALL.iter().filter(|other| *other != only) {
                assert!(
                    keys.find(kid, algorithm.name()).is_err(),
                    "{only:?} {kid} {algorithm:?}"
                );
            }
        }
    }
}

#[test]
fn several_keys_of_one_name_serve_one_algorithm_each() {
    let corpus = corpus();
    let named = |at: usize, alg: &str| {
        let mut key = corpus["keys"][at].clone();
        key["kid"] = "same".into();
        key["alg"] = alg.into();
        key
    };
    let set = serde_json::json!({"keys": [named(2, "PS256"), named(0, "ES256"), named(3, "PS256")]}).to_string();
    let keys = KeySet::parse(set.as_bytes(), Algorithm::ALL).unwrap();
    assert_eq!(
        keys.find("same", "PS256").unwrap().signature_length(),
        256,
        "the first one counts"
    );
    assert!(keys.find("same", "ES256").is_ok());
    assert_eq!(keys.find("same", "RS256"), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(keys.find("other", "ES256"), Err(Reason::UnknownKey));
}
