//! A krb5.conf of the machine that says otherwise does not change what the broker takes.

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::world::SERVICE;

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
