//! Decides which clients that the mesh's authority vouches for are taken, by the name in their certificate.

use std::collections::BTreeSet;

use std::fmt;

use super::{ListenerName, is_client_name};
use crate::problem::{Problem, Problems};

/// Why no client has a name that is written where clients are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoClient {
    /// It cannot be a name.
    Form,
    /// It wants to be a pattern, and there are none.
    Pattern,
    /// So the broker calls those who have not said who they are.
    Nameless(ListenerName),
}

impl fmt::Display for NoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("cannot be a client's name"),
            Self::Pattern => f.write_str("is no client: names are compared as they stand, and none stands for several"),
            Self::Nameless(listener) => write!(
                f,
                "is what callers of listen.{listener} are called that have not said who they are"
            ),
        }
    }
}

/// Whether a client that says who it is can have this name.
pub(crate) fn unfit(name: &str) -> Option<NoClient> {
    if !is_client_name(name) {
        return Some(NoClient::Form);
    }
    // The names of certificates may begin so, and are compared whole.
    if name.strip_prefix("*.").unwrap_or(name).contains('*') {
        return Some(NoClient::Pattern);
    }
    nameless(name).map(NoClient::Nameless)
}

/// The same of a name in the policy, where the callers of a socket may be meant, who are known by having opened it.
pub(crate) fn unfit_in_policy(name: &str) -> Option<NoClient> {
    unfit(name).filter(|why| *why != NoClient::Nameless(ListenerName::Mesh))
}

/// The listener whose nameless callers are called so.
fn nameless(name: &str) -> Option<ListenerName> {
    ListenerName::ALL.into_iter().find(|listener| listener.as_str() == name)
}

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
        self.refusal(name).is_none()
    }

    /// Why a client of this name is not taken. Nobody's certificate makes them one of those who have shown none.
    pub fn refusal(&self, name: &str) -> Option<&'static str> {
        match self {
            Self::All if nameless(name).is_some() => {
                Some("a client certificate has a name that is for those who have shown none")
            }
            Self::Listed(names) if !names.contains(name) => {
                Some("a client certificate is not on the listener's client_names")
            }
            Self::All | Self::Listed(_) => None,
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
        match unfit(&name) {
            None => {
                names.insert(name);
            }
            Some(why) => problems.note(
                format!("{field}[{index}]"),
                format!("{name:?} {why}"),
                "write the first DNS name of the certificate, or where it has none its first URI: 1 to 128 visible ASCII \
                 characters",
            ),
        }
    }
    Some(ClientNames::Listed(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_clients_and_never_what_the_nameless_are_called() {
        for name in [
            "orders.test",
            "spiffe://mesh.test/envoy",
            "*.mesh.test",
            "Public",
            "mesh-1",
            "publics",
        ] {
            assert_eq!((unfit(name), unfit_in_policy(name)), (None, None), "{name}");
            assert!(ClientNames::All.take(name));
        }
        for (name, why) in [
            ("", NoClient::Form),
            ("a b", NoClient::Form),
            ("*", NoClient::Pattern),
            ("**", NoClient::Pattern),
            ("*.*.test", NoClient::Pattern),
            ("orders.*", NoClient::Pattern),
            ("public", NoClient::Nameless(ListenerName::Public)),
            ("observe", NoClient::Nameless(ListenerName::Observe)),
            ("admin", NoClient::Nameless(ListenerName::Admin)),
        ] {
            assert_eq!((unfit(name), unfit_in_policy(name)), (Some(why), Some(why)), "{name}");
        }
        // On a socket it is who opened it, whom the policy may name.
        assert_eq!(unfit("mesh"), Some(NoClient::Nameless(ListenerName::Mesh)));
        assert_eq!(unfit_in_policy("mesh"), None);
    }

    #[test]
    fn no_certificate_makes_its_holder_one_of_the_nameless() {
        for listener in ListenerName::ALL {
            let refused = ClientNames::All.refusal(listener.as_str()).unwrap();
            assert!(refused.contains("those who have shown none"), "{refused}");
        }
        let listed = ClientNames::Listed(BTreeSet::from(["a".to_owned()]));
        assert!(listed.take("a") && !listed.take("b"));
        assert!(listed.refusal("b").unwrap().contains("client_names"));
    }
}
