//! Checks what only the whole policy file shows about its routes: names that exist, routes that can be reached.

use kerbridge_wire::policy::{Access, Deliver, FilterSettings, Route, Scheme};

use super::{MOST_LINES, Policy};
use crate::problem::Problems;

const LONGEST_NAME: usize = 128;
const MOST_SKEW: u32 = 300;

/// Notes all that is wrong with the routes.
pub(super) fn check(routes: &[Route], policy: &Policy, problems: &mut Problems) {
    if routes.is_empty() {
        problems.note(
            "route",
            "there is none, so that every request is refused",
            "add a [[route]]",
        );
    }
    if routes.len() > MOST_LINES {
        problems.note(
            "route",
            format!("more than {MOST_LINES}"),
            "merge routes by path_prefix",
        );
        return;
    }
    for (index, route) in routes.iter().enumerate() {
        let mut found = Problems::default();
        check_one(route, policy, &mut found);
        let earlier = routes.iter().take(index);
        for (other_index, other) in earlier.enumerate() {
            if route.name.is_some() && route.name == other.name {
                found.note(
                    "name",
                    format!("route[{other_index}] has it too"),
                    "give each route its own name",
                );
            }
            if covers(other, route) {
                found.note(
                    "path",
                    format!("route[{other_index}] matches all that this one matches, so that it is never reached"),
                    "move it before that one, or remove it",
                );
                break;
            }
        }
        problems.absorb(&format!("route[{index}]."), found);
    }
}

fn check_one(route: &Route, policy: &Policy, found: &mut Problems) {
    let Route {
        name,
        host,
        path_prefix,
        path,
        methods,
        access,
        accept,
        audience,
        scopes_all,
        deliver,
        forward,
        allow_insecure: _,
    } = route;
    if let Some(name) = name
        && (name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        found.note(
            "name",
            format!("{name:?} is not 1 to {LONGEST_NAME} visible ASCII characters"),
            "rename it",
        );
    }
    if let Some(host) = host {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if host.is_empty() || !(bracketed.is_some_and(is_ipv6) || host.bytes().all(good)) {
            found.note(
                "host",
                format!("{host:?} is no host name"),
                "write the host alone, without scheme and port",
            );
        }
    }
    match (path_prefix, path) {
        (Some(_), Some(_)) => found.note("path", "stands beside path_prefix", "keep one of the two"),
        (None, None) => found.note(
            "path_prefix",
            "is missing, and path too",
            "add one of the two, such as \"/\"",
        ),
        (Some(text), None) => check_path("path_prefix", text, found),
        (None, Some(text)) => check_path("path", text, found),
    }
    for method in methods {
        if method.is_empty()
            || method.len() > 32
            || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            found.note(
                "methods",
                format!("{method:?} is no method"),
                "write methods in capitals, such as \"GET\"",
            );
        }
    }
    match access {
        Access::Open => {
            let idle = [
                ("accept", !accept.is_empty()),
                ("audience", audience.is_some()),
                ("scopes_all", !scopes_all.is_empty()),
                ("deliver", *deliver != Deliver::None),
                ("forward", *forward),
            ];
            for (field, _) in idle.into_iter().filter(|(_, there)| *there) {
                found.note(
                    field,
                    "means nothing on an open route",
                    "remove it, or remove access = \"open\"",
                );
            }
        }
        Access::Required => check_proof(route, policy, found),
    }
}

fn check_proof(route: &Route, policy: &Policy, found: &mut Problems) {
    let accepts = |scheme| route.accept.contains(&scheme);
    if route.accept.is_empty() {
        found.note(
            "accept",
            "accepts nothing",
            "add accept = [\"negotiate\", \"bearer\"], or access = \"open\"",
        );
    }
    match route.audience.as_deref() {
        None => found.note("audience", "is missing", "name the audience that a token must be for"),
        Some(audience) if policy.audience(audience).is_none() => found.note(
            "audience",
            format!("{audience:?} is no audience of this file"),
            "correct the name or add the [[audience]]",
        ),
        Some(audience) => {
            for scope in route.scopes_all.iter().filter(|scope| !policy.gives(audience, scope)) {
                found.note(
                    "scopes_all",
                    format!("no grant gives {scope:?} for {audience:?}, so that nobody gets through"),
                    "add it to a [[grant]], or remove it here",
                );
            }
        }
    }
    if route.deliver != Deliver::None && !accepts(Scheme::Negotiate) {
        found.note(
            "deliver",
            "no token is minted here",
            "add \"negotiate\" to accept, or remove deliver",
        );
    }
    if route.deliver == Deliver::Cookie && !accepts(Scheme::Cookie) {
        found.note(
            "deliver",
            "a cookie is set but not accepted",
            "add \"cookie\" to accept",
        );
    }
}

fn check_path(field: &str, path: &str, found: &mut Problems) {
    let bytes_good = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\' | b'*'));
    if !path.starts_with('/') || !bytes_good {
        found.note(
            field,
            format!("{path:?} is no path"),
            "begin with /, without query, fragment and wildcard",
        );
    } else if path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
        found.note(
            field,
            format!("{path:?} is never requested: Envoy normalises paths"),
            "write it in normal form",
        );
    }
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Whether the first route matches everything that the second matches.
fn covers(first: &Route, second: &Route) -> bool {
    let host = match (&first.host, &second.host) {
        (None, _) => true,
        (Some(first), Some(second)) => first.eq_ignore_ascii_case(second),
        (Some(_), None) => false,
    };
    let methods = first.methods.is_empty()
        || (!second.methods.is_empty() && second.methods.iter().all(|method| first.methods.contains(method)));
    let path = match (&first.path_prefix, &first.path, &second.path_prefix, &second.path) {
        (Some(prefix), None, Some(path), None) | (Some(prefix), None, None, Some(path)) => below(prefix, path),
        (None, Some(first), None, Some(second)) => first == second,
        (_, _, _, _) => false,
    };
    host && methods && path
}

/// Whether a path is the prefix or below it, by whole segments.
fn below(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Notes all that is wrong with the filter's settings.
pub(super) fn check_settings(settings: &FilterSettings, problems: &mut Problems) {
    let FilterSettings {
        cluster,
        timeout: _,
        poll,
        max_staleness,
        clock_skew_seconds,
        subject_header,
        scope_header,
    } = settings;
    if cluster.is_empty() {
        problems.note("filter.cluster", "is empty", "name the Envoy cluster of the broker");
    }
    if poll >= max_staleness {
        problems.note(
            "filter.max_staleness",
            format!("{max_staleness} is not longer than poll ({poll})"),
            "make it several polls long",
        );
    }
    if *clock_skew_seconds > MOST_SKEW {
        problems.note(
            "filter.clock_skew_seconds",
            format!("more than {MOST_SKEW}"),
            "set the clocks by NTP instead",
        );
    }
    for (field, name) in [
        ("filter.subject_header", subject_header),
        ("filter.scope_header", scope_header),
    ] {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let reserved = [
            "authorization",
            "cookie",
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
        ];
        if name.is_empty() || !name.bytes().all(good) || reserved.contains(&name.as_str()) {
            problems.note(
                field,
                format!("{name:?} may not carry an identity"),
                "write a name such as \"x-subject\"",
            );
        }
    }
    if subject_header == scope_header {
        problems.note(
            "filter.scope_header",
            "is the subject_header too",
            "give it a name of its own",
        );
    }
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
            ("", "route[0].path_prefix: is missing"),
            (
                "path = \"/\"\npath_prefix = \"/\"",
                "route[0].path: stands beside path_prefix",
            ),
            ("path = \"orders\"", "route[0].path: \"orders\" is no path"),
            ("path = \"/a?b\"", "route[0].path: \"/a?b\" is no path"),
            ("path = \"/a/../b\"", "route[0].path: \"/a/../b\" is never requested"),
            ("path = \"/\"\nhost = \"https://a\"", "route[0].host: \"https://a\""),
            ("path = \"/\"\nhost = \"a:80\"", "route[0].host: \"a:80\""),
            ("path = \"/\"\nmethods = [\"get\"]", "route[0].methods: \"get\""),
            ("path = \"/\"\nname = \"a b\"", "route[0].name: \"a b\""),
            (
                "path = \"/\"\nscopes_all = [\"write\"]",
                "route[0].scopes_all: no grant gives \"write\"",
            ),
            (
                "path = \"/\"\ndeliver = \"cookie\"",
                "route[0].deliver: a cookie is set but not accepted",
            ),
            (
                "path = \"/\"\naccess = \"open\"",
                "route[0].accept: means nothing on an open route",
            ),
        ] {
            let found = with(extra);
            assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
        }
        let found = problems("[[route]]\npath = \"/\"\naccept = [\"bearer\"]\ndeliver = \"header\"");
        assert!(found[0].starts_with("route[0].audience: is missing"), "{found:#?}");
        assert!(
            found[1].starts_with("route[0].deliver: no token is minted"),
            "{found:#?}"
        );
        let found = problems("[[route]]\npath = \"/\"\naudience = \"orders\"");
        assert!(found[0].starts_with("route[0].accept: accepts nothing"), "{found:#?}");
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
            ("poll = \"5m\"", "filter.max_staleness"),
            ("clock_skew_seconds = 301", "filter.clock_skew_seconds"),
            ("subject_header = \"authorization\"", "filter.subject_header"),
            ("subject_header = \"X-Who\"", "filter.subject_header"),
            (
                "subject_header = \"x-a\"\nscope_header = \"x-a\"",
                "filter.scope_header",
            ),
        ] {
            let found = problems(&format!("{route}{line}"));
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with(start), "{found:#?}");
        }
    }
}
