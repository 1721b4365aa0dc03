//! Two brokers whose clocks differ: no ticket is good at both, what one takes back is out at every worker, keys are known before
//! they sign; and where a clock is off by more than is borne, what is refused says why.

use std::process::Command;
use std::time::Duration;

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;

use super::{ASKED, EFFECT, Pair, jti};

/// So many polls in a row are not all lost, where each is by chance.
const LOST_POLLS: Duration = Duration::from_secs(60);

/// What the doctor says of the database's clock, to whoever has this one.
fn doctor(pair: &Pair, offset: &str) -> String {
    let output = Command::new("faketime")
        .args(["-f", offset])
        .arg(find_kerbridge().unwrap())
        .args(["doctor", "--config"])
        .arg(pair.other.config())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Neither broker takes what the other has taken.
fn tickets_are_good_at_one(pair: &mut Pair) {
    let [first, other] = pair.sockets();
    let tickets = pair.world.negotiate_tokens("alice", 6).unwrap();
    for (number, ticket) in tickets.iter().enumerate() {
        let [one, two] = if number % 2 == 0 {
            [&first, &other]
        } else {
            [&other, &first]
        };
        assert!(exchange(one, ticket).unwrap().is_token());
        for at in [two, one] {
            assert_eq!(exchange(at, ticket).unwrap(), Exchanged::replay());
        }
    }
}

/// What either broker takes back is out, whoever had minted it; what nobody took back is not.
fn revocations_are_followed(pair: &mut Pair) {
    let [first, other] = pair.sockets();
    let tickets = pair.world.negotiate_tokens("alice", 4).unwrap();
    let [at_first, at_other] = [&first, &other].map(|at| move |ticket: &String| exchange(at, ticket).unwrap());
    let minted = [
        at_first(&tickets[0]),
        at_other(&tickets[1]),
        at_first(&tickets[2]),
        at_other(&tickets[3]),
    ];
    let tokens = minted.map(|one| one.token().unwrap());
    assert!(tokens.iter().all(|token| pair.all_are(token, 200)), "refused at once");
    pair.other.revoke(&["--jti", &jti(&tokens[0])]).unwrap();
    pair.world.broker().revoke(&["--jti", &jti(&tokens[1])]).unwrap();
    wait_until("both are out", EFFECT, || {
        pair.all_are(&tokens[0], 401) && pair.all_are(&tokens[1], 401)
    })
    .unwrap();
    assert!(pair.all_are(&tokens[2], 200) && pair.all_are(&tokens[3], 200));
}

#[test]
fn clocks_that_differ_by_less_than_the_skew_are_borne_and_the_doctor_names_the_difference() {
    let mut pair = Pair::start();
    for (offset, seconds) in [("+2s", 2), ("-2s", 2), ("-90s", 90), ("+45s", 45)] {
        pair.other.restart_through(&["faketime", "-f", offset]).unwrap();
        wait_until(offset, EFFECT, || pair.mints(8)).unwrap();
        tickets_are_good_at_one(&mut pair);
        revocations_are_followed(&mut pair);
        // Two seconds are borne, and what it takes to ask and to answer may be one more.
        if seconds > 2 {
            let said = doctor(&pair, offset);
            let named =
                (seconds - 1..seconds + 10).any(|by| said.contains(&format!("the server's clock is {by} s from")));
            assert!(named, "{offset}: {said}");
        }
    }
    let said = doctor(&pair, "+0s");
    assert!(!said.contains("the server's clock"), "{said}");
    pair.other.kill().unwrap();
}

#[test]
fn a_key_that_a_broker_with_another_clock_takes_in_use_costs_nobody_a_request() {
    let mut pair = Pair::start();
    for offset in ["+45s", "-90s"] {
        pair.other.restart_through(&["faketime", "-f", offset]).unwrap();
        wait_until(offset, EFFECT, || pair.mints(8)).unwrap();
        let before = pair.token("alice");
        pair.other.administer(&["keys", "rotate"], &["--now"]).unwrap();
        for _ in 0..ASKED {
            let answer = pair.world.curl_as("alice", "/orders/1").send().unwrap();
            assert_eq!(answer.status, 200, "{offset}: {}", answer.text());
            let token = answer.header("x-kerbridge-token").unwrap();
            assert!(pair.all_are(token, 200), "{offset}");
        }
        assert!(pair.all_are(&before, 200), "of the key before");
    }
    pair.other.kill().unwrap();
}

#[test]
fn a_broker_whose_clock_is_off_by_more_than_the_skew_gives_no_token_that_is_refused_and_what_is_refused_says_why() {
    let mut pair = Pair::start();
    let bob = pair.token("bob");
    // Ahead by more than filters bear: what it mints is of the future, and nobody gets it.
    pair.other.restart_through(&["faketime", "-f", "+90s"]).unwrap();
    wait_until("answers of both brokers", EFFECT, || {
        let answers: Vec<_> = (0..ASKED)
            .map(|_| pair.world.curl_as("alice", "/orders/1").send().unwrap())
            .collect();
        for answer in &answers {
            match answer.header("x-kerbridge-token") {
                Some(token) => assert!(pair.all_are(token, 200)),
                None => assert_eq!(
                    pair.world.reason(answer).unwrap(),
                    (503, "broker_unavailable".to_owned())
                ),
            }
        }
        answers.iter().any(|answer| answer.status == 200) && answers.iter().any(|answer| answer.status == 503)
    })
    .unwrap();
    wait_until("a line of the log", EFFECT, || {
        pair.world.envoy_log().contains("because=not_yet_valid")
    })
    .unwrap();
    // By more than Kerberos bears, either way: it takes no ticket, and the ticket is good at the other one.
    for (offset, reason) in [("+6m", "clock_skew"), ("-6m", "ticket_not_yet_valid")] {
        pair.other.restart_through(&["faketime", "-f", offset]).unwrap();
        let [first, other] = pair.sockets();
        for ticket in pair.world.negotiate_tokens("alice", 3).unwrap() {
            let refused = exchange(&other, &ticket).unwrap();
            assert_eq!(refused, Exchanged::Refused(400, reason.to_owned()), "{offset}");
            assert!(exchange(&first, &ticket).unwrap().is_token());
        }
        // What is known of revocations is as good as the best of them says.
        assert!(pair.all_are(&bob, 200), "{offset}");
        let ticket = pair.world.negotiate_token("alice", SERVICE).unwrap();
        let alice = exchange(&first, &ticket).unwrap().token().unwrap();
        pair.other.revoke(&["--jti", &jti(&alice)]).unwrap();
        // Pages of the one that is ahead are of the future: half of the polls are lost.
        wait_until("alice's token is out", LOST_POLLS, || pair.all_are(&alice, 401)).unwrap();
    }
    pair.other.kill().unwrap();
}
