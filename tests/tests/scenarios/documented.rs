//! The commands of the documents, as they stand there: runbooks on a running broker, the page on MIT Kerberos on a KDC of its own.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::World;
use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::document::{Block, blocks, prints};
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::repository;

/// The blocks of a page that a lab runs, and what they are said to print.
fn page(name: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(repository().join("docs").join(name)).unwrap();
    let mut found = blocks(&text);
    found.retain(|block| block.info.starts_with("sh lab=") || block.info == "text prints");
    found
}

/// Runs a block as a shell does that stops at the first command that fails; what it printed.
fn run(block: &Block, folder: &Path, kdc: &Kdc, alice: Option<&Path>) -> String {
    let program = find_kerbridge().unwrap();
    let programs = program.parent().unwrap().to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-eu", "-o", "pipefail", "-c", &block.text])
        .current_dir(folder)
        .env("PATH", format!("{programs}:/usr/sbin:{path}"))
        .env("KRB5_CONFIG", kdc.krb5_config())
        .env("KRB5_KDC_PROFILE", kdc.kdc_profile())
        .env("LC_ALL", "C")
        .env_remove("KRB5CCNAME");
    if let Some(ccache) = alice {
        shell.env("KRB5CCNAME", ccache);
    }
    let output = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !complaint.contains(" while "),
        "{}\n{}: {printed}{complaint}",
        block.text,
        output.status
    );
    printed
}

#[test]
fn every_step_of_the_runbooks_does_what_it_says() {
    let mut world = World::start().unwrap();
    let folder = world.broker().folder().to_owned();
    let (mut running, mut printed, mut ran) = (true, String::new(), 0);
    for block in page("runbooks.md") {
        match block.info.as_str() {
            "text prints" => assert!(prints(&printed, &block.text), "{}\nwas said, and {printed}", block.text),
            state => {
                let wanted = state == "sh lab=running";
                assert!(wanted || state == "sh lab=stopped", "{state}");
                if wanted && !running {
                    world.broker().start().unwrap();
                } else if running && !wanted {
                    world.broker().stop().unwrap();
                }
                running = wanted;
                printed = run(&block, &folder, world.kdc(), None);
                ran += 1;
            }
        }
    }
    assert!(ran > 12, "{ran}");
    // After all of it a ticket opens what it opened before.
    if !running {
        world.broker().start().unwrap();
    }
    let answer = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_page_on_mit_kerberos_makes_a_keytab_that_opens_tickets() {
    let kdc = Kdc::start("EXAMPLE.COM").unwrap();
    kdc.add_user("alice", "a password").unwrap();
    let folder = kdc.folder().to_owned();
    let mut ran = 0;
    for block in page("mit-kerberos.md") {
        let printed = run(&block, &folder, &kdc, None);
        assert!(!printed.contains("Unknown"), "{printed}");
        ran += 1;
    }
    assert_eq!(ran, 2);
    let alice = kdc.kinit("alice").unwrap();
    let check = Block {
        info: String::new(),
        text: "kvno -k new.keytab HTTP/api.example.com".to_owned(),
    };
    let printed = run(&check, &folder, &kdc, Some(alice.path()));
    assert!(printed.contains("keytab entry valid"), "{printed}");
}
