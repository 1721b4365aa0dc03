//! The Debian package: the same files make the same bytes; installed into an empty folder it brings a unit that systemd finds well
//! locked, and what that unit starts listens within a minute.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shipped::{self, repository};
use kerbridge_tests::token::now;

/// Most exposure that is taken, of 100, as `systemd-analyze security` counts it.
const EXPOSURE: &str = "20";

/// Runs a program to its end; what it printed, both ways.
fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(program, folder.path()).name("run").args(args);
    let mut process = OwnedProcess::start(spawn).unwrap();
    let status = process.wait_exit(Duration::from_secs(120)).unwrap();
    (status.success(), process.log())
}

fn good<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> String {
    let (success, printed) = run(program, args);
    assert!(success, "{printed}");
    printed
}

/// Makes the package as somebody whose files have these rights.
fn built(folder: &Path, umask: &str) -> PathBuf {
    let (broker, module) = (find_kerbridge().unwrap(), shipped::module().unwrap());
    let script = repository().join("broker/package/debian.sh");
    let with_umask = ["-c", r#"umask "$0" && exec bash "$@""#, umask].map(Path::new);
    let printed = good(
        "bash",
        with_umask
            .into_iter()
            .chain([script.as_path(), &broker, &module, folder]),
    );
    PathBuf::from(printed.trim())
}

/// Installs a package into an empty folder, as dpkg does: with its scripts, which then touch that folder alone.
fn installed(package: &Path, root: &Path) {
    let lists = root.join("var/lib/dpkg");
    for below in ["updates", "info", "triggers"] {
        fs::create_dir_all(lists.join(below)).unwrap();
    }
    fs::write(lists.join("status"), "").unwrap();
    // What sysusers and tmpfiles look for in a system.
    fs::create_dir_all(root.join("etc")).unwrap();
    let mut option = std::ffi::OsString::from("--root=");
    option.push(root);
    good(
        "dpkg",
        [
            option.as_os_str(),
            OsStr::new("--force-not-root"),
            OsStr::new("--force-depends"),
            OsStr::new("--force-script-chrootless"),
            OsStr::new("--install"),
            package.as_os_str(),
        ],
    );
}

#[test]
fn the_package_is_the_same_twice_installs_locks_its_service_and_starts_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = built(&folder.path().join("1"), "022");
    let second = built(&folder.path().join("2"), "077");
    assert!(
        fs::read(&first).unwrap() == fs::read(&second).unwrap(),
        "the two differ"
    );
    let root = folder.path().join("root");
    let begun = now();
    // Only root makes a user, in whatever folder: for others the files are laid out.
    if rustix::process::geteuid().is_root() {
        installed(&first, &root);
        let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
        assert!(users.lines().any(|line| line.starts_with("kerbridge:")), "{users}");
    } else {
        good("dpkg-deb", [OsStr::new("-x"), first.as_os_str(), root.as_os_str()]);
        fs::create_dir_all(root.join("etc/kerbridge")).unwrap();
    }
    let unit = root.join("usr/lib/systemd/system/kerbridge.service");
    assert!(root.join("etc/kerbridge").is_dir());
    for file in [
        "usr/lib/kerbridge/kerbridge_filter.wasm",
        "usr/share/bash-completion/completions/kerbridge",
        "usr/share/zsh/vendor-completions/_kerbridge",
        "usr/share/fish/vendor_completions.d/kerbridge.fish",
        "usr/share/doc/kerbridge/copyright",
    ] {
        assert!(fs::metadata(root.join(file)).unwrap().len() > 0, "{file}");
    }
    let threshold = format!("--threshold={EXPOSURE}");
    good(
        "systemd-analyze",
        [
            OsStr::new("security"),
            OsStr::new("--offline=true"),
            OsStr::new(&threshold),
            unit.as_os_str(),
        ],
    );
    // What the unit starts, with its folder in place of the system's.
    let unit = fs::read_to_string(&unit).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = start.split(' ').map(|word| match word.strip_prefix('/') {
        Some(path) => root.join(path).into_os_string(),
        None => word.into(),
    });
    let kdc = kerbridge_tests::kdc::Kdc::start("LAB.TEST").unwrap();
    let keytab = root.join("etc/kerbridge/http.keytab");
    kdc.add_service("HTTP/localhost").unwrap();
    kdc.extract_keytab(&["HTTP/localhost"], &keytab).unwrap();
    let program = root.join("usr/bin/kerbridge");
    let state = root.join("var/lib/kerbridge");
    let arguments = [
        OsStr::new("init"),
        OsStr::new("--keytab"),
        keytab.as_os_str(),
        OsStr::new("--dir"),
        state.as_os_str(),
    ];
    let kek = root.join("etc/kerbridge/kek");
    good(
        &program,
        arguments.into_iter().chain([OsStr::new("--kek"), kek.as_os_str()]),
    );
    let spawn = Spawn::new(words.next().unwrap(), folder.path())
        .name("kerbridge")
        .args(words)
        .env("KRB5_CONFIG", kdc.krb5_config());
    let mut broker = OwnedProcess::start(spawn).unwrap();
    broker.wait_for_log("\"listening\"", Duration::from_secs(30)).unwrap();
    assert!(now().saturating_sub(begun) < 60, "a minute is over");
    assert!(broker.terminate().unwrap().success(), "{}", broker.log());
}
