//! Checks the filter's side of the policy file: what the filter itself takes, and what only the whole file shows.
//!
//! The filter's own reader ([`kerbridge_gate::Config`]) judges the configuration that would be rendered, so that what is
//! accepted here is accepted there. Beyond it, audiences and scopes must be such as somebody can get.

use kerbridge_gate::Config;
use kerbridge_wire::exchange::ADMIN_SCOPE;
use kerbridge_wire::policy as raw;
use kerbridge_wire::policy::{Access, Route};

use super::Policy;
use crate::problem::Problems;
use crate::render::{Inline, filter_config};

/// Stands for the broker's own issuer, which is not part of the policy file.
const ISSUER: &str = "https://issuer.invalid";

/// Notes all that is wrong with the routes, the issuers and the filter's settings.
pub(super) fn check(file: &raw::Policy, policy: &Policy, problems: &mut Problems) {
    if file.route.is_empty() {
        problems.note(
            "route",
            "there is none, so that every request is refused",
            "add a [[route]]",
        );
        return;
    }
    if let Err(errors) = Config::build(filter_config(ISSUER, file, Inline::default())) {
        // The broker's cluster is rendered for its keys, for its revocations and for exchanges, times for the first two; addresses
        // of audiences were looked at with these.
        let again = |field: &str| match field.strip_prefix("issuers[0].feed.") {
            Some(of_feed) => of_feed != "cluster" || file.filter.feed_cluster.is_none(),
            None => field == "broker.cluster" || field.starts_with("resources."),
        };
        for found in errors.0.into_iter().filter(|found| !again(&found.field)) {
            let (problem, remedy) = if found.problem.starts_with("expected ") {
                ("does not fit".to_owned(), found.problem)
            } else {
                (found.problem, "correct or remove it".to_owned())
            };
            problems.note(field_of_the_file(&found.field), problem, remedy);
        }
    }
    for (index, route) in file.route.iter().enumerate() {
        let mut found = Problems::default();
        check_names(route, file, policy, &mut found);
        problems.absorb(&format!("route[{index}]."), found);
    }
}

/// Where a field of the rendered configuration stands in the policy file.
fn field_of_the_file(field: &str) -> String {
    for (rendered, written) in [
        ("routes", "route"),
        ("issuers[0].jwks.", "filter."),
        ("issuers[0].feed.", "filter.feed_"),
        ("issuers[0].", "filter."),
        // What is not said there is that of the other broker, which was looked at.
        ("broker.", "filter."),
    ] {
        if let Some(rest) = field.strip_prefix(rendered) {
            return format!("{written}{rest}");
        }
    }
    // The broker's own issuer is rendered first, the others follow in their order.
    if let Some((place, rest)) = field.strip_prefix("issuers[").and_then(|rest| rest.split_once(']'))
        && let Ok(place) = place.parse::<usize>()
    {
        return format!("issuer[{}]{rest}", place.saturating_sub(1));
    }
    format!("filter.{field}")
}

/// The names of a route: an audience of this file, scopes that a grant gives.
fn check_names(route: &Route, file: &raw::Policy, policy: &Policy, found: &mut Problems) {
    let Some(audience) = route.audience.as_deref().filter(|_| route.access != Access::Open) else {
        return;
    };
    if policy.audience(audience).is_none() {
        found.note(
            "audience",
            format!("{audience:?} is no audience of this file"),
            "correct the name or add the [[audience]]",
        );
        return;
    }
    if policy.names_scope(audience, ADMIN_SCOPE) {
        found.note(
            "audience",
            format!("{ADMIN_SCOPE:?} is given for {audience:?}: whoever serves it could take back tokens with what it is sent"),
            "give that scope for an audience of its own, which no route takes",
        );
    }
    // What another issuer's tokens say is that issuer's business.
    if Policy::is_vouched_for(file, audience) {
        return;
    }
    let gives = |scope: &String| policy.reach.gives(audience, scope);
    if !policy.reach.is_had(audience) && route.access == Access::Required {
        found.note(
            "audience",
            format!(
                "no grant gives {audience:?}{}, so that nobody gets through",
                and_no_trade(file, audience, |_| true)
            ),
            "add a [[grant]], or correct the name",
        );
        return;
    }
    for scope in route.scopes_all.iter().filter(|scope| !gives(scope)) {
        found.note(
            "scopes_all",
            format!(
                "no grant gives {scope:?} for {audience:?}{}, so that nobody gets through",
                and_no_trade(file, audience, |scopes| scopes.contains(scope))
            ),
            "add it to a [[grant]], or remove it here",
        );
    }
    if !route.scopes_any.is_empty() && !route.scopes_any.iter().any(gives) {
        found.note(
            "scopes_any",
            format!(
                "no grant gives any of them for {audience:?}{}, so that nobody gets through",
                and_no_trade(file, audience, |scopes| route
                    .scopes_any
                    .iter()
                    .any(|one| scopes.contains(one)))
            ),
            "add one to a [[grant]], or correct them here",
        );
    }
}

/// Where an `[[exchange]]` line seems to give what no grant gives.
fn and_no_trade(file: &raw::Policy, audience: &str, lets_through: impl Fn(&[String]) -> bool) -> String {
    let mut lines = file.exchange.iter().enumerate();
    let found = lines.find(|(_, line)| line.to == audience && lets_through(&line.scopes));
    found.map_or_else(String::new, |(index, line)| {
        format!(
            ", and nobody has a token of {:?} for which exchange[{index}] would leave it",
            line.from
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(routes: &str) -> Vec<String> {
        let text = format!(
            r#"
            [[audience]]
            name = "orders"
            [[grant]]
            principals = ["*@R"]
            audience = "orders"
            scopes = ["read"]
            {routes}"#
        );
        let mut problems = Problems::default();
        let file = crate::strict_toml::read(&text, &mut problems).unwrap();
        Policy::build(&file, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    fn with(extra: &str) -> Vec<String> {
        problems(&format!(
            "[[route]]\naudience = \"orders\"\naccept = [\"negotiate\"]\n{extra}"
        ))
    }

    #[test]
    fn a_good_route_has_no_problem() {
        let none: Vec<String> = Vec::new();
        assert_eq!(
            with("path_prefix = \"/\"\nscopes_all = [\"read\"]\nhost = \"A.test\"\ndeliver = \"header\""),
            none
        );
        assert_eq!(problems("[[route]]\npath = \"/health\"\naccess = \"open\""), none);
    }

    #[test]
    fn each_mistake_of_a_route_is_named() {
        for (extra, start) in [
            ("", "route[0].path_prefix: does not fit; expected exactly one"),
            (
                "path = \"/\"\npath_prefix = \"/\"",
                "route[0].path_prefix: does not fit",
            ),
            (
                "path = \"orders\"",
                "route[0].path: does not fit; expected an absolute path",
            ),
            ("path = \"/a?b\"", "route[0].path: does not fit"),
            ("path = \"/a/../b\"", "route[0].path: does not fit"),
            ("path_template = \"/{a}/{a}\"", "route[0].path_template: does not fit"),
            ("path = \"/\"\nhost = \"https://a\"", "route[0].host: does not fit"),
            ("path = \"/\"\nhost = \"a:80\"", "route[0].host: does not fit"),
            ("path = \"/\"\nmethods = [\"get\"]", "route[0].methods[0]: does not fit"),
            ("path = \"/\"\nname = \"a b\"", "route[0].name: does not fit"),
            (
                "path = \"/\"\nscopes_any = [\"write\"]",
                "route[0].scopes_any: no grant gives any",
            ),
            (
                "path = \"/\"\nscopes_all = [\"write\"]",
                "route[0].scopes_all: no grant gives \"write\"",
            ),
            (
                "path = \"/\"\ndeliver = \"cookie\"",
                "route[0].deliver: does not fit; expected \"cookie\" in `accept`",
            ),
            (
                "path = \"/\"\naccess = \"open\"",
                "route[0].accept: does not fit; expected nothing",
            ),
            // There is no ticket for nobody.
            (
                "path = \"/\"\naccess = \"open\"\nupstream = { kerberos = { spn = \"HTTP/legacy@R\" } }",
                "route[0].upstream: does not fit; expected nothing where access = \"open\"",
            ),
            (
                "path = \"/\"\naccess = \"optional\"\nupstream = { kerberos = { spn = \"HTTP/legacy@R\" } }",
                "route[0].access: does not fit; expected \"required\" where `upstream` is",
            ),
        ] {
            let found = with(extra);
            assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
        }
        let found = problems("[[route]]\npath = \"/\"\naccept = [\"bearer\"]\ndeliver = \"header\"");
        assert!(found[0].starts_with("route[0].deliver: does not fit"), "{found:#?}");
        assert!(found[1].starts_with("route[0].audience: does not fit"), "{found:#?}");
        let found = problems("[[route]]\npath = \"/\"\naudience = \"orders\"");
        assert!(found[0].starts_with("route[0].accept: does not fit"), "{found:#?}");
    }

    #[test]
    fn no_service_is_sent_a_token_that_takes_back_others() {
        let route = r#"
            [[grant]]
            principals = ["root@R"]
            audience = "AUDIENCE"
            scopes = ["kerbridge:admin"]
            [[audience]]
            name = "administration"
            [[route]]
            audience = "orders"
            accept = ["negotiate"]
            path = "/""#;
        let found = problems(&route.replace("AUDIENCE", "orders"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("route[0].audience") && found[0].contains("kerbridge:admin"));
        assert_eq!(
            problems(&route.replace("AUDIENCE", "administration")),
            [] as [String; 0]
        );
    }

    #[test]
    fn a_route_behind_one_that_matches_the_same_is_reported() {
        let pair = |first: &str, second: &str| {
            let routes = [first, second].map(|lines| {
                let lines = lines.replace(';', "\n");
                format!("[[route]]\naudience = \"orders\"\naccept = [\"bearer\"]\n{lines}\n")
            });
            problems(&routes.concat()).len()
        };
        for (first, second) in [
            ("path_prefix = \"/\"", "path_prefix = \"/a\""),
            ("path_prefix = \"/a/\"", "path_prefix = \"/a\""),
            ("path_prefix = \"/a\"", "path = \"/a/b\";host = \"h\""),
            ("path = \"/a\"", "path = \"/a\";methods = [\"GET\"]"),
            ("path = \"/a\";host = \"H\"", "path = \"/a\";host = \"h\""),
        ] {
            assert_eq!(pair(first, second), 1, "{first} {second}");
        }
        for (first, second) in [
            ("path_prefix = \"/a\"", "path_prefix = \"/ab\""),
            ("path_prefix = \"/a\"", "path_prefix = \"/\""),
            ("path_prefix = \"/\";methods = [\"GET\"]", "path_prefix = \"/\""),
            ("path_prefix = \"/\";host = \"h\"", "path_prefix = \"/\""),
            ("path = \"/a\"", "path_prefix = \"/a\""),
        ] {
            assert_eq!(pair(first, second), 0, "{first} {second}");
        }
    }

    #[test]
    fn filter_settings_that_cannot_work_are_reported() {
        let route = "[[route]]\npath = \"/\"\naccess = \"open\"\n[filter]\n";
        for (line, start) in [
            ("cluster = \"\"", "filter.cluster"),
            ("feed_cluster = \"\"", "filter.feed_cluster"),
            ("poll = \"5m\"", "filter.max_staleness"),
            ("clock_skew_seconds = 301", "filter.clock_skew_seconds"),
            ("timeout = \"61s\"", "filter.timeout"),
            ("delegation.cluster = \"\"", "filter.delegation.cluster"),
            ("delegation.timeout = \"61s\"", "filter.delegation.timeout"),
            (
                "identity_headers.subject = \"authorization\"",
                "filter.identity_headers.subject",
            ),
            (
                "identity_headers.subject = \"X-Who\"",
                "filter.identity_headers.subject",
            ),
            (
                "identity_headers = { subject = \"x-a\", scope = \"x-a\" }",
                "filter.identity_headers.scope",
            ),
            ("token_header = { name = \"cookie\" }", "filter.token_header.name"),
            ("explain = { sources = [\"10.0.0.1/8\"] }", "filter.explain.sources[0]"),
            (
                "[[issuer]]\nissuer = \"https://idp.test\"\njwks = { cluster = \"idp\" }",
                "issuer[0].audiences",
            ),
        ] {
            let found = problems(&format!("{route}{line}"));
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with(start), "{found:#?}");
        }
    }
}
