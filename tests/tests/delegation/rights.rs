//! What each kind of KDC lets an account do, asked with MIT's own tools and shown to Apache: the ground that the broker's
//! direction from token to ticket stands on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::curl::Curl;
use kerbridge_tests::delegation::{
    BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, Kind, LEGACY, NO_TARGETS, OTHER, RESOURCE_BASED,
    SENSITIVE, UNKNOWN,
};
use kerbridge_tests::process::{OwnedProcess, Spawn};
use tempfile::TempDir;

use crate::realms::{mit, samba};

/// Acts for a user towards a service, with `kinit` and `kvno`; a cache with that one ticket, or what `kvno` said.
fn act(realm: &DelegationRealm, bridge: &str, user: &str, target: &str, folder: &Path) -> Result<PathBuf, String> {
    let (login, out) = (
        folder.join(format!("{bridge}.ccache")),
        folder.join(format!("{user}.ccache")),
    );
    let run = |program: &str, arguments: &[&str]| {
        let spawn = Spawn::new(program, folder)
            .args(arguments)
            .env("KRB5_CONFIG", realm.clients().krb5_config())
            .env("KRB5CCNAME", &login)
            .env("LC_ALL", "C");
        let mut process = OwnedProcess::start(spawn).unwrap();
        let ended = process.wait_exit(Duration::from_secs(30)).unwrap();
        if ended.success() { Ok(()) } else { Err(process.log()) }
    };
    let keytab = realm.keytab(bridge);
    let keytab = keytab.to_str().unwrap();
    // The user's ticket is as forwardable as the account's own, and towards the target only a forwardable one is taken. A
    // krb5.conf need not ask for that.
    run("kinit", &["-f", "-k", "-t", keytab, bridge]).unwrap();
    run(
        "kvno",
        &[
            "-k",
            keytab,
            "-U",
            user,
            "-P",
            "--out-cache",
            out.to_str().unwrap(),
            target,
        ],
    )?;
    Ok(out)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn apache_sees_the_user(realm: &DelegationRealm) {
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let host = LEGACY.strip_prefix("HTTP/").unwrap();
    for user in ["alice", "bob", "user-049"] {
        let folder = folder();
        let ticket = act(realm, BRIDGE, user, LEGACY, folder.path()).unwrap();
        let answer = Curl::new(format!("http://{host}:{}/", apache.port()))
            .arg("--resolve")
            .arg(format!("{host}:{}:127.0.0.1", apache.port()))
            .negotiate([
                ("KRB5_CONFIG", realm.clients().krb5_config()),
                ("KRB5CCNAME", ticket.as_path()),
            ])
            .send()
            .unwrap();
        assert_eq!(answer.status, 200, "{user}: {}", apache.log());
        assert_eq!(remote_user(&answer.json()), Some(realm.principal(user).as_str()));
    }
}

fn rights_that_are_missing_are_refused(realm: &DelegationRealm) {
    // The KDC's words are the same whether the account may not act for those who showed it no ticket, the user may not be
    // acted for, or the target is not on the list.
    let denied = "KDC can't fulfill requested option";
    for (bridge, user, target, words) in [
        (KERBEROS_ONLY, "alice", LEGACY, denied),
        (NO_TARGETS, "alice", LEGACY, denied),
        (BRIDGE, SENSITIVE, LEGACY, denied),
        (BRIDGE, "alice", OTHER, denied),
        (BRIDGE, "alice", UNKNOWN, "not found in Kerberos database"),
        (BRIDGE, "nobody", LEGACY, "not found in Kerberos database"),
        // Neither kind of KDC at hand has it.
        (RESOURCE_BASED, "alice", LEGACY, denied),
    ] {
        let folder = folder();
        let refused = act(realm, bridge, user, target, folder.path()).unwrap_err();
        assert!(refused.contains(words), "{bridge} for {user} to {target}: {refused}");
    }
    let (revoked, ended) = ("credentials have been revoked", "entry in database has expired");
    let (disabled, expired) = match realm.kind() {
        Kind::Mit => (&[revoked][..], &[ended][..]),
        // Samba 4.17 has the first words, 4.19 the second.
        Kind::Samba => (&["KDC policy rejects request", revoked][..], &[ended, revoked][..]),
    };
    for (user, words) in [(DISABLED, disabled), (EXPIRED, expired)] {
        let folder = folder();
        let refused = act(realm, BRIDGE, user, LEGACY, folder.path()).unwrap_err();
        assert!(words.iter().any(|words| refused.contains(words)), "{user}: {refused}");
    }
}

fn a_right_counts_at_once(realm: &DelegationRealm) {
    let folder = folder();
    let act = || act(realm, NO_TARGETS, "bob", OTHER, folder.path());
    assert!(act().is_err());
    let before = realm.requests();
    realm.allow(NO_TARGETS, OTHER).unwrap();
    let given = act();
    let asked = realm.requests().saturating_sub(before);
    realm.forbid(NO_TARGETS, OTHER).unwrap();
    assert!(given.is_ok(), "{given:?}");
    // The account's login, the look for the user's realm, and one for each of the two tickets; others ask beside.
    assert!(asked >= 4, "{asked}");
    assert!(act().is_err());
}

#[test]
fn the_service_sees_the_user_for_whom_an_account_acts() {
    apache_sees_the_user(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn the_service_sees_the_user_for_whom_an_account_acts_in_a_domain() {
    apache_sees_the_user(samba());
}

#[test]
fn a_right_that_is_missing_is_refused() {
    rights_that_are_missing_are_refused(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_right_that_is_missing_is_refused_in_a_domain() {
    rights_that_are_missing_are_refused(samba());
}

#[test]
fn a_right_that_is_given_and_taken_counts_at_once() {
    a_right_counts_at_once(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_right_that_is_given_and_taken_counts_at_once_in_a_domain() {
    a_right_counts_at_once(samba());
}
