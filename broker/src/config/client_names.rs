//! Decides which clients that the mesh's authority vouches for are taken, by the name in their certificate.

use std::collections::BTreeSet;

use super::{ListenerName, is_client_name};
use crate::problem::{Problem, Problems};

/// Whose certificates are taken, beside being signed by `client_ca`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientNames {
    /// Everybody's.
    All,
    /// Theirs whose name, as it becomes `client_id`, is one of these.
    Listed(BTreeSet<String>),
}

impl ClientNames {
    /// Whether a client of this name is taken.
    pub fn take(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => names.contains(name),
        }
    }

    /// What an operator should know of a mesh that is reached over TLS.
    pub(super) fn warning(&self) -> Option<Problem> {
        match self {
            Self::All => Some(Problem {
                field: "listen.mesh.client_names".into(),
                problem: "is absent, so that every certificate of client_ca is a client of the mesh".into(),
                remedy: "list the names in the proxies' certificates".into(),
            }),
            Self::Listed(_) => None,
        }
    }
}

/// `over_tls`: whether there are client certificates at all.
pub(super) fn check(
    listener: ListenerName,
    given: Option<Vec<String>>,
    over_tls: bool,
    problems: &mut Problems,
) -> Option<ClientNames> {
    let field = format!("listen.{listener}.client_names");
    let Some(given) = given else {
        return Some(ClientNames::All);
    };
    if !matches!(listener, ListenerName::Mesh | ListenerName::Public) || !over_tls {
        problems.note(field, "is for listen.mesh and listen.public over TLS only", "remove it");
        return None;
    }
    if given.is_empty() {
        problems.note(
            field,
            "names nobody",
            "list the names in the proxies' certificates, such as [\"envoy.example.com\"]",
        );
        return None;
    }
    let mut names = BTreeSet::new();
    for (index, name) in given.into_iter().enumerate() {
        if is_client_name(&name) {
            names.insert(name);
        } else {
            problems.note(
                format!("{field}[{index}]"),
                format!("{name:?} cannot be a client's name"),
                "write the first DNS name of the certificate, or where it has none its first URI: 1 to 128 visible ASCII \
                 characters",
            );
        }
    }
    Some(ClientNames::Listed(names))
}
