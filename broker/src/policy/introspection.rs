//! Decides which client may ask what a token says: a service about tokens that are for it.

use std::collections::BTreeSet;

use kerbridge_wire::clients::IntrospectionRule;
use kerbridge_wire::policy as raw;

use super::exchange::check_clients;
use super::{Audience, Policy, numbered};
use crate::problem::Problems;
use crate::subject_token::VerifiedToken;

/// One `[[introspection]]` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    clients: BTreeSet<Box<str>>,
    audiences: BTreeSet<Box<str>>,
}

impl Policy {
    /// Whether a line lets this client know what the token says.
    pub fn may_look_at(&self, token: &VerifiedToken, client: &str) -> bool {
        let mut lines = self.introspections.iter();
        lines.any(|line| line.clients.contains(client) && line.audiences.iter().any(|audience| token.is_for(audience)))
    }

    /// The audiences whose tokens somebody may look at, each once.
    pub(super) fn audiences_looked_at(&self) -> BTreeSet<&str> {
        let audiences = self.introspections.iter().flat_map(|line| &line.audiences);
        audiences.map(AsRef::as_ref).collect()
    }
}

/// The lines, or notes all that is wrong with them.
pub(super) fn build(file: &raw::Policy, audiences: &[Audience], problems: &mut Problems) -> Vec<Line> {
    let mut lines = Vec::new();
    let list = &file.introspection;
    for (index, line) in numbered(list, "introspection", "name several clients in a line", problems) {
        let IntrospectionRule {
            clients,
            audiences: names,
        } = line;
        check_clients(clients, &format!("introspection[{index}].clients"), problems);
        if names.is_empty() {
            problems.note(
                format!("introspection[{index}].audiences"),
                "names none",
                "name the audiences whose services the clients are",
            );
        }
        for (at, name) in names.iter().enumerate() {
            if !audiences.iter().any(|known| known.name == *name) {
                problems.note(
                    format!("introspection[{index}].audiences[{at}]"),
                    format!("{name:?} is no audience of this file"),
                    "correct the name or add the [[audience]]",
                );
            }
        }
        let texts = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        lines.push(Line {
            clients: texts(clients),
            audiences: texts(names),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict_toml;

    fn build(line: &str) -> Result<Policy, Vec<String>> {
        let text = format!(
            r#"
            audience = [{{ name = "orders" }}, {{ name = "billing" }}]
            grant = [{{ principals = ["*@A.TEST"], audience = "orders" }}]
            route = [{{ path = "/", access = "open" }}]
            introspection = [{line}]"#
        );
        let mut problems = Problems::default();
        let file: raw::Policy = strict_toml::read(&text, &mut problems).unwrap();
        Policy::build(&file, &mut problems).ok_or_else(|| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_looks_at_tokens_that_are_for_it_and_at_no_others() {
        let token = VerifiedToken::for_test("alice@A.TEST", None, &[]);
        for (line, client, may) in [
            (r#"{ clients = ["o"], audiences = ["orders"] }"#, "o", true),
            (r#"{ clients = ["o"], audiences = ["billing", "orders"] }"#, "o", true),
            (r#"{ clients = ["o"], audiences = ["billing"] }"#, "o", false),
            (r#"{ clients = ["o"], audiences = ["orders"] }"#, "b", false),
            ("", "o", false),
        ] {
            assert_eq!(build(line).unwrap().may_look_at(&token, client), may, "{line} {client}");
        }
    }

    #[test]
    fn each_mistake_is_named_with_field_and_remedy() {
        for (line, expected) in [
            (
                r#"{ clients = [], audiences = ["orders"] }"#,
                "introspection[0].clients: names nobody; name",
            ),
            (
                r#"{ clients = ["*"], audiences = ["orders"] }"#,
                "introspection[0].clients[0]: \"*\" is no client",
            ),
            (
                r#"{ clients = ["o"], audiences = [] }"#,
                "introspection[0].audiences: names none; name",
            ),
            (
                r#"{ clients = ["o"], audiences = ["orders", "x"] }"#,
                "introspection[0].audiences[1]: \"x\" is no audience of this file; correct",
            ),
        ] {
            let found = build(line).unwrap_err();
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{expected}: {found:#?}"
            );
        }
    }
}
