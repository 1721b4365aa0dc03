//! Groups from the PAC of a real ticket.

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::samba::{Plan, SERVICE};
use serde_json::json;

use crate::samba_domain::{BULK, MANY, claims, domain, lab, sid_names};

fn start(users: &[&str]) -> World {
    let names = sid_names(&["order-clerks", "staff", "local-readers"]);
    lab(&format!("[groups]\nsource = \"pac\"\n{names}"), users)
        .start()
        .unwrap()
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn groups_of_the_ticket_nested_ones_too_open_what_the_policy_gives_them() {
    let world = start(&["alice", "bob"]);
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let claims_of = claims(&answer);
    assert_eq!(claims_of["sub"], "alice@AD.TEST");
    assert_eq!(claims_of["scope"], "orders:read orders:write");
    // What this audience asks for, and nothing of what else she is in.
    assert_eq!(claims_of["groups"], json!(["order-clerks", "staff"]));
    assert!(answer.text().contains("x-kerbridge-groups"), "{}", answer.text());
    assert_eq!(world.curl_as("alice", "/reports/1").send().unwrap().status, 200);
    let plain = world.curl_as("alice", "/plain").send().unwrap();
    assert_eq!((plain.status, claims(&plain).get("groups")), (200, None));

    // Somebody of the same domain who is in neither group has no grant, and no way through the route.
    let refused = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
    let refused = world.curl_as("bob", "/reports/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
    assert_eq!(world.curl_as("bob", "/plain").send().unwrap().status, 200);
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_group_without_a_name_is_left_out_or_called_by_its_identifier() {
    let table = "[groups]\nsource = \"pac\"\nunmapped_sids = \"sid\"\n";
    let staff = domain().sid("staff").unwrap();
    let policy = crate::samba_domain::POLICY
        .replace("\"staff\"", &format!("{staff:?}"))
        .replace("\"local-readers\"", "\"order-clerks\"");
    let table = format!("{table}{}", sid_names(&["order-clerks"]));
    let world = lab(&table, &["alice"]).policy(&policy).start().unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(claims(&answer)["groups"], json!([staff, "order-clerks"]));
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_ticket_of_64_kib_with_five_hundred_groups_is_taken() {
    let world = start(&[MANY]);
    let token = world.negotiate_token(MANY, SERVICE).unwrap();
    // As much as the filter takes.
    let kib = token.len().div_ceil(1024);
    assert_eq!(kib, 64, "{} bytes of base64", token.len());
    let request = Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    let answer = world.send(&request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.header_text("x-kerbridge-token").unwrap();
    let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
    assert_eq!(claims["groups"], json!(["order-clerks", "staff"]));

    // All of them have names: the token still says only what its audience needs.
    let bulk: Vec<String> = (0..BULK).map(|number| format!("bulk-{number:03}")).collect();
    let mut named: Vec<&str> = bulk.iter().map(String::as_str).collect();
    named.extend(["order-clerks", "staff", "local-readers"]);
    let table = format!("[groups]\nsource = \"pac\"\n{}", sid_names(&named));
    let policy = crate::samba_domain::POLICY.replace("\"staff\"", "\"bulk-000\", \"bulk-499\"");
    let world = lab(&table, &[MANY]).policy(&policy).start().unwrap();
    let token = world.negotiate_token(MANY, SERVICE).unwrap();
    let request = Request::get("/orders/1").header("authorization", format!("Negotiate {token}"));
    let answer = world.send(&request).unwrap();
    let token = answer.header_text("x-kerbridge-token").unwrap();
    let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
    assert_eq!(claims["groups"], json!(["bulk-000", "bulk-499", "order-clerks"]));
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_disabled_or_expired_account_gets_no_ticket_and_one_that_it_holds_lives_to_its_end() {
    let world = start(&["dora", "ed"]);
    // Tickets for the service, before the accounts are closed.
    for user in ["dora", "ed"] {
        assert_eq!(world.curl_as(user, "/orders/1").send().unwrap().status, 200, "{user}");
    }
    let change = |user: &str, attribute: &str, value: &str| {
        let [user, attribute, value] = [user, attribute, value].map(str::to_owned);
        (user, attribute, value)
    };
    domain()
        .change(&Plan {
            attributes: vec![
                change("dora", "userAccountControl", "514"),
                // A tenth of a microsecond after the beginning of 1601.
                change("ed", "accountExpires", "1"),
            ],
            ..Plan::default()
        })
        .unwrap();
    for user in ["dora", "ed"] {
        let refused = domain().kinit(user).unwrap_err().to_string();
        assert!(
            refused.contains("revoked") || refused.contains("expired"),
            "{user}: {refused}"
        );
        let answer = world.curl_as(user, "/orders/1").send().unwrap();
        assert_eq!(
            (answer.status, claims(&answer)["groups"].clone()),
            (200, json!(["order-clerks", "staff"]))
        );
    }
}
