//! The broker's own keys: several of them, old and new ones, replaced while it serves, and those too weak to be taken.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::World;
use kerbridge_tests::broker::ask;
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{SERVICE, lab_program};
use serde_json::Value;

const OTHER: &str = "HTTP/other.localhost@LAB.TEST";

/// Status and reason of a fresh ticket of alice's for this service; 200 `ok` where it is taken.
fn outcome(world: &World, service: &str) -> (u16, String) {
    sent(world, &world.negotiate_token("alice", service).unwrap())
}

fn sent(world: &World, token: &str) -> (u16, String) {
    let request = Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    let answer = world.send(&request).unwrap();
    if answer.status == 200 {
        return (200, "ok".to_owned());
    }
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    (refusal.status, refusal.reason)
}

fn ok() -> (u16, String) {
    (200, "ok".to_owned())
}

fn refused(reason: &str) -> (u16, String) {
    (401, reason.to_owned())
}

/// What the broker's log says about its last refusal, once it is that which is expected.
fn detail(world: &mut World, expected: &str) -> String {
    let log = world.broker().logged(expected);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut details = lines.filter_map(|line| line["detail"].as_str().map(str::to_owned));
    details.next_back().unwrap()
}

/// Replaces a keytab as an administrator should: whole, under its name.
fn replace_keytab(kdc: &Kdc, services: &[&str], keytab: &Path) {
    let new = keytab.with_extension("new");
    kdc.extract_keytab(services, &new).unwrap();
    std::fs::rename(new, keytab).unwrap();
}

fn acceptor(principal: &str, keytab: &Path) -> String {
    format!("[[kerberos.acceptor]]\nprincipal = {principal:?}\nkeytab = {keytab:?}\n")
}

#[test]
fn each_principal_of_each_realm_has_its_own_keytab_and_what_is_not_named_is_refused_though_its_key_is_here() {
    let keytabs = tempfile::tempdir().unwrap();
    let (other_realm, other_host) = (keytabs.path().join("a.keytab"), keytabs.path().join("other.keytab"));
    let other = Kdc::start("A.TEST").unwrap();
    other.add_service("HTTP/localhost").unwrap();
    other.extract_keytab(&["HTTP/localhost"], &other_realm).unwrap();
    let mut world = World::start().unwrap();
    world.kdc().trust(&other).unwrap();
    other.trust(world.kdc()).unwrap();
    world
        .kdc()
        .extract_keytab(&["HTTP/other.localhost"], &other_host)
        .unwrap();
    assert_eq!(outcome(&world, OTHER), refused("spn_unknown"));
    // Its key in the keytab of another principal changes nothing.
    let own = world.folder().join("http.keytab");
    replace_keytab(world.kdc(), &["HTTP/localhost", "HTTP/other.localhost"], &own);
    assert_eq!(outcome(&world, OTHER), refused("spn_unknown"));
    let expected = format!("the ticket is for {OTHER}");
    assert_eq!(detail(&mut world, &expected), expected);
    assert_eq!(outcome(&world, SERVICE), ok());

    let more = acceptor("HTTP/localhost@A.TEST", &other_realm) + &acceptor(OTHER, &other_host);
    let broker = world.broker();
    broker.stop().unwrap();
    broker
        .configure("realms = [\"LAB.TEST\"]", "realms = [\"LAB.TEST\", \"A.TEST\"]")
        .unwrap();
    broker.configure("\n[keys]\n", &format!("\n{more}\n[keys]\n")).unwrap();
    broker.start().unwrap();
    for service in [SERVICE, OTHER, "HTTP/localhost@A.TEST"] {
        assert_eq!(outcome(&world, service), ok(), "{service}");
    }
}

#[test]
fn a_keytab_is_replaced_while_serving_and_old_and_new_keys_work_together() {
    let mut world = World::start().unwrap();
    let keytab = world.folder().join("http.keytab");
    let old = world.negotiate_token("alice", SERVICE).unwrap();
    world.kdc().rotate_key("HTTP/localhost").unwrap();
    // Whoever has a ticket goes on with it; a new one is for a key that the keytab lacks.
    assert_eq!(sent(&world, &old), ok());
    let new = with_new_ticket(&world);
    assert_eq!(sent(&world, &new), refused("kvno_mismatch"));
    let expected = "the ticket is made with kvno 2 aes256-cts-hmac-sha1-96, the keytab has kvno 1 aes256-cts-hmac-sha1-96; \
                    kvno 1 aes128-cts-hmac-sha1-96: ";
    let said = detail(&mut world, expected);
    assert!(said.starts_with(expected), "{said}");
    // The new key is added to the old one.
    world.kdc().extract_keytab(&["HTTP/localhost"], &keytab).unwrap();
    let both = world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(sent(&world, &both), ok());
    assert_eq!(sent(&world, &with_new_ticket(&world)), ok());
    // And then it stands alone.
    replace_keytab(world.kdc(), &["HTTP/localhost"], &keytab);
    assert_eq!(outcome(&world, SERVICE), refused("kvno_mismatch"));
    let expected = "the ticket is made with kvno 1 aes256-cts-hmac-sha1-96, the keytab has kvno 2 ";
    let said = detail(&mut world, expected);
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(sent(&world, &with_new_ticket(&world)), ok());
}

/// A token of a ticket that alice gets anew, beside the one that she has.
fn with_new_ticket(world: &World) -> String {
    let tickets = world.kdc().kinit("alice").unwrap();
    token_in_child(&lab_program().unwrap(), world.kdc(), &tickets, SERVICE).unwrap()
}

#[test]
fn another_key_under_the_same_version_and_an_altered_ticket_are_told_apart_as_far_as_they_can_be() {
    let mut world = World::start().unwrap();
    let keytab = world.folder().join("http.keytab");
    let altered = |token: &str, at: fn(usize) -> usize| {
        let mut bytes = STANDARD.decode(token).unwrap();
        let at = at(bytes.len());
        bytes[at] ^= 1;
        STANDARD.encode(bytes)
    };
    let old = world.negotiate_token("alice", SERVICE).unwrap();
    // Before the key has opened any ticket nobody knows which of the two is wrong.
    assert_eq!(
        sent(&world, &altered(&old, |length| length / 2)),
        refused("kvno_mismatch")
    );
    let unknown = "the ticket is made with kvno 1 aes256-cts-hmac-sha1-96, and the keytab's key of that number does not open it: \
                   it is another key, or the ticket was altered; the keytab has kvno 1 ";
    let said = detail(&mut world, unknown);
    assert!(said.starts_with(unknown), "{said}");
    // The authenticator has nothing to do with our key.
    assert_eq!(
        sent(&world, &altered(&old, |length| length - 1)),
        (400, "malformed_credentials".to_owned())
    );
    assert_eq!(sent(&world, &old), ok());
    assert_eq!(
        sent(&world, &altered(&old, |length| length / 2)),
        refused("kvno_mismatch")
    );
    let known = " does not open it, but opened another ";
    let said = detail(&mut world, known);
    assert!(said.contains(known), "{said}");
    // As where the account was deleted and made again: its versions begin anew.
    world
        .kdc()
        .kadmin("delprinc -force HTTP/localhost\naddprinc -randkey HTTP/localhost")
        .unwrap();
    let new = with_new_ticket(&world);
    assert_eq!(sent(&world, &new), refused("kvno_mismatch"));
    let said = detail(&mut world, known);
    assert!(
        said.contains("the KDC has a new key under that number since; the keytab has kvno 1 "),
        "{said}"
    );
    let broker = world.broker();
    broker.stop().unwrap();
    broker.start().unwrap();
    assert_eq!(sent(&world, &with_new_ticket(&world)), refused("kvno_mismatch"));
    let said = detail(&mut world, unknown);
    assert!(said.starts_with(unknown), "{said}");
    replace_keytab(world.kdc(), &["HTTP/localhost"], &keytab);
    assert_eq!(sent(&world, &with_new_ticket(&world)), ok());
}

#[test]
fn weak_tickets_are_refused_by_name_and_taken_and_counted_only_where_they_are_named() {
    let observe = "[listen.observe]\nunix = \"observe.sock\"\n";
    let mut world = World::builder().broker_table(observe).start().unwrap();
    let keytab = world.folder().join("http.keytab");
    let kdc = world.kdc();
    // The keytab has the keys of AES as well, of the version before.
    kdc.kadmin("cpw -randkey -e arcfour-hmac:normal HTTP/localhost")
        .unwrap();
    kdc.extract_keytab(&["HTTP/localhost"], &keytab).unwrap();
    let weak = with_new_ticket(&world);
    assert_eq!(sent(&world, &weak), refused("etype_unavailable"));
    let expected = "the ticket is made with kvno 2 arcfour-hmac, which is taken only where kerberos.weak_enctypes names it; the \
                    keytab has kvno 1 aes256-cts-hmac-sha1-96; ";
    let said = detail(&mut world, expected);
    assert!(said.starts_with(expected), "{said}");

    let broker = world.broker();
    broker.stop().unwrap();
    broker
        .configure(
            "realms = [\"LAB.TEST\"]",
            "realms = [\"LAB.TEST\"]\nweak_enctypes = [\"arcfour-hmac\"]",
        )
        .unwrap();
    broker.start().unwrap();
    let log = world.broker().logged("tickets of weak encryption types are taken");
    assert!(log.contains("tickets of weak encryption types are taken"), "{log}");
    assert_eq!(sent(&world, &with_new_ticket(&world)), ok());
    assert_eq!(weak_tickets(&world), Some(1));
}

/// How many RC4 tickets the broker says it has taken.
fn weak_tickets(world: &World) -> Option<u64> {
    metric(world, "kerbridge_weak_tickets_total{enctype=\"arcfour-hmac\"}")
}

fn metric(world: &World, name: &str) -> Option<u64> {
    let text = observed(world, "/metrics").1;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Status and text of a path of the listener for probes.
fn observed(world: &World, path: &str) -> (u16, String) {
    let answer = ask(&world.folder().join("observe.sock"), &Request::get(path)).unwrap();
    (answer.status, answer.text())
}

#[test]
fn a_keytab_that_others_can_read_since_the_start_is_named_and_its_tickets_are_taken() {
    let observe = "[listen.observe]\nunix = \"observe.sock\"\n";
    let mut world = World::builder().broker_table(observe).start().unwrap();
    let keytab = world.folder().join("http.keytab");
    assert_eq!(metric(&world, "kerbridge_keytabs_bad"), Some(0));
    let mode = |mode| std::fs::set_permissions(&keytab, Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let ready = |status: u16| {
        wait_until("the probe's answer", Duration::from_secs(10), || {
            observed(&world, "/readyz").0 == status
        })
        .unwrap();
        observed(&world, "/readyz").1
    };
    let said = ready(503);
    for part in [
        "kerberos.acceptor[0].keytab: ",
        "has mode 0644, so that others can reach it; chmod it 0600",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(metric(&world, "kerbridge_keytabs_bad"), Some(1));
    // What others have read they have; tickets are taken as before.
    assert_eq!(outcome(&world, SERVICE), ok());
    mode(0o640);
    ready(200);
    assert_eq!(metric(&world, "kerbridge_keytabs_bad"), Some(0));
    let log = world.broker().logged("ready again");
    assert!(log.contains("has mode 0644"), "{log}");
}
