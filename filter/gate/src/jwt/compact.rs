//! Takes a compact JWS apart, strictly (RFC 7515 §7.1): three parts, canonical base64url, no member twice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::Reason;

use crate::json::Json;
use crate::secret::Secret;

/// Longest token, in bytes.
pub const TOKEN_LIMIT: usize = 16 * 1024;
/// Longest header part, in characters of base64url.
pub const HEADER_LIMIT: usize = 2 * 1024;

/// A compact JWS whose signature nobody has checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactJws {
    /// `alg`
    pub algorithm: String,
    /// `kid`
    pub key_id: Option<String>,
    /// `typ` in lower case, without `application/` where no other slash follows (RFC 7515 §4.1.9): a media type, which
    /// the issuer's configuration must name.
    pub typ: Option<String>,
    /// The claims, as they stand there.
    pub payload: Json,
    /// Header and payload part with the dot between them: what is signed.
    pub signed: Secret,
    /// The signature.
    pub signature: Vec<u8>,
}

impl CompactJws {
    /// Takes a token apart. What `jwt-simple` would not read is refused here, so that a token never fares otherwise in
    /// pure Rust than by the host's native crypto.
    ///
    /// # Errors
    /// `token_too_large`, `token_malformed`, `wrong_type` for a `typ` that is neither `JWT` nor ends in `+jwt`,
    /// `missing_claim` for a `nonce` that is no text.
    pub fn parse(token: &[u8]) -> Result<Self, Reason> {
        if token.len() > TOKEN_LIMIT {
            return Err(Reason::TokenTooLarge);
        }
        // As text, in which a dot is found some bytes at a time.
        let text = std::str::from_utf8(token).map_err(|_| Reason::TokenMalformed)?;
        let mut parts = text.split('.').map(str::as_bytes);
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::TokenMalformed);
        };
        if header.len() > HEADER_LIMIT {
            return Err(Reason::TokenTooLarge);
        }
        let signed = token
            .get(..header.len().saturating_add(1).saturating_add(payload.len()))
            .ok_or(Reason::TokenMalformed)?;
        let header = Json::parse(&decode(header)?).ok_or(Reason::TokenMalformed)?;
        let text = |name: &str| match header.member(name) {
            Some(value) => value.as_str().map(Some).ok_or(Reason::TokenMalformed),
            None => Ok(None),
        };
        // Extensions that must be understood are not (RFC 7515 §4.1.11), and an unencoded payload is one of them. A key
        // that a token brings along is never used; with `salt`, a word of its own, jwt-simple would want to do something.
        if ["crit", "b64", "jwk", "salt"]
            .iter()
            .any(|name| header.member(name).is_some())
        {
            return Err(Reason::TokenMalformed);
        }
        // Never followed, but of the type that the RFC gives them (§4.1).
        for name in ["cty", "jku", "x5u", "x5t", "x5t#S256"] {
            text(name)?;
        }
        match header.member("x5c") {
            None => {}
            Some(Json::Array(chain)) if chain.iter().all(|one| one.as_str().is_some()) => {}
            Some(_) => return Err(Reason::TokenMalformed),
        }
        let algorithm = text("alg")?.ok_or(Reason::TokenMalformed)?.to_owned();
        let key_id = text("kid")?.map(str::to_owned);
        let typ = text("typ")?.map(media_type);
        if typ.as_ref().is_some_and(|typ| typ != "jwt" && !typ.ends_with("+jwt")) {
            return Err(Reason::WrongType);
        }
        let payload = Json::parse(&decode(payload)?).ok_or(Reason::TokenMalformed)?;
        if payload.member("nonce").is_some_and(|nonce| nonce.as_str().is_none()) {
            return Err(Reason::MissingClaim);
        }
        Ok(Self {
            algorithm,
            key_id,
            typ,
            payload,
            signed: signed.into(),
            signature: decode(signature)?,
        })
    }
}

fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    match typ.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        Some(_) | None => typ,
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::TokenMalformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(header: &str, payload: &str) -> Vec<u8> {
        format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload),
            URL_SAFE_NO_PAD.encode("s")
        )
        .into()
    }

    #[test]
    fn a_good_token_is_taken_apart() {
        let jws = CompactJws::parse(&token(r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#, r#"{"a":1}"#)).unwrap();
        assert_eq!((jws.algorithm.as_str(), jws.key_id.as_deref()), ("ES256", Some("k")));
        assert!(
            jws.signed
                .expose()
                .ends_with(URL_SAFE_NO_PAD.encode(r#"{"a":1}"#).as_bytes())
        );
    }

    #[test]
    fn what_is_not_a_strict_compact_jws_is_refused() {
        let good = r#"{"alg":"ES256","typ":"at+jwt"}"#;
        let cases: &[(Vec<u8>, Reason)] = &[
            (b"".to_vec(), Reason::TokenMalformed),
            (b"a.b".to_vec(), Reason::TokenMalformed),
            (b"..".to_vec(), Reason::TokenMalformed),
            (b"a.b.c.d.e".to_vec(), Reason::TokenMalformed),
            (b"e30.e30.e30=".to_vec(), Reason::TokenMalformed),
            (
                token(r#"{"alg":"ES256","alg":"ES256","typ":"at+jwt"}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (token(good, r#"{"aud":"a","aud":"b"}"#), Reason::TokenMalformed),
            (
                token(r#"{"alg":"ES256","typ":"at+jwt","crit":["exp"]}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (
                token(r#"{"alg":"ES256","typ":"at+jwt","crit":[]}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (
                token(r#"{"alg":"ES256","typ":"at+jwt","b64":false}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (token(r#"{"typ":"at+jwt"}"#, "{}"), Reason::TokenMalformed),
            (token(r#"{"alg":1,"typ":"at+jwt"}"#, "{}"), Reason::TokenMalformed),
            (
                token(r#"{"alg":"ES256","typ":"at+jwt","kid":7}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (
                token(r#"{"alg":"ES256","jwk":{"kty":"EC"}}"#, "{}"),
                Reason::TokenMalformed,
            ),
            (token(r#"{"alg":"ES256","jku":1}"#, "{}"), Reason::TokenMalformed),
            (token(r#"{"alg":"ES256","x5c":"MIIB"}"#, "{}"), Reason::TokenMalformed),
            (token(r#"{"alg":"ES256","typ":null}"#, "{}"), Reason::TokenMalformed),
            (token(r#"{"alg":"ES256","typ":"text/html"}"#, "{}"), Reason::WrongType),
            (token(r#"{"alg":"ES256","typ":"jose"}"#, "{}"), Reason::WrongType),
            (token(good, r#"{"nonce":1}"#), Reason::MissingClaim),
            (vec![b'a'; TOKEN_LIMIT + 1], Reason::TokenTooLarge),
            (
                [vec![b'a'; HEADER_LIMIT + 1], b".e30.e30".to_vec()].concat(),
                Reason::TokenTooLarge,
            ),
        ];
        for (bytes, reason) in cases {
            assert_eq!(
                CompactJws::parse(bytes),
                Err(*reason),
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
            );
        }
        let padded = [token(good, "{}"), b"=".to_vec()].concat();
        assert_eq!(
            CompactJws::parse(&padded),
            Err(Reason::TokenMalformed),
            "padding is not canonical base64url"
        );
    }

    #[test]
    fn types_are_compared_as_media_types() {
        let of = |typ: &str| CompactJws::parse(&token(&format!(r#"{{"alg":"ES256"{typ}}}"#), "{}")).map(|jws| jws.typ);
        assert_eq!(of(""), Ok(None));
        for (typ, wanted) in [
            ("at+jwt", "at+jwt"),
            ("application/AT+jwt", "at+jwt"),
            ("JWT", "jwt"),
            ("application/a/b+jwt", "application/a/b+jwt"),
        ] {
            assert_eq!(of(&format!(r#","typ":"{typ}""#)), Ok(Some(wanted.into())), "{typ}");
        }
    }

    proptest! {
        #[test]
        fn no_token_panics(bytes: Vec<u8>, header in "[ -~]{0,40}", payload in "[ -~]{0,40}") {
            drop(CompactJws::parse(&bytes));
            drop(CompactJws::parse(&token(&header, &payload)));
        }
    }
}
