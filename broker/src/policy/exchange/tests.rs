use super::*;
use crate::strict_toml;

fn build(lines: &str) -> Result<Policy, Vec<String>> {
    let text = format!(
        r#"
        [[audience]]
        name = "orders"
        [[audience]]
        name = "billing"
        resource = "https://billing.test/v1"
        [[grant]]
        principals = ["*@A.TEST"]
        audience = "orders"
        [[route]]
        path = "/"
        access = "open"
        {lines}"#
    );
    let mut problems = Problems::default();
    let file: raw::Policy = strict_toml::read(&text, &mut problems).unwrap();
    Policy::build(&file, &mut problems).ok_or_else(|| problems.iter().map(ToString::to_string).collect())
}

const GOOD: &str = r#"
    [[exchange]]
    clients = ["orders.test"]
    from = "orders"
    to = "billing"
    scopes = ["read"]
"#;

fn trade(lines: &str, token: &VerifiedToken, client: &str, requested: Option<&str>) -> Result<String, TradeDenial> {
    let requested = requested.map(|text| text.parse().unwrap());
    let policy = build(lines).unwrap();
    let alice = Identity::for_test("alice@A.TEST");
    let grant = policy.trade(alice, token, client, "billing", requested.as_ref())?;
    assert_eq!((grant.audience().name(), grant.actors().count()), ("billing", 1));
    Ok(grant.scopes().to_string())
}

#[test]
fn a_line_lets_through_what_the_token_has_and_no_more() {
    let token = VerifiedToken::for_test("alice@A.TEST", None, &[]);
    assert_eq!(trade(GOOD, &token, "orders.test", None).as_deref(), Ok("read"));
    assert_eq!(
        trade(GOOD, &token, "orders.test", Some("write")),
        Err(TradeDenial::ScopeNotLeft)
    );
    assert_eq!(trade(GOOD, &token, "billing.test", None), Err(TradeDenial::NoLine));
    let wider = GOOD.replace("\"read\"", "\"read\", \"admin\"");
    assert_eq!(trade(&wider, &token, "orders.test", None).as_deref(), Ok("read"));
    assert_eq!(
        trade(&wider, &token, "orders.test", Some("admin")),
        Err(TradeDenial::ScopeNotLeft)
    );
    let none = GOOD.replace("scopes = [\"read\"]", "");
    assert_eq!(trade(&none, &token, "orders.test", None).as_deref(), Ok(""));
    assert_eq!(trade("", &token, "orders.test", None), Err(TradeDenial::NoLine));
    let back = "[[exchange]]\nclients = [\"orders.test\"]\nfrom = \"billing\"\nto = \"orders\"\nscopes = [\"read\"]\n";
    assert_eq!(trade(back, &token, "orders.test", None), Err(TradeDenial::NoLine));
}

#[test]
fn lines_add_up_within_what_the_token_has() {
    let token = VerifiedToken::for_test("alice@A.TEST", None, &[]);
    let both = format!("{GOOD}{}", GOOD.replace("read", "write"));
    assert_eq!(trade(&both, &token, "orders.test", None).as_deref(), Ok("read write"));
    assert_eq!(
        trade(&both, &token, "orders.test", Some("write")).as_deref(),
        Ok("write")
    );
}

#[test]
fn tokens_of_an_audience_that_may_be_traded_say_the_principal() {
    let policy = build(GOOD).unwrap();
    assert!(policy.audience("orders").unwrap().needs_principal());
    assert!(!policy.audience("billing").unwrap().needs_principal());
}

#[test]
fn each_mistake_is_named_with_field_and_remedy() {
    for (from, to, expected) in [
        ("\"orders.test\"", "", "exchange[0].clients: names nobody; name"),
        (
            "orders.test",
            "a b",
            "exchange[0].clients[0]: \"a b\" cannot be a client's name; write",
        ),
        // No line is for every client, and none for a client that has not said who it is.
        (
            "\"orders.test\"",
            "\"orders.test\", \"*\"",
            "exchange[0].clients[1]: \"*\" is no client: names are compared as they stand, and none stands for several; write",
        ),
        (
            "orders.test",
            "orders-*",
            "exchange[0].clients[0]: \"orders-*\" is no client",
        ),
        (
            "orders.test",
            "public",
            "exchange[0].clients[0]: \"public\" is what callers of listen.public are called that have not said who they are",
        ),
        (
            "to = \"billing\"",
            "to = \"orders\"",
            "exchange[0].to: \"orders\" is from, too: whoever was sent a token for itself would have another for it; name",
        ),
        (
            "from = \"orders\"",
            "from = \"x\"",
            "exchange[0].from: \"x\" is no audience of this file; correct",
        ),
        (
            "to = \"billing\"",
            "to = \"x\"",
            "exchange[0].to: \"x\" is no audience of this file; correct",
        ),
        ("\"read\"", "\"a b\"", "exchange[0].scopes: \"a b\" is no scope; use"),
    ] {
        let found = build(&GOOD.replace(from, to)).unwrap_err();
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{expected}: {found:#?}"
        );
    }
    for resource in [
        "orders",
        "https://",
        "https:///x",
        "https://a.test/#x",
        "https://a.test/?x",
        "ftp://a.test",
        "https://a b",
        "https://billing.test/v1",
    ] {
        let found = build(&format!("[[audience]]\nname = \"x\"\nresource = {resource:?}")).unwrap_err();
        assert!(
            found.len() == 1 && found[0].starts_with("audience[2].resource: "),
            "{resource}: {found:#?}"
        );
    }
}
