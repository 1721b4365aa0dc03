//! A handshake of two legs at two brokers: the second finds the broker of the first or is lost and begun again, and where Envoy
//! chooses by the client none is lost.

use kerbridge_tests::wait::{Clock, wait_until};

use super::{EFFECT, Pair, documented};
use crate::spnego;

/// A client that is told to begin again does, on the connection that it has; this often in a row half of them are never lost.
const TRIES: usize = 40;
/// More than the two seconds that the filter waits for a broker, on a machine that has much to do.
const AT_MOST_MS: u64 = 10_000;

/// Makes a handshake on a connection of its own until it succeeds, and says how often its second leg was lost.
fn lost_before_found(pair: &Pair) -> usize {
    let mut connection = pair.world.connect().unwrap();
    let mut is_found = || {
        let clock = Clock::start();
        let asked = connection.exchange(&spnego::opening()).unwrap();
        assert!(spnego::is_asked_on(&pair.world, &asked), "{}", asked.text());
        let second = spnego::second(&pair.world, "alice");
        let answer = connection.exchange(&second).unwrap();
        assert!(clock.ms() < AT_MOST_MS, "{} ms", clock.ms());
        if answer.status == 200 {
            assert_eq!(spnego::subject(&answer), "alice@LAB.TEST");
            return true;
        }
        let is_lost = spnego::is_lost(&pair.world, &answer);
        assert!(is_lost, "{}: {}", answer.status, answer.text());
        false
    };
    (0..TRIES).find(|_| is_found()).unwrap()
}

/// Whether each broker has taken a ticket.
fn have_both_served(pair: &mut Pair) -> bool {
    pair.logs().iter().all(|log| log.contains("\"reason\":\"ok\""))
}

#[test]
fn by_chance_a_second_leg_finds_its_broker_or_is_lost_and_begun_again() {
    let mut pair = Pair::balanced("    lb_policy: RANDOM\n");
    let (mut found, mut lost) = (0, 0);
    for _ in 0..6 {
        let all: Vec<usize> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| lost_before_found(&pair))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        found += all.iter().filter(|lost| **lost == 0).count();
        lost += all.iter().sum::<usize>();
    }
    // Of 24, each at one broker or the other.
    assert!(found > 0 && lost > 0, "{found} {lost}");
    wait_until("both took tickets", EFFECT, || have_both_served(&mut pair)).unwrap();
}

#[test]
fn where_envoy_chooses_by_the_clients_connection_as_documented_no_second_leg_is_lost_and_both_brokers_serve() {
    let mut pair = Pair::balanced(&documented()[1]);
    for _ in 0..24 {
        assert_eq!(lost_before_found(&pair), 0);
    }
    wait_until("both took tickets", EFFECT, || {
        lost_before_found(&pair) == 0 && have_both_served(&mut pair)
    })
    .unwrap();
}

#[test]
fn a_ring_without_more_sends_everything_to_one_broker_and_to_the_other_while_that_one_is_away() {
    let mut pair = Pair::balanced("    lb_policy: RING_HASH\n");
    for _ in 0..12 {
        assert_eq!(lost_before_found(&pair), 0);
    }
    let served = |pair: &mut Pair| pair.logs().map(|log| log.contains("\"reason\":\"ok\""));
    wait_until("one took tickets", EFFECT, || served(&mut pair) != [false, false]).unwrap();
    let [first, other] = served(&mut pair);
    assert_ne!(first, other, "both were asked");
    let one = if first { pair.world.broker() } else { &mut pair.other };
    one.kill().unwrap();
    wait_until("tickets are taken by the other one", EFFECT, || pair.mints(4)).unwrap();
    for _ in 0..12 {
        assert_eq!(lost_before_found(&pair), 0);
    }
}
