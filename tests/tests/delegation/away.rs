//! The KDC is away or silent, our own key is wrong, an account is closed, while tokens are good: what clients get, how soon, how
//! often the KDC is asked, and that all is well once what was wrong is mended.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbridge_tests::delegation::{BRIDGE, DelegationRealm, Kind, LEGACY, crowd_member};
use kerbridge_tests::port::free_tcp_and_udp;
use kerbridge_tests::token::with;
use kerbridge_tests::wait::{Deadline, wait_until};
use serde_json::json;

use crate::bridge::{Bridge, Plan, seen};
use crate::realms::{LEAVER, mit, samba};
use crate::trader::{self, Traded};

/// How long an answer may take on a busy machine, where the filter gives up after two seconds.
const SOON: Duration = Duration::from_secs(5);
/// What was mended is noticed within this time.
const MENDED: Duration = Duration::from_secs(60);
/// Requests that are sent at once while the KDC says nothing, each of another user.
const AT_ONCE: usize = 20;
/// `[delegation] workers` as it is by default.
const WORKERS: usize = 4;

fn users(count: usize) -> Vec<String> {
    (0..count).map(crowd_member).collect()
}

fn start(realm: &DelegationRealm, users: &[String]) -> Bridge {
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let plan = Plan {
        users: &users,
        ..Plan::default()
    };
    plan.start(realm)
}

/// By our own fault, within the deadline, and with the word when to come again.
fn unavailable(bridge: &Bridge, token: &str) -> String {
    let clock = Deadline::after(SOON);
    let refused = bridge.ask(token, "/legacy/1");
    assert!(!clock.passed(), "{:?}", clock.elapsed());
    assert_eq!(refused.header("retry-after"), Some("5"), "{}", refused.text());
    let (status, reason) = bridge.world.reason(&refused).unwrap();
    assert_eq!(status, 503, "{reason}");
    reason
}

fn kdc_goes_away(realm: &mut DelegationRealm) {
    let users = users(2);
    let bridge = start(realm, &users);
    let (known, other) = (bridge.token(&users[0]), bridge.token(&users[1]));
    assert_eq!(bridge.ask(&known, "/legacy/1").status, 200);
    // A thread that has not asked yet logs in first.
    let asked = || bridge.asked("log_in").saturating_add(bridge.asked("s4u2self"));
    let before = asked();
    realm.stop().unwrap();
    // Whose ticket is there needs no KDC.
    assert_eq!(seen(&bridge.ask(&known, "/legacy/2")), realm.principal(&users[0]));
    for _ in 0..AT_ONCE {
        assert_eq!(unavailable(&bridge, &other), "kdc_unreachable");
    }
    // Not each time: an answer stands for some seconds.
    let asked = asked().saturating_sub(before);
    assert!((1..=3).contains(&asked), "{asked} questions for {AT_ONCE} requests");
    realm.start_again().unwrap();
    wait_until("the KDC's return", MENDED, || {
        bridge.ask(&other, "/legacy/1").status == 200
    })
    .unwrap();
    assert_eq!(seen(&bridge.ask(&other, "/legacy/2")), realm.principal(&users[1]));
}

/// Whoever is where the KDC was, takes what comes, and says nothing.
struct Silence {
    connections: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
    address: SocketAddr,
    _datagrams: UdpSocket,
}

impl Silence {
    fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (connections, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (taken, ends) = (Arc::clone(&connections), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                taken.lock().unwrap().push(stream);
            }
        });
        Self {
            connections,
            is_over,
            address,
            _datagrams: UdpSocket::bind(address).unwrap(),
        }
    }

    fn taken(&self) -> usize {
        self.connections.lock().unwrap().len()
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // So that it looks.
        drop(TcpStream::connect(self.address));
        for stream in self.connections.lock().unwrap().iter() {
            // One whose other side has gone cannot be shut, and need not.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn kdc_says_nothing(realm: &mut DelegationRealm) {
    let users = users(AT_ONCE);
    let bridge = start(realm, &users);
    let tokens: Vec<String> = users.iter().map(|user| bridge.token(user)).collect();
    realm.stop().unwrap();
    let silence = Silence::at(realm.address().unwrap());
    let all_at_once = || -> Vec<String> {
        let bridge = &bridge;
        std::thread::scope(|scope| {
            let asking: Vec<_> = tokens
                .iter()
                .map(|token| scope.spawn(move || unavailable(bridge, token)))
                .collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    // Those whom a thread asks for hear what it is; the others that no thread was free.
    let first = all_at_once();
    assert!(
        first
            .iter()
            .all(|reason| ["kdc_unreachable", "broker_overloaded"].contains(&reason.as_str())),
        "{first:?}"
    );
    assert!(
        first.iter().filter(|reason| *reason == "kdc_unreachable").count() >= WORKERS,
        "{first:?}"
    );
    // By then it is known that the KDC owes an answer, and nobody asks.
    let clock = Deadline::after(Duration::from_secs(1));
    assert_eq!(all_at_once(), vec!["kdc_unreachable"; AT_ONCE]);
    assert!(!clock.passed(), "{:?}", clock.elapsed());
    // A token that opens another service is served meanwhile.
    assert_eq!(bridge.ask(&tokens[0], "/plain/2").status, 200);
    let taken = silence.taken();
    assert!(
        (1..=WORKERS.saturating_mul(2)).contains(&taken),
        "{taken} connections to the KDC"
    );
    drop(silence);
    realm.start_again().unwrap();
    wait_until("the KDC's return", MENDED, || {
        bridge.ask(&tokens[0], "/legacy/1").status == 200
    })
    .unwrap();
    for (user, token) in users.iter().zip(&tokens) {
        wait_until(user, MENDED, || bridge.ask(token, "/legacy/2").status == 200).unwrap();
    }
}

/// A realm that ours trusts, and whose KDC is silent.
const SILENT: &str = "SILENT.TEST";

/// The first question of all is about a user of that realm, so that nobody knows yet whether our KDC lets us in.
fn another_realm_is_silent_at_first(realm: &DelegationRealm) {
    realm
        .clients()
        .kadmin(&format!("add_principal -randkey krbtgt/{SILENT}@{}\n", realm.realm()))
        .unwrap();
    let silence = Silence::at(SocketAddr::from(([127, 0, 0, 1], free_tcp_and_udp().unwrap())));
    let address = silence.address;
    let known = format!("[realms]\n{SILENT} = {{\nkdc = {address}\n}}\n");
    let config = realm.clients().client_config("silent.conf", &known).unwrap();
    let target = realm.principal(LEGACY);
    let trader = trader::Plan {
        policy: format!(
            "[[delegation]]\ntarget = \"{target}\"\naudience = \"legacy\"\nprincipals = [\"*@{SILENT}\"]\nclients = [\"*\"]\n"
        ),
        realms: vec![SILENT.to_owned()],
        krb5_config: Some(&config),
        ..trader::Plan::of(BRIDGE)
    }
    .start(realm);
    let theirs = trader.sign(&with(trader.claims("alice"), "sub", json!(format!("alice@{SILENT}"))));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| trader.trade(&theirs));
        wait_until("the question", SOON, || silence.taken() > 0).unwrap();
        assert!(matches!(trader.trade(&trader.token("alice")), Traded::Ticket(..)));
        assert_eq!(waits.join().unwrap(), Traded::refused(503, "kdc_unreachable"));
    });
}

/// The same keytab with other keys: those of AES (RFC 3962), each after its type and length.
fn with_other_keys(keytab: &[u8]) -> Vec<u8> {
    let mut other = keytab.to_vec();
    for (at, head) in keytab.windows(4).enumerate() {
        let length = match head {
            [0, 18, 0, 32] => 32,
            [0, 17, 0, 16] => 16,
            _ => 0,
        };
        for byte in other.iter_mut().skip(at.saturating_add(4)).take(length) {
            *byte ^= 0x55;
        }
    }
    other
}

fn a_wrong_key(realm: &DelegationRealm) {
    let folder = tempfile::tempdir().unwrap();
    let keytab = folder.path().join("bridge.keytab");
    let right = std::fs::read(realm.keytab(BRIDGE)).unwrap();
    let put = |keys: &[u8]| {
        use std::os::unix::fs::PermissionsExt as _;
        let next = folder.path().join("next");
        std::fs::write(&next, keys).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&next, &keytab).unwrap();
    };
    put(&with_other_keys(&right));
    let users = users(10);
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let plan = Plan {
        keytab: Some(keytab.clone()),
        users: &names,
        ..Plan::default()
    };
    let bridge = plan.start(realm);
    let tokens: Vec<String> = users.iter().map(|user| bridge.token(user)).collect();
    for token in tokens.iter().skip(1) {
        assert_eq!(unavailable(&bridge, token), "internal");
    }
    // An account is locked after a few wrong tries: all of them are one, or two where they took more than some seconds.
    let tries = bridge.asked("log_in");
    assert!((1..=2).contains(&tries), "{tries} tries");
    put(&right);
    // At once for who was not refused, and soon for the others.
    assert_eq!(seen(&bridge.ask(&tokens[0], "/legacy/1")), realm.principal(&users[0]));
    for (user, token) in users.iter().zip(&tokens) {
        wait_until(user, MENDED, || bridge.ask(token, "/legacy/1").status == 200).unwrap();
        assert_eq!(seen(&bridge.ask(token, "/legacy/2")), realm.principal(user));
    }
}

fn a_closed_account(realm: &DelegationRealm) {
    let user = crowd_member(LEAVER);
    let bridge = start(realm, std::slice::from_ref(&user));
    let token = bridge.token(&user);
    realm.disable(&user).unwrap();
    assert_eq!(
        bridge.refused(&token, "/legacy/1"),
        (403, "delegation_denied".to_owned())
    );
}

/// Each leaves the KDC as it was.
fn away(kind: Kind) {
    let mut realm = DelegationRealm::start(kind, AT_ONCE).unwrap();
    kdc_goes_away(&mut realm);
    kdc_says_nothing(&mut realm);
}

#[test]
fn while_the_kdc_is_away_or_silent_it_is_503_soon_without_a_storm_and_all_is_well_when_it_is_back() {
    away(Kind::Mit);
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn while_the_kdc_is_away_or_silent_it_is_503_soon_without_a_storm_and_all_is_well_when_it_is_back_in_a_domain() {
    away(Kind::Samba);
}

#[test]
fn a_trusted_realm_that_is_silent_from_the_beginning_keeps_nobody_else_waiting() {
    another_realm_is_silent_at_first(mit());
}

#[test]
fn a_wrong_key_is_tried_once_and_a_right_one_that_takes_its_place_at_once() {
    a_wrong_key(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_wrong_key_is_tried_once_and_a_right_one_that_takes_its_place_at_once_in_a_domain() {
    a_wrong_key(samba());
}

#[test]
fn nobody_acts_for_an_account_that_was_closed_though_its_token_is_good() {
    a_closed_account(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn nobody_acts_for_an_account_that_was_closed_though_its_token_is_good_in_a_domain() {
    a_closed_account(samba());
}
