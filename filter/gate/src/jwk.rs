//! Reads key sets (RFC 7517 §5): bounded, each odd key skipped, never fatal; and finds the key that a token names.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::Reason;
use kerbridge_wire::filter_config::Algorithm;

use crate::json::Json;
use crate::jwt::signature::VerifyingKey;

/// Largest key set, in bytes.
pub const SET_LIMIT: usize = 256 * 1024;
/// Most keys of a set; the rest is not looked at.
pub const KEY_LIMIT: usize = 64;

/// The usable keys of one issuer, each for one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<(Rc<str>, VerifyingKey)>);

/// The answer is no key set: too large, not JSON, a member twice, or without `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKeySet;

impl KeySet {
    /// Reads a set, keeping the keys that have a `kid` and fit one of `algorithms`. A key that names its algorithm (`alg`)
    /// is for that one; an RSA key that names none is for each of the RSA algorithms among `algorithms`. Of several keys
    /// with the same name and algorithm the first counts. A set without a usable key is a set: that is how an issuer takes
    /// all its keys back.
    ///
    /// # Errors
    /// [`NotAKeySet`]; the caller keeps what it had.
    pub fn parse(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, NotAKeySet> {
        if text.len() > SET_LIMIT {
            return Err(NotAKeySet);
        }
        let set = Json::parse(text).ok_or(NotAKeySet)?;
        let Some(Json::Array(keys)) = set.member("keys") else {
            return Err(NotAKeySet);
        };
        let mut usable: Vec<(Rc<str>, VerifyingKey)> = Vec::new();
        for jwk in keys.iter().take(KEY_LIMIT) {
            let Some(kid) = usable_name(jwk) else { continue };
            for algorithm in algorithms {
                let is_known =
                    |(known, key): &(Rc<str>, VerifyingKey)| **known == *kid && key.algorithm() == *algorithm;
                if usable.iter().any(is_known) {
                    continue;
                }
                if let Some(key) = read_key(jwk, *algorithm) {
                    usable.push((kid.into(), key));
                }
            }
        }
        Ok(Self(usable))
    }

    /// The key of that name for the algorithm of that name. The name finds the key, and the key says which algorithms it
    /// is for: a token can only choose among those.
    ///
    /// # Errors
    /// `unknown_key` if no key has the name, `algorithm_not_allowed` if none of that name is for the algorithm.
    pub fn find(&self, kid: &str, algorithm: &str) -> Result<VerifyingKey, Reason> {
        self.find_named(kid, algorithm).map(|(_, key)| key.clone())
    }

    /// The same, and its name as the set has it: whoever remembers a hundred thousand tokens of a key keeps its name once.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) fn find_named(&self, kid: &str, algorithm: &str) -> Result<&(Rc<str>, VerifyingKey), Reason> {
        let mut reason = Reason::UnknownKey;
        for named in self.0.iter().filter(|(known, _)| **known == *kid) {
            if named.1.algorithm().name() == algorithm {
                return Ok(named);
            }
            reason = Reason::AlgorithmNotAllowed;
        }
        Err(reason)
    }

    /// Whether a key of the set has this name.
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|(known, _)| **known == *kid)
    }

    /// Whether no key of the set is usable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn text<'a>(jwk: &'a Json, name: &str) -> Option<&'a str> {
    jwk.member(name)?.as_str()
}

/// The `kid` of a key that is there to verify signatures with. A key that shows its private part (`d`) vouches for nobody.
fn usable_name(jwk: &Json) -> Option<&str> {
    let kid = text(jwk, "kid").filter(|kid| (1..=256).contains(&kid.len()))?;
    let for_signatures = jwk.member("use").is_none_or(|purpose| purpose.as_str() == Some("sig"));
    let may_verify = match jwk.member("key_ops") {
        None => true,
        Some(Json::Array(ops)) => ops.iter().any(|op| op.as_str() == Some("verify")),
        Some(_) => false,
    };
    (for_signatures && may_verify && jwk.member("d").is_none()).then_some(kid)
}

/// The key, if it is of the algorithm's type and names no other algorithm (RFC 7518 §6, RFC 8037 §2).
fn read_key(jwk: &Json, algorithm: Algorithm) -> Option<VerifyingKey> {
    if jwk
        .member("alg")
        .is_some_and(|alg| alg.as_str() != Some(algorithm.name()))
    {
        return None;
    }
    let (kty, crv) = match algorithm {
        Algorithm::Es256 => ("EC", Some("P-256")),
        Algorithm::Es384 => ("EC", Some("P-384")),
        Algorithm::EdDsa => ("OKP", Some("Ed25519")),
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => ("RSA", None),
    };
    if text(jwk, "kty") != Some(kty) || crv.is_some_and(|crv| text(jwk, "crv") != Some(crv)) {
        return None;
    }
    match algorithm {
        Algorithm::Es256 => VerifyingKey::es256(&exactly(jwk, "x")?, &exactly(jwk, "y")?),
        Algorithm::Es384 => VerifyingKey::es384(&exactly(jwk, "x")?, &exactly(jwk, "y")?),
        Algorithm::EdDsa => VerifyingKey::ed25519(&exactly(jwk, "x")?),
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => {
            VerifyingKey::rsa(algorithm, &bytes(jwk, "n")?, &bytes(jwk, "e")?)
        }
    }
}

fn bytes(jwk: &Json, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok()
}

/// A member of full width (RFC 7518 §6.2.1.2).
fn exactly<const WIDTH: usize>(jwk: &Json, name: &str) -> Option<[u8; WIDTH]> {
    bytes(jwk, name)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7517 appendix A.1, first key.
    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;

    fn parse(text: &str) -> Result<KeySet, NotAKeySet> {
        KeySet::parse(text.as_bytes(), &[Algorithm::Es256])
    }

    fn count(key: &str) -> usize {
        parse(&format!(r#"{{"keys":[{key}]}}"#)).unwrap().0.len()
    }

    #[test]
    fn the_key_of_rfc_7517_is_read() {
        let set = parse(&format!(r#"{{"keys":[{KEY}],"more":1}}"#)).unwrap();
        assert!(set.find("1", "ES256").is_ok());
        assert_eq!(set.find("2", "ES256"), Err(Reason::UnknownKey));
    }

    #[test]
    fn an_odd_key_is_skipped_and_the_others_stay() {
        let odd = [
            "1",
            "null",
            "{}",
            r#"{"kty":"oct","k":"AA","kid":"h"}"#,
            &KEY.replace("\"kid\":\"1\"", "\"kid\":1"),
            &KEY.replace(",\"kid\":\"1\"", ""),
            &KEY.replace("\"kid\"", "\"use\":\"enc\",\"kid\""),
            &KEY.replace("\"kid\"", "\"alg\":\"ES384\",\"kid\""),
            &KEY.replace("\"kid\"", "\"alg\":\"none\",\"kid\""),
            &KEY.replace("\"kid\"", "\"key_ops\":[\"sign\"],\"kid\""),
            &KEY.replace("P-256", "P-384"),
            &KEY.replace("\"EC\"", "\"RSA\""),
            &KEY.replace("\"kid\"", "\"d\":\"AQ\",\"kid\""),
            &KEY.replace("\"kid\"", "\"alg\":7,\"kid\""),
            &KEY.replace("\"kid\"", "\"key_ops\":\"verify\",\"kid\""),
            &KEY.replace("7D4\"", "7D4=\""),
            &KEY.replace("7D4", "7D5"),
            &KEY.replace("\"MKBC", "\"AMKBC"),
            &KEY.replace("4Etl6SRW", "4Etl6SRX"),
        ];
        for key in odd {
            assert_eq!(count(key), 0, "{key}");
            assert_eq!(count(&format!("{key},{KEY}")), 1, "{key}");
        }
        let second = format!("{KEY},{}", KEY.replace("\"kid\"", "\"use\":\"sig\",\"kid\""));
        assert_eq!(count(&second), 1, "the first key of a name and algorithm counts");
        assert_eq!(
            count(&KEY.replace(
                "\"kid\"",
                "\"use\":\"sig\",\"alg\":\"ES256\",\"key_ops\":[\"verify\"],\"kid\""
            )),
            1
        );
    }

    #[test]
    fn what_is_no_key_set_is_refused_whole() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "not json"] {
            assert_eq!(parse(text), Err(NotAKeySet), "{text}");
        }
        let large = format!(r#"{{"keys":[],"pad":"{}"}}"#, "x".repeat(SET_LIMIT));
        assert_eq!(parse(&large), Err(NotAKeySet));
        assert!(parse(r#"{"keys":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn no_more_keys_are_read_than_the_bound() {
        let keys: Vec<String> = (0..100)
            .map(|at| KEY.replace("\"kid\":\"1\"", &format!("\"kid\":\"{at}\"")))
            .collect();
        assert_eq!(
            parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(","))).unwrap().0.len(),
            KEY_LIMIT
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes: Vec<u8>) {
            drop(KeySet::parse(&bytes, Algorithm::ALL));
        }
    }
}
