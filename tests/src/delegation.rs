//! Runs a realm with constrained delegation on either kind of KDC, with the same people, services and rights on both, so that
//! one suite of scenarios holds for both.
//!
//! | account | may |
//! |---|---|
//! | [`BRIDGE`] | act for anybody towards [`LEGACY`] |
//! | [`KERBEROS_ONLY`] | the same, but only for who showed it a ticket: no protocol transition |
//! | [`NO_TARGETS`] | protocol transition, towards nobody |
//! | [`RESOURCE_BASED`] | nothing by itself; [`LEGACY`] names it as one that may act towards it, where the KDC has that |
//! | [`NAMELESS`] | what [`BRIDGE`] may, in MIT's realm; in a domain nothing, for want of a service principal name |
//! | [`SENSITIVE`] | not be acted for |
//! | [`DISABLED`], [`EXPIRED`] | nothing any more |
//!
//! What the two kinds make of it: MIT's directory has no resource-based delegation, for which there is a realm of its own
//! ([`DelegationRealm::start_resource_based`]), and Samba 4.17 keeps it and does not look at it; Samba 4.17 has a group of protected users and issues tickets for them to others as for anybody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::HarnessError;
use crate::kdc::{Ccache, Kdc};
use crate::samba::{Plan, SERVICE_ACCOUNT, Samba};

/// Two people who may be acted for; they have passwords for [`Kdc::kinit`].
pub const USERS: [&str; 2] = ["alice", "bob"];
/// Somebody for whom nobody may act: `-allow_forwardable`, "account is sensitive and cannot be delegated".
pub const SENSITIVE: &str = "sensitive";
/// Somebody whose account is closed.
pub const DISABLED: &str = "disabled";
/// Somebody whose account has ended.
pub const EXPIRED: &str = "expired";

/// In a domain, a machine: its account is this with a `$` at the end.
pub const MACHINE: &str = "WS01";
/// In a domain, somebody whose name has a letter beyond ASCII.
pub const ACCENTED: &str = "élise";

/// The account of a broker that has all rights that it needs.
pub const BRIDGE: &str = "bridge";
/// That of one without protocol transition.
pub const KERBEROS_ONLY: &str = "bridge-kerberos-only";
/// That of one without targets.
pub const NO_TARGETS: &str = "bridge-no-targets";
/// That of one that its target lets in.
pub const RESOURCE_BASED: &str = "bridge-resource-based";
/// That of one with all rights and without a service principal name, which Active Directory does not take for a service.
pub const NAMELESS: &str = "bridge-nameless";
const BRIDGES: [&str; 5] = [BRIDGE, KERBEROS_ONLY, NO_TARGETS, RESOURCE_BASED, NAMELESS];

/// The service whose tickets the broker accepts: curl makes the name of the URL's host.
pub const ACCEPTOR: &str = "HTTP/localhost";
/// The service that takes Kerberos only.
pub const LEGACY: &str = "HTTP/legacy.lab.test";
/// Another one, towards which nobody may act.
pub const OTHER: &str = "HTTP/other.lab.test";
/// In a domain, further names of the accounts of [`BRIDGE`] and [`ACCEPTOR`], towards which the first may act.
pub const ALIASES: [&str; 2] = ["HTTP/second-name.lab.test", "HTTP/third-name.lab.test"];
/// A service that there is not.
pub const UNKNOWN: &str = "HTTP/nowhere.lab.test";

/// Kinds of KDC that have constrained delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MIT's, with its realm `LAB.TEST` in a directory. Ready in half a second.
    Mit,
    /// Samba's domain `AD.TEST`. Takes some seconds, and root.
    Samba,
}

/// The beginning of the table `[delegation]` of `kerbridge.toml`: the account by which the broker acts for users.
#[must_use]
pub fn table(principal: &str, keytab: &Path) -> String {
    format!("[delegation]\nprincipal = {principal:?}\nkeytab = {keytab:?}\n")
}

/// A realm of its own. What it is made of ends with it.
#[derive(Debug)]
pub struct DelegationRealm {
    kdc: RunningKdc,
}

#[derive(Debug)]
enum RunningKdc {
    Mit(Box<Kdc>),
    Samba(Box<Samba>),
}

impl DelegationRealm {
    /// Starts a realm with the accounts of this module, and `crowd` more users: [`crowd_member`].
    ///
    /// # Errors
    ///
    /// As [`Kdc::start`] and [`Samba::start`].
    pub fn start(kind: Kind, crowd: usize) -> Result<Self, HarnessError> {
        let kdc = match kind {
            Kind::Mit => RunningKdc::Mit(Box::new(mit(crowd)?)),
            Kind::Samba => RunningKdc::Samba(Box::new(Samba::start(plan(crowd))?)),
        };
        Ok(Self { kdc })
    }

    /// The same with more in the plan, where the kind is one that has a plan.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::start`].
    pub fn start_with(kind: Kind, more: impl FnOnce(&mut Plan)) -> Result<Self, HarnessError> {
        match kind {
            Kind::Mit => Self::start(kind, 0),
            Kind::Samba => {
                let mut plan = plan(0);
                more(&mut plan);
                let kdc = RunningKdc::Samba(Box::new(Samba::start(plan)?));
                Ok(Self { kdc })
            }
        }
    }

    /// The same on MIT's KDC with a database in which services say who may act towards them: [`LEGACY`] names
    /// [`RESOURCE_BASED`] and nobody else.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::start`], and [`Kdc::take_resource_based`].
    pub fn start_resource_based() -> Result<Self, HarnessError> {
        let mut kdc = mit(0)?;
        kdc.take_resource_based()?;
        kdc.let_act(LEGACY, RESOURCE_BASED)?;
        Ok(Self {
            kdc: RunningKdc::Mit(Box::new(kdc)),
        })
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.kdc {
            RunningKdc::Mit(_) => Kind::Mit,
            RunningKdc::Samba(_) => Kind::Samba,
        }
    }

    /// The realm as its clients see it: their krb5.conf, and `kinit`.
    #[must_use]
    pub fn clients(&self) -> &Kdc {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc,
            RunningKdc::Samba(samba) => samba.clients(),
        }
    }

    /// The folder with everything that belongs to the realm: what [`Kdc::attach`] takes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.clients().folder()
    }

    /// The realm's name.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.clients().realm()
    }

    /// The name with the realm: of people, accounts and services.
    #[must_use]
    pub fn principal(&self, name: &str) -> String {
        format!("{name}@{}", self.realm())
    }

    /// The keytab of one of the bridges, of [`ACCEPTOR`], [`LEGACY`] or [`OTHER`].
    #[must_use]
    pub fn keytab(&self, name: &str) -> PathBuf {
        self.folder().join(keytab_file(name))
    }

    /// The beginning of the table by which a broker's configuration names one of the bridges.
    #[must_use]
    pub fn table(&self, bridge: &str) -> String {
        table(&self.principal(bridge), &self.keytab(bridge))
    }

    /// Logs a user in, with a cache of its own.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kinit`].
    pub fn kinit(&self, user: &str) -> Result<Ccache, HarnessError> {
        self.clients().kinit(user)
    }

    /// How many requests the KDC has answered so far, refused ones too.
    #[must_use]
    pub fn requests(&self) -> usize {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.requests(),
            RunningKdc::Samba(samba) => samba.requests(),
        }
    }

    /// The processes that are the KDC.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.pids(),
            RunningKdc::Samba(samba) => vec![samba.pid()],
        }
    }

    /// Lets one of the bridges act for users towards a service, from now on.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn allow(&self, bridge: &str, target: &str) -> Result<(), HarnessError> {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.allow_delegation(bridge, target),
            RunningKdc::Samba(samba) => samba.change(&Plan {
                added: vec![target_of(bridge, target)],
                ..Plan::default()
            }),
        }
    }

    /// Takes that right away. Tickets that were issued stay good.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn forbid(&self, bridge: &str, target: &str) -> Result<(), HarnessError> {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.forbid_delegation(bridge, target),
            RunningKdc::Samba(samba) => samba.change(&Plan {
                removed: vec![target_of(bridge, target)],
                ..Plan::default()
            }),
        }
    }

    /// Where the KDC listens.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] or [`HarnessError::UnexpectedAnswer`].
    pub fn address(&self) -> Result<SocketAddr, HarnessError> {
        let path = self.clients().krb5_config();
        let text = std::fs::read_to_string(path)
            .map_err(|source| HarnessError::io(format!("read {}", path.display()), source))?;
        let place = text.lines().find_map(|line| line.strip_prefix("kdc = ")?.parse().ok());
        place.ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "the KDC's place in its clients' krb5.conf".to_owned(),
            answer: text.clone(),
        })
    }

    /// Gives the account of [`ACCEPTOR`] a new key, and returns a keytab of it. Keytabs that were made before do not follow.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn rekey_acceptor(&self, keytab: &str) -> Result<PathBuf, HarnessError> {
        let path = self.folder().join(keytab);
        match &self.kdc {
            RunningKdc::Mit(kdc) => {
                kdc.rotate_key(ACCEPTOR)?;
                kdc.extract_keytab(&[ACCEPTOR], &path)?;
            }
            RunningKdc::Samba(samba) => samba.change(&Plan {
                rekeyed: vec![SERVICE_ACCOUNT.to_owned()],
                keytabs: vec![(ACCEPTOR.to_owned(), keytab.to_owned())],
                ..Plan::default()
            })?,
        }
        Ok(path)
    }

    /// Gives the account of [`ACCEPTOR`] another name in its place, as if it had been registered so; its key and keytabs of it stay.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn rename_acceptor(&self, name: &str) -> Result<(), HarnessError> {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.kadmin(&format!("renprinc -force {ACCEPTOR} {name}")).map(drop),
            RunningKdc::Samba(samba) => samba.change(&Plan {
                attributes: vec![
                    [SERVICE_ACCOUNT, "servicePrincipalName", name]
                        .map(str::to_owned)
                        .into(),
                ],
                ..Plan::default()
            }),
        }
    }

    /// The security identifier of a group, in a domain.
    #[must_use]
    pub fn sid(&self, group: &str) -> Option<&str> {
        match &self.kdc {
            RunningKdc::Mit(_) => None,
            RunningKdc::Samba(samba) => samba.sid(group).ok(),
        }
    }

    /// Closes somebody's account, as an administrator does.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn disable(&self, user: &str) -> Result<(), HarnessError> {
        match &self.kdc {
            RunningKdc::Mit(kdc) => kdc.modify(user, "-allow_tix"),
            RunningKdc::Samba(samba) => samba.change(&Plan {
                attributes: vec![controlled(user, control::DISABLED)],
                ..Plan::default()
            }),
        }
    }

    /// Starts the KDC again, once it has ended, at its old place.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::start`].
    pub fn start_again(&mut self) -> Result<(), HarnessError> {
        match &mut self.kdc {
            RunningKdc::Mit(kdc) => kdc.start_again(),
            RunningKdc::Samba(samba) => samba.start_again(),
        }
    }

    /// Ends the KDC before its owner does: tickets that were issued stay good, new ones are not to be had.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it does not end.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        match &mut self.kdc {
            RunningKdc::Mit(kdc) => kdc.stop(),
            RunningKdc::Samba(samba) => samba.stop(),
        }
    }
}

/// The name of a user of the crowd, from 0.
#[must_use]
pub fn crowd_member(number: usize) -> String {
    format!("user-{number:03}")
}

/// Its keytab's name in [`DelegationRealm::folder`].
#[must_use]
pub fn keytab_file(name: &str) -> String {
    format!("{}.keytab", name.replace('/', "-"))
}

fn people(crowd: usize) -> Vec<String> {
    let named = USERS.into_iter().chain([SENSITIVE, DISABLED, EXPIRED]);
    named.map(str::to_owned).chain((0..crowd).map(crowd_member)).collect()
}

fn mit(crowd: usize) -> Result<Kdc, HarnessError> {
    let kdc = Kdc::start_with_directory("LAB.TEST")?;
    let people = people(crowd);
    kdc.add_users(&people)?;
    let services = BRIDGES.into_iter().chain([ACCEPTOR, LEGACY, OTHER]);
    let mut lines = String::new();
    for service in services.clone() {
        let keytab = kdc.folder().join(keytab_file(service));
        lines.push_str(&format!(
            "addprinc -randkey \"{service}\"\nktadd -norandkey -k \"{}\" \"{service}\"\n",
            keytab.display()
        ));
    }
    for bridge in [BRIDGE, NO_TARGETS, RESOURCE_BASED, NAMELESS] {
        lines.push_str(&format!("modprinc +ok_to_auth_as_delegate \"{bridge}\"\n"));
    }
    lines.push_str(&format!(
        "modprinc -allow_forwardable {SENSITIVE}\nmodprinc -allow_tix {DISABLED}\nmodprinc -expire 2020-01-01 {EXPIRED}\n"
    ));
    kdc.kadmin(&lines)?;
    for bridge in [BRIDGE, KERBEROS_ONLY, NAMELESS] {
        kdc.allow_delegation(bridge, LEGACY)?;
    }
    Ok(kdc)
}

/// Bits of `userAccountControl` (MS-ADTS §2.2.16).
mod control {
    pub(super) const NORMAL: u32 = 0x200;
    pub(super) const DISABLED: u32 = 0x2;
    pub(super) const NOT_DELEGATED: u32 = 0x10_0000;
    pub(super) const TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION: u32 = 0x100_0000;
}

fn plan(crowd: usize) -> Plan {
    let mut plan = Plan {
        users: people(crowd),
        computers: vec![MACHINE.to_owned()],
        ..Plan::default()
    };
    for (account, bits) in [
        (SENSITIVE, control::NOT_DELEGATED),
        (DISABLED, control::DISABLED),
        (BRIDGE, control::TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION),
        (NO_TARGETS, control::TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION),
        (RESOURCE_BASED, control::TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION),
        (NAMELESS, control::TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION),
    ] {
        plan.attributes.push(controlled(account, bits));
    }
    plan.users.push(ACCENTED.to_owned());
    // A tenth of a microsecond after the beginning of 1601.
    plan.attributes
        .push([EXPIRED, "accountExpires", "1"].map(str::to_owned).into());
    // An account without a service principal name cannot be asked tickets for, and so asks none for others to itself.
    let bridges = BRIDGES.map(|bridge| (bridge, format!("kerbridge/{bridge}"), bridge));
    let services = [("legacy", LEGACY), ("other", OTHER)].map(|(account, name)| (account, name.to_owned(), name));
    for (account, service, principal) in bridges.into_iter().chain(services) {
        plan.users.push(account.to_owned());
        if account != NAMELESS {
            // AES alone (MS-KILE §2.2.7): without it the account's keys are RC4.
            for (attribute, value) in [
                ("msDS-SupportedEncryptionTypes", "24"),
                ("servicePrincipalName", service.as_str()),
            ] {
                plan.attributes
                    .push([account, attribute, value].map(str::to_owned).into());
            }
            plan.rekeyed.push(account.to_owned());
        }
        plan.keytabs.push((principal.to_owned(), keytab_file(principal)));
    }
    plan.keytabs.push((ACCEPTOR.to_owned(), keytab_file(ACCEPTOR)));
    plan.added = [BRIDGE, KERBEROS_ONLY, NAMELESS]
        .map(|bridge| target_of(bridge, LEGACY))
        .into();
    for (account, alias) in [BRIDGE, SERVICE_ACCOUNT].into_iter().zip(ALIASES) {
        plan.added
            .push([account, "servicePrincipalName", alias].map(str::to_owned).into());
        plan.added.push(target_of(BRIDGE, alias));
    }
    plan.resource_delegates
        .push(("legacy".to_owned(), RESOURCE_BASED.to_owned()));
    plan
}

fn controlled(account: &str, bits: u32) -> (String, String, String) {
    let bits = (control::NORMAL | bits).to_string();
    [account, "userAccountControl", &bits].map(str::to_owned).into()
}

fn target_of(bridge: &str, target: &str) -> (String, String, String) {
    [bridge, "msDS-AllowedToDelegateTo", target].map(str::to_owned).into()
}

#[cfg(test)]
mod tests;
