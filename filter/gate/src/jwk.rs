//! Reads key sets (RFC 7517 §5): bounded, each odd key skipped, never fatal.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::filter_config::Algorithm;

use crate::json::Json;
use crate::jwt::signature::VerifyingKey;

/// Largest key set, in bytes.
pub const SET_LIMIT: usize = 256 * 1024;
/// Most keys of a set; the rest is not looked at.
pub const KEY_LIMIT: usize = 64;

/// The usable keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<(String, VerifyingKey)>);

/// The answer is no key set: too large, not JSON, a member twice, or without `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKeySet;

impl KeySet {
    /// Reads a set, keeping the keys that have a `kid` and fit one of `algorithms`. A set without a usable key is a set:
    /// that is how an issuer takes all its keys back.
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
        let mut usable: Vec<(String, VerifyingKey)> = Vec::new();
        for (kid, key) in keys.iter().take(KEY_LIMIT).filter_map(read_key) {
            if algorithms.contains(&key.algorithm()) && usable.iter().all(|(known, _)| *known != kid) {
                usable.push((kid, key));
            }
        }
        Ok(Self(usable))
    }

    /// The key of that name.
    pub fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|(known, _)| known == kid).map(|(_, key)| key)
    }

    /// Whether no key of the set is usable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read_key(jwk: &Json) -> Option<(String, VerifyingKey)> {
    let text = |name: &str| jwk.member(name).map(Json::as_str);
    let is_or_absent = |name: &str, wanted: &str| text(name).is_none_or(|value| value == Some(wanted));
    let kid = text("kid")?.filter(|kid| (1..=256).contains(&kid.len()))?;
    let for_signatures = is_or_absent("use", "sig") && is_or_absent("alg", "ES256") && allows_verify(jwk);
    if !for_signatures || text("kty")? != Some("EC") || text("crv")? != Some("P-256") {
        return None;
    }
    let key = VerifyingKey::es256(&coordinate(text("x")??)?, &coordinate(text("y")??)?)?;
    Some((kid.to_owned(), key))
}

fn allows_verify(jwk: &Json) -> bool {
    match jwk.member("key_ops") {
        None => true,
        Some(Json::Array(ops)) => ops.iter().any(|op| op.as_str() == Some("verify")),
        Some(_) => false,
    }
}

/// 32 bytes exactly (RFC 7518 §6.2.1.2).
fn coordinate(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
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
        assert!(set.find("1").is_some() && set.find("2").is_none());
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
            &KEY.replace("7D4", "7D5"),
            &KEY.replace("\"MKBC", "\"AMKBC"),
            &KEY.replace("4Etl6SRW", "4Etl6SRX"),
        ];
        for key in odd {
            assert_eq!(count(key), 0, "{key}");
            assert_eq!(count(&format!("{key},{KEY}")), 1, "{key}");
        }
        assert_eq!(count(&format!("{KEY},{KEY}")), 1, "the first key of a name counts");
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
            drop(KeySet::parse(&bytes, &[Algorithm::Es256]));
        }
    }
}
