//! Users of several realms, and what tokens call them, by real trusts between MIT realms.

use std::ffi::OsString;
use std::path::Path;

use kerbridge_tests::World;
use kerbridge_tests::curl::Curl;
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::token::decode;
use serde_json::Value;

const POLICY: &str = r#"
[[audience]]
name = "orders"
[[grant]]
principals = ["*@LAB.TEST", "alice/admin@LAB.TEST"]
audience = "orders"
scopes = ["orders:read"]
[[route]]
name = "orders"
host = "localhost"
path_prefix = "/"
accept = ["negotiate"]
audience = "orders"
deliver = "header"
"#;

/// A lab, and a realm that it trusts, with an alice of its own.
fn two_realms(names: &str) -> (World, Kdc) {
    let world = World::builder().policy(POLICY).broker_table(names).start().unwrap();
    let other = Kdc::start("A.TEST").unwrap();
    other.add_user("alice", "alice of A").unwrap();
    world.kdc().trust(&other).unwrap();
    (world, other)
}

/// Lets the broker begin anew with more realms, in the list and in the grant.
fn restart_with(world: &mut World, realms: &[&str]) {
    let broker = world.broker();
    broker.stop().unwrap();
    let list: String = realms.iter().map(|realm| format!(", {realm:?}")).collect();
    broker
        .configure("realms = [\"LAB.TEST\"", &format!("realms = [\"LAB.TEST\"{list}"))
        .unwrap();
    let everybody: String = realms.iter().map(|realm| format!(", \"*@{realm}\"")).collect();
    let policy = POLICY.replace("\"*@LAB.TEST\"", &format!("\"*@LAB.TEST\"{everybody}"));
    broker.set_policy(&policy).unwrap();
    broker.start().unwrap();
}

/// A request with these tickets, under the lab's configuration or another one.
fn with_tickets(world: &World, tickets: &Ccache, krb5_config: Option<&Path>) -> Curl {
    let mut cache = OsString::from("FILE:");
    cache.push(tickets.path());
    let config = krb5_config.unwrap_or_else(|| world.kdc().krb5_config());
    world
        .curl("/orders/1")
        .negotiate([("KRB5_CONFIG", config.as_os_str().to_owned()), ("KRB5CCNAME", cache)])
}

/// What the token says of the holder of these tickets, and what the service was told.
fn subject(world: &World, tickets: &Ccache) -> String {
    let answer = with_tickets(world, tickets, None).send().unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), world.envoy_log());
    let claims = decode(answer.header("x-kerbridge-token").unwrap()).unwrap().claims;
    let subject = claims["sub"].as_str().unwrap().to_owned();
    let shown = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let told = shown.iter().find(|pair| pair[0] == "x-kerbridge-subject").unwrap();
    assert_eq!(told[1], Value::from(subject.as_str()));
    subject
}

fn refusal(world: &World, tickets: &Ccache, krb5_config: Option<&Path>) -> (u16, String) {
    let answer = with_tickets(world, tickets, krb5_config).send().unwrap();
    world.reason(&answer).unwrap()
}

/// The last line of the broker's log about an exchange.
fn audit(world: &mut World, expected: &str) -> Value {
    let log = world.broker().logged(expected);
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.rfind(|line| line["target"] == "kerbridge::audit").unwrap()
}

#[test]
fn users_of_a_trusted_realm_are_taken_where_it_is_listed_and_stay_other_people() {
    let (mut world, other) = two_realms("");
    let foreign = other.kinit("alice").unwrap();
    assert_eq!(refusal(&world, &foreign, None), (403, "realm_not_allowed".to_owned()));
    assert_eq!(audit(&mut world, "alice@A.TEST")["principal"], "alice@A.TEST");
    restart_with(&mut world, &["A.TEST"]);
    assert_eq!(subject(&world, &foreign), "alice@A.TEST");
    let own = world.ticket("alice").unwrap().clone();
    assert_eq!(subject(&world, &own), "alice@LAB.TEST");
}

#[test]
fn names_are_given_as_configured_while_grants_are_about_the_full_principal() {
    let (mut world, other) = two_realms(
        "[names]\nstrip_realm_of = [\"LAB.TEST\"]\ninstances = \"refuse\"\n\
         [[names.rule]]\nmatch = \"*/admin@LAB.TEST\"\nsubject = \"{1}-admin\"\n",
    );
    restart_with(&mut world, &["A.TEST"]);
    let own = world.ticket("alice").unwrap().clone();
    assert_eq!(subject(&world, &own), "alice");
    let line = audit(&mut world, "alice@LAB.TEST");
    assert_eq!(
        (&line["principal"], &line["subject"]),
        (&"alice@LAB.TEST".into(), &"alice".into())
    );
    assert_eq!(subject(&world, &other.kinit("alice").unwrap()), "alice@A.TEST");
    for user in ["alice/admin", "alice/root", "alice-admin"] {
        world.kdc().add_user(user, "one more").unwrap();
    }
    let tickets = |world: &World, user: &str| world.kdc().kinit(user).unwrap();
    assert_eq!(subject(&world, &tickets(&world, "alice/admin")), "alice-admin");
    // Whoever may choose the name of an account does not become an administrator by it.
    assert_eq!(subject(&world, &tickets(&world, "alice-admin")), "alice-admin@LAB.TEST");
    assert_eq!(
        refusal(&world, &tickets(&world, "alice/root"), None),
        (403, "principal_not_mapped".to_owned())
    );
    let line = audit(&mut world, "alice/root@LAB.TEST");
    assert_eq!(line["principal"], "alice/root@LAB.TEST");
    assert_eq!(line["detail"], "names.instances: refuses this principal");
}

#[test]
fn local_names_come_from_krb5_conf_and_whom_it_does_not_know_is_refused() {
    let (mut world, other) = two_realms("[names]\nauth_to_local = true\n");
    let rules = world.kdc().client_config(
        "broker.conf",
        "[realms]\nLAB.TEST = {\nauth_to_local = RULE:[1:$1@$0](bob@LAB\\.TEST)s/.*/robert/\n\
         auth_to_local = DEFAULT\n}\n",
    );
    world.broker().set_krb5_config(&rules.unwrap());
    restart_with(&mut world, &["A.TEST"]);
    for (user, name) in [("alice", "alice"), ("bob", "robert")] {
        let tickets = world.ticket(user).unwrap().clone();
        assert_eq!(subject(&world, &tickets), name);
    }
    assert_eq!(
        refusal(&world, &other.kinit("alice").unwrap(), None),
        (403, "principal_not_mapped".to_owned())
    );
}

#[test]
fn a_ticket_that_came_through_a_realm_outside_the_path_is_refused() {
    let (mut world, far) = (
        World::builder().policy(POLICY).start().unwrap(),
        Kdc::start("A.TEST").unwrap(),
    );
    let between = Kdc::start("B.TEST").unwrap();
    far.add_user("alice", "alice of A").unwrap();
    between.trust(&far).unwrap();
    world.kdc().trust(&between).unwrap();
    world.kdc().know(&far).unwrap();
    // The client may go that way; whether the service takes it is the service's affair.
    let path = "[capaths]\nA.TEST = {\nLAB.TEST = B.TEST\n}\n";
    let client = world.kdc().client_config("client.conf", path).unwrap();
    let tickets = far.kinit("alice").unwrap();
    restart_with(&mut world, &["A.TEST", "B.TEST"]);
    assert_eq!(
        refusal(&world, &tickets, Some(&client)),
        (403, "realm_not_allowed".to_owned())
    );
    let line = audit(&mut world, "Illegal cross-realm ticket");
    assert!(
        line["detail"].as_str().unwrap().contains("Illegal cross-realm ticket"),
        "{line}"
    );
    world.broker().stop().unwrap();
    world.broker().set_krb5_config(&client);
    world.broker().start().unwrap();
    let answer = with_tickets(&world, &tickets, Some(&client)).send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}
