//! What an administrator takes back at the broker is refused in Envoy, at every worker, while the rest passes.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::wait::wait_until;
use serde_json::{Value, json};

/// One poll of the feed, and the second that a worker may be behind; more for a machine that has much to do.
const EFFECT: Duration = Duration::from_secs(10);
/// Requests on connections of their own, so that each of two workers gets some.
const ASKED: usize = 12;

fn claim(token: &str, name: &str) -> String {
    let claims: Value = kerbridge_tests::token::decode(token).unwrap().claims;
    claims[name].as_str().unwrap().to_owned()
}

/// How each of some requests is answered: one that was on its way when its token was taken back is, too, without a reason.
fn all_are(world: &World, token: &str, status: u16) -> bool {
    let answer = |_| world.curl("/orders/1").bearer(token).send().unwrap().status;
    (0..ASKED).map(answer).all(|found| found == status)
}

#[test]
fn what_is_revoked_is_refused_at_every_worker_and_the_rest_passes() {
    let mut world = World::builder()
        .filter(|config| config["issuers"][0]["feed"] = json!({ "cluster": "kerbridge_broker" }))
        .concurrency(2)
        .start()
        .unwrap();
    let (alice, bob) = (
        world.token("alice", "/orders/1").unwrap(),
        world.token("bob", "/orders/1").unwrap(),
    );
    wait_until("the first feed", EFFECT, || {
        all_are(&world, &alice, 200) && all_are(&world, &bob, 200)
    })
    .unwrap();
    for (option, name) in [("--jti", "jti"), ("--sid", "sid"), ("--subject", "sub")] {
        let value = claim(&alice, name);
        world.broker().revoke(&[option, &value]).unwrap();
        wait_until(option, EFFECT, || all_are(&world, &alice, 401)).unwrap();
        let refused = world.curl("/orders/1").bearer(&alice).send().unwrap();
        assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()), "{option}");
        assert!(all_are(&world, &bob, 200), "{option}");
        world.broker().revoke(&[option, &value, "--lift"]).unwrap();
        wait_until("the revocation is lifted", EFFECT, || all_are(&world, &alice, 200)).unwrap();
    }
    // Without a time it is the person's, not the token's: no ticket becomes another.
    let subject = claim(&alice, "sub");
    world.broker().revoke(&["--subject", &subject]).unwrap();
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    // Not 401: a browser would go on asking for a ticket that is not the matter. The broker's log has the reason.
    assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
    let said = "the subject was revoked";
    assert!(world.broker().logged(said).contains(said));
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
}
