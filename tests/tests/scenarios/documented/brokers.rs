//! Pages about a broker that is there: a world for each page, whose broker runs or is stopped as a block wants it.

use std::time::Duration;

use kerbridge_tests::document::{Block, Reader, pages_in, walk};
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::oauth_world::{As, EXCHANGE, NEGOTIATE, OauthWorld, access_token};
use kerbridge_tests::shipped;
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{REALM, SERVICE, lab_program};
use kerbridge_tests::{HarnessError, World};

use super::reader;

/// New keys and a store that was begun anew are a few polls away.
const EFFECT: Duration = Duration::from_secs(20);

/// Gives the reader a token that is good now, where a block has one in its commands, and what stands in it.
fn hand_over(reader: &mut Reader, block: &Block, token: impl FnOnce() -> String) {
    if ["$TOKEN", "$SID", "$JTI"].iter().any(|name| block.text.contains(name)) {
        let token = token();
        let claims = decode(&token).unwrap().claims;
        for (name, claim) in [("SID", "sid"), ("JTI", "jti")] {
            reader.set(name, claims[claim].as_str().unwrap());
        }
        reader.set("TOKEN", token);
    }
}

/// A token of alice's for a service ticket that nobody had before: a session that no page has ended.
fn token_of_a_new_session(lab: &mut OauthWorld) -> String {
    let kdc = lab.world().kdc();
    let tickets = kdc.kinit("alice").unwrap();
    let ticket = token_in_child(&lab_program().unwrap(), kdc, &tickets, SERVICE).unwrap();
    let fields = [
        ("grant_type", EXCHANGE),
        ("subject_token", ticket.as_str()),
        ("subject_token_type", NEGOTIATE),
        ("audience", "orders"),
    ];
    let answer = lab.post("/oauth2/token", As::Nobody, &fields).unwrap();
    access_token(&answer).unwrap()
}

/// Has the broker run, or not.
fn bring(world: &mut World, block: &Block) -> Result<(), HarnessError> {
    let runs = world.broker().pid().is_some();
    match (block.lab() == Some("stopped"), runs) {
        (true, true) => world.broker().stop(),
        (false, false) => world.broker().start(),
        _ => Ok(()),
    }
}

/// Follows a page in this world, to its end.
fn follow(mut world: World, blocks: &[Block], labs: &[&str]) -> (World, Result<Vec<String>, HarnessError>) {
    let folder = world.broker().folder().to_owned();
    let mut reader = reader(&mut world);
    let printed = walk(&mut reader, blocks, labs, &folder, |reader, block| {
        bring(&mut world, block)?;
        hand_over(reader, block, || world.token("alice", "/orders/1").unwrap());
        Ok(())
    });
    (world, printed)
}

#[test]
fn every_step_with_a_broker_that_runs_or_is_stopped_does_what_it_says() {
    let labs = ["running", "stopped"];
    for (page, blocks) in pages_in(&labs) {
        let policy = shipped::policy_of_a_minter("localhost", REALM).unwrap();
        // Of docs/outcomes.md; other pages do not notice.
        let policy = policy + "explain = { header = \"x-explain-kerbridge\", sources = [\"127.0.0.1\"] }\n";
        let world = World::builder().policy(&policy).start().unwrap();
        let (mut world, printed) = follow(world, &blocks, &labs);
        let printed = printed.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        // Shown where the test fails, and with --nocapture.
        println!("{}\n{}", page.display(), printed.join("\n"));
        // After all of it a ticket opens what it opened before.
        if world.broker().pid().is_none() {
            world.broker().start().unwrap();
        }
        let what = format!("a ticket that opens after {}", page.display());
        wait_until(&what, EFFECT, || {
            let answer = world.curl_as("bob", "/orders/1").send();
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .unwrap();
    }
}

#[test]
fn every_step_with_an_account_that_acts_for_users_does_what_it_says() {
    for (page, blocks) in pages_in(&["delegating"]) {
        let world = World::builder().delegating().start().unwrap();
        let (_world, printed) = follow(world, &blocks, &["delegating"]);
        let printed = printed.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(!printed.is_empty(), "{}", page.display());
    }
}

#[test]
fn every_step_of_people_and_clients_gets_what_it_says() {
    for (page, blocks) in pages_in(&["public"]) {
        let mut lab = OauthWorld::start().unwrap();
        let authority = lab.authority();
        let robot = lab.world().folder().join("robot.keytab");
        let kdc = lab.world().kdc();
        kdc.add_service("robot").unwrap();
        kdc.extract_keytab(&["robot"], &robot).unwrap();
        let folder = lab.world().broker().folder().to_owned();
        let mut reader = reader(lab.world());
        reader.set("KERBRIDGE_CACERT", authority);
        reader.read_as("https://kerbridge.example.com", lab.issuer());
        reader.read_as("/etc/robot.keytab", robot.display().to_string());
        let printed = walk(&mut reader, &blocks, &["public"], &folder, |reader, block| {
            if block.text.contains("$TICKET") {
                reader.set("TICKET", lab.world().negotiate_token("alice", SERVICE)?);
            }
            hand_over(reader, block, || token_of_a_new_session(&mut lab));
            Ok(())
        });
        let printed = printed.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(!printed.is_empty(), "{}", page.display());
    }
}
