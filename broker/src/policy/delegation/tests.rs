use super::*;

const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[audience]]
    name = "billing"
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "orders"
    principals = ["*@A.TEST"]
    groups = ["clerks"]
    clients = ["*"]
    max_life = "1h"
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "orders"
    principals = ["alice@A.TEST"]
    clients = ["envoy-1"]
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "billing"
    principals = ["carol@A.TEST"]
    clients = ["*"]
    [[delegation]]
    target = "HTTP/reports.test@A.TEST"
    audience = "orders"
    groups = ["managers"]
    clients = ["*"]
    [[route]]
    path_prefix = "/"
    accept = ["bearer"]
    audience = "orders"
    upstream = { kerberos = { spn = "HTTP/legacy.test@A.TEST" } }
"#;

const LEGACY: &str = "HTTP/legacy.test@A.TEST";

fn policy(text: &str) -> Result<Policy, Vec<String>> {
    let mut problems = Problems::default();
    let policy =
        crate::strict_toml::read(text, &mut problems).and_then(|file: RawPolicy| Policy::build(&file, &mut problems));
    match policy {
        Some(policy) if problems.is_empty() => Ok(policy),
        Some(_) | None => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

fn granted(target: &str, user: &str, groups: &[&str], client: &str) -> Result<DelegationGrant, DelegationDenial> {
    let policy = policy(POLICY).unwrap();
    let token = VerifiedToken::for_test(user, None, groups);
    policy.towards(target)?.shown(&token, client)?.grant(&principal(user))
}

#[test]
fn target_audience_client_group_and_user_must_all_be_those_of_one_line() {
    let alice = granted(LEGACY, "alice@A.TEST", &[], "envoy-1").unwrap();
    assert_eq!(
        (
            alice.user().as_str(),
            alice.target().to_string().as_str(),
            alice.audience()
        ),
        ("alice@A.TEST", LEGACY, "orders")
    );
    for (target, user, groups, client, denial) in [
        (
            "HTTP/other.test@A.TEST",
            "alice@A.TEST",
            &[][..],
            "envoy-1",
            DelegationDenial::UnknownTarget,
        ),
        (
            "http/legacy.test@A.TEST",
            "alice@A.TEST",
            &[],
            "envoy-1",
            DelegationDenial::UnknownTarget,
        ),
        (LEGACY, "bob@A.TEST", &[], "envoy-1", DelegationDenial::User),
        // Of the two lines that would do for alice one wants a group and the other a client.
        (LEGACY, "alice@A.TEST", &[], "envoy-2", DelegationDenial::User),
        (LEGACY, "alice@B.TEST", &["clerks"], "envoy-1", DelegationDenial::User),
        (
            LEGACY,
            "alice/admin@A.TEST",
            &["clerks"],
            "envoy-1",
            DelegationDenial::User,
        ),
        (LEGACY, "WS01$@A.TEST", &["clerks"], "envoy-1", DelegationDenial::User),
        (LEGACY, "bob@A.TEST", &["Clerks"], "envoy-1", DelegationDenial::User),
        // For another audience; the test's token is for orders.
        (LEGACY, "carol@A.TEST", &[], "envoy-1", DelegationDenial::User),
        (
            "HTTP/reports.test@A.TEST",
            "alice@A.TEST",
            &["clerks"],
            "x",
            DelegationDenial::User,
        ),
    ] {
        assert_eq!(
            granted(target, user, groups, client),
            Err(denial),
            "{target} {user} {groups:?} {client}"
        );
    }
    // Nobody acts in the name of a service or machine that no line names, nor in one with an escape for anybody's.
    for (target, user, groups) in [
        ("HTTP/reports.test@A.TEST", "HTTP/web.test@A.TEST", &["managers"][..]),
        ("HTTP/reports.test@A.TEST", "WS01$@A.TEST", &["managers"]),
        ("HTTP/reports.test@A.TEST", r"bob\@corp.test@A.TEST", &["managers"]),
        ("HTTP/reports.test@A.TEST", "krbtgt/A.TEST@A.TEST", &["managers"]),
        (LEGACY, r"bob\@corp.test@A.TEST", &["clerks"]),
        (LEGACY, r"bob\/admin@A.TEST", &["clerks"]),
        (LEGACY, "krbtgt@A.TEST", &["clerks"]),
    ] {
        let denied = granted(target, user, groups, "envoy-2").unwrap_err();
        assert_eq!(denied, DelegationDenial::User, "{target} {user}");
    }
    assert!(granted(LEGACY, "bob@A.TEST", &["clerks"], "envoy-2").is_ok());
    assert!(granted("HTTP/reports.test@A.TEST", "dave@B.TEST", &["managers"], "x").is_ok());
}

#[test]
fn the_first_line_that_fits_says_how_long_a_ticket_is_used() {
    let clerk = granted(LEGACY, "alice@A.TEST", &["clerks"], "envoy-1").unwrap();
    let alice = granted(LEGACY, "alice@A.TEST", &[], "envoy-1").unwrap();
    assert_eq!((clerk.max_life(), alice.max_life()), (3600, 900));
}

#[test]
fn a_token_for_another_audience_opens_nothing_there() {
    let only_billing = POLICY.replace(
        "audience = \"orders\"\n    groups",
        "audience = \"billing\"\n    groups",
    );
    let policy = policy(&only_billing).unwrap();
    let token = VerifiedToken::for_test("alice@A.TEST", None, &["managers"]);
    let denial = policy
        .towards("HTTP/reports.test@A.TEST")
        .unwrap()
        .shown(&token, "x")
        .unwrap_err();
    assert_eq!(
        (denial, denial.reason()),
        (DelegationDenial::WrongAudience, Reason::WrongAudience)
    );
}

#[test]
fn groups_of_a_delegation_are_in_the_tokens_of_its_audience() {
    let policy = policy(POLICY).unwrap();
    assert!(policy.audience("orders").unwrap().needs_groups());
    assert!(!policy.audience("billing").unwrap().needs_groups());
    assert!(policy.audience("orders").unwrap().needs_principal());
}

/// The policy with another issuer whose tokens are about somebody; its first lines name the issuers that they take.
fn beside_an_issuer(issuers: &str) -> Result<Policy, Vec<String>> {
    const IDP: &str = r#"
        [[issuer]]
        issuer = "https://idp.test"
        audiences = { orders = [] }
        jwks = { cluster = "idp" }
        [[subject]]
        issuer = "https://idp.test"
        claim = "upn"
        form = "principal"
        realms = ["A.TEST"]
    "#;
    let managers = "groups = [\"managers\"]";
    policy(&format!(
        "{}{IDP}",
        POLICY.replace(managers, &format!("{managers}\n{issuers}"))
    ))
}

#[test]
fn groups_alone_are_taken_of_the_issuers_that_the_line_names() {
    let found = beside_an_issuer("").unwrap_err();
    assert!(
        found.len() == 1 && found[0].starts_with("delegation[3].issuers: is missing; "),
        "{found:#?}"
    );
    for (issuers, ours, theirs) in [
        ("issuers = [\"broker\"]", true, false),
        ("issuers = [\"https://idp.test\"]", false, true),
        ("issuers = [\"https://idp.test\", \"broker\"]", true, true),
    ] {
        let policy = beside_an_issuer(issuers).unwrap();
        let token = VerifiedToken::for_test("alice@A.TEST", None, &["managers"]);
        let foreign = token.clone().by_another("https://idp.test", Some("alice@A.TEST"));
        for (token, is_taken) in [(token, ours), (foreign, theirs)] {
            let towards = policy.towards("HTTP/reports.test@A.TEST").unwrap();
            let outcome = towards.shown(&token, "x").map(drop);
            let expected = if is_taken {
                Ok(())
            } else {
                Err(DelegationDenial::Issuer)
            };
            assert_eq!(outcome, expected, "{issuers}");
        }
    }
    assert_eq!(DelegationDenial::Issuer.reason(), Reason::DeniedByPolicy);
}

#[test]
fn each_mistake_of_a_line_is_named() {
    for (from, to, start) in [
        (
            "HTTP/reports.test@A.TEST",
            "krbtgt/A.TEST@A.TEST",
            "delegation[3].target: ",
        ),
        (
            "HTTP/reports.test@A.TEST",
            "KADMIN/changepw@A.TEST",
            "delegation[3].target: ",
        ),
        (
            "HTTP/reports.test@A.TEST",
            "HTTP/reports.test",
            "delegation[3].target: ",
        ),
        ("groups = [\"managers\"]", "", "delegation[3].principals: names nobody"),
        (
            "\"carol@A.TEST\"",
            "\"carol\"",
            "delegation[2].principals[0]: \"carol\": ",
        ),
        ("\"managers\"", "\"\"", "delegation[3].groups[0]: "),
        (
            "audience = \"billing\"\n    principals",
            "audience = \"bills\"\n    principals",
            "delegation[2].audience: \"bills\" is no audience",
        ),
        ("[\"envoy-1\"]", "[]", "delegation[1].clients: names nobody"),
        ("clients = [\"envoy-1\"]", "", "delegation[1].clients: is missing"),
        (
            "[\"envoy-1\"]",
            "[\"envoy-1\", \"*\"]",
            "delegation[1].clients[1]: \"*\" is every client",
        ),
        (
            "clients = [\"envoy-1\"]",
            "clients = [\"envoy-1\"]\nissuers = []",
            "delegation[1].issuers: names nobody",
        ),
        (
            "clients = [\"envoy-1\"]",
            "clients = [\"envoy-1\"]\nissuers = [\"broker\", \"https://idp.test\"]",
            "delegation[1].issuers[1]: no [[subject]] is about \"https://idp.test\"",
        ),
        (
            "[\"envoy-1\"]",
            "[\"a b\"]",
            "delegation[1].clients[0]: \"a b\" cannot be",
        ),
        (
            "principals = [\"carol@A.TEST\"]",
            "principals = [\"carol@A.TEST\"]\nchannel_binding = \"legacy.pem\"",
            "delegation[2].channel_binding: is another than an earlier line has",
        ),
        (
            "spn = \"HTTP/legacy.test@A.TEST\"",
            "spn = \"HTTP/nowhere.test@A.TEST\"",
            "route[0].upstream.kerberos.spn: no [[delegation]] is towards HTTP/nowhere.test@A.TEST",
        ),
        ("max_life = \"1h\"", "max_life = \"0s\"", "delegation[0].max_life: "),
    ] {
        let text = POLICY.replace(from, to);
        assert_ne!(text, POLICY, "{from}");
        let found = policy(&text).unwrap_err();
        assert!(
            // A field that cannot be read is missing as well.
            found.len() <= 2 && found[0].starts_with(start),
            "{start}: {found:#?}"
        );
    }
}
