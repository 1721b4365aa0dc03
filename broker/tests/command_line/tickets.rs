//! What people are told who have no usable ticket, or name what is no good: by files alone, before anybody is asked. What KDC and broker
//! say is in `tests/tests/scenarios/login/trouble.rs`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::fixture::{Folder, text};

/// Somebody who owns nothing.
const NOBODY: u32 = 65_534;
/// A service; it is not asked.
const PRINT: [&str; 3] = ["token", "print", "https://localhost/"];

/// Somebody who is not root, with a program that they can reach, a krb5.conf and no tickets.
struct Somebody(TempDir);

impl Somebody {
    fn new() -> Self {
        let somebody = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(somebody.0.path(), Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_kerbridge"), somebody.path("kerbridge")).unwrap();
        fs::write(somebody.path("krb5.conf"), "[libdefaults]\ndefault_realm = A.TEST\n").unwrap();
        somebody
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that nobody but root reads.
    fn closed(&self, name: &str) -> String {
        let path = self.path(name);
        fs::write(&path, "closed").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        path.display().to_string()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("kerbridge"));
        command.current_dir(self.0.path()).args(words);
        command
            .env_clear()
            .env("HOME", self.0.path())
            .env("KRB5_CONFIG", self.path("krb5.conf"));
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// One line on standard error, with these words.
fn assert_line(output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(code), ""),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for words in words {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_cache_that_cannot_be_read_is_named_each_time() {
    let somebody = Somebody::new();
    let closed = somebody.closed("tickets");
    let garbage = somebody.path("garbage").display().to_string();
    fs::write(&garbage, "garbage").unwrap();
    // It depended on what the memory held before.
    for _ in 0..10 {
        for name in [format!("FILE:{closed}"), closed.clone()] {
            let output = somebody.command(&PRINT).env("KRB5CCNAME", &name).output().unwrap();
            assert_line(&output, 77, &[&closed, "Permission denied", "KRB5CCNAME"]);
        }
        let output = somebody.command(&PRINT).env("KRB5CCNAME", &garbage).output().unwrap();
        assert_line(&output, 77, &["there is no ticket", "run kinit"]);
    }
    let named = somebody
        .command(&[&PRINT[..], &["--ccache", &closed]].concat())
        .output()
        .unwrap();
    assert_line(&named, 77, &[&closed, "Permission denied", "--ccache"]);
}

#[test]
fn a_krb5_conf_that_cannot_be_read_is_named() {
    let somebody = Somebody::new();
    somebody.closed("closed.conf");
    fs::write(somebody.path("wrong.conf"), "[libdefaults\n").unwrap();
    for (name, words) in [("closed.conf", "Permission denied"), ("wrong.conf", "wrong.conf")] {
        let path = somebody.path(name).display().to_string();
        for more in [&[][..], &["--ccache", "FILE:/nonexistent/tickets"]] {
            let line = [&PRINT[..], more].concat();
            let output = somebody.command(&line).env("KRB5_CONFIG", &path).output().unwrap();
            assert_line(&output, 64, &[&path, words, "KRB5_CONFIG"]);
        }
    }
}

#[test]
fn a_keytab_without_the_key_is_told_by_whose_keys_it_has() {
    let folder = Folder::new();
    let keytab =
        |principal: &str| folder.run(&[&PRINT[..], &["--keytab", "http.keytab", "--principal", principal]].concat());
    let words = ["no key of other@A.TEST", "HTTP/api.test@A.TEST", "--principal"];
    assert_line(&keytab("other@A.TEST"), 77, &words);
    fs::write(folder.path("http.keytab"), "nonsense").unwrap();
    assert_line(&keytab("other@A.TEST"), 64, &["http.keytab", "--keytab"]);
}

#[test]
fn a_file_that_is_named_is_looked_at_before_anything_else() {
    let somebody = Somebody::new();
    let line = [&PRINT[..], &["--cacert", "/nonexistent/ca.pem"]].concat();
    let output = somebody.command(&line).output().unwrap();
    assert_line(&output, 64, &["/nonexistent/ca.pem", "--cacert"]);
}

#[test]
fn a_folder_of_tokens_that_cannot_be_looked_into_is_not_an_empty_one() {
    let somebody = Somebody::new();
    fs::create_dir(somebody.path("closed")).unwrap();
    fs::set_permissions(somebody.path("closed"), Permissions::from_mode(0o000)).unwrap();
    let output = somebody
        .command(&["logout", "--cache", "closed/tokens"])
        .output()
        .unwrap();
    assert_line(&output, 77, &["closed/tokens", "Permission denied", "--cache"]);
}

#[test]
fn an_output_that_takes_nothing_is_said() {
    let somebody = Somebody::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = somebody.command(&["logout"]).stdout(full).output().unwrap();
    assert_line(&output, 70, &["standard output", "No space left"]);
}
