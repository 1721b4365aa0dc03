//! A krb5.conf of the machine that says otherwise does not change what the broker takes; what it may say is followed, and is
//! not read anew for each ticket.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::exchange_world::{ExchangeWorld, Exchanged};
use kerbridge_tests::http::Request;
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{REALM, SERVICE};
use rustix::fs::inotify;

/// Each line of it would make the test fail if it counted.
const HOSTILE: &str = "[libdefaults]
    default_realm = EVIL.TEST
    clockskew = 86400
    permitted_enctypes = arcfour-hmac
    allow_weak_crypto = true
    default_keytab_name = FILE:/nonexistent/keytab
    default_rcache_name = file2:/nonexistent/replay
    dns_lookup_realm = true
    dns_canonicalize_hostname = true
    rdns = true
    qualify_shortname = evil.test
[domain_realm]
    localhost = EVIL.TEST
";

#[test]
fn a_hostile_krb5_conf_of_the_machine_changes_nothing_that_is_taken() {
    let mut world = World::start().unwrap();
    let file = world.folder().join("hostile.conf");
    std::fs::write(&file, HOSTILE).unwrap();
    world.broker().stop().unwrap();
    world.broker().set_krb5_config(&file);
    world.broker().start().unwrap();
    let token = world.negotiate_token("alice", SERVICE).unwrap();
    let request = Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    assert_eq!(world.send(&request).unwrap().status, 200);
    let again = world.send(&request).unwrap();
    assert_eq!(world.refusal(again.status, &again.body).unwrap().reason, "replay");

    // Ten minutes ahead: within the file's skew, and outside ours.
    world.broker().stop().unwrap();
    world.broker().start_through(&["faketime", "-f", "+10m"]);
    world.broker().start().unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&answer).unwrap(), (401, "clock_skew".to_owned()));
    // faketime does not become the broker but waits for it, and would not hand a polite signal on.
    world.broker().kill().unwrap();
}

/// Who the broker says came, by a fresh ticket.
fn subject(world: &ExchangeWorld) -> String {
    let token = world.tokens(1).unwrap().remove(0);
    let Exchanged::Token(token) = world.exchange(&token).unwrap() else {
        return String::new();
    };
    decode(&token).unwrap().claims["sub"].as_str().unwrap().to_owned()
}

#[test]
fn a_change_of_the_machines_krb5_conf_is_in_force_soon_and_without_a_restart() {
    let mut world = ExchangeWorld::prepare("[names]\nauth_to_local = true\n").unwrap();
    let file = world.folder().join("machine.conf");
    let write = |name: &str| {
        let names = format!("[realms]\n{REALM} = {{\nauth_to_local_names = {{\nalice = {name}\n}}\n}}\n");
        std::fs::write(&file, names).unwrap();
    };
    write("first");
    world.broker().set_krb5_config(&file);
    world.broker().start().unwrap();
    assert_eq!(subject(&world), "first");
    write("second");
    wait_until("the changed name", Duration::from_secs(20), || {
        subject(&world) == "second"
    })
    .unwrap();
    // Ours still stands before it: by default it is the default realm's users who have local names.
    std::fs::write(&file, HOSTILE).unwrap();
    wait_until("the name without rules", Duration::from_secs(20), || {
        subject(&world) == "alice"
    })
    .unwrap();
}

#[test]
fn tickets_are_accepted_without_reading_krb5_conf_again() {
    let world = ExchangeWorld::start("").unwrap();
    let file = world.state("krb5.conf");
    let opened = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&opened, &file, inotify::WatchFlags::OPEN).unwrap();
    let was_opened = || rustix::io::read(&opened, &mut [0; 4096][..]).is_ok();
    for token in world.tokens(20).unwrap() {
        assert!(world.exchange(&token).unwrap().is_token());
    }
    assert!(!was_opened());
    // And if it were, it would show.
    std::fs::read(&file).unwrap();
    assert!(was_opened());
}
