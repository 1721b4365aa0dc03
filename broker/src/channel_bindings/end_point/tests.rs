use proptest::prelude::*;

use super::*;

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat()
}

fn algorithm(identifier: &[u8], parameters: &[u8]) -> Vec<u8> {
    let identifier = element(der::OBJECT_IDENTIFIER, identifier);
    element(der::SEQUENCE, &[&identifier[..], parameters].concat())
}

/// A certificate with nothing in it but who signed how.
fn signed_by(algorithm: &[u8]) -> Vec<u8> {
    let parts = [
        &element(der::SEQUENCE, &[])[..],
        algorithm,
        &element(der::BIT_STRING, &[0]),
    ];
    element(der::SEQUENCE, &parts.concat())
}

fn name(found: Result<&'static Algorithm, NoEndPoint>) -> Result<&'static str, NoEndPoint> {
    found.map(|algorithm| match algorithm {
        _ if algorithm == &SHA256 => "sha256",
        _ if algorithm == &SHA384 => "sha384",
        _ if algorithm == &SHA512 => "sha512",
        _ => "another",
    })
}

fn hash(algorithm: &[u8]) -> Result<&'static str, NoEndPoint> {
    name(hash_function(&signed_by(algorithm)))
}

const SHA_256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const SHA_512: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x03";

#[test]
fn each_signature_algorithm_has_its_hash_function() {
    let plain = |identifier: &[u8]| hash(&algorithm(identifier, &[]));
    for (last, expected) in [
        (4, Ok("sha256")),
        (5, Ok("sha256")),
        (11, Ok("sha256")),
        (12, Ok("sha384")),
        (13, Ok("sha512")),
        // sha224WithRSAEncryption
        (14, Err(NoEndPoint::Unknown)),
        (1, Err(NoEndPoint::Unknown)),
    ] {
        let found = hash(&algorithm(&[PKCS_1, &[last]].concat(), &[5, 0]));
        assert_eq!(found, expected, "PKCS #1 {last}");
    }
    assert_eq!(plain(ECDSA_SHA_1), Ok("sha256"));
    for (last, expected) in [
        (2, Ok("sha256")),
        (3, Ok("sha384")),
        (4, Ok("sha512")),
        (1, Err(NoEndPoint::Unknown)),
    ] {
        assert_eq!(plain(&[ECDSA_SHA_2, &[last]].concat()), expected, "ECDSA {last}");
    }
    for identifier in EDWARDS {
        assert_eq!(plain(identifier), Err(NoEndPoint::Undefined));
    }
    assert_eq!(plain(b"\x55\x04\x03"), Err(NoEndPoint::Unknown));
    assert_eq!(plain(PKCS_1), Err(NoEndPoint::Unknown));
}

#[test]
fn pss_has_the_hash_function_of_its_parameters() {
    let pss = |hash_identifier: Option<&[u8]>, mask: Option<&[u8]>| {
        let hash_identifier =
            hash_identifier.map_or(Vec::new(), |found| element(der::context(0), &algorithm(found, &[5, 0])));
        let mask = mask.map_or(Vec::new(), |found| {
            let generator = algorithm(&[PKCS_1, &[MGF_1]].concat(), &algorithm(found, &[]));
            element(der::context(1), &generator)
        });
        let salt = element(der::context(2), &element(der::INTEGER, &[32]));
        let parameters = element(der::SEQUENCE, &[hash_identifier, mask, salt].concat());
        hash(&algorithm(&[PKCS_1, &[RSASSA_PSS]].concat(), &parameters))
    };
    assert_eq!(pss(Some(SHA_256), Some(SHA_256)), Ok("sha256"));
    assert_eq!(pss(Some(SHA_512), Some(SHA_512)), Ok("sha512"));
    assert_eq!(pss(None, None), Ok("sha256"), "SHA-1 by default");
    assert_eq!(pss(Some(SHA_1), Some(SHA_1)), Ok("sha256"));
    assert_eq!(pss(Some(SHA_512), Some(SHA_256)), Err(NoEndPoint::Undefined));
    assert_eq!(pss(Some(SHA_512), None), Err(NoEndPoint::Undefined));
    assert_eq!(pss(Some(b"\x01"), Some(b"\x01")), Err(NoEndPoint::Unknown));
    let without = algorithm(&[PKCS_1, &[RSASSA_PSS]].concat(), &[5, 0]);
    assert_eq!(hash(&without), Err(NoEndPoint::Malformed), "parameters are required");
}

#[test]
fn what_is_no_certificate_is_refused() {
    let good = signed_by(&algorithm(ECDSA_SHA_1, &[]));
    assert!(bindings_of(&good).is_ok());
    for length in 0..good.len() {
        assert_eq!(bindings_of(&good[..length]), Err(NoEndPoint::Malformed), "{length}");
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(bindings_of(&longer), Err(NoEndPoint::Malformed));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _found = bindings_of(&bytes);
        let _found = hash_function(&signed_by(&bytes[..bytes.len().min(100)]));
    }
}
