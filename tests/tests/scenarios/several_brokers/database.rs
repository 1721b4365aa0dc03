//! The database stands still, is cut off, loses connections, or gives way to its standby: nothing is minted that could not be
//! written down, tokens pass for as long as what is known of revocations is young enough, and all is well again by itself.

use std::path::Path;

use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::postgres::{PASSWORD, Postgres};
use kerbridge_tests::tcp_relay::TcpRelay;
use kerbridge_tests::wait::{Clock, wait_until};
use kerbridge_tests::world::SERVICE;

use super::{ASKED, EFFECT, Pair, Plan, jti, socket_of, subject, table};

/// A deadline of 1.5 s of the broker's, and two of the filter's, on a machine that has much to do.
const IN_TIME_MS: u64 = 6_000;

/// Shows a fresh ticket; 503 must come in time, and say so.
fn is_not_minted(pair: &Pair) -> bool {
    let clock = Clock::start();
    let answer = pair.world.curl_as("alice", "/orders/1").send().unwrap();
    let (took, found) = (clock.ms(), pair.world.reason(&answer).unwrap());
    assert!(took < IN_TIME_MS, "{found:?} after {took} ms");
    // Where the broker's own deadline comes too late for the filter's.
    assert!(
        found == (503, "store_unavailable".to_owned()) || found == (503, "broker_unavailable".to_owned()),
        "{found:?}"
    );
    found.1 == "store_unavailable"
}

fn bearer(pair: &Pair, token: &str) -> (u16, String) {
    let answer = pair.world.curl("/orders/1").bearer(token).send().unwrap();
    match answer.status {
        200 => (200, String::new()),
        _ => pair.world.reason(&answer).unwrap(),
    }
}

#[test]
fn while_the_database_stands_still_tickets_are_503_in_time_and_tokens_pass_until_the_feed_is_stale() {
    let server = Postgres::start().unwrap();
    let database = server.new_database().unwrap();
    let plan = Plan {
        max_staleness: Some("10s"),
        ..Plan::at(&[socket_of(&server)], &database)
    };
    let mut pair = Pair::planned(server, database, plan);
    let bob = pair.token("bob");
    let used = pair.world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(pair.show(&used, 1), 1);
    assert_eq!(bearer(&pair, &bob).0, 200);
    pair.server.freeze().unwrap();
    assert_eq!(bearer(&pair, &bob).0, 200, "nobody asks the database for a token");
    let told = (0..4).filter(|_| is_not_minted(&pair)).count();
    assert!(told > 0, "no broker said whose fault it is");
    assert!(pair.other.revoke(&["--subject", &subject(&bob)]).is_err());
    wait_until("what is known of revocations is too old", EFFECT, || {
        let (status, reason) = bearer(&pair, &bob);
        assert!(
            status == 200 || (status, reason.as_str()) == (503, "feed_stale"),
            "{status} {reason}"
        );
        status == 503
    })
    .unwrap();
    pair.server.thaw().unwrap();
    wait_until("tickets are taken again", EFFECT, || pair.mints(8)).unwrap();
    assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
    // What was refused may have been done, as `revoke` says; if not, it is now.
    let alice = pair.token("alice");
    pair.other.revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("alice's token is out", EFFECT, || {
        (0..ASKED).all(|_| bearer(&pair, &alice) == (401, "revoked".to_owned()))
    })
    .unwrap();
}

#[test]
fn a_broker_that_is_cut_off_from_the_database_mints_nothing_and_hides_no_revocation_of_the_other() {
    let server = Postgres::start().unwrap();
    let database = server.new_database().unwrap();
    let relay = TcpRelay::start(server.port()).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), PASSWORD).unwrap();
    let through = format!(
        "{}clear_text = true\npassword_file = {:?}\n",
        table(&[format!("127.0.0.1:{}", relay.port())], &database),
        password.path()
    );
    let straight = table(&[socket_of(&server)], &database);
    let plan = Plan {
        tables: [through, straight],
        ..Plan::at(&[], &database)
    };
    let mut pair = Pair::planned(server, database, plan);
    let bob = pair.token("bob");
    let [cut_off, whole] = pair.sockets();
    let mut tickets = pair.world.negotiate_tokens("alice", 200).unwrap();
    let mut ticket = || tickets.pop().unwrap();
    let used = ticket();
    assert!(exchange(&cut_off, &used).unwrap().is_token());
    relay.cut();
    let mut shown = Vec::new();
    for _ in 0..3 {
        let (ticket, clock) = (ticket(), Clock::start());
        assert_eq!(exchange(&cut_off, &ticket).unwrap(), Exchanged::store_unavailable());
        assert!(clock.ms() < IN_TIME_MS, "{} ms", clock.ms());
        shown.push(ticket);
    }
    // The other one knows nothing of that, and knows what the first had taken.
    assert!(exchange(&whole, &ticket()).unwrap().is_token());
    assert_eq!(exchange(&whole, &used).unwrap(), Exchanged::replay());
    let given = |at: &Path, ticket: &String| exchange(at, ticket).unwrap().is_token();
    let mut taken: Vec<usize> = shown.iter().map(|ticket| usize::from(given(&whole, ticket))).collect();
    assert!(pair.world.broker().revoke(&["--subject", &subject(&bob)]).is_err());
    pair.other.revoke(&["--jti", &jti(&bob)]).unwrap();
    wait_until("bob's token is out, whichever broker a worker asks", EFFECT, || {
        pair.all_are(&bob, 401)
    })
    .unwrap();
    relay.mend();
    wait_until("it mints again", EFFECT, || given(&cut_off, &ticket())).unwrap();
    for (ticket, taken) in shown.iter().zip(&mut taken) {
        for at in [&cut_off, &whole, &cut_off] {
            *taken += usize::from(given(at, ticket));
        }
    }
    assert!(taken.iter().all(|taken| *taken <= 1), "{taken:?}");
    let alice = pair.token("alice");
    pair.world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("alice's token is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
}

#[test]
fn connections_to_the_database_that_are_lost_again_and_again_give_no_ticket_a_second_token() {
    let mut pair = Pair::start();
    let [first, other] = pair.sockets();
    let tickets = pair.world.negotiate_tokens("alice", 60).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kerbridge%'";
    let mut given = Vec::new();
    for (number, ticket) in tickets.iter().enumerate() {
        if number % 4 == 0 {
            assert!(
                pair.server.sql("postgres", end).unwrap().contains('t'),
                "nobody was connected"
            );
        }
        let [one, two] = if number % 2 == 0 {
            [&first, &other]
        } else {
            [&other, &first]
        };
        let answers = [one, two].map(|at| exchange(at, ticket).unwrap());
        for answer in &answers {
            let is_known = answer.is_token() || [Exchanged::replay(), Exchanged::store_unavailable()].contains(answer);
            assert!(is_known, "{answer:?}");
        }
        assert!(answers.iter().filter(|answer| answer.is_token()).count() <= 1);
        if answers.iter().any(Exchanged::is_token) {
            given.push(ticket);
        }
    }
    // A connection that was lost before anything was committed costs nobody anything.
    assert!(given.len() > tickets.len() / 2, "{} of {}", given.len(), tickets.len());
    for ticket in given {
        for at in [&first, &other] {
            assert_eq!(exchange(at, ticket).unwrap(), Exchanged::replay());
        }
    }
    assert!(pair.mints(8));
}

#[test]
fn a_standby_is_passed_over_until_it_is_promoted_and_then_followed() {
    let primary = Postgres::start().unwrap();
    let database = primary.new_database().unwrap();
    let standby = primary.standby().unwrap();
    // The one that can only be read is asked first.
    let plan = Plan::at(&[socket_of(&standby), socket_of(&primary)], &database);
    let mut pair = Pair::planned(primary, database, plan);
    let bob = pair.token("bob");
    let alice = pair.token("alice");
    let used = pair.world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(pair.show(&used, 1), 1);
    pair.world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("alice's token is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
    let written = pair.server.sql("postgres", "SELECT pg_current_wal_lsn()").unwrap();
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    wait_until("the standby has all of it", EFFECT, || {
        standby.sql("postgres", &replayed).unwrap() == "t"
    })
    .unwrap();
    pair.server.process().kill().unwrap();
    let told = (0..ASKED).filter(|_| is_not_minted(&pair)).count();
    assert!(told > 0, "no broker said whose fault it is");
    assert!(
        pair.other.revoke(&["--subject", &subject(&bob)]).is_err(),
        "a standby takes nothing"
    );
    assert!(pair.all_are(&bob, 200));
    standby.promote().unwrap();
    wait_until("tickets are taken by what is written there", EFFECT, || pair.mints(8)).unwrap();
    assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
    assert!(pair.all_are(&alice, 401) && pair.all_are(&bob, 200));
    pair.other.revoke(&["--jti", &jti(&bob)]).unwrap();
    wait_until("bob's token is out", EFFECT, || pair.all_are(&bob, 401)).unwrap();
    assert!(pair.all_are(&alice, 401));
}
