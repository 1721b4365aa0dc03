//! Keeps signatures whose answer is known, to try a host's native crypto with before it is trusted.
//!
//! Made once for this purpose with keys that exist nowhere else (OpenSSL 3 by way of Python's `cryptography`).

use kerbridge_wire::filter_config::Algorithm;

use super::SignatureInput;
use crate::jwk::KeySet;
use crate::jwt::CompactJws;
use crate::secret::Secret;

/// A check with a good signature, and two that differ from it in one bit of the text and of the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAnswers {
    /// The answer must be true.
    pub good: SignatureInput,
    /// The answer to both must be false.
    pub bad: [SignatureInput; 2],
}

impl KnownAnswers {
    /// Those of an algorithm; `None` for PS256 and EdDSA, which no host is asked.
    pub fn of(algorithm: Algorithm) -> Option<Self> {
        let (kid, token) = match algorithm {
            Algorithm::Es256 => ("p256", ES256),
            Algorithm::Es384 => ("p384", ES384),
            Algorithm::Rs256 => ("rsa", RS256),
            Algorithm::Rs384 => ("rsa", RS384),
            Algorithm::Rs512 => ("rsa", RS512),
            Algorithm::Ps256 | Algorithm::EdDsa => return None,
        };
        let keys = KeySet::parse(KEYS.as_bytes(), Algorithm::ALL).ok()?;
        let key = keys.find(kid, algorithm.name()).ok()?;
        let good = SignatureInput::new(key, &CompactJws::parse(token.as_bytes()).ok()?).ok()?;
        let mut other_text = good.clone();
        other_text.signed = Secret::new(flipped(good.signed.expose()));
        let mut other_signature = good.clone();
        other_signature.signature = flipped(&good.signature);
        Some(Self {
            good,
            bad: [other_text, other_signature],
        })
    }
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Some(last) = out.last_mut() {
        *last ^= 1;
    }
    out
}

const KEYS: &str = r#"{"keys":[
{"kty":"EC","crv":"P-256","x":"qWmjckaJAgTtjiw7anSsX3BzUCDbt4sxHkoq7XjnAAI","y":"nsKTWSdi6z1i-5NhCgFt7gMSS3M6ZljqhK1clyctj8k","kid":"p256"},
{"kty":"EC","crv":"P-384","x":"f7pde5spdCcS13zeVu4SrkcoDjvCzQBlwankHnp8PqRxRlXe6Fv9GBECcV7nrovv","y":"te8t_P5fqYnTDu3sqfexcdqV0bmDlhH0uzFQ3Y0bgnrQGYeX8ZRjA57lhz4lZOJy","kid":"p384"},
{"kty":"RSA",
"n":"uRQBR0QYs9SjjNCUoAbVyYuE6L4s6XY94ybXvqTjD7K617W2cRbyZUYikh8vnrWnNHD1vHrKo7QKI_q5noXOlwNQ6nkQ7l0hIuiwaamgdhi1721xen2Qf-CF-BAvP6XmfBRPa4Z8GNiQvo22a2onyGcaOK4uT3rWSGtR27q8u-hyz2JAE6ihMNzXZEXIN-Fa6abcc5VW9oSOzqXbmFdr3-5IwkAkOrv8gkXMTknZ5L0m5v8wzhIkMKTSZZHPJAFWFZziEU5TxuOdaQB074euVocBnI6p0sYfuz0EceT9awX3nnPL9sNig8sxgC5I72I5ChM70THg-Ay6N9A5A59c1Q","e":"AQAB","kid":"rsa"}
]}"#;
const ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Imtub3duIn0.eyJpc3MiOiJrbm93biJ9.56xM2iZtf204S8Jd01HrJ8lEUHpthiB\
    F6u0qUHsouGZz64LWcJVZGp_0MWpi57IgEGKG00x1ebgNHZb3zJeOaw";
const ES384: &str = "eyJhbGciOiJFUzM4NCIsInR5cCI6ImF0K2p3dCIsImtpZCI6Imtub3duIn0.eyJpc3MiOiJrbm93biJ9.d3FFflV7ziQ24emfcbMcr_kAIU_CNl4\
    FkT8WBug6se8Uw9CQyrqv7cn0tOHeXgFcIiwXaaC8kBuw1yGM2MPscslS6TdBSfKzVmOubhz0gQzQ_WWmbmEZDrcT4vPTTMTh";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Imtub3duIn0.eyJpc3MiOiJrbm93biJ9.bzayg_r_qt3SWHfv6qwqdBILhohG1gg\
    LWMBklXNwwFH6wrpLHF9FDaZwD2S7VofaQQljSfuQ4ZXuCJ0U8XOcM1N8j3Aov6lZl7_8YildnsTZFbz6Ncp80lv_QPspYDwxct31G_87uWaSmp6\
    ykG_Vx5JJLr_v8tBr7SCQoMijFIMfZ5h-c3d5aS6x1_U8Tjlu-Odba3nTxXCzyYVSXu0hWjSow0CG8OYBt-oYA7pqQtL_CitEuE0niF5FUpqFQe3\
    bJsLs4MxqDFeA_aZQfhRGnxv28J1gHQqB8bcq6tzuMnKLDsnac9RermzqdkDrYYC5DIhESpwIw_yfHh517j01Vg";
const RS384: &str = "eyJhbGciOiJSUzM4NCIsInR5cCI6ImF0K2p3dCIsImtpZCI6Imtub3duIn0.eyJpc3MiOiJrbm93biJ9.Lb6NVaPue4ZNbwb3uO6mRs7CN3687CO\
    leMwCLIPnH8XtfodhYi7Voul71dRQn-jqXzzy07As8rRHAAM9ZGQ4Va_fN7AWy5BUSo1komkJESxJJY3E9smJa9S7ETd7WSBf9BnPkGIG1pAbOkx\
    UYs9hwsAXxeCSEQSDT2ODQuxluonZsoov6n4wRBxD93gZiqgZqQjni76ywCXOoBRB5pCK6fUf3NHT5FmKM8j0zIcQESApvr_GP5UeIQ3jW9qoQd_\
    RSMpMbrASflVoIvSeUWKuLVmrpH-lAFNl9-qG-jMGgo43CNhA06j6qCPbnBK-fAt85GU5k_ZEV2uMD3QZDp0A5Q";
const RS512: &str = "eyJhbGciOiJSUzUxMiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Imtub3duIn0.eyJpc3MiOiJrbm93biJ9.BDzCQASYmO9uPyVt8DzC1L94E6CDH1X\
    CtRX2nwvelb73gM3RqmkDJQnNBKmf9PiYvw31-yCSa0DzwP2EkNZT1g3y3jJBHO7yI1ctn1VGb16e-XYyYvEn0CL9HLTXAI-9yVjlZEg4qEL_SnY\
    aVF09dzZOsf7AjRHne0u8QxxBiTlxwQq7PZI31vYtIFex4jZFfSMwnPjy2jbLNjE2MLNZQx1ase5JjgF-2aaPBuEQaNGoGYgemu9M_EmcDsa98Ir\
    BE_Xl6o9lWgw6IyJgqlOfuLNuIwi69q_Rjt8xfrPre0yLCJG4XW5UPBvOjkOTHo07uTjYhdaj_b63nh8jJfNlHA";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_rust_gives_the_known_answers() {
        for algorithm in Algorithm::ALL {
            let Some(KnownAnswers { good, bad }) = KnownAnswers::of(*algorithm) else {
                assert!(matches!(algorithm, Algorithm::Ps256 | Algorithm::EdDsa));
                continue;
            };
            assert_eq!((good.algorithm(), good.native().is_some()), (*algorithm, true));
            assert!(good.verify(), "{algorithm:?}");
            assert!(!bad[0].verify() && !bad[1].verify(), "{algorithm:?}");
            assert!(good != bad[0] && good != bad[1]);
        }
    }
}
