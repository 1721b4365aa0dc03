use serde_json::json;

use super::super::super::finding::Verdict;
use super::super::*;
use super::shipped::{ISSUER, MANAGER, PLUGIN, PUBLISHED, dump, ill, judged, judged_by, policy, with};

#[test]
fn a_configuration_that_is_not_what_the_policy_makes_is_named_field_by_field() {
    let mut policy = policy();
    policy.route[0].scopes_all = vec!["orders:write".to_owned()];
    policy.filter.underscores_rejected = !policy.filter.underscores_rejected;
    let findings = judged_by(&dump(), &policy);
    let found = findings.iter().find(|finding| finding.verdict == Verdict::Bad).unwrap();
    assert!(
        found
            .found
            .contains(r#"routes[0].scopes_all is ["orders:read"], the policy has ["orders:write"]"#),
        "{found:?}"
    );
    assert!(found.found.contains("underscores_rejected is "), "{found:?}");
    // What an Envoy starts with while the broker is away is no difference, and another issuer's filter is none of ours.
    let inline = Inline {
        keys: Some(PUBLISHED.into()),
        feed: vec!["cGFnZQ==".into()],
    };
    let own = serde_json::to_string(&render::filter_config(ISSUER, &self::policy(), inline)).unwrap();
    assert_eq!(
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(own))),
        []
    );
    let others = own.replace(ISSUER, "https://other.test").replace("/orders", "/others");
    assert_eq!(
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(others))),
        []
    );
    let unknown = own.replacen("\"issuers\"", "\"isuers\"", 1);
    let found = ill(&with(
        &format!("{MANAGER}{PLUGIN}/configuration/value"),
        &json!(unknown),
    ));
    assert!(
        found.iter().any(|(_, text)| text.contains("unknown field `isuers`")),
        "{found:?}"
    );
}

#[test]
fn keys_in_the_configuration_that_are_not_those_that_are_published_are_named() {
    let found_with = |keys: &str| {
        let inline = Inline {
            keys: Some(keys.into()),
            feed: Vec::new(),
        };
        let own = serde_json::to_string(&render::filter_config(ISSUER, &policy(), inline)).unwrap();
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(own)))
    };
    assert_eq!(found_with(PUBLISHED), []);
    for (keys, has, lacks) in [
        (r#"{"keys":[{"kid":"a","x":"1"}]}"#, "", "it lacks b: "),
        (
            r#"{"keys":[{"kid":"a","x":"1"},{"x":"2","kid":"b"},{"kid":"c","x":"3"}]}"#,
            "it has c, ",
            "",
        ),
        (
            r#"{"keys":[{"kid":"a","x":"1"},{"kid":"b","x":"3"}]}"#,
            "it has b, ",
            "it lacks b: ",
        ),
        (r#"{"keys":[]}"#, "", "it lacks a, b: "),
    ] {
        let found = found_with(keys);
        assert!(
            found.len() == 1 && found[0].0 == Verdict::Warning && found[0].1.starts_with("jwks.inline: it "),
            "{keys}: {found:?}"
        );
        assert!(found[0].1.contains(has) && found[0].1.contains(lacks), "{found:?}");
        assert_eq!(found[0].1.contains("it has"), !has.is_empty(), "{found:?}");
        assert_eq!(found[0].1.contains("it lacks"), !lacks.is_empty(), "{found:?}");
    }
}

#[test]
fn a_filter_that_does_not_read_the_brokers_feed_is_named() {
    let mut own = serde_json::to_value(render::filter_config(ISSUER, &policy(), Inline::default())).unwrap();
    own["issuers"][0].as_object_mut().unwrap().remove("feed");
    let findings = judged(&with(
        &format!("{MANAGER}{PLUGIN}/configuration/value"),
        &json!(own.to_string()),
    ));
    let found = findings.iter().find(|finding| finding.check == "revocations").unwrap();
    assert_eq!(found.verdict, Verdict::Bad, "{found:?}");
}
