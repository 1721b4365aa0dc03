//! Holds a child to the ways in which it must end.

use super::*;
use crate::wait::wait_until;

fn alive(pid: u32) -> bool {
    // A zombie is dead: its state letter is the first field after the name in parentheses.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

fn shell(folder: &Path, script: &str) -> OwnedProcess {
    OwnedProcess::start(Spawn::new("sh", folder).args(["-c", script])).unwrap()
}

#[test]
fn a_child_that_ignores_sigterm_still_dies_with_its_owner_and_its_own_children_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = shell(
        folder.path(),
        "trap '' TERM; sleep 600 & echo child $!; while :; do sleep 600; done",
    );
    process.wait_for_log("child ", Duration::from_secs(5)).unwrap();
    let grandchild: u32 = process.log().trim().strip_prefix("child ").unwrap().parse().unwrap();
    let pid = process.pid();
    assert!(alive(pid) && alive(grandchild));
    drop(process);
    assert!(!alive(pid));
    wait_until("the grandchild's end", Duration::from_secs(5), || !alive(grandchild)).unwrap();
}

#[test]
fn a_child_that_ends_politely_takes_its_own_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = shell(folder.path(), "sleep 600 & echo child $!; wait");
    process.wait_for_log("child ", Duration::from_secs(5)).unwrap();
    let grandchild: u32 = process.log().trim().strip_prefix("child ").unwrap().parse().unwrap();
    drop(process);
    wait_until("the grandchild's end", Duration::from_secs(5), || !alive(grandchild)).unwrap();
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let process = std::thread::spawn(move || shell(&path, "echo up; exec sleep 600"))
        .join()
        .unwrap();
    // The thread's end is what would have killed it, at once.
    let mut process = process;
    process.wait_for_log("up", Duration::from_secs(5)).unwrap();
    assert!(process.try_wait().unwrap().is_none());
}

#[test]
fn a_child_dies_with_a_killed_test() {
    if let Some(folder) = std::env::var_os("KERBRIDGE_TEST_CHILD_FOLDER") {
        let mut inner = shell(Path::new(&folder), "echo pid $$; exec sleep 600");
        inner.wait_for_log("pid ", Duration::from_secs(5)).unwrap();
        inner.wait_exit(Duration::from_secs(600)).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inner_folder = tempfile::tempdir().unwrap();
    let mut outer = OwnedProcess::start(
        Spawn::new(std::env::current_exe().unwrap(), folder.path())
            .args(["--exact", "process::tests::a_child_dies_with_a_killed_test"])
            .env("KERBRIDGE_TEST_CHILD_FOLDER", inner_folder.path()),
    )
    .unwrap();
    let log = inner_folder.path().join("sh.log");
    let read = || {
        std::fs::read_to_string(&log)
            .ok()?
            .trim()
            .strip_prefix("pid ")?
            .parse::<u32>()
            .ok()
    };
    let inner = wait_for("the inner child", Duration::from_secs(10), read).unwrap();
    assert!(alive(inner));
    outer.signal(Signal::KILL).unwrap();
    wait_until("the inner child's end", Duration::from_secs(5), || !alive(inner)).unwrap();
}

#[test]
fn terminate_returns_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = shell(
        folder.path(),
        "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done",
    );
    process.wait_for_log("up", Duration::from_secs(5)).unwrap();
    assert_eq!(process.terminate().unwrap().code(), Some(7));
}

#[test]
fn a_child_that_ends_early_is_reported_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = shell(folder.path(), "echo the cause; exit 3");
    let error = process.wait_for_log("never", Duration::from_secs(5)).unwrap_err();
    assert!(matches!(error, HarnessError::Exited { .. }));
    assert!(error.to_string().contains("the cause"), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let error = OwnedProcess::start(Spawn::new("kerbridge-no-such-program", "/tmp")).unwrap_err();
    assert!(error.to_string().contains("kerbridge-no-such-program"), "{error}");
}

#[test]
fn a_child_that_prints_a_credential_fails_whoever_waits_for_it_or_lets_it_go() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "printed.0123456789abcdefghijABCDEFGHIJ0123456789".replace('.', "");
    canary::note(secret.as_bytes());
    let start = |name: &str| {
        let script = format!("echo token={secret}");
        OwnedProcess::start(
            Spawn::new("sh", folder.path())
                .name(name)
                .watched()
                .args(["-c", &script]),
        )
        .unwrap()
    };
    let error = start("awaited").wait_exit(Duration::from_secs(10)).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("the log of awaited") && shown.contains("token="),
        "{shown}"
    );
    assert!(!shown.contains(&secret), "{shown}");
    let mut dropped = start("dropped");
    dropped.wait_for_log("token=", Duration::from_secs(10)).unwrap();
    let fails = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(dropped)));
    assert!(fails.is_err());
}
