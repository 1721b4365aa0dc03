//! Files and folders that nobody else may reach.

use super::*;

#[test]
fn secrets_that_others_can_reach_are_refused() {
    for (name, content, mode, expected) in [
        (
            "kek",
            b"A".repeat(43),
            0o640,
            "keys.key_encryption_key_file: kek has mode 0640",
        ),
        (
            "kek",
            b"A".repeat(43),
            0o604,
            "keys.key_encryption_key_file: kek has mode 0604",
        ),
        (
            "kek",
            b"AAAA".to_vec(),
            0o600,
            "keys.key_encryption_key_file: kek does not hold 32 bytes",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 18),
            0o644,
            "kerberos.acceptor[0].keytab: http.keytab has mode 0644",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 18),
            0o660,
            "kerberos.acceptor[0].keytab: http.keytab has mode 0660",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 23),
            0o600,
            "kerberos.acceptor[0].keytab: http.keytab holds only DES or RC4",
        ),
        (
            "http.keytab",
            vec![5, 2, 0, 0, 0, 9, 0],
            0o600,
            "kerberos.acceptor[0].keytab: http.keytab: the keytab is cut off",
        ),
    ] {
        let folder = Folder::good();
        folder.write(name, content, mode);
        let found = folder.problems();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:#?}");
        assert!(!found[0].contains("AAAA"), "{found:#?}");
    }
    let folder = Folder::good();
    folder.write("http.keytab", keytab(&["HTTP", "api.test"], "A.TEST", 18), 0o640);
    assert!(folder.load().is_ok(), "a keytab for a group");
}

#[test]
fn a_state_directory_that_others_can_reach_is_refused() {
    let folder = Folder::good();
    let state = folder.0.path().join("state");
    prepare_state_dir(&state).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.load().is_ok());
    fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(folder.problems()[0].starts_with("state_dir: state has mode 0750"));
}

#[test]
fn the_key_may_come_as_a_credential_of_systemd() {
    let folder = Folder::good();
    let text = GOOD.replace(
        "key_encryption_key_file = \"kek\"",
        "key_encryption_credential = \"kek\"",
    );
    folder.write("kerbridge.toml", &text, 0o644);
    let surroundings = Surroundings {
        credentials_directory: Some(folder.0.path().to_owned()),
    };
    assert!(folder.load_in(&surroundings).is_ok());
    folder.write("kerbridge.toml", text.replace("\"kek\"", "\"../kek\""), 0o644);
    let found = folder.load_in(&surroundings).map(drop).unwrap_err();
    assert!(
        found[0].starts_with("keys.key_encryption_credential: \"../kek\" is no credential"),
        "{found:#?}"
    );
}
