//! Recognises a token that somebody pasted where one of its claims belongs, and tells the claim. Nothing is verified: it only
//! helps to say what was meant, and a token must go into no store and no log.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::store::Kind;

/// Longest token that is looked into.
const LONGEST: usize = 16 * 1024;

/// Whether this can be a token, and no value of the claim. No `jti` or `sid` of ours has a dot. Subjects have them, so that there
/// the header of a token tells it.
pub fn is_token(kind: Kind, value: &str) -> bool {
    let has_three_parts = value.split('.').nth(2).is_some();
    match kind {
        Kind::Token | Kind::Session => has_three_parts,
        Kind::Subject => has_three_parts && part(value, 0).is_some(),
    }
}

/// What the token says for this claim, where it can be read.
pub fn claim(kind: Kind, token: &str) -> Option<String> {
    let name = match kind {
        Kind::Token => "jti",
        Kind::Session => "sid",
        Kind::Subject => "sub",
    };
    part(token, 1)?.get(name)?.as_str().map(str::to_owned)
}

/// A part of it that is a JSON object.
fn part(token: &str, place: usize) -> Option<Value> {
    let token = token.split_whitespace().last().filter(|token| token.len() <= LONGEST)?;
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(place)?).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        let [header, claims] =
            [r#"{"alg":"ES256"}"#, r#"{"jti":"t1","sid":"s1","sub":"alice"}"#].map(|text| URL_SAFE_NO_PAD.encode(text));
        format!("{header}.{claims}.c2ln")
    }

    #[test]
    fn a_token_is_known_by_its_shape_and_tells_its_claims() {
        for text in [token(), format!("Bearer {}", token()), format!(" {}\n", token())] {
            for (kind, value) in [(Kind::Token, "t1"), (Kind::Session, "s1"), (Kind::Subject, "alice")] {
                assert!(is_token(kind, &text), "{kind}");
                assert_eq!(claim(kind, &text).as_deref(), Some(value));
            }
        }
        for odd in ["a.b.c", "..", "a.b.c.d.e", "Bearer a.b.c"] {
            assert!(is_token(Kind::Token, odd), "{odd}");
            assert_eq!(claim(Kind::Token, odd), None, "{odd}");
        }
    }

    #[test]
    fn ids_and_subjects_with_dots_are_none() {
        for (kind, value) in [
            (Kind::Token, "xk3-_Q"),
            (Kind::Session, "a.b"),
            (Kind::Subject, "first.middle.last"),
            (Kind::Subject, "HTTP/www.a.test@A.TEST"),
        ] {
            assert!(!is_token(kind, value), "{value}");
        }
    }
}
