//! As a new user would: both packages installed on a machine that never saw them, and a service reached with a ticket and with a token within
//! a minute. The machine is this one with a layer above it, which goes with the test.

use std::ffi::OsStr;

use kerbridge_tests::envoy::find_envoy;
use kerbridge_tests::token::now;

use crate::debian::packages;
use crate::run;

/// What the machine does: dpkg sees to it that all is there that the packages ask for; then somebody who is not root tries the lab.
const MACHINE: &str = r#"
set -eu
layers=$1 envoy=$2
shift 2
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
    kerbridge --version
    runuser -u newcomer -- env -i HOME=/home/newcomer PATH=/usr/local/bin:/usr/bin:/bin kerbridge-lab demo
    test -d /home/newcomer/.local/state/kerbridge-lab/demo
    MANPAGER=cat man kerbridge.toml | grep -q state_dir
    dpkg --purge kerbridge-lab kerbridge
    ! test -e /usr/bin/kerbridge
'
"#;

#[test]
fn from_the_packages_to_the_first_protected_request_takes_less_than_a_minute() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can put a layer above this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let packages = packages(&folder.path().join("packages"), "022");
    let layers = folder.path().join("layers");
    std::fs::create_dir(&layers).unwrap();
    let envoy = find_envoy().unwrap().canonicalize().unwrap();
    let begun = now();
    let words = ["--mount", "--propagation=private", "bash", "-c", MACHINE, "machine"].map(OsStr::new);
    let files = [
        layers.as_os_str(),
        envoy.as_os_str(),
        packages[0].as_os_str(),
        packages[1].as_os_str(),
    ];
    let (done, printed) = run("unshare", words.into_iter().chain(files));
    let seconds = now().saturating_sub(begun);
    assert!(done, "{printed}");
    eprintln!(
        "from the packages to a request with a ticket, one with a token, and all else of the demonstration: {seconds} s"
    );
    assert!(seconds < 60, "{seconds} s\n{printed}");
}
