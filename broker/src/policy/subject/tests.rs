use super::*;

const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "orders"
    [[route]]
    path = "/"
    access = "open"
    [[issuer]]
    issuer = "https://idp.test"
    audiences = { orders = [] }
    jwks = { cluster = "idp" }
"#;

fn rules(line: &str) -> Result<SubjectRules, Vec<String>> {
    let text = format!("{POLICY}\n[[subject]]\n{line}");
    let mut problems = Problems::default();
    let policy =
        crate::strict_toml::read(&text, &mut problems).and_then(|file: RawPolicy| Policy::build(&file, &mut problems));
    match policy {
        Some(policy) if problems.is_empty() => Ok(policy.subjects().clone()),
        Some(_) | None => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

fn ours(subject: &str, claim: Option<&str>) -> Result<String, NotTraced> {
    let token = VerifiedToken::for_test(subject, claim, &[]);
    match SubjectRules::default().sought(&token)? {
        Sought::Principal(principal) => Ok(principal.to_string()),
        Sought::ByKdc(by) => panic!("{by:?}"),
    }
}

fn theirs(line: &str, claim: Option<&str>) -> Result<Sought, NotTraced> {
    let rules = rules(&format!("issuer = \"https://idp.test\"\nclaim = \"c\"\n{line}")).unwrap();
    rules.sought(&VerifiedToken::for_test("sub", None, &[]).by_another("https://idp.test", claim))
}

#[test]
fn a_full_principal_is_itself_and_a_given_name_only_whom_the_broker_says() {
    assert_eq!(ours("alice@A.TEST", None), Ok("alice@A.TEST".into()));
    assert_eq!(ours("alice/admin@A.TEST", None), Ok("alice/admin@A.TEST".into()));
    assert_eq!(ours("alice", Some("alice@A.TEST")), Ok("alice@A.TEST".into()));
    assert_eq!(ours("alice", None), Err(NotTraced::GivenName));
    for odd in ["alice@", "a@b@C", r"al\ice@A.TEST"] {
        assert_eq!(ours(odd, None), Err(NotTraced::Form), "{odd}");
        assert_eq!(ours("alice", Some(odd)), Err(NotTraced::Form), "{odd}");
    }
}

#[test]
fn the_claim_of_another_issuer_is_nothing_without_a_line_for_that_issuer() {
    let token = VerifiedToken::for_test("alice@A.TEST", None, &[]);
    let token = token.by_another("https://idp.test", Some("alice@A.TEST"));
    assert_eq!(SubjectRules::default().sought(&token), Err(NotTraced::NoRule));
    assert_eq!(
        theirs("form = \"principal\"\nrealms = [\"A.TEST\"]", None),
        Err(NotTraced::NoClaim)
    );
}

#[test]
fn a_principal_of_another_issuer_is_of_a_listed_realm() {
    let line = "form = \"principal\"\nrealms = [\"A.TEST\", \"B.TEST\"]";
    for (claim, expected) in [
        ("alice@A.TEST", Ok(())),
        ("alice@B.TEST", Ok(())),
        ("alice@C.TEST", Err(NotTraced::Realm)),
        ("alice@a.test", Err(NotTraced::Realm)),
        ("alice", Err(NotTraced::Form)),
        ("", Err(NotTraced::Form)),
    ] {
        let found = theirs(line, Some(claim));
        assert_eq!(found.as_ref().map(drop).map_err(|error| *error), expected, "{claim}");
        if let Ok(sought) = found {
            assert_eq!(sought, Sought::Principal(Principal::parse(claim).unwrap()));
        }
    }
}

#[test]
fn another_issuer_speaks_for_people_and_for_others_only_where_its_line_names_them() {
    let line = "form = \"principal\"\nrealms = [\"A.TEST\"]";
    let others = [
        "HTTP/web.a.test@A.TEST",
        "host/ws01.a.test@A.TEST",
        "alice/admin@A.TEST",
        "WS01$@A.TEST",
        r"bob\@corp.test@A.TEST",
        r"alice\/admin@A.TEST",
        "krbtgt/A.TEST@A.TEST",
        "krbtgt@A.TEST",
        "kadmin/admin@A.TEST",
    ];
    for other in others {
        assert_eq!(theirs(line, Some(other)), Err(NotTraced::Name), "{other}");
    }
    let wider = r#"form = "principal"
        realms = ["A.TEST"]
        principals = ["*/admin@A.TEST", "*/*@A.TEST", "WS01$@A.TEST", "bob\\@corp.test@A.TEST", "krbtgt@A.TEST"]"#;
    for (other, named) in others
        .into_iter()
        .zip([true, true, true, true, true, false, false, false, false])
    {
        assert_eq!(theirs(wider, Some(other)).is_ok(), named, "{other}");
    }
    // What is named is named in place of people.
    assert_eq!(theirs(wider, Some("alice@A.TEST")), Err(NotTraced::Name));
    for (line, odd) in [
        ("form = \"account\"\nrealm = \"A.TEST\"", "WS01$"),
        ("form = \"account\"\nrealm = \"A.TEST\"", "krbtgt"),
    ] {
        assert_eq!(theirs(line, Some(odd)), Err(NotTraced::Name), "{odd}");
    }
}

#[test]
fn an_account_is_one_component_of_its_realm_and_the_kdc_may_only_change_its_case() {
    let line = "form = \"account\"\nrealm = \"A.TEST\"";
    let Ok(Sought::ByKdc(by)) = theirs(line, Some("Alice")) else {
        panic!()
    };
    assert_eq!(
        by.user(),
        &DelegatedUser::Principal(Principal::parse("Alice@A.TEST").unwrap())
    );
    let resolved = |text| by.resolved(&Principal::parse(text).unwrap());
    assert_eq!(resolved("alice@A.TEST").unwrap().as_str(), "alice@A.TEST");
    assert_eq!(resolved("bob@A.TEST"), Err(NotTraced::AnotherName));
    assert_eq!(resolved("alice@B.TEST"), Err(NotTraced::Realm));
    let long = "a".repeat(257);
    for odd in ["", "a@B.TEST", "a/admin", "a b", "a\\@B", "a\nb", &long] {
        assert_eq!(theirs(line, Some(odd)), Err(NotTraced::Form), "{odd:?}");
    }
}

#[test]
fn a_user_principal_name_is_asked_of_one_realm_and_may_lead_to_the_listed_ones() {
    let line = "form = \"upn\"\nrealm = \"A.TEST\"\nrealms = [\"B.TEST\"]";
    let Ok(Sought::ByKdc(by)) = theirs(line, Some("alice@corp.test")) else {
        panic!()
    };
    let name = EnterpriseName::parse("alice@corp.test", "A.TEST").unwrap();
    assert_eq!(by.user(), &DelegatedUser::Enterprise(name));
    let resolved = |text| {
        by.resolved(&Principal::parse(text).unwrap())
            .map(|found| found.to_string())
    };
    assert_eq!(resolved("al@B.TEST"), Ok("al@B.TEST".into()));
    assert_eq!(resolved("al@A.TEST"), Err(NotTraced::Realm));
    for other in [
        "HTTP/al.b.test@B.TEST",
        "AL$@B.TEST",
        r"al\@corp.test@B.TEST",
        "krbtgt@B.TEST",
    ] {
        assert_eq!(resolved(other), Err(NotTraced::Name), "{other}");
    }
    for odd in ["alice", "a@b@c", "a/b@c"] {
        assert_eq!(theirs(line, Some(odd)), Err(NotTraced::Form), "{odd}");
    }
}

#[test]
fn each_mistake_of_a_line_is_named() {
    let with = |issuer: &str, claim: &str, rest: &str| {
        rules(&format!("issuer = \"{issuer}\"\nclaim = \"{claim}\"\n{rest}")).unwrap_err()
    };
    let (idp, good) = ("https://idp.test", "form = \"principal\"\nrealms = [\"A.TEST\"]");
    for (found, start) in [
        (
            with("https://other.test", "c", good),
            "subject[0].issuer: \"https://other.test\" is no [[issuer]]",
        ),
        (with(idp, "", good), "subject[0].claim: \"\" is no claim"),
        (with(idp, "/a~2", good), "subject[0].claim: \"/a~2\" is no claim"),
        (with(idp, "c", "form = \"principal\""), "subject[0].realms: is missing"),
        (
            with(idp, "c", "form = \"upn\"\nrealms = [\"A\"]"),
            "subject[0].realm: is missing",
        ),
        (with(idp, "c", "form = \"account\""), "subject[0].realm: is missing"),
        (
            with(idp, "c", "form = \"account\"\nrealm = \"A\"\nrealms = [\"A\"]"),
            "subject[0].realms: is not for this form",
        ),
        (
            with(idp, "c", "form = \"principal\"\nrealm = \"A\"\nrealms = [\"A\"]"),
            "subject[0].realm: is not for this form",
        ),
        (with(idp, "c", "form = \"mail\""), "subject[0].form: "),
        (
            with(idp, "c", &format!("{good}\nprincipals = [\"a*@A.TEST\"]")),
            "subject[0].principals[0]: \"a*@A.TEST\": a * stands for",
        ),
        (
            with(idp, "c", &format!("{good}\nprincipals = [\"*/admin@B.TEST\"]")),
            "subject[0].principals[0]: B.TEST is none of the realms",
        ),
        (
            with(
                idp,
                "c",
                &format!("{good}\n[[subject]]\nissuer = \"{idp}\"\nclaim = \"d\"\n{good}"),
            ),
            "subject[1].issuer: has an earlier [[subject]]",
        ),
    ] {
        assert!(
            // A field that cannot be read is missing as well.
            found.len() <= 2 && found[0].starts_with(start),
            "{start}: {found:#?}"
        );
    }
}
