//! The examples of the RFCs: good ones verify, what they show of other algorithms and forms is refused.

use jwt_simple::JWTError;
use jwt_simple::algorithms::{Ed25519PublicKey, EdDSAPublicKeyLike};
use jwt_simple::claims::NoCustomClaims;
use kerbridge_gate::Reason;
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_wire::filter_config::Algorithm;

use crate::host;

/// RFC 7515 §A.2 to §A.4, the public parts, RFC 7517 §A.1 and RFC 8037 §A.2, under names of their own where they have none.
const KEYS: &str = r#"{"keys":[
{"kid":"A.2","kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},
{"kid":"A.3","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kid":"A.4","kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"},
{"kid":"A.1","kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"},
{"kid":"8037","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

/// The payload of RFC 7515 §A.1 to §A.5 and RFC 7519 §3.1 and §6.1.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// RFC 7515 §A.2.
const RS256: (&str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);
/// RFC 7515 §A.3.
const ES256: (&str, &str) = (
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);
/// RFC 8037 §A.4.
const ED25519: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
/// RFC 7519 §A.1: encrypted, in five parts.
const FIVE_PARTS: &str = "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.QR1Owv2ug2WyPBnbQrRARTeEk9kDO2w8qDcjiHnSJflSdv1iNqhWXaKH4MqAkQtMoNfABIPJaZm0HaA415sv3aeuBWnD8J-Ui7Ah6cWafs3ZwwFKDFUUsWHSK-IPKxLGTkND09XyjORj_CHAgOPJ-Sd8ONQRnJvWn_hXV1BNMHzUjPyYwEsRhDhzjAD26imasOTsgruobpYGoQcXUwFDn7moXPRfDE8-NoQX7N7ZYMmpUDkR-Cx9obNGwJQ3nM52YCitxoQVPzjbl7WBuB7AohdBoZOdZ24WlN1lVIeh8v1K4krB8xgKvRU8kgFrEn_a1rZgN5TiysnmzTROF869lQ.AxY8DCtDaGlsbGljb3RoZQ.MKOle7UQrG6nSxTLX6Mqwt0orbHvAKeWnDYvpIAeZ72deHxz3roJDXQyhxx0wKaMHDjUEOKIwrtkHthpqEanSBNYHZgmNOV7sln1Eu9g3J8.fiK51VwhsxJ-siBMR-YFiA";

fn keys() -> KeySet {
    KeySet::parse(KEYS.as_bytes(), Algorithm::ALL).unwrap()
}

fn check(kid: &str, token: &str) -> Result<SignatureInput, Reason> {
    let jws = CompactJws::parse(token.as_bytes())?;
    SignatureInput::new(keys().find(kid, &jws.algorithm)?, &jws)
}

/// The same bytes with the last bit of a part changed.
fn altered(part: &str) -> String {
    let (rest, last) = part.split_at(part.len() - 2);
    let other = if last.starts_with('A') { "B" } else { "A" };
    format!("{rest}{other}{}", &last[1..])
}

#[test]
fn the_signatures_of_rfc_7515_verify_both_ways_and_altered_ones_do_not() {
    for (kid, (header, signature)) in [("A.2", RS256), ("A.3", ES256)] {
        let good = check(kid, &format!("{header}.{JOE}.{signature}")).unwrap();
        assert_eq!((good.verify(), host::verify(&good)), (true, Some(true)), "{kid}");
        let bad = check(kid, &format!("{header}.{JOE}.{}", altered(signature))).unwrap();
        assert_eq!((bad.verify(), host::verify(&bad)), (false, Some(false)), "{kid}");
        let other = "eyJpc3MiOiJqb2UifQ";
        let bad = check(kid, &format!("{header}.{other}.{signature}")).unwrap();
        assert_eq!((bad.verify(), host::verify(&bad)), (false, Some(false)), "{kid}");
    }
}

#[test]
fn no_key_verifies_what_another_algorithm_signed() {
    let token = |(header, signature): (&str, &str)| format!("{header}.{JOE}.{signature}");
    assert_eq!(check("A.3", &token(RS256)), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(check("A.2", &token(ES256)), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(check("2011-04-29", &token(ES256)), Err(Reason::AlgorithmNotAllowed));
    let other_key = check("2011-04-29", &token(RS256)).unwrap();
    assert_eq!((other_key.verify(), host::verify(&other_key)), (false, Some(false)));
}

#[test]
fn what_the_rfcs_show_of_other_algorithms_and_forms_is_refused() {
    // RFC 7515 §A.1, RFC 7519 §3.1: a shared secret.
    let hs256 = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(
        check("A.1", &hs256),
        Err(Reason::UnknownKey),
        "a secret is no key of a set"
    );
    assert_eq!(check("A.2", &hs256), Err(Reason::AlgorithmNotAllowed));
    // RFC 7515 §A.4: P-521.
    let es512 = format!("eyJhbGciOiJFUzUxMiJ9.{JOE}.AA");
    assert_eq!(check("A.4", &es512), Err(Reason::UnknownKey));
    // RFC 7515 §A.5, RFC 7519 §6.1: nothing.
    let none = format!("eyJhbGciOiJub25lIn0.{JOE}.");
    assert_eq!(check("A.3", &none), Err(Reason::AlgorithmNotAllowed));
    // RFC 7519 §A.1 and §A.2: encrypted.
    assert_eq!(check("A.2", FIVE_PARTS), Err(Reason::TokenMalformed));
    // RFC 7515 §A.6: JSON serialisation.
    let json = format!(
        r#"{{"payload":"{JOE}","protected":"{}","signature":"{}"}}"#,
        ES256.0, ES256.1
    );
    assert_eq!(check("A.3", &json), Err(Reason::TokenMalformed));
}

#[test]
fn of_the_keys_of_rfc_7517_only_those_for_signatures_are_used() {
    let keys = keys();
    assert!(keys.find("2011-04-29", "RS256").is_ok());
    assert_eq!(
        keys.find("2011-04-29", "PS256"),
        Err(Reason::AlgorithmNotAllowed),
        "its alg says RS256"
    );
    assert_eq!(keys.find("1", "ES256"), Err(Reason::UnknownKey), "its use says enc");
    // §A.2: the private part is there.
    let private = KEYS.replace(
        r#""kid":"A.3","#,
        r#""kid":"A.3","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","#,
    );
    let keys = KeySet::parse(private.as_bytes(), Algorithm::ALL).unwrap();
    assert_eq!(keys.find("A.3", "ES256"), Err(Reason::UnknownKey));
}

#[test]
fn the_signature_of_rfc_8037_is_good_and_its_payload_is_no_token() {
    assert!(keys().find("8037", "EdDSA").is_ok());
    // The signed text is no JSON, so it is refused before its signature is looked at.
    assert_eq!(check("8037", ED25519), Err(Reason::TokenMalformed));
    // The signature itself, asked of what checks it for us: with a good one it stumbles over the payload only.
    let x: Vec<u8> = {
        use base64::Engine;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        engine.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap()
    };
    let key = Ed25519PublicKey::from_bytes(&x).unwrap();
    let is_bad_signature = |token: &str| {
        let error = key.verify_token::<NoCustomClaims>(token, None).unwrap_err();
        matches!(error.downcast_ref(), Some(JWTError::InvalidSignature))
    };
    assert!(!is_bad_signature(ED25519) && is_bad_signature(&altered(ED25519)));
}
