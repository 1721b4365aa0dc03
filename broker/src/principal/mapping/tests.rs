use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn rule(pattern: &str, subject: &str) -> Rule {
    let pattern = NamePattern::parse(pattern).unwrap();
    let template = Template::parse(subject, &pattern).unwrap();
    Rule { pattern, template }
}

/// Name and source, or source and why not.
fn map(rules: &NameRules, text: &str) -> Result<(String, Source), (Source, Why)> {
    let principal = principal::canonical(text).unwrap();
    let local = principal.name().strip_suffix("-known");
    match rules.map(&principal, local) {
        Ok(Mapped { subject, by }) => Ok((subject.to_string(), by)),
        Err(NotMapped { by, why }) => Err((by, why)),
    }
}

fn given(name: &str, by: Source) -> Result<(String, Source), (Source, Why)> {
    Ok((name.to_owned(), by))
}

#[test]
fn by_default_everybody_is_called_by_the_full_principal() {
    let rules = NameRules::default();
    for name in [
        "alice@A.TEST",
        "alice/admin@A.TEST",
        r"a\@b\/c@A.TEST",
        "ærø@A.TEST",
        "Alice@a.test",
    ] {
        assert_eq!(map(&rules, name), given(name, Source::Unmatched));
    }
}

#[test]
fn a_well_known_name_is_nobodys_whatever_the_rules_say() {
    let named = NameRules {
        rules: vec![rule("WELLKNOWN/*@A.TEST", "{2}"), rule("*/*@A.TEST", "{1}-{2}")],
        auth_to_local: true,
        ..NameRules::default()
    };
    for rules in [NameRules::default(), named] {
        for name in [
            "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS",
            "WELLKNOWN/ANONYMOUS@A.TEST",
            "WELLKNOWN/ORG.A/x@A.TEST",
            r"W\ELLKNOWN/ANONYMOUS@A.TEST",
            "alice-known@WELLKNOWN:ANONYMOUS",
        ] {
            assert_eq!(map(&rules, name), Err((Source::WellKnown, Why::Nobody)), "{name}");
        }
        for name in [
            "WELLKNOWN-known@A.TEST",
            r"WELLKNOWN\/x-known@A.TEST",
            "wellknown/x-known@A.TEST",
        ] {
            assert_ne!(map(&rules, name), Err((Source::WellKnown, Why::Nobody)), "{name}");
        }
    }
}

#[test]
fn a_realm_is_left_out_only_where_it_is_listed_and_the_rest_is_a_plain_name() {
    let rules = NameRules {
        stripped_realm: Some("A.TEST".into()),
        ..NameRules::default()
    };
    assert_eq!(map(&rules, "alice@A.TEST"), given("alice", Source::StripRealm));
    assert_eq!(map(&rules, "Alice@A.TEST"), given("Alice", Source::StripRealm));
    // Two realms with the same short name are two people, and what is no plain name stays whole.
    let long = format!("{}@A.TEST", "a".repeat(256));
    for name in [
        "alice@B.TEST",
        "alice@a.test",
        "alice/admin@A.TEST",
        r"alice\/admin@A.TEST",
        r"alice\@B.TEST@A.TEST",
        r"alice\\@A.TEST",
        "al ice@A.TEST",
        "ærø@A.TEST",
        "alice\u{202e}@A.TEST",
        &long,
    ] {
        assert_eq!(map(&rules, name), given(name, Source::Unmatched));
    }
}

#[test]
fn names_of_several_components_are_refused_where_the_configuration_says_so() {
    let rules = NameRules {
        rules: vec![rule("*/admin@A.TEST", "{1}-admin")],
        instances: Instances::Refuse,
        ..NameRules::default()
    };
    assert_eq!(map(&rules, "alice@A.TEST"), given("alice@A.TEST", Source::Unmatched));
    assert_eq!(map(&rules, "alice/admin@A.TEST"), given("alice-admin", Source::Rule(0)));
    assert_eq!(
        map(&rules, r"alice\/x@A.TEST"),
        given(r"alice\/x@A.TEST", Source::Unmatched)
    );
    for name in [
        "alice/root@A.TEST",
        "HTTP/host@A.TEST",
        "alice/admin@B.TEST",
        "alice/admin/x@A.TEST",
    ] {
        assert_eq!(map(&rules, name), Err((Source::Instances, Why::Said)), "{name}");
    }
}

#[test]
fn whom_nothing_names_is_refused_where_the_configuration_says_so() {
    let rules = NameRules {
        rules: vec![rule("svc/*@B.TEST", "svc-{2}"), rule("bob@B.TEST", "bob-of-b")],
        stripped_realm: Some("A.TEST".into()),
        unmatched: Unmatched::Refuse,
        ..NameRules::default()
    };
    assert_eq!(map(&rules, "alice@A.TEST"), given("alice", Source::StripRealm));
    assert_eq!(map(&rules, "svc/robot@B.TEST"), given("svc-robot", Source::Rule(0)));
    assert_eq!(map(&rules, "bob@B.TEST"), given("bob-of-b", Source::Rule(1)));
    for name in [
        "alice@B.TEST",
        "alice/admin@A.TEST",
        "al ice@A.TEST",
        "svc/robot@A.TEST",
        "Bob@B.TEST",
    ] {
        assert_eq!(map(&rules, name), Err((Source::Unmatched, Why::Said)), "{name}");
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_what_it_cannot_name_is_refused() {
    let rules = NameRules {
        rules: vec![
            rule("alice/admin@A.TEST", "root"),
            rule("*/admin@A.TEST", "{1}.{2}"),
            rule("*/*/x@A.TEST", "{2}--{1}"),
        ],
        ..NameRules::default()
    };
    assert_eq!(map(&rules, "alice/admin@A.TEST"), given("root", Source::Rule(0)));
    assert_eq!(map(&rules, "bob/admin@A.TEST"), given("bob.admin", Source::Rule(1)));
    assert_eq!(map(&rules, "a/b-c/x@A.TEST"), Err((Source::Rule(2), Why::Ambiguous)));
    assert_eq!(map(&rules, "a-b/c/x@A.TEST"), given("c--a-b", Source::Rule(2)));
    for (name, why) in [
        (r"b\/ob/admin@A.TEST", Why::Characters),
        (r"b\@ob/admin@A.TEST", Why::Characters),
        ("bøb/admin@A.TEST", Why::Characters),
        ("b ob/admin@A.TEST", Why::Characters),
        (&*format!("{}/admin@A.TEST", "b".repeat(250)), Why::Length),
    ] {
        assert_eq!(map(&rules, name), Err((Source::Rule(1), why)), "{name}");
    }
}

#[test]
fn a_name_belongs_to_the_first_that_could_give_it() {
    let rules = NameRules {
        rules: vec![rule("*/admin@A.TEST", "{1}-admin"), rule("*@B.TEST", "b-{1}")],
        stripped_realm: Some("A.TEST".into()),
        ..NameRules::default()
    };
    // Whoever may choose the name of an account must not become an administrator, or a user of the other realm.
    assert_eq!(map(&rules, "bob/admin@A.TEST"), given("bob-admin", Source::Rule(0)));
    assert_eq!(
        map(&rules, "bob-admin@A.TEST"),
        given("bob-admin@A.TEST", Source::Unmatched)
    );
    assert_eq!(map(&rules, "b-bob@A.TEST"), given("b-bob@A.TEST", Source::Unmatched));
    assert_eq!(map(&rules, "x-admin@B.TEST"), Err((Source::Rule(1), Why::Reserved(0))));
    assert_eq!(map(&rules, "bob@B.TEST"), given("b-bob", Source::Rule(1)));
    assert_eq!(map(&rules, "-admin@A.TEST"), given("-admin", Source::StripRealm));
    assert_eq!(map(&rules, "bob@A.TEST"), given("bob", Source::StripRealm));
}

#[test]
fn where_krb5_conf_decides_it_decides_about_all_whom_no_rule_names() {
    let rules = NameRules {
        rules: vec![rule("*/admin@A.TEST", "{1}-admin")],
        auth_to_local: true,
        stripped_realm: Some("A.TEST".into()),
        ..NameRules::default()
    };
    assert!(rules.asks_local_names());
    assert_eq!(map(&rules, "alice-known@A.TEST"), given("alice", Source::AuthToLocal));
    assert_eq!(
        map(&rules, "alice@A.TEST"),
        Err((Source::AuthToLocal, Why::NoLocalName))
    );
    assert_eq!(map(&rules, "bob/admin@A.TEST"), given("bob-admin", Source::Rule(0)));
    assert_eq!(
        map(&rules, "bob-admin-known@A.TEST"),
        Err((Source::AuthToLocal, Why::Reserved(0)))
    );
    assert_eq!(
        map(&rules, "bob/x-known@A.TEST"),
        Err((Source::AuthToLocal, Why::Characters))
    );
    assert_eq!(map(&rules, "-known@A.TEST"), Err((Source::AuthToLocal, Why::Length)));
}

#[test]
fn what_is_no_template_is_refused() {
    let pattern = NamePattern::parse(r"*/a\@b/*@A.TEST").unwrap();
    for (text, error) in [
        ("", TemplateError::Length),
        ("{1}{3}", TemplateError::SideBySide),
        ("{1}-{3}-{1}", TemplateError::Twice(1)),
        ("{1}-x", TemplateError::LeftOut(3)),
        ("{3}", TemplateError::LeftOut(1)),
        ("{1}-{2}-{3}", TemplateError::Component(2)),
        ("{1}-{4}-{3}", TemplateError::NoComponent(4)),
        ("{0}", TemplateError::Brace),
        ("{+1}", TemplateError::Brace),
        ("{01}", TemplateError::Brace),
        ("{}", TemplateError::Brace),
        ("{1", TemplateError::Brace),
        ("1}", TemplateError::Brace),
        ("{1} {3}", TemplateError::Character(' ')),
        ("{1}/{3}", TemplateError::Character('/')),
        ("{1}\\{3}", TemplateError::Character('\\')),
        ("{1}ø{3}", TemplateError::Character('ø')),
        ("{1}\n{3}", TemplateError::Character('\n')),
    ] {
        assert_eq!(Template::parse(text, &pattern), Err(error), "{text:?}");
    }
    assert_eq!(Template::parse(&"a".repeat(256), &pattern), Err(TemplateError::Length));
    for text in ["*x@A.TEST", r"\*@A.TEST", "x@*", "x@A*"] {
        assert_eq!(NamePattern::parse(text), Err(PatternError::Star), "{text}");
    }
    assert_eq!(NamePattern::parse("a/b/c/d/e/f/g/h/i@R"), Err(PatternError::TooMany));
}

/// A component of letters that are likely to collide, of separators, and of anything else.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab-]{1,4}",
        1 => "[ab@/\\\\ -]{1,4}",
        1 => "[^\\p{Cc}]{1,4}",
    ]
}

fn principal() -> impl Strategy<Value = Principal> {
    let components = proptest::collection::vec(component(), 1..4);
    (components, prop_oneof![Just("A.TEST"), Just("B.TEST"), Just("C.TEST")]).prop_filter_map(
        "no principal",
        |(components, realm)| {
            let components: Vec<&str> = components.iter().map(String::as_str).collect();
            principal::from_components(&components, realm).ok()
        },
    )
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let component = prop_oneof![3 => Just("*".to_owned()), 1 => "[ab]{1,2}"];
    let components = proptest::collection::vec(component, 1..4);
    let text = || "[ab-]{0,2}";
    let texts = proptest::collection::vec(text(), 4);
    let realm = prop_oneof![Just("A.TEST"), Just("B.TEST")];
    (components, texts, realm, any::<bool>()).prop_filter_map("no rule", |(components, texts, realm, back)| {
        let pattern = NamePattern::parse(&format!("{}@{realm}", components.join("/"))).ok()?;
        let mut stars: Vec<usize> = (1..)
            .zip(&components)
            .filter(|(_, text)| *text == "*")
            .map(|(at, _)| at)
            .collect();
        if back {
            stars.reverse();
        }
        let mut subject = texts[0].clone();
        for (star, text) in stars.iter().zip(&texts[1..]) {
            subject.push_str(&format!("{{{star}}}{text}"));
        }
        let template = Template::parse(&subject, &pattern).ok()?;
        Some(Rule { pattern, template })
    })
}

fn any_rules() -> impl Strategy<Value = NameRules> {
    let rules = proptest::collection::vec(any_rule(), 0..5);
    let stripped = prop_oneof![Just(None), Just(Some("A.TEST".to_owned()))];
    (rules, stripped, any::<(bool, bool)>()).prop_map(|(rules, stripped_realm, (instances, unmatched))| NameRules {
        rules,
        stripped_realm,
        auth_to_local: false,
        instances: if instances { Instances::Keep } else { Instances::Refuse },
        unmatched: if unmatched { Unmatched::Keep } else { Unmatched::Refuse },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Rules that `config/names.rs` would refuse are among these: a configuration that slips through makes nobody somebody
    /// else either.
    #[test]
    fn whatever_the_rules_no_two_principals_have_one_name(
        rules in any_rules(),
        people in proptest::collection::vec(principal(), 1..200),
    ) {
        let mut known: BTreeMap<String, Principal> = BTreeMap::new();
        for person in people {
            let Ok(Mapped { subject, .. }) = rules.map(&person, None) else { continue };
            let other = known.entry(subject.to_string()).or_insert_with(|| person.clone());
            prop_assert_eq!(&*other, &person, "{} under {:?}", subject, rules);
        }
    }

    #[test]
    fn a_subject_is_a_whole_principal_or_a_name_that_is_none(
        rules in any_rules(),
        person in principal(),
        local in proptest::option::of(".{0,6}"),
        auth_to_local: bool,
    ) {
        let rules = NameRules { auth_to_local, ..rules };
        if let Ok(Mapped { subject, by }) = rules.map(&person, local.as_deref()) {
            let subject = subject.as_str();
            prop_assert!(!subject.is_empty() && !subject.chars().any(char::is_control));
            if by == Source::Unmatched {
                prop_assert_eq!(subject, person.as_str());
            } else {
                prop_assert!(subject.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(Principal::parse(subject).is_err() && !subject.contains(['@', '/', '\\']));
            }
        }
    }

    #[test]
    fn a_template_knows_the_names_that_it_gives(rule in any_rule(), person in principal()) {
        if let Ok(name) = rule.template.fill(&principal::parts(&person)) {
            prop_assert!(rule.template.could_give(&name), "{} {:?}", name, rule.template);
        }
    }

    #[test]
    fn the_components_can_be_read_back_from_a_name(
        rule in any_rule(),
        texts in proptest::collection::vec(proptest::collection::vec("[a-]{1,3}", 3), 2..200),
    ) {
        let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for mut components in texts {
            components.truncate(rule.pattern.width());
            if rule.pattern.matches(&components, rule.pattern.realm()) && let Ok(name) = rule.template.fill(&components) {
                let other = known.entry(name.clone()).or_insert_with(|| components.clone());
                prop_assert_eq!(&*other, &components, "{} {:?}", name, rule);
            }
        }
    }

    #[test]
    fn a_template_that_covers_another_could_give_all_its_names(first in any_rule(), second in any_rule(), person in principal()) {
        if first.template.covers(&second.template) && let Ok(name) = second.template.fill(&principal::parts(&person)) {
            prop_assert!(first.template.could_give(&name), "{}", name);
        }
    }

    #[test]
    fn no_text_panics(pattern in ".{0,20}", subject in ".{0,20}") {
        if let Ok(pattern) = NamePattern::parse(&pattern) {
            drop(Template::parse(&subject, &pattern));
        }
        let pattern = NamePattern::parse("*/*@A.TEST").unwrap();
        drop(Template::parse(&subject, &pattern));
    }
}
