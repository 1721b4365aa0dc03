use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tempfile::TempDir;

use super::*;

fn kek(fill: &str) -> KeyEncryptionKey {
    KeyEncryptionKey::from_base64(&fill.repeat(43)).unwrap()
}

fn fresh() -> (TempDir, KeyRing) {
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::open_or_create(folder.path(), &kek("A")).unwrap();
    (folder, ring)
}

fn rewrite(folder: &TempDir, change: impl Fn(String) -> String) -> KeyringError {
    let path = folder.path().join(FILE);
    let text = change(fs::read_to_string(&path).unwrap());
    fs::write(&path, &text).unwrap();
    let error = KeyRing::open_or_create(folder.path(), &kek("A")).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "the file was changed");
    error
}

#[test]
fn the_keys_of_the_first_start_are_those_of_the_second() {
    let (folder, first) = fresh();
    let second = KeyRing::open_or_create(folder.path(), &kek("A")).unwrap();
    assert_eq!(first.jwks(), second.jwks());
    assert_eq!(first.session(b"ticket"), second.session(b"ticket"));
    assert_ne!(first.session(b"ticket"), first.session(b"ticket2"));
    assert_eq!(first.session(b"ticket").as_str().len(), 22);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [FILE]);
}

#[test]
fn two_folders_have_different_keys() {
    let ((_a, first), (_b, second)) = (fresh(), fresh());
    assert_ne!(first.signing().id(), second.signing().id());
    assert_ne!(first.session(b"ticket"), second.session(b"ticket"));
}

#[test]
fn a_signature_verifies_under_the_published_key() {
    let (_folder, ring) = fresh();
    let set: serde_json::Value = serde_json::from_str(&ring.jwks()).unwrap();
    let key = &set["keys"][0];
    for (member, value) in [
        ("kty", "EC"),
        ("crv", "P-256"),
        ("alg", "ES256"),
        ("use", "sig"),
        ("kid", ring.signing().id()),
    ] {
        assert_eq!(key[member], value);
    }
    assert!(key.get("d").is_none());
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = ring.signing().sign(b"message").unwrap();
    assert_eq!(signature.len(), 64);
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    public.verify(b"message", &signature).unwrap();
    public.verify(b"massage", &signature).unwrap_err();
}

#[test]
fn the_key_identifier_is_the_thumbprint_of_rfc_7638() {
    let (_folder, ring) = fresh();
    let set: serde_json::Value = serde_json::from_str(&ring.jwks()).unwrap();
    let key = &set["keys"][0];
    // serde_json keeps members in lexical order, which is what the RFC asks for.
    let required =
        serde_json::json!({ "crv": key["crv"], "kty": key["kty"], "x": key["x"], "y": key["y"] }).to_string();
    let digest = digest::digest(&digest::SHA256, required.as_bytes());
    assert_eq!(ring.signing().id(), URL_SAFE_NO_PAD.encode(digest));
}

#[test]
fn another_key_encryption_key_opens_nothing_and_changes_nothing() {
    let (folder, _) = fresh();
    let before = fs::read(folder.path().join(FILE)).unwrap();
    let error = KeyRing::open_or_create(folder.path(), &kek("E")).unwrap_err();
    assert!(matches!(error, KeyringError::WrongKey { .. }), "{error}");
    assert!(error.remedy().contains("backup"));
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);
}

#[test]
fn a_damaged_file_stops_the_start_and_stays_as_it_is() {
    for length in [0, 1, 100, 300] {
        let (folder, _) = fresh();
        let error = rewrite(&folder, |text| text.chars().take(length).collect());
        assert!(matches!(error, KeyringError::Corrupt { .. }), "{length}: {error}");
    }
    let (folder, _) = fresh();
    assert!(matches!(
        rewrite(&folder, |_| "{}".into()),
        KeyringError::Corrupt { .. }
    ));
    let (folder, _) = fresh();
    let newer = rewrite(&folder, |text| text.replace("\"format\": 1", "\"format\": 2"));
    assert!(matches!(newer, KeyringError::Format { format: 2, .. }), "{newer}");
}

#[test]
fn a_sealed_key_cannot_stand_in_for_another() {
    let (folder, _) = fresh();
    let swapped = rewrite(&folder, |text| {
        text.replace("\"signing\"", "\"x\"")
            .replace("\"sessions\"", "\"signing\"")
            .replace("\"x\"", "\"sessions\"")
    });
    assert!(matches!(swapped, KeyringError::WrongKey { .. }), "{swapped}");
    let (folder, ring) = fresh();
    let renamed = rewrite(&folder, |text| text.replace(ring.signing().id(), "another"));
    assert!(matches!(renamed, KeyringError::WrongKey { .. }), "{renamed}");
}

#[test]
fn a_signing_key_under_another_identifier_is_refused_even_if_sealed_so() {
    let (folder, ring) = fresh();
    let path = folder.path().join(FILE);
    let mut content: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let opened = file::only(&file::read(&path).unwrap(), Purpose::Signing)
        .unwrap()
        .open(&kek("A"))
        .unwrap();
    let sealed = sealed::SealedKey::seal(Purpose::Signing, "another", &opened, &kek("A")).unwrap();
    content["keys"][0] = serde_json::to_value(sealed).unwrap();
    assert!(!content.to_string().contains(ring.signing().id()));
    fs::write(&path, content.to_string()).unwrap();
    let error = KeyRing::open(folder.path(), &kek("A")).unwrap_err();
    assert!(error.to_string().contains("another identifier"), "{error}");
}

#[test]
fn a_file_that_others_can_read_stops_the_start() {
    let (folder, _) = fresh();
    let path = folder.path().join(FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::open(folder.path(), &kek("A")).unwrap_err();
        assert!(matches!(error, KeyringError::Exposed { .. }), "{error}");
    }
}

#[test]
fn secrets_are_neither_on_disk_nor_in_debug_output() {
    let (folder, ring) = fresh();
    let shown = format!("{ring:?}{:?}", kek("A"));
    assert!(!shown.contains("AAAA"), "{shown}");
    let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
    // The prefix of every PKCS#8 document of a P-256 key, in base64.
    assert!(!text.contains("MIGHAgEA"), "{text}");
}

#[test]
fn a_key_encryption_key_is_32_bytes_of_base64() {
    for good in ["A".repeat(43), format!("{}=\n", "A".repeat(43))] {
        assert!(KeyEncryptionKey::from_base64(&good).is_ok());
    }
    for bad in ["", "AAAA", "not base64!", &"A".repeat(64), &"A".repeat(42)] {
        assert!(KeyEncryptionKey::from_base64(bad).is_err(), "{bad}");
    }
}
