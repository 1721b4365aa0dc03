//! Signs a JWS in compact form (RFC 7515 §7.1) with the key's one algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tokio::time::Instant;

use crate::keyring::{NotSigned, SigningKey};

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

/// Header, claims and signature, by then or not at all. `typ` keeps it from being taken for what it is not (RFC 8725 §3.11).
pub(crate) async fn sign(
    key: &SigningKey,
    typ: &str,
    claims: &impl Serialize,
    until: Instant,
) -> Result<String, NotSigned> {
    let header = Header {
        typ,
        alg: key.algorithm().name(),
        kid: key.id(),
    };
    let mut compact = part(&header)?;
    compact.push('.');
    compact.push_str(&part(claims)?);
    let signature = key.sign(compact.as_bytes(), until).await?;
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    Ok(compact)
}

fn part(value: &impl Serialize) -> Result<String, NotSigned> {
    serde_json::to_vec(value)
        .map(|json| URL_SAFE_NO_PAD.encode(json))
        .map_err(|_| NotSigned::Failed)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Signs in a test, whose keys are at hand and keep nobody waiting.
    pub(crate) fn at_once<T>(signing: impl Future<Output = T>) -> T {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(signing).poll(&mut context) {
            Poll::Ready(signed) => signed,
            Poll::Pending => panic!("a key at hand kept somebody waiting"),
        }
    }

    #[test]
    fn a_key_at_hand_signs_whatever_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let kek = crate::keyring::KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
        let ring = crate::keyring::KeyRing::open_or_create(folder.path(), &kek).unwrap();
        let jws = at_once(sign(&ring.signing(), "x", &[1], Instant::now())).unwrap();
        assert_eq!(jws.split('.').count(), 3);
    }
}
