use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use tempfile::TempDir;

use super::signing_key::PublicKey;
use super::*;

mod schedule;
mod shared;

fn kek(fill: &str) -> KeyEncryptionKey {
    KeyEncryptionKey::from_base64(&fill.repeat(43)).unwrap()
}

fn fresh() -> (TempDir, KeyRing) {
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::open_or_create(folder.path(), &kek("A")).unwrap();
    (folder, ring)
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
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

/// The one public key of a ring, and the bytes of a member.
fn published(ring: &KeyRing) -> (serde_json::Value, impl Fn(&str) -> Vec<u8> + use<>) {
    let set: serde_json::Value = serde_json::from_str(&ring.jwks()).unwrap();
    let [key] = set["keys"].as_array().unwrap().as_slice() else {
        panic!("{set}");
    };
    let key = key.clone();
    let members = key.clone();
    (key, move |name| {
        URL_SAFE_NO_PAD.decode(members[name].as_str().unwrap()).unwrap()
    })
}

#[test]
fn a_signature_verifies_under_the_published_key_by_each_algorithm() {
    for &algorithm in SigningAlgorithm::ALL {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            algorithm,
            ..Rotation::default()
        };
        drop(KeyRing::start(folder.path(), &kek("A"), &rotation, at(1000)).unwrap());
        let ring = KeyRing::open(folder.path(), &kek("A"), &rotation, at(1000)).unwrap();
        let (key, member) = published(&ring);
        let signing = ring.signing();
        let expected = [("alg", algorithm.name()), ("use", "sig"), ("kid", signing.id())];
        for (name, value) in expected {
            assert_eq!(key[name], value);
        }
        for secret in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(key.get(secret).is_none());
        }
        let signed = signing.sign(b"message", tokio::time::Instant::now());
        let signature = crate::jws::tests::at_once(signed).unwrap();
        let verify = |message: &[u8]| match algorithm {
            SigningAlgorithm::Es256 => {
                let point = [vec![4], member("x"), member("y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
            }
            SigningAlgorithm::EdDsa => UnparsedPublicKey::new(&ED25519, member("x")).verify(message, &signature),
            SigningAlgorithm::Rs256 => RsaPublicKeyComponents {
                n: member("n"),
                e: member("e"),
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature),
        };
        verify(b"message").unwrap();
        verify(b"massage").unwrap_err();
    }
}

#[test]
fn the_key_identifier_is_the_thumbprint_of_rfc_7638() {
    for (algorithm, required) in [
        (SigningAlgorithm::Es256, &["crv", "kty", "x", "y"][..]),
        (SigningAlgorithm::EdDsa, &["crv", "kty", "x"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            algorithm,
            ..Rotation::default()
        };
        let ring = KeyRing::start(folder.path(), &kek("A"), &rotation, at(1000)).unwrap();
        let (key, _) = published(&ring);
        // serde_json keeps members in lexical order, which is what the RFC asks for.
        let members = required.iter().map(|name| ((*name).to_owned(), key[name].clone()));
        let text = serde_json::Value::Object(members.collect()).to_string();
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(ring.signing().id(), URL_SAFE_NO_PAD.encode(digest));
    }
    // The example of RFC 7638 §3.1.
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let public = PublicKey::rsa(&URL_SAFE_NO_PAD.decode(modulus).unwrap(), &[1, 0, 1]);
    assert_eq!(public.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn another_key_encryption_key_opens_nothing_and_changes_nothing() {
    let (folder, _) = fresh();
    let before = fs::read(folder.path().join(FILE)).unwrap();
    let error = KeyRing::open_or_create(folder.path(), &kek("E")).unwrap_err();
    assert!(matches!(error, KeyringError::AnotherKey { .. }), "{error}");
    assert!(error.remedy().contains("backup"));
    for kek in [kek("A"), kek("E")] {
        assert!(error.to_string().contains(kek.id().as_str()), "{error}");
    }
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
    let newer = rewrite(&folder, |text| text.replace("\"format\": 2", "\"format\": 3"));
    assert!(matches!(newer, KeyringError::Format { format: 3, .. }), "{newer}");
}

#[test]
fn no_byte_of_what_is_sealed_can_be_changed() {
    for member in ["keys", "wrapped"] {
        for part in ["nonce", "sealed"] {
            let (folder, _) = fresh();
            let error = rewrite(&folder, |text| {
                let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
                let sealed = if member == "keys" {
                    &mut file["keys"]
                } else {
                    &mut file["wrapped"][0]["data_key"]
                };
                let mut bytes = STANDARD.decode(sealed[part].as_str().unwrap()).unwrap();
                bytes[3] ^= 1;
                sealed[part] = STANDARD.encode(bytes).into();
                file.to_string()
            });
            assert!(
                matches!(error, KeyringError::Changed { .. }),
                "{member} {part}: {error}"
            );
            assert!(error.remedy().contains("backup"));
        }
    }
    // The same keys of another file under the same key-encryption key: its data key is another.
    let (folder, _) = fresh();
    let (other, _) = fresh();
    let foreign: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(other.path().join(FILE)).unwrap()).unwrap();
    let error = rewrite(&folder, |text| {
        let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
        file["keys"] = foreign["keys"].clone();
        file.to_string()
    });
    assert!(matches!(error, KeyringError::Changed { .. }), "{error}");
}

/// A file as the release before wrote it, and the secret of its key.
fn format_1(folder: &TempDir) -> (String, Zeroizing<Vec<u8>>) {
    let secret = SigningAlgorithm::Es256.generate().unwrap();
    let id = SigningKey::from_secret(SigningAlgorithm::Es256, &secret)
        .unwrap()
        .id()
        .to_owned();
    let file = format_1::KeyFile {
        format: 1,
        keys: vec![
            format_1::SealedKey::seal(format_1::Purpose::Signing, &id, &secret, &kek("A")),
            format_1::SealedKey::seal(format_1::Purpose::Sessions, "s", &[7; 32], &kek("A")),
        ],
    };
    let path = folder.path().join(FILE);
    fs::write(&path, serde_json::to_string_pretty(&file).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (id, secret)
}

#[test]
fn a_file_of_the_format_before_is_kept_aside_and_brought_up_with_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = format_1(&folder);
    let before = fs::read(folder.path().join(FILE)).unwrap();
    // Whoever only looks changes nothing.
    let looked = KeyRing::open(folder.path(), &kek("A"), &Rotation::default(), at(5000)).unwrap();
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);
    let ring = KeyRing::start(folder.path(), &kek("A"), &Rotation::default(), at(5000)).unwrap();
    assert_eq!(ring.signing().id(), id);
    assert_eq!(ring.session(b"ticket"), looked.session(b"ticket"));
    assert_eq!(fs::read(folder.path().join("keyring.json.format-1")).unwrap(), before);
    let again = KeyRing::start(folder.path(), &kek("A"), &Rotation::default(), at(6000)).unwrap();
    assert_eq!(again.signing().id(), id);
    assert_eq!(again.session(b"ticket"), ring.session(b"ticket"));
    assert_eq!(again.list()[0].stage, Stage::Signing { since: at(5000) });
    // It opens under the old key-encryption key, and so goes with that.
    again.add_kek(&kek("E"), By::Schedule).unwrap();
    assert!(folder.path().join("keyring.json.format-1").exists());
    again.only_kek(&kek("E"), By::Schedule).unwrap();
    assert!(!folder.path().join("keyring.json.format-1").exists());
}

#[test]
fn in_a_file_of_the_format_before_a_sealed_key_cannot_stand_in_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = format_1(&folder);
    let swapped = rewrite(&folder, |text| {
        text.replace("\"signing\"", "\"x\"")
            .replace("\"sessions\"", "\"signing\"")
            .replace("\"x\"", "\"sessions\"")
    });
    assert!(matches!(swapped, KeyringError::AnotherKey { .. }), "{swapped}");
    format_1(&folder);
    let renamed = rewrite(&folder, |text| text.replacen("\"id\": \"", "\"id\": \"another", 1));
    assert!(matches!(renamed, KeyringError::AnotherKey { .. }), "{renamed}");
    let (_, secret) = format_1(&folder);
    let other = format_1::SealedKey::seal(format_1::Purpose::Signing, &id, &secret, &kek("A"));
    let error = rewrite(&folder, |text| {
        let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
        file["keys"][0] = serde_json::to_value(&other).unwrap();
        file.to_string()
    });
    assert!(error.to_string().contains("another identifier"), "{error}");
}

#[test]
fn a_file_that_others_can_read_stops_the_start() {
    let (folder, _) = fresh();
    let path = folder.path().join(FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::open(folder.path(), &kek("A"), &Rotation::default(), at(0)).unwrap_err();
        assert!(matches!(error, KeyringError::Exposed { .. }), "{error}");
    }
}

#[test]
fn secrets_are_neither_on_disk_nor_in_debug_output() {
    let (folder, ring) = fresh();
    let shown = format!("{ring:?}{:?}", kek("A"));
    assert!(!shown.contains("AAAA"), "{shown}");
    let file: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join(FILE)).unwrap()).unwrap();
    let sealed = file["keys"]["sealed"].as_str().unwrap();
    let sealed = STANDARD.decode(sealed).unwrap();
    assert!(sealed.len() > 200, "{file}");
    // Members of the text that is sealed, and the prefix of every PKCS#8 document of a P-256 key, in base64.
    for open in ["sessions", "secret", "MIGHAgEA"] {
        assert!(
            !sealed.windows(open.len()).any(|part| part == open.as_bytes()),
            "{open}"
        );
    }
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

fn every(seconds: u32, lead: u32) -> Rotation {
    Rotation {
        every: Span::from_seconds(seconds),
        lead: Span::from_seconds(lead).unwrap(),
        ..Rotation::default()
    }
}

fn ids(ring: &KeyRing) -> Vec<String> {
    ring.list().into_iter().map(|key| key.id).collect()
}

#[test]
fn each_change_is_on_disk_before_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::start(folder.path(), &kek("A"), &every(100, 10), at(0)).unwrap();
    let reread = || ids(&KeyRing::open(folder.path(), &kek("A"), &every(100, 10), at(0)).unwrap());
    let first = ring.signing().id().to_owned();
    let next = ring.publish(at(90), By::Schedule).unwrap();
    assert_eq!(
        (ids(&ring), ring.signing().id()),
        (vec![first.clone(), next.clone()], first.as_str())
    );
    assert_eq!(reread(), ids(&ring));
    assert_eq!(ring.switch(at(100), at(150), By::Schedule).unwrap(), next);
    assert_eq!(ids(&ring), [next.clone(), first.clone()]);
    assert_eq!(reread(), ids(&ring));
    ring.forget(at(151), By::Schedule).unwrap();
    assert_eq!(ids(&ring), std::slice::from_ref(&next));
    assert_eq!(reread(), ids(&ring));
    // Where the disk takes nothing, nothing changes.
    fs::remove_dir_all(folder.path()).unwrap();
    for failed in [
        ring.publish(at(200), By::Schedule).map(drop),
        ring.switch_now(at(200), at(250), By::Schedule).map(drop),
        ring.retire(&next, at(200), By::Schedule).map(drop),
    ] {
        assert!(matches!(failed, Err(ChangeError::Failed(_))), "{failed:?}");
        assert_eq!(ids(&ring), std::slice::from_ref(&next));
    }
}

#[test]
fn the_schedule_lets_no_key_sign_that_was_not_published_and_a_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::start(folder.path(), &kek("A"), &every(100, 10), at(0)).unwrap();
    let first = ring.signing().id().to_owned();
    // Somebody retired the next key after it was seen that it is time.
    let refused = ring.switch(at(100), at(150), By::Schedule);
    assert!(matches!(refused, Err(ChangeError::Refused(RotateError::NoOther))));
    assert_eq!(ids(&ring), std::slice::from_ref(&first));
    let second = ring.switch_now(at(100), at(150), By::Offline { uid: 0 }).unwrap();
    assert_eq!(ids(&ring), [second, first]);
}

#[test]
fn the_signing_key_is_retired_at_once_and_another_signs() {
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::start(folder.path(), &kek("A"), &every(100, 10), at(0)).unwrap();
    let news = ring.news();
    let first = ring.signing().id().to_owned();
    let second = ring.retire(&first, at(5), By::Offline { uid: 0 }).unwrap();
    assert_eq!(
        (ids(&ring), ring.signing().id()),
        (vec![second.clone()], second.as_str())
    );
    assert!(news.has_changed().unwrap());
    let jwks = news.borrow().jwks().to_owned();
    assert!(jwks.contains(&second) && !jwks.contains(&first));
    assert!(matches!(
        ring.retire(&first, at(5), By::Schedule),
        Err(ChangeError::Refused(RotateError::Unknown))
    ));
    // One that is published already takes the place, however short it was.
    let next = ring.publish(at(6), By::Schedule).unwrap();
    assert_eq!(ring.retire(&second, at(6), By::Schedule).unwrap(), next);
    assert_eq!(ids(&ring), [next]);
}

#[test]
fn a_key_signs_only_after_this_process_has_published_it_for_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let start = |now| KeyRing::start(folder.path(), &kek("A"), &every(100, 10), at(now)).unwrap();
    let ring = start(0);
    assert_eq!(ring.next_switch(), Some(at(100)));
    ring.publish(at(90), By::Schedule).unwrap();
    assert_eq!(ring.next_switch(), Some(at(100)));
    // It was down at 95, when nobody could fetch the key, and a minute longer.
    let ring = start(155);
    assert_eq!(ring.next_switch(), Some(at(165)));
}

#[test]
fn keys_move_to_another_key_encryption_key_in_two_steps_each_of_which_opens() {
    let folder = tempfile::tempdir().unwrap();
    let open = |fill: &str| KeyRing::open(folder.path(), &kek(fill), &Rotation::default(), at(0));
    let ring = KeyRing::start(folder.path(), &kek("A"), &Rotation::default(), at(0)).unwrap();
    let id = ring.signing().id().to_owned();
    assert!(matches!(
        ring.only_kek(&kek("E"), By::Schedule),
        Err(ChangeError::Refused(RotateError::NotSealedUnder))
    ));
    for _ in 0..2 {
        ring.add_kek(&kek("E"), By::Schedule).unwrap();
        assert_eq!(ring.keks(), [kek("A").id().clone(), kek("E").id().clone()]);
    }
    // What is published meanwhile opens under both, too.
    ring.publish(at(5), By::Schedule).unwrap();
    for fill in ["A", "E"] {
        assert_eq!(open(fill).unwrap().list().len(), 2);
    }
    assert!(matches!(
        ring.only_kek(&kek("A"), By::Schedule),
        Err(ChangeError::Refused(RotateError::NewerKek))
    ));
    for fill in ["A", "E"] {
        assert_eq!(open(fill).unwrap().list().len(), 2);
    }
    // Whoever thinks better of it says so first.
    ring.add_kek(&kek("A"), By::Schedule).unwrap();
    assert_eq!(ring.keks(), [kek("E").id().clone(), kek("A").id().clone()]);
    ring.add_kek(&kek("E"), By::Schedule).unwrap();
    ring.only_kek(&kek("E"), By::Schedule).unwrap();
    assert_eq!(open("E").unwrap().signing().id(), id);
    assert!(matches!(open("A"), Err(KeyringError::AnotherKey { .. })));
    assert_eq!(ring.keks(), [kek("E").id().clone()]);
}
