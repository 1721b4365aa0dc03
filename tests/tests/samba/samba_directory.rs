//! Groups from the directory of a real domain, over LDAP.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use kerbridge_tests::World;
use kerbridge_tests::samba::{PASSWORD, Plan};
use kerbridge_tests::world::WorldBuilder;
use serde_json::json;
use tempfile::TempDir;

use crate::samba_domain::{MANY, POLICY, claims, domain, lab};

/// The password file of the account that asks, in a folder of its own.
fn password(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

/// A lab whose directory may be kept busy by others.
fn patient(groups: &str, users: &[&str]) -> WorldBuilder {
    lab(groups, users).broker_table("[limits]\ndeadline = \"9s\"")
}

/// A `[groups]` table that asks at this URL.
fn table(url: &str, folder: &TempDir, more: &str) -> String {
    format!(
        "[groups]\nsource = \"ldap\"\n[groups.ldap]\nurl = {url:?}\nbind_dn = {:?}\npassword_file = {:?}\n\
         base = \"DC=ad,DC=test\"\n{more}\n",
        domain().dn("reader"),
        folder.path().join("password").to_str().unwrap(),
    )
}

fn trusting() -> String {
    format!("ca = {:?}", domain().authority().to_str().unwrap())
}

fn ldaps() -> String {
    format!("ldaps://{}", domain().address())
}

fn start(users: &[&str], more: &str) -> (World, TempDir) {
    let folder = password(&format!("{PASSWORD}\n"));
    let more = format!("{}\n{more}", trusting());
    let world = patient(&table(&ldaps(), &folder, &more), users).start().unwrap();
    (world, folder)
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn the_directory_gives_names_of_nested_groups_to_the_account_of_the_ticket() {
    let (world, _password) = start(&["alice", "bob"], "membership = \"chain\"");
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(claims(&answer)["groups"], json!(["order-clerks", "staff"]));
    assert_eq!(world.curl_as("alice", "/reports/1").send().unwrap().status, 200);
    let refused = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn direct_members_and_token_groups_are_other_ways_to_ask() {
    let (world, _password) = start(&["alice"], "membership = \"direct\"");
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(claims(&answer)["groups"], json!(["order-clerks"]));

    // More identifiers than fit into one question, and the primary group, which names nobody as its member.
    let policy = POLICY.replace("\"staff\"", "\"staff\", \"bulk-499\", \"Domain Users\"");
    let folder = password(PASSWORD);
    let world = patient(&table(&ldaps(), &folder, &trusting()), &[MANY])
        .policy(&policy)
        .start()
        .unwrap();
    let token = world.negotiate_token(MANY, kerbridge_tests::samba::SERVICE).unwrap();
    let request =
        kerbridge_tests::http::Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    let answer = world.send(&request).unwrap();
    let token = answer.header_text("x-kerbridge-token").unwrap();
    let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
    assert_eq!(
        claims["groups"],
        json!(["Domain Users", "bulk-499", "order-clerks", "staff"])
    );
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn the_directory_is_asked_in_pages_by_starttls_too_and_by_principal() {
    let folder = password(PASSWORD);
    let more = format!(
        "{}\nstarttls = true\nfind_by = \"principal\"\nprincipal_attribute = \"userPrincipalName\"\n\
         group_class = \"group\"\nname_attribute = \"sAMAccountName\"",
        trusting()
    );
    let policy = POLICY.replace("\"staff\"", "\"bulk-000\", \"bulk-250\", \"bulk-499\"");
    let url = format!("ldap://{}", domain().address());
    let world = patient(&table(&url, &folder, &more), &[MANY])
        .policy(&policy)
        .start()
        .unwrap();
    let token = world.negotiate_token(MANY, kerbridge_tests::samba::SERVICE).unwrap();
    let request =
        kerbridge_tests::http::Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    let answer = world.send(&request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.header_text("x-kerbridge-token").unwrap();
    let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
    // 501 groups are two pages.
    assert_eq!(
        claims["groups"],
        json!(["bulk-000", "bulk-250", "bulk-499", "order-clerks"])
    );
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_group_of_the_token_that_the_base_does_not_hold_is_not_the_same_as_none() {
    // The group Users of the domain controller itself is in CN=Builtin.
    let narrow = "group_base = \"CN=Users,DC=ad,DC=test\"";
    let (mut world, _password) = start(&["alice"], narrow);
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (503, "groups_unavailable".to_owned()));
    let says = "of the account are outside of groups.ldap.group_base";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    let (world, _password) = start(&["alice"], &format!("{narrow}\nelsewhere = \"ignore\""));
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(claims(&answer)["groups"], json!(["order-clerks", "staff"]));
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn clear_text_on_loopback_is_for_labs() {
    let folder = password(PASSWORD);
    let url = format!("ldap://{}", domain().address());
    let world = patient(&table(&url, &folder, "clear_text = true"), &["alice"])
        .start()
        .unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(claims(&answer)["groups"], json!(["order-clerks", "staff"]));
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn an_account_that_was_closed_is_refused_though_its_ticket_is_good() {
    let users = ["lena", "eve", "lou"];
    let (mut world, _password) = start(&users, "cache = \"none\"\ncheck_account = true");
    for user in users {
        assert_eq!(world.curl_as(user, "/orders/1").send().unwrap().status, 200, "{user}");
    }
    let since_1601 = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 11_644_473_600;
    let now = format!("{since_1601}0000000");
    let change = |user: &str, attribute: &str, value: &str| {
        let [user, attribute, value] = [user, attribute, value].map(str::to_owned);
        (user, attribute, value)
    };
    let plan = Plan {
        attributes: vec![
            change("lena", "userAccountControl", "514"),
            change("eve", "accountExpires", &now),
            // As after too many wrong passwords; the controller computes from it whether that still holds.
            change("lou", "lockoutTime", &now),
        ],
        ..Plan::default()
    };
    domain().change(&plan).unwrap();
    for user in users {
        // Also where no group is asked for, as check_account says.
        for path in ["/orders/1", "/plain"] {
            let refused = world.curl_as(user, path).send().unwrap();
            assert_eq!(
                world.reason(&refused).unwrap(),
                (403, "principal_not_mapped".to_owned()),
                "{user} {path}"
            );
        }
    }
    for word in ["is disabled", "has expired", "is locked out"] {
        let says = format!("that the account {word}");
        let log = world.broker().logged(&says);
        assert!(log.contains(&says), "{word}: {log}");
    }
}

/// Refused by our own fault after so many milliseconds.
fn unavailable(builder: WorldBuilder) -> (World, u64) {
    let world = builder.start().unwrap();
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    let request_id = refused.json()["request_id"].as_str().unwrap_or_default().to_owned();
    let took = world.access_log(&request_id).unwrap()["duration_ms"].as_u64().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (503, "groups_unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    // Nothing of this audience asks for a group, so nobody is asked.
    assert_eq!(world.curl_as("alice", "/plain").send().unwrap().status, 200);
    (world, took)
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_directory_that_is_away_silent_or_refuses_is_503_within_the_deadline() {
    let folder = password(PASSWORD);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("ldap://127.0.0.1:{port}");
    let clear = table(&url, &folder, "clear_text = true");
    // It takes connections and says nothing: until the deadline of 1.5 s.
    let (mut world, took) = unavailable(lab(&clear, &["alice"]));
    assert!((1400..8000).contains(&took), "{took} ms");
    let log = world
        .broker()
        .logged("the directory did not answer within limits.deadline");
    assert!(
        log.contains("the directory did not answer within limits.deadline"),
        "{log}"
    );
    drop(silent);
    let (mut world, _took) = unavailable(lab(&clear, &["alice"]));
    let log = world.broker().logged("the directory cannot be reached");
    assert!(log.contains("the directory cannot be reached"), "{log}");

    let wrong = password("not the password");
    let (mut world, _took) = unavailable(lab(&table(&ldaps(), &wrong, &trusting()), &["alice"]));
    let log = world.broker().logged("the directory refused the bind with result 49");
    assert!(log.contains("the directory refused the bind with result 49"), "{log}");
    assert!(!log.contains("not the password"), "{log}");

    // A certificate of somebody else: the password is not sent.
    let other = tempfile::tempdir().unwrap();
    let certificates = kerbridge_tests::certificates::Certificates::create(other.path()).unwrap();
    let distrusting = format!("ca = {:?}", certificates.authority.to_str().unwrap());
    let (mut world, _took) = unavailable(lab(&table(&ldaps(), &folder, &distrusting), &["alice"]));
    let log = world.broker().logged("invalid peer certificate");
    assert!(log.contains("invalid peer certificate"), "{log}");
}
