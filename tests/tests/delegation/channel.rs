//! A service that wants its tickets bound to its channel gets such, and of no other certificate.

use kerbridge_tests::World;
use kerbridge_tests::bound_service::BoundService;
use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::delegation::{DelegationRealm, LEGACY};

use crate::bridge::{Plan, seen};
use crate::realms::{mit, samba};

fn bound(realm: &DelegationRealm) {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Certificates::create(elsewhere.path()).unwrap();
    let service = BoundService::start(&realm.principal(LEGACY), &realm.keytab(LEGACY), &certificates).unwrap();
    let start = |line: String| -> World {
        let plan = Plan {
            line,
            ..Plan::default()
        };
        let authority = certificates.authority.display().to_string();
        plan.builder(realm)
            .legacy(service.port())
            .yaml(move |yaml| {
                // The service's own authority in place of the world's.
                let text = yaml.text().to_owned();
                let anchor = "trusted_ca: {filename: ";
                let line = text.lines().find(|line| line.trim_start().starts_with(anchor));
                let line = line.unwrap().trim_start();
                yaml.replace(line, &format!("{anchor}{authority}}}"))
            })
            .start()
            .unwrap()
    };
    let to = |certificates: &Certificates| format!("channel_binding = {:?}", certificates.certificate);

    let world = start(to(&certificates));
    let token = world.token("alice", "/plain/1").unwrap();
    for path in ["/legacy/1", "/legacy/2"] {
        let answer = world.curl(path).bearer(&token).send().unwrap();
        assert_eq!(seen(&answer), realm.principal("alice"));
    }
    // The service answers by itself: it is its own page, not ours.
    for (line, says) in [(String::new(), "unbound"), (to(&others), "other channel")] {
        let answer = start(line).curl_as("alice", "/legacy/1").send().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (403, says));
    }
}

#[test]
fn a_service_that_wants_bindings_gets_tickets_for_its_own_channel() {
    bound(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_service_that_wants_bindings_gets_tickets_for_its_own_channel_in_a_domain() {
    bound(samba());
}
