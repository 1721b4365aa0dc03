//! `kerbridge policy explain`, `test` and `check` as a user meets them.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::fixture::{Folder, text};

const POLICY: &str = r#"[[audience]]
name = "orders"
[[audience]]
name = "payroll"
ttl = "5m"
channel_bound = true

[[grant]]
principals = ["*@A.TEST"]
audience = "orders"
scopes = ["orders:read"]

[[grant]]
groups = ["clerks"]
audience = "orders"
scopes = ["orders:write"]
ttl = "2m"

[[grant]]
principals = ["*/admin@A.TEST"]
audience = "payroll"
scopes = ["pay"]
enctypes = ["aes256-cts-hmac-sha1-96"]

[[route]]
path_prefix = "/"
accept = ["negotiate", "bearer"]
audience = "orders"
"#;

/// A folder in which nothing is left but the configuration, with this policy.
fn folder(policy: &str) -> Folder {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    for name in ["http.keytab", "made/kek"] {
        fs::remove_file(folder.path(name)).unwrap();
    }
    let config = folder.path("made/kerbridge.toml");
    let more = "\n[kerberos.channel_bindings]\nmode = \"allow\"\n\n[groups]\nsource = \"pac\"\n\
                sid_names = { \"S-1-5-21-1-2-3-1104\" = \"clerks\", \"S-1-5-21-1-2-3-1105\" = \"clerk\" }\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + more).unwrap();
    fs::write(folder.path("made/policy.toml"), policy).unwrap();
    folder
}

fn policy(folder: &Folder, command: &str, arguments: &[&str]) -> Output {
    folder.run(&[&["policy", command, "--config", "made/kerbridge.toml"], arguments].concat())
}

#[test]
fn explain_says_what_each_grant_of_the_audience_gives_or_why_it_does_not() {
    let folder = folder(POLICY);
    let output = policy(&folder, "explain", &["alice@A.TEST", "orders"]);
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST gets \"orders\": orders:read for 15m\n\
         \x20 grant[0] (policy.toml:8) gives orders:read\n\
         \x20 grant[1] (policy.toml:13) is for groups, and they are in none of them\n\
         \x20 one other grant is about another audience\n",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
    let clerk = ["alice@A.TEST", "orders", "--group", "clerks", "--output", "json"];
    let output = policy(&folder, "explain", &clerk);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answer["scopes"], &answer["ttl_seconds"], &answer["lines"][1]),
        (
            &json!(["orders:read", "orders:write"]),
            &json!(120),
            &json!({ "field": "grant[1]", "place": "policy.toml:13", "verdict": "gives", "scopes": ["orders:write"],
                     "detail": "gives orders:write" })
        )
    );
    assert_eq!(answer["certificate_bound"], json!(false));
    assert!(!folder.path("made/state").exists(), "something was made");
}

#[test]
fn explain_says_that_a_token_is_bound_to_a_certificate() {
    let folder = folder(&POLICY.replacen("name = \"orders\"", "name = \"orders\"\ncertificate_bound = true", 1));
    let output = policy(&folder, "explain", &["alice@A.TEST", "orders"]);
    let said = text(&output.stdout);
    assert!(
        said.contains("\n  bound to the client's certificate: who shows none gets none\n"),
        "{said}{}",
        text(&output.stderr)
    );
}

#[test]
fn explain_says_no_with_the_reason_that_a_client_would_get_and_exit_code_1() {
    let folder = folder(POLICY);
    for (arguments, reason, decided) in [
        (
            &["alice@A.TEST", "payroll"][..],
            "denied_by_policy",
            "does not name this principal",
        ),
        (
            &["alice/admin@A.TEST", "payroll"],
            "channel_binding_missing",
            "bound to the channel",
        ),
        (
            &[
                "alice/admin@A.TEST",
                "payroll",
                "--channel-bound",
                "--enctype",
                "aes128-cts-hmac-sha1-96",
            ],
            "denied_by_policy",
            "another encryption type than aes128",
        ),
        (&["alice@A.TEST", "nothing"], "invalid_target", "not in the policy"),
        (
            &["alice@B.TEST", "orders"],
            "realm_not_allowed",
            "kerberos.realms: \"B.TEST\"",
        ),
        (
            &["alice@A.TEST", "orders", "--scope", "orders:write"],
            "invalid_scope",
            "no grant gives",
        ),
    ] {
        let output = policy(&folder, "explain", arguments);
        let printed = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
        assert!(
            printed.contains(reason) && printed.contains(decided),
            "{arguments:?}: {printed}"
        );
    }
    let bound = ["alice/admin@A.TEST", "payroll", "--channel-bound"];
    assert_eq!(policy(&folder, "explain", &bound).status.code(), Some(0));
    for wrong in [
        &["alice", "orders"][..],
        &["alice@A.TEST"],
        &["alice@A.TEST", "orders", "--enctype", "rot13"],
        &["alice@A.TEST", "orders", "--group", ""],
        &["alice@A.TEST", "orders", "--scope", "a  b"],
    ] {
        assert_eq!(policy(&folder, "explain", wrong).status.code(), Some(64), "{wrong:?}");
    }
}

const CASES: &str = r#"
[[case]]
name = "everybody reads"
principal = "alice@A.TEST"
audience = "orders"
gets = ["orders:read"]
[[case]]
principal = "alice@A.TEST"
groups = ["clerks"]
audience = "orders"
asks = ["orders:write"]
gets = ["orders:write"]
ttl = "2m"
[[case]]
principal = "alice@A.TEST"
audience = "payroll"
refused = "denied_by_policy"
[[case]]
principal = "alice/admin@A.TEST"
channel_bound = true
enctype = "aes256-cts-hmac-sha1-96"
audience = "payroll"
gets = ["pay"]
"#;

#[test]
fn a_table_of_cases_passes_or_says_which_went_otherwise_and_why() {
    let folder = folder(POLICY);
    fs::write(folder.path("cases.toml"), CASES).unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    assert!(
        printed.starts_with("ok      everybody reads: orders:read for 15m\n"),
        "{printed}"
    );
    assert!(printed.ends_with("4 cases, 0 failed\n"), "{printed}");
    // The policy changes, and nobody thought of the cases.
    fs::write(
        folder.path("made/policy.toml"),
        POLICY.replace("[\"clerks\"]", "[\"clerk\"]"),
    )
    .unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("FAILED  case[1] alice@A.TEST orders: expected orders:write for 2m; got invalid_scope"),
        "{printed}"
    );
    assert!(
        printed.contains("is for groups, and they are in none of them"),
        "{printed}"
    );
    assert!(printed.ends_with("4 cases, 1 failed\n"), "{printed}");
    let output = policy(&folder, "test", &["cases.toml", "--output", "json"]);
    let verdicts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let passed: Vec<bool> = verdicts
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["passed"] == true)
        .collect();
    assert_eq!(passed, [true, false, true, true]);
}

#[test]
fn a_file_of_cases_that_cannot_be_meant_is_a_wrong_command_line_with_every_mistake_named() {
    let folder = folder(POLICY);
    let bad = r#"
        [[case]]
        principal = "alice"
        audience = "orders"
        gets = ["a b"]
        refused = "no"
        [[case]]
        principle = "alice@A.TEST"
        enctype = "rot13"
        asks = []
        refused = "because"
        "#;
    fs::write(folder.path("cases.toml"), bad).unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for start in [
        "case[0].principal: \"alice\": a full principal ends in @REALM",
        "case[0].refused: stands beside gets",
        "case[1].principle: unknown field",
        "case[1].principal: is missing",
        "case[1].audience: is missing",
        "case[1].enctype: no encryption type",
        "case[1].asks: is empty",
        "case[1].refused: \"because\" is no reason",
    ] {
        assert!(said.contains(start), "{start}: {said}");
    }
    for (name, contents) in [("empty.toml", ""), ("broken.toml", "[[case]")] {
        fs::write(folder.path(name), contents).unwrap();
        assert_eq!(policy(&folder, "test", &[name]).status.code(), Some(64), "{name}");
    }
    assert_eq!(policy(&folder, "test", &["absent.toml"]).status.code(), Some(64));
    fs::write(folder.path("made/policy.toml"), "").unwrap();
    assert_eq!(policy(&folder, "test", &["cases.toml"]).status.code(), Some(78));
}

#[test]
fn what_is_of_no_use_is_a_warning_of_policy_check_and_with_strict_a_problem() {
    let useless = format!("{POLICY}\n[[grant]]\nprincipals = [\"alice@A.TEST\"]\naudience = \"orders\"\n");
    let folder = folder(&useless);
    let output = policy(&folder, "check", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(
        said,
        "kerbridge: warning: policy.toml: grant[3]: gives nothing that grant[0] does not give to the same, so that it never \
         matters; remove it, or correct it\n"
    );
    let output = policy(&folder, "check", &["--strict", "--output", "json"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(problems[0]["field"], "policy.toml: grant[3]");
    fs::write(folder.path("made/policy.toml"), POLICY).unwrap();
    let output = policy(&folder, "check", &["--strict"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), ""),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn revocations_that_are_switched_off_are_said_aloud_and_refused_by_nobody() {
    let folder = folder(&format!("{POLICY}\n[filter]\nfollow_revocations = false\n"));
    for more in [&[][..], &["--strict"]] {
        let output = policy(&folder, "check", more);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let expected = "kerbridge: warning: policy.toml: filter.follow_revocations: REVOCATIONS ARE OFF: ";
        assert!(said.starts_with(expected), "{said}");
    }
    let output = policy(&folder, "render", &["--format", "json"]);
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rendered["issuers"][0]["feed"], Value::Null);
    assert_eq!(rendered["issuers"][0]["jwks"]["path"], "/.well-known/jwks.json");
}

#[test]
fn a_demand_for_bound_tickets_where_nobody_looks_at_bindings_is_a_problem() {
    let folder = folder(POLICY);
    let config = folder.path("made/kerbridge.toml");
    let off = fs::read_to_string(&config)
        .unwrap()
        .replace("mode = \"allow\"", "mode = \"off\"");
    fs::write(&config, off).unwrap();
    let output = policy(&folder, "check", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("policy.toml: audience[1].channel_bound: kerberos.channel_bindings.mode is off"),
        "{said}"
    );
    assert!(said.contains("1 problem in"), "{said}");
}

const TRADES: &str = r#"[[audience]]
name = "web"
certificate_bound = true
[[audience]]
name = "orders"
[[audience]]
name = "billing"
ttl = "5m"

[[grant]]
principals = ["*@A.TEST"]
audience = "web"
scopes = ["orders:read", "billing:read"]

[[grant]]
groups = ["clerks"]
audience = "orders"
scopes = ["orders:write", "billing:pay"]

[[exchange]]
clients = ["gateway.test"]
from = "web"
to = "orders"
scopes = ["orders:read", "billing:read"]

[[exchange]]
clients = ["orders.test", "batch.test"]
from = "orders"
to = "billing"
scopes = ["billing:read", "billing:pay"]

[[route]]
path_prefix = "/"
accept = ["bearer"]
audience = "billing"
scopes_all = ["billing:read"]
"#;

#[test]
fn explain_says_by_which_trades_an_audience_can_be_had_from_which_others_by_whom_and_how_much_of_it() {
    let folder = folder(TRADES);
    let output = policy(&folder, "explain", &["alice@A.TEST", "billing"]);
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST does not get \"billing\": denied_by_policy: no grant names this principal for this audience; a [[grant]] \
         for it would have to name them, or a group of theirs\n\
         \x20 2 other grants are about other audiences\n\
         \x20 exchange[1] (policy.toml:26) trades a token of \"orders\" for it, by batch.test, orders.test: billing:read for 5m \
         at most\n\
         \x20 exchange[0] (policy.toml:20) trades a token of \"web\" for one of \"orders\", by gateway.test: billing:read \
         orders:read for 15m at most; it is bound to a certificate, whose holder alone can trade it\n",
        "{}",
        text(&output.stderr)
    );
    // What a ticket gets is the question, where no trade is named.
    assert_eq!(output.status.code(), Some(1));
    let output = policy(&folder, "explain", &["alice@A.TEST", "billing", "--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer["trades"][0],
        json!({ "field": "exchange[1]", "place": "policy.toml:26", "from": "orders", "to": "billing",
                "clients": ["batch.test", "orders.test"], "verdict": "leaves", "scopes": ["billing:read"], "ttl_seconds": 300,
                "issuers": [],
                "detail": "trades a token of \"orders\" for it, by batch.test, orders.test: billing:read for 5m at most" })
    );
    assert_eq!(answer["trades"].as_array().unwrap().len(), 2);
    // Who has no ticket that is taken has nothing to trade.
    let output = policy(&folder, "explain", &["alice@B.TEST", "billing", "--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answer["reason"], &answer["trades"]),
        (&json!("realm_not_allowed"), &json!([]))
    );
}

#[test]
fn explain_answers_for_one_trade_as_the_broker_would() {
    let folder = folder(TRADES);
    let clerk = [
        "alice@A.TEST",
        "billing",
        "--group",
        "clerks",
        "--from",
        "orders",
        "--client",
        "batch.test",
    ];
    let output = policy(&folder, "explain", &clerk);
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST gets \"billing\" by batch.test, for a token of \"orders\": billing:pay for 5m\n\
         \x20 in the groups clerks\n\
         \x20 grant[1] (policy.toml:15) gives billing:pay orders:write\n\
         \x20 one other grant is about another audience\n\
         \x20 exchange[1] (policy.toml:26) leaves billing:pay\n",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
    for (arguments, reason, decided) in [
        (
            &["alice@A.TEST", "billing", "--from", "orders", "--client", "batch.test"][..],
            "denied_by_policy",
            "no token of \"orders\": no grant names this principal",
        ),
        (
            &["alice@A.TEST", "orders", "--from", "web", "--client", "batch.test"],
            "denied_by_policy",
            "exchange[0] (policy.toml:20) does not name this client",
        ),
        (
            &["alice@A.TEST", "billing", "--from", "web", "--client", "orders.test"],
            "denied_by_policy",
            "exchange[1] (policy.toml:26) is about tokens of another audience",
        ),
        (
            &[
                "alice@A.TEST",
                "orders",
                "--from",
                "web",
                "--client",
                "gateway.test",
                "--scope",
                "orders:write",
            ],
            "invalid_scope",
            "exchange[0] (policy.toml:20) leaves billing:read orders:read; the token is bound to a certificate",
        ),
        (
            &["alice@A.TEST", "nothing", "--from", "web", "--client", "gateway.test"],
            "invalid_target",
            "not in the policy",
        ),
    ] {
        let output = policy(&folder, "explain", arguments);
        let printed = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
        assert!(
            printed.contains(reason) && printed.contains(decided),
            "{arguments:?}: {printed}"
        );
    }
    for wrong in [
        &["alice@A.TEST", "billing", "--from", "orders"][..],
        &["alice@A.TEST", "billing", "--client", "batch.test"],
        &["alice@A.TEST", "billing", "--from", "orders", "--client", "*"],
        &["alice@A.TEST", "billing", "--from", "orders", "--client", "public"],
    ] {
        assert_eq!(policy(&folder, "explain", wrong).status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn a_case_may_be_a_trade() {
    let folder = folder(TRADES);
    let cases = r#"
        [[case]]
        principal = "alice@A.TEST"
        groups = ["clerks"]
        from = "orders"
        client = "batch.test"
        audience = "billing"
        gets = ["billing:pay"]
        ttl = "5m"
        [[case]]
        name = "only the gateway trades"
        principal = "alice@A.TEST"
        from = "web"
        client = "orders.test"
        audience = "orders"
        refused = "denied_by_policy"
        [[case]]
        principal = "alice@A.TEST"
        from = "web"
        client = "gateway.test"
        audience = "orders"
        asks = ["orders:read"]
        gets = ["orders:read"]
        "#;
    fs::write(folder.path("cases.toml"), cases).unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    assert!(printed.ends_with("3 cases, 0 failed\n"), "{printed}");
    // Another client is let through.
    let wider = TRADES.replace("[\"gateway.test\"]", "[\"gateway.test\", \"orders.test\"]");
    fs::write(folder.path("made/policy.toml"), wider).unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains(
            "FAILED  only the gateway trades: expected denied_by_policy; got billing:read orders:read for 15m"
        ),
        "{printed}"
    );
    let bad = r#"
        [[case]]
        principal = "alice@A.TEST"
        audience = "billing"
        from = "orders"
        gets = []
        [[case]]
        principal = "alice@A.TEST"
        audience = "billing"
        client = "batch.test"
        gets = []
        [[case]]
        principal = "alice@A.TEST"
        audience = "billing"
        from = "orders"
        client = "*"
        gets = []
        "#;
    fs::write(folder.path("cases.toml"), bad).unwrap();
    let output = policy(&folder, "test", &["cases.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for start in [
        "case[0].client: is missing",
        "case[1].from: is missing",
        "case[2].client: \"*\" is no client",
    ] {
        assert!(said.contains(start), "{start}: {said}");
    }
}

#[test]
fn policy_check_follows_trades_to_what_a_route_demands() {
    let folder = folder(TRADES);
    let output = policy(&folder, "check", &["--strict"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // The line names the scope as before, and its `from` has it no more.
    let lost = TRADES.replace(
        "scopes = [\"orders:read\", \"billing:read\"]\n\n[[grant]]",
        "scopes = [\"orders:read\"]\n\n[[grant]]",
    );
    fs::write(folder.path("made/policy.toml"), lost).unwrap();
    let output = policy(&folder, "check", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("policy.toml: route[0].scopes_all: no grant gives \"billing:read\" for \"billing\", and nobody has a token of"),
        "{said}"
    );
    // Nobody is every client, and who was sent a token trades it for no other of its own.
    for (from, to, expected) in [
        (
            "[\"gateway.test\"]",
            "[\"*\"]",
            "exchange[0].clients[0]: \"*\" is no client",
        ),
        (
            "to = \"orders\"",
            "to = \"web\"",
            "exchange[0].to: \"web\" is from, too",
        ),
    ] {
        fs::write(folder.path("made/policy.toml"), TRADES.replace(from, to)).unwrap();
        let output = policy(&folder, "check", &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
