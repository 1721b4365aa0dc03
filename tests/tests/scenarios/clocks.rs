//! A broker whose clock is off: within the skew nobody notices, beyond it the log of Envoy says whose fault it is.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::wait::wait_until;

#[test]
fn a_broker_whose_clock_is_ahead_works_within_the_skew_and_beyond_it_the_log_says_why_not() {
    let mut world = World::start().unwrap();
    for (offset, passes) in [("+30s", true), ("-90s", true), ("+90s", false)] {
        // faketime does not become the broker but waits for it, and would not hand a polite signal on.
        world.broker().kill().unwrap();
        world.broker().start_through(&["faketime", "-f", offset]);
        world.broker().start().unwrap();
        let before = world.upstream().requests().len();
        let answer = world.curl_as("alice", "/orders/1").send().unwrap();
        if passes {
            assert_eq!(answer.status, 200, "{offset}: {}", answer.text());
            let token = answer.header("x-kerbridge-token").unwrap();
            // The token that it mints is good for the other requests, too.
            assert_eq!(world.curl("/orders/2").bearer(token).send().unwrap().status, 200);
        } else {
            assert_eq!(
                world.reason(&answer).unwrap(),
                (503, "broker_unavailable".to_owned()),
                "{offset}"
            );
            assert_eq!(answer.header("x-kerbridge-token"), None);
            assert_eq!(world.upstream().requests().len(), before);
        }
    }
    let why = "request refused by our own fault reason=broker_unavailable route=orders issuer=kerbridge \
               because=not_yet_valid";
    wait_until("a line of the log", Duration::from_secs(10), || {
        world.envoy_log().contains(why)
    })
    .unwrap();
    world.broker().kill().unwrap();
}
