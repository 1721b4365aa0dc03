//! The filter's configuration: every mistake is named, all at once, by its field.

use kerbridge_gate::Config;

use crate::world::CONFIG;

fn fields(text: &str) -> Vec<String> {
    match Config::parse(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.into_iter().map(|problem| problem.field).collect(),
    }
}

fn with(from: &str, to: &str) -> String {
    assert!(CONFIG.contains(from), "{from}");
    CONFIG.replacen(from, to, 1)
}

#[test]
fn the_reference_configuration_is_good() {
    assert!(fields(CONFIG).is_empty());
}

#[test]
fn what_is_not_json_of_a_string_value_says_so() {
    for text in ["", "x", "[]", "\u{a}\u{10}protobuf", "null"] {
        let errors = Config::parse(text.as_bytes()).unwrap_err();
        assert!(errors.to_string().contains("google.protobuf.StringValue"), "{errors}");
    }
    assert_eq!(fields(&format!("{CONFIG} x")), ["configuration"]);
}

#[test]
fn an_unknown_or_mistyped_field_is_named_with_its_path() {
    for (from, to, field) in [
        ("\"forward\": true", "\"forwards\": true", "routes[3].forwards"),
        ("\"forward\": true", "\"forward\": \"yes\"", "routes[3].forward"),
        ("[\"bearer\"]", "[\"basic\"]", "routes[3].accept[0]"),
        (
            "\"cluster\": \"broker\"}}",
            "\"cluster\": \"broker\", \"poll\": \"0s\"}}",
            "issuers[0].jwks.poll",
        ),
        (
            "\"issuers\": [{",
            "\"issuers\": [{\"algorithms\": [\"HS256\"], ",
            "issuers[0].algorithms[0]",
        ),
        ("\"deliver\": \"header\"", "\"deliver\": \"query\"", "routes[0].deliver"),
        (
            "HTTP/legacy.test@LAB.TEST",
            "legacy.test",
            "routes[6].upstream.kerberos.spn",
        ),
        (
            "HTTP/legacy.test@LAB.TEST",
            "krbtgt/LAB.TEST@LAB.TEST",
            "routes[6].upstream.kerberos.spn",
        ),
        (
            "{\"kerberos\": {\"spn\"",
            "{\"ntlm\": {\"spn\"",
            "routes[6].upstream.ntlm",
        ),
        (
            "{\"spn\": \"HTTP/legacy.test@LAB.TEST\"}",
            "{}",
            "routes[6].upstream.kerberos",
        ),
    ] {
        assert_eq!(fields(&with(from, to)), [field]);
    }
}

#[test]
fn each_mistake_is_named_by_its_field() {
    for (from, to, field) in [
        (
            "\"issuers\": [{\"issuer\": \"https://broker.test\"",
            "\"issuers\": [{\"issuer\": \"\"",
            "issuers[0].issuer",
        ),
        (
            "\"issuers\": [{",
            "\"issuers\": [{\"clock_skew_seconds\": 301, ",
            "issuers[0].clock_skew_seconds",
        ),
        (
            "\"issuers\": [{",
            "\"issuers\": [{\"algorithms\": [], ",
            "issuers[0].algorithms",
        ),
        (
            "\"cluster\": \"broker\"}}",
            "\"cluster\": \"broker\", \"path\": \"x\"}}",
            "issuers[0].jwks.path",
        ),
        (
            "\"cluster\": \"broker\"}}",
            "\"cluster\": \"broker\", \"poll\": \"5m\"}}",
            "issuers[0].jwks.max_staleness",
        ),
        (
            "\"cluster\": \"broker\"}}",
            "\"cluster\": \"broker\", \"inline\": \"{}\"}}",
            "issuers[0].jwks.inline",
        ),
        (
            "\"broker\": {\"cluster\": \"broker\"",
            "\"broker\": {\"timeout\": \"2m\", \"cluster\": \"broker\"",
            "broker.timeout",
        ),
        (
            "\"broker\": {\"cluster\": \"broker\"",
            "\"broker\": {\"delegation\": {\"cluster\": \"\"}, \"cluster\": \"broker\"",
            "broker.delegation.cluster",
        ),
        (
            "\"broker\": {\"cluster\": \"broker\"",
            "\"broker\": {\"delegation\": {\"cluster\": \"b\", \"timeout\": \"2m\"}, \"cluster\": \"broker\"",
            "broker.delegation.timeout",
        ),
        (
            "\"issuer\": \"https://broker.test\"},",
            "\"issuer\": \"https://other.test\"},",
            "broker.issuer",
        ),
        ("\"name\": \"orders\"", "\"name\": \"my orders\"", "routes[0].name"),
        ("\"host\": \"api.test\"", "\"host\": \"api.test:443\"", "routes[0].host"),
        (
            "\"path_prefix\": \"/orders\"",
            "\"path_prefix\": \"/orders/../x\"",
            "routes[0].path_prefix",
        ),
        (
            "\"path_prefix\": \"/orders\"",
            "\"path_prefix\": \"/orders\", \"path\": \"/orders\"",
            "routes[0].path_prefix",
        ),
        (
            "\"accept\": [\"negotiate\", \"bearer\"]",
            "\"accept\": []",
            "routes[0].accept",
        ),
        (
            "\"audience\": \"orders\", \"scopes_all\"",
            "\"scopes_all\"",
            "routes[0].audience",
        ),
        (
            "\"scopes_all\": [\"orders:read\"]",
            "\"scopes_all\": [\"a b\"]",
            "routes[0].scopes_all[0]",
        ),
        (
            "\"forward\": true",
            "\"forward\": true, \"methods\": [\"get\"]",
            "routes[3].methods[0]",
        ),
        (
            "\"forward\": true",
            "\"forward\": true, \"deliver\": \"header\"",
            "routes[3].deliver",
        ),
        ("\"negotiate\", \"cookie\"", "\"negotiate\"", "routes[1].deliver"),
        (
            "\"access\": \"open\"",
            "\"access\": \"open\", \"audience\": \"orders\"",
            "routes[5].audience",
        ),
        ("\"path\": \"/health\"", "\"path\": \"/lab/health\"", "routes[5]"),
        (
            "\"upstream\": {",
            "\"forward\": true, \"upstream\": {",
            "routes[6].forward",
        ),
        (
            "\"upstream\": {",
            "\"dry_run\": true, \"upstream\": {",
            "routes[6].dry_run",
        ),
        (
            "\"upstream\": {",
            "\"cors_preflight\": true, \"upstream\": {",
            "routes[6].cors_preflight",
        ),
        (
            "\"upstream\": {",
            "\"access\": \"optional\", \"upstream\": {",
            "routes[6].access",
        ),
        (
            "\"audience\": \"orders\", \"upstream\": {",
            "\"upstream\": {",
            "routes[6].audience",
        ),
        (
            "\"access\": \"open\"",
            "\"access\": \"open\", \"upstream\": {\"kerberos\": {\"spn\": \"HTTP/a@R\"}}",
            "routes[5].upstream",
        ),
        (
            "\"broker\": {\"cluster\": \"broker\", \"issuer\": \"https://broker.test\"},",
            "",
            "routes[6].upstream",
        ),
    ] {
        let found = fields(&with(from, to));
        assert!(
            found.iter().any(|name| name == field),
            "{to}: expected {field}, got {found:?}"
        );
    }
    for (name, field) in [
        ("authorization", "identity_headers.subject"),
        ("x-forwarded-for", "identity_headers.subject"),
    ] {
        let text = with(
            "\"broker\": {",
            &format!("\"identity_headers\": {{\"subject\": \"{name}\"}}, \"broker\": {{"),
        );
        assert_eq!(fields(&text), [field]);
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = CONFIG.replace("\"host\": \"api.test\"", "\"host\": \"http://api.test\"");
    assert_eq!(fields(&text).len(), 7);
}

#[test]
fn no_header_that_a_client_sends_has_a_name_that_envoy_removes() {
    let with = |more: &str| CONFIG.replacen('{', &format!("{{{more}, "), 1);
    let explain = |header: &str| {
        with(&format!(
            r#""explain": {{"header": "{header}", "sources": ["127.0.0.0/8"]}}"#
        ))
    };
    let token = |header: &str| with(&format!(r#""token_header": {{"name": "{header}"}}"#));
    assert_eq!(fields(&explain("x-explain-kerbridge")), [""; 0]);
    assert_eq!(fields(&explain("x-kerbridge-explain")), ["explain.header"]);
    assert_eq!(
        fields(&explain("x-kerbridge-subject")),
        ["explain.header", "explain.header"]
    );
    assert_eq!(fields(&token("x-api-token")), [""; 0]);
    assert_eq!(fields(&token("x-kerbridge-credential")), ["token_header.name"]);
}

#[test]
fn a_claim_takes_no_header_of_another_field_and_routes_share_those_of_claims() {
    let more = r#"{"token_header": {"name": "x-api-token"}, "identity_headers": {"groups": "x-groups"},
        "explain": {"header": "x-explain", "sources": ["127.0.0.0/8"]}, "#;
    let audience = "\"audience\": \"orders\"";
    let with_claims_in = |header: &str| {
        let claim = format!(r#"{audience}, "claim_to_headers": [{{"header_name": "{header}", "claim_name": "aud"}}]"#);
        CONFIG.replacen('{', more, 1).replace(audience, &claim)
    };
    assert_eq!(fields(&with_claims_in("x-tenant")), [""; 0]);
    for header in [
        "x-kerbridge-subject",
        "x-kerbridge-issuer",
        "x-kerbridge-scope",
        "x-groups",
        "x-explain",
        "x-api-token",
    ] {
        let routes: Vec<String> = [0, 2, 3, 4, 6]
            .map(|route| format!("routes[{route}].claim_to_headers[0].header_name"))
            .into();
        assert_eq!(fields(&with_claims_in(header)), routes, "{header}");
    }
}

#[test]
fn what_is_expected_is_said_in_words_and_keys_are_shown_as_they_are_written() {
    let said = |from: &str, to: &str| {
        let text = CONFIG.replacen(from, to, 1);
        assert_ne!(text, CONFIG, "{from}");
        Config::parse(text.as_bytes()).unwrap_err().to_string()
    };
    let problem = said("\"jwks\": {", "\"clock_skew_seconds\": -1, \"jwks\": {");
    assert!(
        problem.contains("expected a whole number from 0 to 4,294,967,295"),
        "{problem}"
    );
    let problem = said("\"jwks\": {", "\"jwks\": {\"inline\": {\"keys\": []}, ");
    assert!(
        problem.contains("jwks.inline") && problem.contains(r#"as JSON in a string, such as '{"keys": [...]}'"#),
        "{problem}"
    );
}
