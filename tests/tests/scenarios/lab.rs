//! The lab as a person runs it: the demonstration, and a lab in the background.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::curl::Curl;
use kerbridge_tests::process::{OwnedProcess, Signal, Spawn};
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::lab_program;

/// Runs the lab's program to its end; its exit code and all that it printed.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let spawn = Spawn::new(lab_program().unwrap(), folder).args(args);
    let mut process = OwnedProcess::start(spawn).unwrap();
    let status = process.wait_exit(Duration::from_secs(120)).unwrap();
    (status.code(), process.log())
}

/// The longest run of characters of base64 in a text: a secret would be one of hundreds.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+-_=.".contains(c));
    runs.map(str::len).max().unwrap_or(0)
}

#[test]
fn the_demonstration_tells_the_story_plainly_and_leaves_a_capture_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = run(folder.path(), &["demo", "--capture", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let capture = std::fs::read_to_string(folder.path().join("capture.txt")).unwrap();
    for text in [&said, &capture] {
        for told in [
            "alice@LAB.TEST",
            "bob@LAB.TEST",
            "kerbridge_replay",
            "kerbridge_bad_signature",
            "retry-after",
            "a token, to become a ticket",
            "Apache wants Kerberos and nothing else",
            "Apache sees alice@LAB.TEST, by Kerberos",
            "she showed her token and no ticket",
            "her token did not reach Apache",
            "Apache's WWW-Authenticate did not reach her",
            "it is another one than before",
            "the KDC did not have to be asked again",
            "it is refused with 403, denied_by_policy",
            "kerbridge revoke --config kerbridge.toml --subject alice@LAB.TEST --before now",
            "there are no more tickets for her token, at once",
            "with her ticket she may come again",
            "it is refused with 401, revoked",
            "no ticket came twice",
        ] {
            assert!(text.contains(told), "{told} in {text}");
        }
        assert!(!text.contains('\x1b') && !text.contains("FAILED"), "{text}");
        assert!(longest_run(text) < 70, "{} in {text}", longest_run(text));
    }
    // The capture has what the screen leaves out.
    assert!(capture.contains("x-forwarded-proto") && !said.contains("x-forwarded-proto"));
}

#[test]
fn a_demonstration_without_a_broker_fails_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args(["demo", "--capture", folder.path().to_str().unwrap()])
        .env("KERBRIDGE_BIN", "/nonexistent/kerbridge");
    let mut process = OwnedProcess::start(spawn).unwrap();
    assert!(!process.wait_exit(Duration::from_secs(60)).unwrap().success());
    assert!(process.log().contains("/nonexistent/kerbridge") && process.log().contains("make build"));
}

/// Processes whose command line has this text in it.
fn processes_about(text: &str) -> Vec<String> {
    let command_line = |pid: std::fs::DirEntry| {
        let bytes = std::fs::read(pid.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter_map(command_line)
        .filter(|line| line.contains(text))
        .collect()
}

#[test]
fn an_interrupted_demonstration_leaves_neither_files_nor_processes() {
    let folder = tempfile::tempdir().unwrap();
    // Apache may be another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let inside = folder.path().join("tmp");
    std::fs::create_dir(&inside).unwrap();
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args(["demo", "--capture", folder.path().to_str().unwrap()])
        .env("TMPDIR", &inside);
    let mut process = OwnedProcess::start(spawn).unwrap();
    process.wait_for_log("ready after", Duration::from_secs(60)).unwrap();
    let running = processes_about(inside.to_str().unwrap());
    for program in ["envoy", "apache.conf", "slapd", "kerbridge serve"] {
        assert!(
            running.iter().any(|line| line.contains(program)),
            "{program} in {running:?}"
        );
    }
    process.signal(Signal::INT).unwrap();
    assert_eq!(process.wait_exit(Duration::from_secs(10)).unwrap().code(), Some(130));
    wait_until("the end of what it started", Duration::from_secs(10), || {
        processes_about(inside.to_str().unwrap()).is_empty()
    })
    .unwrap();
    let left: Vec<_> = std::fs::read_dir(&inside).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Takes the lab down even where the test fails.
struct Background(PathBuf);

impl Drop for Background {
    fn drop(&mut self) {
        run(&self.0, &["down", "--state", self.0.to_str().unwrap()]);
    }
}

/// Runs what the lab said to type, line by line, and then `more`; what was printed, and the statuses that curl showed.
fn typed(folder: &Path, said: &str, more: &str) -> (String, Vec<String>) {
    let lines = said.lines().filter(|line| {
        let line = line.trim_start();
        ["export ", "CA=", "TOKEN=", "curl "]
            .iter()
            .any(|word| line.starts_with(word))
            || line.contains(" revoke ")
    });
    let script: String = lines.chain(more.lines()).map(|line| format!("{line}\n")).collect();
    // The machine's proxies and the user's .curlrc are not part of the test.
    let spawn = Spawn::new("bash", folder)
        .args(["-euo", "pipefail", "-c", &script])
        .env("no_proxy", "*")
        .env("CURL_HOME", folder);
    let mut bash = OwnedProcess::start(spawn).unwrap();
    let status = bash.wait_exit(Duration::from_secs(60)).unwrap();
    let printed = bash.log();
    assert!(status.success(), "{printed}");
    let statuses = printed
        .lines()
        .filter(|line| line.starts_with("HTTP/"))
        .map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
        .collect();
    (printed, statuses)
}

#[test]
fn a_lab_in_the_background_can_be_used_as_it_says_and_goes_down_whole() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let lab = Background(folder.path().to_owned());
    let (code, said) = run(folder.path(), &["up", "--state", state]);
    assert_eq!(code, Some(0), "{said}");
    let (code, again) = run(folder.path(), &["up", "--state", state]);
    assert_eq!(code, Some(0));
    assert!(
        again.starts_with("The lab is up already.") && said.starts_with("The lab is up."),
        "{again}"
    );

    let named = |name: &str| {
        let (_, rest) = said.split_once(name).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let (authority, url) = (named("CA="), named("URL="));
    let more = "curl -i --cacert $CA --negotiate -u : $URL/legacy/1\n\
                curl -i --cacert $CA -H \"Authorization: Bearer $TOKEN\" $URL/legacy/1";
    let (printed, statuses) = typed(folder.path(), &said, more);
    // Alice by ticket, by token, by token to Apache, straight to it; then bob; then her token, which was taken back.
    assert_eq!(statuses, ["200", "200", "200", "401", "403", "401"], "{printed}");
    for told in [
        "[\"x-kerbridge-subject\",\"alice@LAB.TEST\"]",
        "\"remote_user\":\"alice@LAB.TEST\"",
        "revoked: subject",
    ] {
        assert!(printed.contains(told), "{told} in {printed}");
    }

    let (code, down) = run(folder.path(), &["down", "--state", state]);
    assert_eq!((code, down.trim()), (Some(0), "The lab is stopped."));
    assert!(!Path::new(&authority).exists(), "the lab's folder is still there");
    assert_eq!(Curl::new(url).send().unwrap().exit, 7);
    let (code, down) = run(folder.path(), &["down", "--state", state]);
    assert_eq!((code, down.trim()), (Some(0), "The lab is not running."));
    drop(lab);
}
