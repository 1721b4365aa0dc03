//! Many users at once through one broker, over connections that all of them share: nobody is ever taken for somebody else, and
//! the KDC is asked for each of them once.

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::delegation::{DelegationRealm, LEGACY, crowd_member};
use kerbridge_tests::http::Request;

use crate::bridge::{Bridge, Plan};
use crate::realms::{CROWD, mit, samba};

/// Clients that send at the same time, each on a connection of its own.
const CLIENTS: usize = 8;
/// Envoy's threads, each with a VM and connections of its own.
const WORKERS: u32 = 2;

/// A sequence without an order that anybody could have built on (Knuth's MMIX).
struct Shuffle(u64);

impl Shuffle {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33)
            .unwrap_or(0)
            .checked_rem(bound)
            .unwrap_or(0)
    }
}

/// Requests of random users in turn on one connection; who they were.
fn client(bridge: &Bridge, tokens: &[(String, String)], seed: usize, requests: usize) -> BTreeSet<String> {
    let mut shuffle = Shuffle(seed as u64);
    let mut connection = bridge.world.connect().unwrap();
    let mut seen = BTreeSet::new();
    for number in 0..requests {
        let (principal, token) = &tokens[shuffle.below(tokens.len())];
        let target = format!("/legacy/{seed}-{number}");
        let request = Request::get(&target).header("authorization", format!("Bearer {token}"));
        let answer = connection.exchange(&request).unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), bridge.apache.log());
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (remote_user(&body), body["target"].as_str()),
            (Some(principal.as_str()), Some(target.as_str()))
        );
        seen.insert(principal.clone());
    }
    seen
}

fn never_crossed(realm: &DelegationRealm, requests: usize) {
    let members: Vec<String> = (0..CROWD).map(crowd_member).collect();
    let users: Vec<&str> = members.iter().map(String::as_str).collect();
    let plan = Plan {
        users: &users,
        ..Plan::default()
    };
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let world = plan
        .in_front_of(realm, apache.port())
        .concurrency(WORKERS)
        .start()
        .unwrap();
    let bridge = Bridge { world, apache };
    let tokens: Vec<(String, String)> = users
        .iter()
        .map(|user| (realm.principal(user), bridge.token(user)))
        .collect();
    let (shared, tokens) = (&bridge, tokens.as_slice());
    let each = requests.div_ceil(CLIENTS);
    let seen: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|seed| scope.spawn(move || client(shared, tokens, seed, each)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(seen.into_iter().flatten().collect::<BTreeSet<_>>().len(), CROWD);
    // Whatever came at once, and however often.
    for question in ["s4u2self", "s4u2proxy"] {
        assert_eq!(usize::try_from(bridge.asked(question)).unwrap(), CROWD, "{question}");
    }

    // Connections to the service were shared, and each by everybody where it lived long.
    let served = bridge.apache.served().unwrap();
    assert!(served.len() >= requests, "{}", served.len());
    let mut users_of: BTreeMap<u16, BTreeSet<Option<String>>> = BTreeMap::new();
    for one in &served {
        users_of.entry(one.client_port).or_default().insert(one.user.clone());
    }
    assert!(users_of.len() <= 64, "{} connections", users_of.len());
    assert!(users_of.values().any(|users| users.len() == CROWD));
    // No two requests with one ticket, or Apache would have called it a replay.
    let tickets: BTreeSet<_> = served.iter().map(|one| &one.authorization).collect();
    assert_eq!(tickets.len(), served.len());
}

#[test]
fn fifty_users_and_ten_thousand_requests_are_never_crossed() {
    never_crossed(mit(), 10_000);
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn fifty_users_and_ten_thousand_requests_are_never_crossed_in_a_domain() {
    never_crossed(samba(), 10_000);
}
