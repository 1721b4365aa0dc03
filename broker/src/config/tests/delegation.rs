use super::*;

const SECTION: &str = r#"
[delegation]
principal = "svc-kerbridge@A.TEST"
keytab = "delegation.keytab"
"#;

const LINES: &str = r#"
[[delegation]]
target = "HTTP/legacy.test@A.TEST"
audience = "orders"
principals = ["*@A.TEST"]
clients = ["mesh"]
"#;

/// A broker that does both, until a test changes something.
fn both() -> Folder {
    let folder = Folder::good();
    folder.write("kerbridge.toml", format!("{GOOD}{SECTION}"), 0o644);
    folder.write("policy.toml", format!("{POLICY}{LINES}"), 0o644);
    folder.write("delegation.keytab", keytab(&["svc-kerbridge"], "A.TEST", 18), 0o600);
    folder
}

/// One that acts for users alone: no acceptor, no keys.
const ALONE: &str = r#"
issuer = "https://broker.test"
state_dir = "state"
policy_file = "policy.toml"
[listen.mesh]
unix = "mesh.sock"
[kerberos]
realms = ["A.TEST"]
[delegation]
principal = "svc-kerbridge@A.TEST"
keytab = "delegation.keytab"
refused_targets = ["HTTP/api.test@A.TEST"]
[[delegation.keys]]
issuer = "https://broker.test"
unix = "/run/kerbridge/mesh.sock"
[[delegation.feeds]]
issuer = "https://broker.test"
unix = "/run/kerbridge/mesh.sock"
"#;

fn alone() -> Folder {
    let folder = both();
    folder.write("kerbridge.toml", ALONE, 0o644);
    folder
}

impl Folder {
    fn with_section(&self, from: &str, to: &str) -> Vec<String> {
        assert_eq!(SECTION.matches(from).count(), 1, "{from}");
        self.write("kerbridge.toml", format!("{GOOD}{}", SECTION.replace(from, to)), 0o644);
        self.problems()
    }

    fn with_lines(&self, lines: &str) -> Vec<String> {
        self.write("policy.toml", format!("{POLICY}{lines}"), 0o644);
        self.problems()
    }
}

#[test]
fn a_broker_may_make_tokens_and_tickets() {
    let config = both().load().unwrap();
    assert!(config.keys().is_some());
    let delegation = config.delegation().unwrap();
    assert_eq!(delegation.principal.as_str(), "svc-kerbridge@A.TEST");
    let limits = delegation.limits;
    assert_eq!(
        (
            limits.workers,
            limits.queue,
            limits.entries,
            limits.user_per_minute,
            limits.target_per_minute
        ),
        (4, 256, 10_000, 6000, 0)
    );
    assert!(Folder::good().load().unwrap().delegation().is_none());
}

#[test]
fn a_process_of_its_own_needs_neither_acceptor_nor_keys() {
    let config = alone().load().unwrap();
    assert!(config.keys().is_none() && config.kerberos().acceptors.is_empty());
    let [source] = config.delegation().unwrap().keys.as_slice() else {
        panic!("one source")
    };
    assert_eq!(source.terms.issuer, "https://broker.test");
    let folder = alone();
    let without_keys = ALONE.replace(
        "[[delegation.keys]]\nissuer = \"https://broker.test\"\nunix = \"/run/kerbridge/mesh.sock\"\n",
        "",
    );
    folder.write("kerbridge.toml", without_keys, 0o644);
    let found = folder.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("delegation.keys: has none for https://broker.test"),
        "{found:#?}"
    );
    folder.write("kerbridge.toml", ALONE.replace("refused_targets", "# "), 0o644);
    let found = folder.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("delegation.refused_targets: is missing"),
        "{found:#?}"
    );
    let public = "[listen.public]\ntcp = \"127.0.0.1:0\"\nclear_text = true\n[kerberos]";
    folder.write("kerbridge.toml", ALONE.replace("[kerberos]", public), 0o644);
    let found = folder.problems();
    assert!(
        found[0].starts_with("listen.public: has nothing to serve"),
        "{found:#?}"
    );
    // With one of the two it is a broker that lacks the other.
    let with_keys = ALONE.replace("[kerberos]", "[keys]\nkey_encryption_key_file = \"kek\"\n[kerberos]");
    folder.write("kerbridge.toml", with_keys, 0o644);
    let found = folder.problems();
    assert!(found[0].starts_with("kerberos.acceptor: is missing"), "{found:#?}");
}

#[test]
fn a_process_of_its_own_follows_revocations_unless_it_says_that_it_does_not() {
    let config = alone().load().unwrap();
    let [feed] = config.delegation().unwrap().feeds.as_slice() else {
        panic!("one feed")
    };
    assert_eq!(feed.terms.issuer, "https://broker.test");
    let without_feed = ALONE.split("[[delegation.feeds]]").next().unwrap();
    let says =
        |text: &str, follows: bool| text.replace("keytab =", &format!("follow_revocations = {follows}\nkeytab ="));
    let folder = alone();
    folder.write("kerbridge.toml", says(without_feed, false), 0o644);
    folder.load().unwrap();
    for (text, start) in [
        (without_feed.to_owned(), "delegation.feeds: is missing"),
        (says(without_feed, true), "delegation.feeds: is missing"),
        (
            says(ALONE, false),
            "delegation.follow_revocations: is false beside a [[delegation.feeds]]",
        ),
        (
            format!("{ALONE}[[delegation.feeds]]\nissuer = \"https://idp.test\"\nunix = \"idp.sock\"\n"),
            "delegation.feeds[1].issuer: no [[subject]] of the policy is about \"https://idp.test\"",
        ),
        // One that has a store looks there.
        (
            format!("{GOOD}{SECTION}follow_revocations = false\n"),
            "delegation.follow_revocations: is for a broker that does nothing else",
        ),
        (
            format!("{GOOD}{SECTION}[[delegation.feeds]]\nissuer = \"https://broker.test\"\nunix = \"mesh.sock\"\n"),
            "delegation.feeds: has one for this broker's own issuer",
        ),
    ] {
        folder.write("kerbridge.toml", text, 0o644);
        let found = folder.problems();
        assert!(found.len() == 1 && found[0].starts_with(start), "{start}: {found:#?}");
    }
}

#[test]
fn each_mistake_of_the_section_is_named() {
    let folder = both();
    for (from, to, start) in [
        (
            "principal = \"svc-kerbridge@A.TEST\"",
            "",
            "delegation.principal: is missing",
        ),
        (
            "svc-kerbridge@A.TEST",
            "svc-kerbridge",
            "delegation.principal: \"svc-kerbridge\": ",
        ),
        (
            "svc-kerbridge@A.TEST",
            "svc-kerbridge@B.TEST",
            "delegation.principal: realm \"B.TEST\" is not in kerberos.realms",
        ),
        (
            "svc-kerbridge@A.TEST",
            "other@A.TEST",
            "delegation.principal: delegation.keytab has no key of other@A.TEST; it holds svc-kerbridge@A.TEST",
        ),
        ("keytab = \"delegation.keytab\"", "", "delegation.keytab: is missing"),
        (
            "delegation.keytab",
            "none.keytab",
            "delegation.keytab: none.keytab: No such file",
        ),
        (
            "keytab =",
            "refused_targets = [\"HTTP/api.test\"]\nkeytab =",
            "delegation.refused_targets[0]: \"HTTP/api.test\": ",
        ),
        (
            "keytab =",
            "refused_targets = [\"http/Legacy.test@A.TEST\"]\nkeytab =",
            "policy.toml: delegation[0].target: HTTP/legacy.test@A.TEST stands in delegation.refused_targets",
        ),
        (
            "keytab =",
            "workers = 0\nkeytab =",
            "delegation.workers: 0 is not 1 to 64",
        ),
        (
            "keytab =",
            "queue = 0\nkeytab =",
            "delegation.queue: 0 is not 1 to 65536",
        ),
        (
            "keytab =",
            "entries = -1\nkeytab =",
            "delegation.entries: -1 is not 1 to 1000000",
        ),
        (
            "keytab =",
            "user_tickets_per_minute = -1\nkeytab =",
            "delegation.user_tickets_per_minute: -1 is not 0 to 100000000",
        ),
        (
            "[delegation]",
            "[[delegation.keys]]\nissuer = \"https://broker.test\"\nfile = \"keys.json\"\n[delegation]",
            "delegation.keys: has one for this broker's own issuer",
        ),
        (
            "[delegation]",
            "[[delegation.keys]]\nissuer = \"https://idp.test\"\nfile = \"keys.json\"\n[delegation]",
            "delegation.keys[0].issuer: no [[subject]] of the policy is about \"https://idp.test\"",
        ),
    ] {
        let found = folder.with_section(from, to);
        assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
    }
    folder.write("delegation.keytab", keytab(&["svc-kerbridge"], "A.TEST", 18), 0o644);
    let found = folder.with_section("[delegation]", "[delegation]");
    assert!(
        found.len() == 1 && found[0].starts_with("delegation.keytab: delegation.keytab has mode 0644"),
        "{found:#?}"
    );
}

#[test]
fn a_target_is_neither_this_broker_nor_in_another_realm() {
    let folder = both();
    for (target, words) in [
        ("HTTP/api.test@A.TEST", "HTTP/api.test@A.TEST is this broker itself"),
        ("http/API.test@A.TEST", "http/API.test@A.TEST is this broker itself"),
        (
            "host/api@A.TEST",
            "host/api@A.TEST is this broker itself, by another name of HTTP/api.test@A.TEST",
        ),
        (
            "HTTP/legacy.test@B.TEST",
            "HTTP/legacy.test@B.TEST is of another realm than svc-kerbridge@A.TEST",
        ),
    ] {
        let found = folder.with_lines(&LINES.replace("HTTP/legacy.test@A.TEST", target));
        let start = format!("policy.toml: delegation[0].target: {words}");
        assert!(found.iter().any(|line| line.starts_with(&start)), "{start}: {found:#?}");
    }
    let found = folder.with_lines("");
    assert!(
        found.len() == 1 && found[0].starts_with("delegation: the policy has no [[delegation]]"),
        "{found:#?}"
    );
    let found = folder.with_lines(&format!("{LINES}channel_binding = \"none.pem\"\n"));
    assert!(
        found.len() == 1 && found[0].starts_with("policy.toml: delegation[0].channel_binding: none.pem: No such file"),
        "{found:#?}"
    );
}

#[test]
fn an_issuer_whose_tokens_are_taken_has_keys_from_somewhere() {
    let folder = both();
    let found = folder.with_lines(&format!("{LINES}{TRACED}"));
    assert!(
        found.len() == 1
            && found[0].starts_with("delegation.keys: has none for https://idp.test, the subject[0].issuer"),
        "{found:#?}"
    );
    let keys = "\n[[delegation.keys]]\nissuer = \"https://idp.test\"\nfile = \"keys.json\"\n";
    folder.write("kerbridge.toml", format!("{GOOD}{SECTION}{keys}"), 0o644);
    folder.load().unwrap();
}

#[test]
fn a_mesh_in_the_clear_asks_for_nobodys_tickets() {
    let folder = both();
    let clear = GOOD.replace("unix = \"mesh.sock\"", "tcp = \"127.0.0.1:0\"\nclear_text = true");
    folder.write("kerbridge.toml", format!("{clear}{SECTION}"), 0o644);
    let found = folder.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("listen.mesh: is in the clear, so that anybody"),
        "{found:#?}"
    );
}

#[test]
fn a_policy_that_asks_this_broker_for_tickets_needs_delegation_and_one_that_asks_another_does_not() {
    const ROUTE: &str = r#"
        [[route]]
        path_prefix = "/legacy"
        accept = ["bearer"]
        audience = "orders"
        upstream = { kerberos = { spn = "HTTP/legacy.test@A.TEST" } }
    "#;
    const ANOTHER: &str = "[filter]\ndelegation = { cluster = \"another\" }\n";
    let folder = both();
    // Who has tickets made by another broker may share the policy with it, lines and all.
    folder.write("kerbridge.toml", GOOD, 0o644);
    let write = |policy: &str| folder.write("policy.toml", policy, 0o644);
    for policy in [
        POLICY.to_owned(),
        format!("{POLICY}{LINES}"),
        format!("{ROUTE}{POLICY}{LINES}{ANOTHER}"),
    ] {
        write(&policy);
        folder.load().unwrap();
    }
    write(&format!("{ROUTE}{POLICY}{LINES}"));
    let found = folder.problems();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("delegation: is missing; route[0] of the policy leads to HTTP/legacy.test@A.TEST"),
        "{found:?}"
    );
    assert!(
        found[0].contains("add [delegation], or name the cluster of the process that has it"),
        "{found:?}"
    );
    folder.write("kerbridge.toml", format!("{GOOD}{SECTION}"), 0o644);
    folder.load().unwrap();
    folder.write("kerbridge.toml", ALONE, 0o644);
    folder.load().unwrap();
}

#[test]
fn a_target_that_is_none_is_not_called_missing() {
    let route = "[[route]]\npath = \"/legacy\"\naccept = [\"bearer\"]\naudience = \"orders\"\n\
                 upstream = { kerberos = { spn = \"HTTP/legacy.test@A.TEST\" } }\n";
    // The route that opens everything stands before it.
    let found_in = |lines: &str| {
        let mut found = both().with_lines(lines);
        found.retain(|problem| !problem.contains("is never reached"));
        found
    };
    for target in ["krbtgt/A.TEST@A.TEST", "HTTP/legacy.test", "legacy"] {
        let lines = LINES.replace("HTTP/legacy.test@A.TEST", target);
        let found = found_in(&format!("{lines}{route}"));
        assert!(
            found.len() == 1 && found[0].contains("delegation[0].target: "),
            "{target}: {found:#?}"
        );
    }
    // One that was never there is missing, and a route without a line is said where all lines could be read.
    let found = found_in(&LINES.replace("target = \"HTTP/legacy.test@A.TEST\"\n", ""));
    assert!(found[0].contains("missing field `target`"), "{found:#?}");
    let found = found_in(&format!("{}{route}", LINES.replace("legacy", "other")));
    assert!(
        found.len() == 1 && found[0].contains("no [[delegation]] is towards"),
        "{found:#?}"
    );
}
