//! The host's native crypto, asked by what the filter asks it with, about signatures good and forged.

use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::jwt::signature::known::KnownAnswers;
use kerbridge_gate::jwt::signature::native::read_answer;
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_tests::envoy::Envoy;
use kerbridge_wire::filter_config::Algorithm;
use serde_json::{Value, json};

use crate::bootstrap::{ask, scripted};

/// What Envoy answers to each of these checks.
fn answers(envoy: &Envoy, inputs: &[&SignatureInput]) -> Vec<Option<bool>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let step = |input: &&SignatureInput| {
        let check = input.native().unwrap();
        format!("foreign verify_signature {}; ", hex(&check.request()))
    };
    // A few at a time: a script is a request header, and Envoy takes 60 KiB of them.
    let ask_some = |some: &[&SignatureInput]| {
        let script: String = some.iter().map(step).collect();
        let text = ask(envoy, &format!("{script}answer")).text();
        let lines: Vec<_> = text.lines().map(|line| read_answer(&shown(line))).collect();
        assert_eq!(lines.len(), some.len(), "{text}");
        lines
    };
    inputs.chunks(12).flat_map(ask_some).collect()
}

/// The bytes of an answer that the probe wrote down.
fn shown(line: &str) -> Vec<u8> {
    let (_, text) = line.split_once(" -> ").unwrap();
    match text {
        "\"\\x08\\x01\"" => vec![8, 1],
        text => {
            let text = text.trim_matches('"');
            // Tag and length of the error, then its words.
            let words = text.find("Failed").map(|at| text.split_at(at).1).unwrap();
            [&[0x12, u8::try_from(words.len()).unwrap()], words.as_bytes()].concat()
        }
    }
}

#[test]
fn verify_signature_gives_the_known_answers() {
    let envoy = scripted().start();
    let mut asked = 0;
    for known in Algorithm::ALL
        .iter()
        .filter_map(|algorithm| KnownAnswers::of(*algorithm))
    {
        let [text, signature] = &known.bad;
        let answers = answers(&envoy, &[&known.good, text, signature]);
        assert_eq!(answers, [Some(true), Some(false), Some(false)], "{:?}", known.good);
        asked += 1;
    }
    assert_eq!(asked, 5);
}

#[test]
fn verify_signature_accepts_what_pure_rust_accepts_and_no_forged_signature() {
    let corpus: Value = serde_json::from_str(include_str!("../../../filter/gate/tests/vectors/forged.json")).unwrap();
    let set = json!({"keys": corpus["keys"]}).to_string();
    let keys = KeySet::parse(set.as_bytes(), Algorithm::ALL).unwrap();
    let check = |case: &Value| {
        let jws = CompactJws::parse(case["token"].as_str().unwrap().as_bytes()).unwrap();
        let key = keys.find(jws.key_id.as_deref().unwrap(), &jws.algorithm).unwrap();
        let input = SignatureInput::new(key, &jws).ok()?;
        input.native()?;
        Some((case["name"].to_string(), case["good"].as_bool().unwrap(), input))
    };
    let cases: Vec<_> = corpus["cases"].as_array().unwrap().iter().filter_map(check).collect();
    assert!(cases.len() > 80, "{}", cases.len());
    let envoy = scripted().start();
    let inputs: Vec<_> = cases.iter().map(|(_, _, input)| input).collect();
    for ((name, good, input), answer) in cases.iter().zip(answers(&envoy, &inputs)) {
        assert_eq!((answer, input.verify()), (Some(*good), *good), "{name}");
    }
}
