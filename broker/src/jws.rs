//! Signs a JWS in compact form (RFC 7515 §7.1) with the key's one algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::keyring::{CryptoError, SigningKey};

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

/// Header, claims and signature. `typ` keeps it from being taken for what it is not (RFC 8725 §3.11).
pub(crate) fn sign(key: &SigningKey, typ: &str, claims: &impl Serialize) -> Result<String, CryptoError> {
    let header = Header {
        typ,
        alg: key.algorithm().name(),
        kid: key.id(),
    };
    let mut compact = part(&header)?;
    compact.push('.');
    compact.push_str(&part(claims)?);
    let signature = key.sign(compact.as_bytes())?;
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    Ok(compact)
}

fn part(value: &impl Serialize) -> Result<String, CryptoError> {
    serde_json::to_vec(value)
        .map(|json| URL_SAFE_NO_PAD.encode(json))
        .map_err(|_| CryptoError)
}
