use super::*;
use crate::problem::Problems;

/// Audiences `a` to `f`, tickets of everybody for `a` with `read` and `write`, and these lines.
fn problems(lines: &str) -> Vec<String> {
    let text = format!(
        r#"
        audience = [{{ name = "a" }}, {{ name = "b" }}, {{ name = "c" }}, {{ name = "d" }}, {{ name = "e" }},
                    {{ name = "f" }}, {{ name = "bound", channel_bound = true }},
                    {{ name = "aes", enctypes = ["aes256-cts-hmac-sha1-96"] }}]
        [[grant]]
        principals = ["*@R"]
        audience = "a"
        scopes = ["read", "write"]
        {lines}"#
    );
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(&text, &mut problems).unwrap();
    Policy::build(&file, &mut problems);
    problems.iter().map(ToString::to_string).collect()
}

/// A line that trades.
fn trade(from: &str, to: &str, scopes: &[&str]) -> String {
    format!("[[exchange]]\nclients = [\"c\"]\nfrom = \"{from}\"\nto = \"{to}\"\nscopes = {scopes:?}\n")
}

fn route(audience: &str, demand: &str) -> String {
    format!("[[route]]\npath = \"/{audience}\"\naccept = [\"bearer\"]\naudience = \"{audience}\"\n{demand}\n")
}

/// Another issuer that vouches for `e`.
fn issuer(is_traced: bool) -> String {
    let issuer = "[[issuer]]\nissuer = \"https://idp.test\"\naudiences = { e = [] }\njwks = { cluster = \"idp\" }\n";
    let subject =
        "[[subject]]\nissuer = \"https://idp.test\"\nclaim = \"upn\"\nform = \"principal\"\nrealms = [\"R\"]\n";
    if is_traced {
        format!("{issuer}{subject}")
    } else {
        issuer.to_owned()
    }
}

#[test]
fn a_route_is_good_where_a_chain_of_trades_leads_to_what_it_demands() {
    for lines in [
        trade("a", "b", &["read"]) + &route("b", "scopes_all = [\"read\"]"),
        trade("b", "c", &["read"])
            + &trade("a", "b", &["read", "write"])
            + &route("c", "scopes_any = [\"read\", \"x\"]"),
        // As often as a token may be traded, whatever the order of the lines.
        [("d", "e"), ("c", "d"), ("b", "c"), ("a", "b")]
            .map(|(from, to)| trade(from, to, &["read"]))
            .concat()
            + &route("e", "scopes_all = [\"read\"]"),
        // Each scope by a way of its own.
        trade("a", "c", &["write"])
            + &trade("a", "b", &["read"])
            + &trade("b", "c", &["read"])
            + &route("c", "scopes_all = [\"read\", \"write\"]"),
        // What other issuers say is theirs to say, and a trade leaves of it what its line names.
        issuer(true) + &trade("e", "f", &["x"]) + &route("f", "scopes_all = [\"x\"]"),
        trade("a", "bound", &["read"]) + &route("bound", "scopes_all = [\"read\"]"),
    ] {
        assert_eq!(problems(&lines), Vec::<String>::new(), "{lines}");
    }
}

#[test]
fn a_route_is_a_mistake_where_no_chain_of_trades_leads_to_what_it_demands() {
    let by = |from: &str, line: usize| {
        format!(
            ", and nobody has a token of \"{from}\" for which exchange[{line}] would leave it, so that nobody gets through"
        )
    };
    for (lines, expected) in [
        // No token that could be traded has it.
        (
            trade("a", "b", &["admin"]) + &route("b", "scopes_all = [\"admin\"]"),
            format!("route[0].scopes_all: no grant gives \"admin\" for \"b\"{}", by("a", 0)),
        ),
        // It is lost on the way.
        (
            trade("a", "b", &["read"]) + &trade("b", "c", &["read", "write"]) + &route("c", "scopes_all = [\"write\"]"),
            format!("route[0].scopes_all: no grant gives \"write\" for \"c\"{}", by("b", 1)),
        ),
        (
            trade("a", "b", &["admin"]) + &route("b", "scopes_any = [\"admin\", \"root\"]"),
            format!(
                "route[0].scopes_any: no grant gives any of them for \"b\"{}",
                by("a", 0)
            ),
        ),
        // Nobody ever begins.
        (
            trade("b", "c", &["read"]) + &route("c", ""),
            format!("route[0].audience: no grant gives \"c\"{}", by("b", 0)),
        ),
        (
            trade("b", "c", &["read"]) + &trade("c", "b", &["read"]) + &route("b", ""),
            format!("route[0].audience: no grant gives \"b\"{}", by("c", 1)),
        ),
        // A token goes through four hands and no more.
        (
            [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f")]
                .map(|(from, to)| trade(from, to, &["read"]))
                .concat()
                + &route("f", ""),
            format!("route[0].audience: no grant gives \"f\"{}", by("e", 4)),
        ),
        // A token does not say how its ticket was encrypted, nor another issuer's that it was bound.
        (
            trade("a", "aes", &["read"]) + &route("aes", ""),
            format!("route[0].audience: no grant gives \"aes\"{}", by("a", 0)),
        ),
        (
            issuer(true) + &trade("e", "bound", &["read"]) + &route("bound", ""),
            format!("route[0].audience: no grant gives \"bound\"{}", by("e", 0)),
        ),
        // Nobody knows whose token it is.
        (
            issuer(false) + &trade("e", "f", &["read"]) + &route("f", ""),
            format!("route[0].audience: no grant gives \"f\"{}", by("e", 0)),
        ),
    ] {
        let found = problems(&lines);
        assert!(
            found.len() == 1 && found[0].starts_with(&expected),
            "{lines}: {found:#?}"
        );
    }
}

#[test]
fn of_a_line_that_cannot_be_read_no_consequences_are_said() {
    let bad = trade("a", "b", &["read", "two words"]) + &route("b", "scopes_all = [\"read\"]");
    let found = problems(&bad);
    assert!(
        found.len() == 1 && found[0].starts_with("exchange[0].scopes: "),
        "{found:#?}"
    );
    let bad = "[[grant]]\nprincipals = [\"*@R\"]\naudience = \"b\"\nscopes = [\"two words\"]\n".to_owned()
        + &trade("b", "c", &["read"])
        + &route("c", "scopes_all = [\"read\"]");
    let found = problems(&bad);
    assert!(
        found.len() == 1 && found[0].starts_with("grant[1].scopes: "),
        "{found:#?}"
    );
}

#[test]
fn a_scope_that_takes_tokens_back_is_for_no_route_though_nobody_may_have_it_yet() {
    let found = problems(&(trade("a", "b", &["kerbridge:admin"]) + &route("b", "")));
    assert!(
        found.len() == 1 && found[0].contains("could take back tokens"),
        "{found:#?}"
    );
}
