//! As a new user would: both packages installed on a machine that never saw them, and a service reached with a ticket and with a token within
//! a minute; then the page on installing, as it is printed. The machine is this one with a layer above it, which goes with the test.

use std::ffi::OsStr;
use std::path::Path;

use kerbridge_tests::envoy::find_envoy;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::repository;
use kerbridge_tests::token::now;

use crate::debian::packages;
use crate::run;

/// A machine, on which dpkg sees to it that all is there that the packages ask for, before it does what is wanted.
const MACHINE: &str = r#"
set -eu
layers=$1 envoy=$2 wanted=$3
shift 3
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/machine"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$layers/machine"
machine=$layers/machine
mount --bind /dev "$machine/dev"
mount --bind /dev/shm "$machine/dev/shm"
mount -t proc proc "$machine/proc"
mount -t tmpfs -o mode=1777 tmpfs "$machine/tmp"
mkdir -p "$machine/usr/local/bin"
rm -f "$machine/usr/local/bin/envoy"
touch "$machine/usr/local/bin/envoy"
mount --bind "$envoy" "$machine/usr/local/bin/envoy"
cp "$@" "$machine/tmp/"
printf '#!/bin/sh\nexit 101\n' >"$machine/usr/sbin/policy-rc.d"
chmod 755 "$machine/usr/sbin/policy-rc.d"
chroot "$machine" sh -eu -c '
    export DEBIAN_FRONTEND=noninteractive HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    dpkg --install /tmp/*.deb
    useradd --create-home newcomer
    as_newcomer() { runuser -u newcomer -- env -i HOME=/home/newcomer PATH=/usr/local/bin:/usr/bin:/bin "$@"; }
    cd /tmp
'"$wanted"
"#;

/// Somebody who is not root tries the lab.
const DEMONSTRATION: &str = "
    kerbridge --version
    as_newcomer kerbridge-lab demo
    test -d /home/newcomer/.local/state/kerbridge-lab/demo
    MANPAGER=cat man kerbridge.toml | grep -q state_dir
    dpkg --purge kerbridge-lab kerbridge
    ! test -e /usr/bin/kerbridge
";

/// After the page: who is not root is asked what is wanted, and reaches no key, whether or not the folder is open; root is told as
/// whom to ask.
const AFTER_THE_PAGE: &str = "
    for mode in 755 750; do
        if [ $mode = 750 ]; then chmod 750 /etc/kerbridge; fi
        test $(stat -c %a /etc/kerbridge) = $mode
        if as_newcomer kerbridge token print >said 2>&1; then exit 1; fi
        cat said
        grep -q 'it is not said for what a token is wanted' said
        for secret in kek http.keytab; do
            test -s /etc/kerbridge/$secret
            if as_newcomer cat /etc/kerbridge/$secret; then exit 1; fi
        done
    done
    if kerbridge config check --config /var/lib/kerbridge/kerbridge.toml >said 2>&1; then exit 1; fi
    cat said
    grep -q 'runuser -u kerbridge -- ' said
";

/// Installs both packages on such a machine, with other files beside them, and does what is wanted; how long it took, and what was printed.
fn machine(wanted: &str, beside: &[&Path]) -> (u64, String) {
    let folder = tempfile::tempdir().unwrap();
    let packages = packages(&folder.path().join("packages"), "022");
    let layers = folder.path().join("layers");
    std::fs::create_dir(&layers).unwrap();
    let envoy = find_envoy().unwrap().canonicalize().unwrap();
    let begun = now();
    let words = ["--mount", "--propagation=private", "bash", "-c", MACHINE, "machine"].map(OsStr::new);
    let files = [layers.as_os_str(), envoy.as_os_str(), OsStr::new(wanted)];
    let copied = packages.iter().map(|package| package.as_os_str());
    let beside = beside.iter().map(|file| file.as_os_str());
    let (done, printed) = run("unshare", words.into_iter().chain(files).chain(copied).chain(beside));
    assert!(done, "{printed}");
    (now().saturating_sub(begun), printed)
}

#[test]
fn from_the_packages_to_the_first_protected_request_takes_less_than_a_minute() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can put a layer above this machine");
        return;
    }
    let (seconds, printed) = machine(DEMONSTRATION, &[]);
    eprintln!(
        "from the packages to a request with a ticket, one with a token, and all else of the demonstration: {seconds} s"
    );
    assert!(seconds < 60, "{seconds} s\n{printed}");
}

#[test]
fn the_page_on_installing_holds_as_printed_and_others_than_root_may_ask_for_tokens_and_reach_no_key() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can put a layer above this machine");
        return;
    }
    let page = std::fs::read_to_string(repository().join("docs/install.md")).unwrap();
    let (_, begun) = page.split_once("\nTo run it:\n").unwrap();
    let (_, begun) = begun.split_once("```sh\n").unwrap();
    let (block, _) = begun.split_once("```").unwrap();
    // The packages are there, and no systemd is: what the broker makes at its start is made in its place.
    let lines = block.lines().map(|line| match line.split(' ').next() {
        Some("apt") => "",
        Some("systemctl") => "install -d -m 700 -o kerbridge -g kerbridge /var/lib/kerbridge/state",
        _ => line,
    });
    let wanted: String = lines.chain([AFTER_THE_PAGE]).map(|line| format!("{line}\n")).collect();
    assert!(wanted.contains("\nkerbridge init ") && wanted.contains("config check") && wanted.contains("install -d"));
    let folder = tempfile::tempdir().unwrap();
    let keytab = folder.path().join("http.keytab");
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_service("HTTP/api.example.com").unwrap();
    kdc.extract_keytab(&["HTTP/api.example.com"], &keytab).unwrap();
    let (_, printed) = machine(&wanted, &[&keytab]);
    assert!(
        printed.contains("http_filters") || printed.contains("kerbridge_filter.wasm"),
        "{printed}"
    );
}
