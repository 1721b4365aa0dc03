//! An import that was stopped in its middle, as whoever goes on from there meets it.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use kerbridge_broker::store::{Exported, Kind, Revocation, Target, begin_file};
use kerbridge_broker::time::UnixTime;
use rustix::process::Signal;

use crate::fixture::{Folder, Serving, text};

/// As many as take several transactions.
const REVOKED: usize = 60_000;

/// A folder in which no broker has run yet, with an export of another's store.
fn folder() -> Folder {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let another = tempfile::tempdir().unwrap();
    let revoked = (0..REVOKED).map(|number| {
        let revocation = Revocation {
            target: Target::new(Kind::Subject, &format!("user-{number}@A.TEST")).unwrap(),
            issued_at_or_before: None,
            needed_until: None,
        };
        (revocation, UnixTime::from_seconds(1000))
    });
    let exported = Exported {
        position: begin_file(another.path()).unwrap(),
        tokens_end: UnixTime::from_seconds(2000),
        revoked: revoked.collect(),
        used: Vec::new(),
    };
    exported
        .write(fs::File::create(folder.path("export")).unwrap())
        .unwrap();
    folder
}

/// What an import calls the store that it has not yet filled.
fn left(folder: &Folder) -> PathBuf {
    folder.path("made/state/store.redb.import")
}

fn store(folder: &Folder, command: &str, arguments: &[&str]) -> Output {
    folder.run(&[&["store", command, "--config", "made/kerbridge.toml"], arguments].concat())
}

/// What a broker says that does not start.
fn refusal(folder: &Folder) -> String {
    match Serving::begin(folder).listening() {
        Ok(_) => panic!("it starts"),
        Err((status, complaint)) => {
            assert_eq!(status.code(), Some(78), "{complaint}");
            complaint
        }
    }
}

#[test]
fn after_an_import_that_was_killed_nothing_begins_without_what_it_was_to_bring_until_it_is_done_again() {
    let folder = folder();
    let arguments = ["store", "import", "--config", "made/kerbridge.toml", "export"];
    let mut importing = folder.command().args(arguments).spawn().unwrap();
    while !left(&folder).exists() {
        assert!(importing.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    importing.kill().unwrap();
    assert!(!importing.wait().unwrap().success());
    assert!(left(&folder).exists() && !folder.path("made/state/store.redb").exists());
    // An empty store in its place would let everybody in again who was taken out.
    let expected = "store.redb.import is: an import did not come to its end, and what it was to bring in would be forgotten; do it \
                    again (kerbridge store import FILE)";
    let checked = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
    for said in [
        refusal(&folder),
        text(&checked.stderr),
        text(&store(&folder, "check", &[]).stderr),
        text(&store(&folder, "export", &[]).stderr),
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!folder.path("made/state/store.redb").exists(), "something was made");
    let again = store(&folder, "import", &["export"]);
    let said = text(&again.stderr);
    assert_eq!(again.status.code(), Some(0), "{said}");
    assert!(
        said.contains("of an import that did not come to its end; this one began from the export"),
        "{said}"
    );
    assert!(
        text(&again.stdout).starts_with("imported: 60000 revocations"),
        "{}",
        text(&again.stdout)
    );
    assert!(!left(&folder).exists());
    let checked = store(&folder, "check", &[]);
    assert!(
        text(&checked.stdout).contains(" 60000 revocations"),
        "{}",
        text(&checked.stderr)
    );
    drop(Serving::start(&folder));
}

#[test]
fn who_does_not_want_it_any_more_removes_what_an_import_left_and_begins() {
    let folder = folder();
    fs::create_dir(folder.path("made/state")).unwrap();
    fs::set_permissions(
        folder.path("made/state"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    fs::write(left(&folder), b"half of one").unwrap();
    assert!(refusal(&folder).contains("where nothing is to be brought in any more, remove what it left"));
    fs::remove_file(left(&folder)).unwrap();
    drop(Serving::start(&folder));
}

#[test]
fn an_import_that_was_stopped_at_its_last_step_has_come_to_its_end() {
    let folder = folder();
    assert!(store(&folder, "import", &["export"]).status.success());
    // Its store has both names then.
    fs::hard_link(folder.path("made/state/store.redb"), left(&folder)).unwrap();
    let checked = store(&folder, "check", &[]);
    assert!(
        text(&checked.stdout).contains(" 60000 revocations"),
        "{}",
        text(&checked.stderr)
    );
    let broker = Serving::start(&folder);
    assert!(!left(&folder).exists());
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().0.code(), Some(0));
    // Nor is another one begun in its place.
    fs::write(left(&folder), b"half of one").unwrap();
    let again = store(&folder, "import", &["export"]);
    assert_eq!(again.status.code(), Some(78));
    assert!(
        text(&again.stderr).contains("store.redb is there, and is not overwritten"),
        "{}",
        text(&again.stderr)
    );
}
