//! Groups in a realm of MIT krb5: from a file, and never from a PAC that does not say them.

use kerbridge_tests::World;
use kerbridge_tests::token::decode;
use serde_json::json;

const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[grant]]
    groups = ["order-clerks"]
    audience = "orders"
    scopes = ["orders:read"]
    [[grant]]
    principals = ["bob@LAB.TEST"]
    groups = ["everybody"]
    audience = "orders"
    [[route]]
    path_prefix = "/orders"
    accept = ["negotiate", "bearer"]
    audience = "orders"
    groups = ["order-clerks"]
    deliver = "header"
    [[route]]
    path_prefix = "/"
    accept = ["negotiate", "bearer"]
    audience = "orders"
    deliver = "header"
"#;

#[test]
fn a_file_says_who_is_in_which_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groups.toml");
    std::fs::write(
        &file,
        "order-clerks = [\"alice@LAB.TEST\"]\neverybody = [\"*@LAB.TEST\"]\n",
    )
    .unwrap();
    let table = format!(
        "[groups]\nsource = \"static\"\nstatic_file = {:?}",
        file.to_str().unwrap()
    );
    let world = World::builder().policy(POLICY).broker_table(&table).start().unwrap();

    let token = world.token("alice", "/orders/1").unwrap();
    let claims = decode(&token).unwrap().claims;
    assert_eq!(
        (claims["groups"].clone(), &claims["scope"]),
        (json!(["everybody", "order-clerks"]), &json!("orders:read"))
    );
    // The token alone opens the route too.
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);

    let token = world.token("bob", "/else").unwrap();
    assert_eq!(decode(&token).unwrap().claims["groups"], json!(["everybody"]));
    let refused = world.curl("/orders/1").bearer(&token).send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
}

#[test]
fn a_ticket_whose_pac_says_no_groups_is_our_fault_and_never_an_empty_list() {
    let table = "[groups]\nsource = \"pac\"\nunmapped_sids = \"sid\"";
    // Bob's grant asks for no group, so an empty list would do.
    let policy = POLICY
        .replace("groups = [\"everybody\"]", "")
        .replace("\"order-clerks\"", "\"S-1-5-32-544\"");
    let mut world = World::builder().policy(&policy).broker_table(table).start().unwrap();
    for user in ["alice", "bob"] {
        let refused = world.curl_as(user, "/else").send().unwrap();
        assert_eq!(
            world.reason(&refused).unwrap(),
            (503, "groups_unavailable".to_owned()),
            "{user}"
        );
        assert_eq!(refused.header("retry-after"), Some("5"));
    }
    let log = world.broker().logged("the ticket has no pac with groups");
    assert!(log.contains("the ticket has no pac with groups"), "{log}");
}
