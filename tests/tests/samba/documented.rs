//! The commands of the page on Active Directory, as they stand there, on a domain controller: from an account to a ticket that
//! its keytab opens.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::document::blocks;
use kerbridge_tests::samba::{PASSWORD, REALM};
use kerbridge_tests::shipped::repository;

use crate::samba_domain::domain;

#[test]
#[ignore = "runs a domain controller, as root"]
fn the_page_on_active_directory_makes_an_account_whose_keytab_opens_tickets() {
    let domain = domain();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.password"), PASSWORD).unwrap();
    let alice = domain.kinit("alice").unwrap();
    let page = std::fs::read_to_string(repository().join("docs/active-directory.md")).unwrap();
    let mut printed = Vec::new();
    for block in blocks(&page).iter().filter(|block| block.info == "sh lab=samba") {
        let address = domain.address().to_string();
        let text = block
            .text
            .replace("dc.example.com", &address)
            .replace("DC=example,DC=com", "DC=ad,DC=test")
            .replace("EXAMPLE.COM", REALM)
            .replace("example.com", "ad.test");
        printed.push(run(
            &text,
            folder.path(),
            domain.folder(),
            domain.authority(),
            alice.path(),
        ));
    }
    assert_eq!(printed.len(), 5);
    let keys = &printed[3];
    assert!(
        keys.contains("HTTP/api.ad.test@AD.TEST") && keys.contains("aes256-cts-hmac-sha1-96"),
        "{keys}"
    );
    assert!(printed[4].contains("keytab entry valid"), "{printed:?}");

    // Step 5 of the page, where the broker would be: what a client's ticket would meet.
    let steps = "kerbridge init --keytab http.keytab --dir kb --issuer https://kerbridge.example.com\n\
                 kerbridge config check --config kb/kerbridge.toml\n\
                 kerbridge doctor --config kb/kerbridge.toml --ccache \"$KRB5CCNAME\" || true";
    let found = run(steps, folder.path(), domain.folder(), domain.authority(), alice.path());
    assert!(found.contains("kerbridge.toml: good"), "{found}");
    for good in [
        "good    ticket HTTP/api.ad.test@AD.TEST: ",
        "good    user alice@AD.TEST: ",
        "and the keytab opens it",
    ] {
        assert!(found.contains(good), "{good}: {found}");
    }
}

fn run(text: &str, folder: &Path, samba: &Path, authority: &Path, alice: &Path) -> String {
    let program = find_kerbridge().unwrap();
    let programs = program.parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-eu", "-o", "pipefail", "-c", text])
        .current_dir(folder)
        .env("PATH", format!("{programs}:{path}"))
        .env("SMB_CONF_PATH", samba.join("etc/smb.conf"))
        .env("KRB5_CONFIG", samba.join("krb5.conf"))
        .env("KRB5CCNAME", alice)
        .env("LDAPTLS_CACERT", authority)
        .env("TDB_NO_FSYNC", "1")
        .env("LC_ALL", "C");
    let output = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{printed}{complaint}");
    printed
}
