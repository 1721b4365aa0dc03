//! The Debian packages: the same files make the same bytes; lintian finds nothing; installed into an empty folder the broker's brings a unit
//! that systemd finds well locked, and what that unit starts listens within a minute.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::token::now;

use crate::{good, made, run};

/// Most exposure that is taken, of 100, as `systemd-analyze security` counts it.
const EXPOSURE: &str = "20";

/// The packages of broker and lab, in a folder.
pub(crate) fn packages(folder: &Path, umask: &str) -> [PathBuf; 2] {
    made("debian.sh", folder, umask).try_into().unwrap()
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
fn the_packages_are_the_same_twice_and_the_brokers_installs_locks_its_service_and_starts_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let [first, lab] = packages(&folder.path().join("1"), "022");
    let again = packages(&folder.path().join("2"), "077");
    for (one, other) in [&first, &lab].into_iter().zip(&again) {
        assert!(
            fs::read(one).unwrap() == fs::read(other).unwrap(),
            "{}: the two differ",
            one.display()
        );
    }
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
        "usr/share/man/man1/kerbridge.1.gz",
        "usr/share/man/man1/kerbridge-policy-render.1.gz",
        "usr/share/man/man5/kerbridge.toml.5.gz",
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

#[test]
fn lintian_finds_nothing_in_the_packages() {
    let folder = tempfile::tempdir().unwrap();
    let packages = packages(folder.path(), "022");
    let judged = |package: &Path| {
        run(
            "lintian",
            [
                OsStr::new("--allow-root"),
                OsStr::new("--fail-on=error,warning"),
                package.as_os_str(),
            ],
        )
    };
    for package in &packages {
        let (good, said) = judged(package);
        assert!(good, "{said}");
    }
    // It can find something: a manual page that is none.
    let tree = folder.path().join("tree");
    good(
        "dpkg-deb",
        [OsStr::new("-R"), packages[0].as_os_str(), tree.as_os_str()],
    );
    fs::remove_file(tree.join("usr/share/man/man1/kerbridge.1.gz")).unwrap();
    let poorer = folder.path().join("poorer.deb");
    good(
        "dpkg-deb",
        [
            OsStr::new("--root-owner-group"),
            OsStr::new("--build"),
            tree.as_os_str(),
            poorer.as_os_str(),
        ],
    );
    let (good, said) = judged(&poorer);
    assert!(!good && said.contains("no-manual-page"), "{said}");
}
