use super::*;

#[test]
fn a_user_of_a_fresh_realm_can_log_in_and_a_stranger_cannot() {
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_user("alice", "correct horse").unwrap();
    let ccache = kdc.kinit("alice").unwrap();
    assert!(ccache.path().metadata().unwrap().len() > 0);
    assert!(kdc.log().contains("alice@LAB.TEST for krbtgt/LAB.TEST@LAB.TEST"));
    kdc.write(&password_file("alice"), "wrong").unwrap();
    let refused = kdc.kinit("alice").unwrap_err();
    assert!(
        matches!(&refused, HarnessError::Exited { log, .. } if log.contains("Password incorrect")),
        "{refused}"
    );
    assert!(kdc.kinit("stranger").is_err());
}

#[test]
fn a_line_that_kadmin_refuses_is_an_error() {
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_service("HTTP/localhost").unwrap();
    for line in [
        "addprinc -randkey HTTP/localhost",
        "getprinc nobody",
        "nonsense",
        "addprinc",
    ] {
        assert!(
            matches!(kdc.kadmin(line), Err(HarnessError::UnexpectedAnswer { .. })),
            "{line}"
        );
    }
    assert!(
        kdc.kadmin("getprinc HTTP/localhost\nlistprincs")
            .unwrap()
            .contains("vno 1")
    );
}

#[test]
fn nobody_else_can_read_what_a_realm_keeps() {
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_user("alice", "correct horse").unwrap();
    for path in [kdc.folder().to_owned(), kdc.folder().join(password_file("alice"))] {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn two_realms_run_side_by_side_and_leave_nothing() {
    let (one, other) = (Kdc::start("ONE.TEST").unwrap(), Kdc::start("OTHER.TEST").unwrap());
    one.add_user("alice", "a").unwrap();
    assert!(other.kinit("alice").is_err());
    let folder = one.folder().to_owned();
    assert_eq!(Kdc::attach(&folder).unwrap().realm(), "ONE.TEST");
    drop(one);
    assert!(!folder.exists());
    assert!(Kdc::attach(&folder).is_err());
}
