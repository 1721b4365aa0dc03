//! Makes the realm of a world: who has tickets, which services have keys, and who may act for whom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::REALM;
use crate::delegation::{self, LEGACY};
use crate::error::HarnessError;
use crate::kdc::{Ccache, Kdc};

const USERS: [&str; 2] = ["alice", "bob"];
const ACCEPTOR: &str = "HTTP/localhost";
/// A service whose tickets are not for the broker.
const OTHER: &str = "HTTP/other.localhost";
/// The account by which the broker acts for users.
const BRIDGE: &str = "kerbridge/broker.lab.test";

/// A realm, and what of it a world needs.
pub(super) struct Domain {
    pub(super) kdc: Kdc,
    /// The acceptor's.
    pub(super) keytab: PathBuf,
    pub(super) tickets: BTreeMap<String, Ccache>,
    pub(super) delegation: Option<Delegation>,
}

/// A broker's right to act for users towards [`LEGACY`].
pub(super) struct Delegation {
    /// Of `kerbridge.toml`.
    pub(super) table: String,
    pub(super) service_keytab: PathBuf,
}

impl Domain {
    /// The same with a service that takes Kerberos only.
    pub(super) fn acting(mut self, table: String, service_keytab: PathBuf) -> Self {
        self.delegation = Some(Delegation { table, service_keytab });
        self
    }

    /// A realm that somebody else owns.
    pub(super) fn given(kdc: Kdc, keytab: PathBuf, tickets: BTreeMap<String, Ccache>) -> Self {
        Self {
            kdc,
            keytab,
            tickets,
            delegation: None,
        }
    }
}

/// Where the acceptor's keytab is.
pub(super) fn keytab_in(folder: &Path) -> PathBuf {
    folder.join("http.keytab")
}

/// The lab's own realm, its users logged in.
pub(super) fn plain(folder: &Path) -> Result<Domain, HarnessError> {
    populate(Kdc::start(REALM)?, folder)
}

/// The same with a service that takes Kerberos only, and the right to act for users towards it. It is kept in a directory.
pub(super) fn delegating(folder: &Path) -> Result<Domain, HarnessError> {
    let domain = populate(Kdc::start_with_directory(REALM)?, folder)?;
    let bridge_keytab = folder.join("bridge.keytab");
    let delegation = Delegation {
        table: delegation::table(&format!("{BRIDGE}@{REALM}"), &bridge_keytab),
        service_keytab: folder.join("legacy.keytab"),
    };
    let kdc = &domain.kdc;
    for (service, keytab) in [(BRIDGE, &bridge_keytab), (LEGACY, &delegation.service_keytab)] {
        kdc.add_service(service)?;
        kdc.extract_keytab(&[service], keytab)?;
    }
    kdc.allow_protocol_transition(BRIDGE, true)?;
    kdc.allow_delegation(BRIDGE, LEGACY)?;
    Ok(Domain {
        delegation: Some(delegation),
        ..domain
    })
}

fn populate(kdc: Kdc, folder: &Path) -> Result<Domain, HarnessError> {
    let keytab = keytab_in(folder);
    let mut tickets = BTreeMap::new();
    for service in [ACCEPTOR, OTHER] {
        kdc.add_service(service)?;
    }
    kdc.extract_keytab(&[ACCEPTOR], &keytab)?;
    for user in USERS {
        kdc.add_user(user, &format!("{user} of the lab"))?;
        tickets.insert(user.to_owned(), kdc.kinit(user)?);
    }
    Ok(Domain::given(kdc, keytab, tickets))
}
