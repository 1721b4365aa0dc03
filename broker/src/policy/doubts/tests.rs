use super::*;

fn doubts(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(text, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap_or_else(|| panic!("{problems}"));
    policy.doubts(&file).iter().map(ToString::to_string).collect()
}

/// Grants of the audience `orders`, each a line without its audience.
fn of_grants(grants: &[&str]) -> Vec<String> {
    let grants = grants
        .iter()
        .map(|grant| format!("{{ audience = \"orders\", {grant} }},"));
    doubts(&format!(
        "audience = [{{ name = \"orders\" }}]\nroute = [{{ path = \"/\", access = \"open\" }}]\ngrant = [{}]",
        grants.collect::<String>()
    ))
}

#[test]
fn a_grant_that_another_one_covers_is_named_with_it() {
    for (grants, useless, other) in [
        (&[r#"principals = ["*@R"]"#, r#"principals = ["alice@R"]"#][..], 1, 0),
        (&[r#"principals = ["alice@R"]"#, r#"principals = ["*@R"]"#], 0, 1),
        (&[r#"principals = ["*@R"]"#, r#"principals = ["*@R"]"#], 1, 0),
        (
            &[
                r#"principals = ["*@R"], scopes = ["a", "b"]"#,
                r#"principals = ["*@R"], groups = ["g"], scopes = ["b"], ttl = "1m""#,
            ],
            1,
            0,
        ),
        (
            &[r#"groups = ["g", "h"]"#, r#"principals = ["a@R"], groups = ["h"]"#],
            1,
            0,
        ),
        (
            &[
                r#"principals = ["*@R"]"#,
                r#"principals = ["*@R"], channel_bound = true"#,
            ],
            1,
            0,
        ),
    ] {
        let found = of_grants(grants);
        assert_eq!(found.len(), 1, "{grants:?}: {found:#?}");
        let start = format!("grant[{useless}]: gives nothing that grant[{other}] does not");
        assert!(found[0].starts_with(&start), "{found:#?}");
    }
    for grants in [
        &[r#"principals = ["*@R"]"#, r#"principals = ["alice@R"], scopes = ["a"]"#][..],
        &[r#"principals = ["*@R"]"#, r#"principals = ["alice/admin@R"]"#],
        &[r#"principals = ["*@R"], ttl = "1m""#, r#"principals = ["alice@R"]"#],
        &[
            r#"groups = ["g"], scopes = ["a"]"#,
            r#"groups = ["g", "h"]"#,
            r#"principals = ["a@R"], scopes = ["b"]"#,
        ],
        &[
            r#"principals = ["*@R"], channel_bound = true"#,
            r#"principals = ["a@R"], enctypes = ["aes256-cts-hmac-sha1-96"]"#,
        ],
        &[
            r#"principals = ["a@R"], scopes = ["x"]"#,
            r#"groups = ["g"], scopes = ["x"]"#,
        ],
    ] {
        assert_eq!(of_grants(grants), Vec::<String>::new(), "{grants:?}");
    }
}

#[test]
fn an_audience_that_nobody_gets_and_a_target_that_no_route_uses_are_named() {
    let text = r#"
        audience = [{ name = "orders" }, { name = "legacy" }, { name = "old" }, { name = "partner" },
                    { name = "stock" }]
        grant = [{ principals = ["*@R"], audience = "orders", scopes = ["read"] },
                 { principals = ["*@R"], audience = "legacy" }]
        delegation = [
            { target = "HTTP/a@R", audience = "legacy", principals = ["*@R"], clients = ["*"] },
            { target = "HTTP/b@R", audience = "legacy", principals = ["*@R"], clients = ["*"] },
            { target = "HTTP/a@R", audience = "orders", principals = ["*@R"], clients = ["*"] },
        ]
        exchange = [{ clients = ["shop"], from = "orders", to = "stock", scopes = ["read"] }]
        [[issuer]]
        issuer = "https://idp.test"
        audiences = { partner = [] }
        jwks = { cluster = "idp", authority = "idp.test", path = "/keys" }
        [[route]]
        path = "/"
        accept = ["bearer"]
        audience = "legacy"
        upstream = { kerberos = { spn = "HTTP/a@R" } }
        "#;
    let found = doubts(text);
    let starts = [
        "audience[2]: no grant gives \"old\"",
        "delegation[1].target: no route of \"legacy\" leads to HTTP/b@R",
        "delegation[2].target: no route of \"orders\" leads to HTTP/a@R",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn a_trade_that_nobody_can_make_and_a_scope_that_none_leaves_are_named() {
    let text = |lines: &str| {
        format!(
            r#"
            audience = [{{ name = "a" }}, {{ name = "b" }}, {{ name = "c" }}, {{ name = "d" }},
                        {{ name = "aes", enctypes = ["aes256-cts-hmac-sha1-96"] }}]
            grant = [{{ principals = ["*@R"], audience = "a", scopes = ["read"] }},
                     {{ principals = ["*@R"], audience = "aes" }}]
            exchange = [{lines}]
            [[route]]
            path = "/"
            access = "open""#
        )
    };
    for (lines, starts) in [
        (
            r#"{ clients = ["x"], from = "a", to = "b", scopes = ["read", "write", "pay"] }"#,
            &[
                "audience[2]: no grant gives \"c\" and no issuer vouches for it, so that",
                "audience[3]: no grant gives \"d\"",
                "exchange[0].scopes: no token of \"a\" has pay, write, and a trade adds nothing; add it to a [[grant]] of \"a\"",
            ][..],
        ),
        // Two that lead to each other, and to nowhere from outside.
        (
            r#"{ clients = ["x"], from = "b", to = "c" }, { clients = ["x"], from = "c", to = "b" }"#,
            &[
                "audience[1]: no grant gives \"b\" and no issuer vouches for it, and nobody has a token that is traded for it",
                "audience[2]: no grant gives \"c\" and no issuer vouches for it, and nobody has a token",
                "audience[3]: no grant gives \"d\"",
                "exchange[0].from: nobody has a token of \"b\" that could be traded",
                "exchange[1].from: nobody has a token of \"c\" that could be traded",
            ],
        ),
        (
            r#"{ clients = ["x"], from = "a", to = "aes" }, { clients = ["x"], from = "a", to = "b" },
               { clients = ["x"], from = "b", to = "c" }, { clients = ["x"], from = "c", to = "d" }"#,
            &["exchange[0].to: \"aes\" demands enctypes, which a token does not say"],
        ),
    ] {
        let found = doubts(&text(lines));
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{start}: {found}");
        }
    }
}

#[test]
fn a_name_that_looks_like_a_pattern_is_said_to_be_none() {
    let text = r#"
        audience = [{ name = "a" }, { name = "b" }]
        grant = [{ principals = ["*@R"], audience = "a" }]
        route = [{ path = "/", access = "open" }]
        exchange = [{ clients = ["x", "*.mesh.test"], from = "a", to = "b" }]
        introspection = [{ clients = ["*.mesh.test"], audiences = ["a"] }]
        delegation = [{ target = "HTTP/a@R", audience = "a", principals = ["*@R"], clients = ["*"] },
                      { target = "HTTP/b@R", audience = "a", principals = ["*@R"], clients = ["*.mesh.test"] }]
        "#;
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(text, &mut problems).unwrap();
    assert!(Policy::build(&file, &mut problems).is_some(), "{problems}");
    let found: Vec<String> = Policy::no_patterns(&file).iter().map(|one| one.field.clone()).collect();
    assert_eq!(
        found,
        [
            "exchange[0].clients[1]",
            "introspection[0].clients[0]",
            "delegation[1].clients[0]"
        ]
    );
}
