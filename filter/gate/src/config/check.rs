//! Collects all that is wrong with a configuration, each with its field.

use std::fmt;

use crate::network::Network;
use crate::pointer::Pointer;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field, as a path: `routes[2].audience`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// All that is wrong with a configuration; at least one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, ConfigProblem { field, problem }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{field}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems while a configuration is built.
#[derive(Default)]
pub(super) struct Check(pub(super) Vec<ConfigProblem>);

impl Check {
    pub(super) fn that(&mut self, holds: bool, field: &str, problem: &str) {
        if !holds {
            self.0.push(ConfigProblem {
                field: field.into(),
                problem: problem.into(),
            });
        }
    }

    pub(super) fn text(&mut self, value: &str, field: &str) {
        let fits = (1..=255).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        self.that(fits, field, "expected 1 to 255 visible ASCII characters");
    }

    /// A name for logs and statistics.
    pub(super) fn word(&mut self, value: &str, field: &str, more: &[u8]) {
        let fits = (1..=64).contains(&value.len())
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
        self.that(
            fits,
            field,
            "expected 1 to 64 of letters, digits, \"_\", \"-\", in a route's name also \".\"",
        );
    }

    pub(super) fn pointer(&mut self, value: &str, field: &str) -> Pointer {
        let pointer = Pointer::parse(value);
        self.that(
            pointer.is_some(),
            field,
            "expected a claim's name, or a JSON pointer such as \"/realm_access/roles\" (RFC 6901), at most 8 deep",
        );
        pointer.unwrap_or_default()
    }

    pub(super) fn networks(&mut self, values: &[String], field: &str) -> Vec<Network> {
        let mut networks = Vec::with_capacity(values.len());
        for (place, value) in values.iter().enumerate() {
            let network = Network::parse(value);
            self.that(
                network.is_some(),
                &format!("{field}[{place}]"),
                "expected a network such as \"10.0.0.0/8\" without bits beyond its length, or one address",
            );
            networks.extend(network);
        }
        networks
    }

    /// The place of a call: cluster, authority and path.
    pub(super) fn place(&mut self, cluster: &str, authority: &str, path: &str, at: &str) {
        self.text(cluster, &format!("{at}.cluster"));
        self.text(authority, &format!("{at}.authority"));
        self.text(path, &format!("{at}.path"));
        self.that(
            path.starts_with('/'),
            &format!("{at}.path"),
            "expected a path that begins with \"/\"",
        );
    }
}
