//! Decides which groups somebody is in, from the one source that is configured, or refuses: no answer is never "none".

pub mod directory;
pub mod pac;
pub mod sid;
mod static_groups;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kerbridge_gss::attribute::LogonInfo;
use kerbridge_wire::Reason;
use tokio::time::Instant;

pub use static_groups::StaticGroups;

use self::directory::{Account, Directory, DirectoryCounters, FindBy};
use self::pac::LogonGroups;
use self::sid::Sid;
use crate::acceptor::Accepted;
use crate::ldap::LdapError;
use crate::time::UnixTime;

/// Longest name of a group, in bytes.
pub const LONGEST_NAME: usize = 255;

/// Names of the groups that somebody is in; compared letter for letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSet(BTreeSet<Box<str>>);

impl GroupSet {
    /// Whether this is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<Box<str>>> FromIterator<T> for GroupSet {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

/// What becomes of a group whose identifier has no name in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmapped {
    /// It is left out.
    #[default]
    Drop,
    /// Its name is the identifier's text.
    Sid,
}

/// The names of security identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidNames {
    /// Two identifiers may have one name.
    pub names: BTreeMap<Sid, String>,
    /// What becomes of others.
    pub unmapped: Unmapped,
}

impl SidNames {
    fn name(&self, sid: &Sid) -> Option<Box<str>> {
        match (self.names.get(sid), self.unmapped) {
            (Some(name), Unmapped::Drop | Unmapped::Sid) => Some(name.as_str().into()),
            (None, Unmapped::Sid) => Some(sid.to_string().into()),
            (None, Unmapped::Drop) => None,
        }
    }
}

/// What the policy wants to know of a client's groups.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whether the audience asks for a group.
    pub by_audience: bool,
    /// All groups for which any audience asks: an answer for one is kept for the others.
    pub names: &'a BTreeSet<Box<str>>,
}

/// Where groups come from.
#[derive(Clone, Debug, Default)]
pub enum GroupSource {
    /// From nowhere: nobody is in any group.
    #[default]
    None,
    /// From a file of principals.
    Static(StaticGroups),
    /// From the ticket's PAC.
    Pac(SidNames),
    /// From a directory, by LDAP.
    Directory(Directory),
}

/// Why nobody knows which groups somebody is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupsError {
    /// The ticket has no PAC, or one without logon information.
    NoPac,
    /// The PAC's signatures were not verified.
    Unverified,
    /// The PAC cannot be read, or names more groups than are read.
    Malformed,
    /// The PAC does not say which account it is about.
    Nameless,
    /// The directory did not answer within the exchange's deadline.
    TooSlow,
    /// The directory gave no answer that can be used.
    Directory(LdapError),
    /// The directory does not know the account.
    NoAccount,
    /// The directory knows more than one such account.
    SeveralAccounts,
    /// The directory says that the account is closed.
    Closed(Closed),
    /// The account may be on another server, to which the directory points.
    AccountElsewhere,
    /// So many groups of the account, or places where it may have some, cannot be looked at.
    Elsewhere(usize),
    /// More than one group has this name, or the group has more than one.
    Ambiguous(Box<str>),
    /// Groups are in groups more often than is followed.
    TooDeep,
}

/// How an account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// By somebody who may.
    Disabled,
    /// Its time has come.
    Expired,
    /// By too many wrong passwords.
    LockedOut,
}

impl GroupsError {
    /// The word of the closed list.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoPac
            | Self::Unverified
            | Self::Malformed
            | Self::Nameless
            | Self::TooSlow
            | Self::Directory(_)
            | Self::AccountElsewhere
            | Self::Elsewhere(_)
            | Self::Ambiguous(_)
            | Self::TooDeep => Reason::GroupsUnavailable,
            // An answer, and a good one: asking again changes nothing.
            Self::NoAccount | Self::SeveralAccounts | Self::Closed(_) => Reason::PrincipalNotMapped,
        }
    }
}

impl From<LdapError> for GroupsError {
    fn from(error: LdapError) -> Self {
        Self::Directory(error)
    }
}

impl fmt::Display for GroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPac => "the ticket has no pac with groups, which groups.source needs",
            Self::Unverified => "the pac's signatures were not verified",
            Self::Malformed => "the pac's logon information cannot be read, or names too many groups",
            Self::Nameless => "the pac does not say which account of its domain it is about",
            Self::TooSlow => "the directory did not answer within limits.deadline",
            Self::Directory(error) => return error.fmt(f),
            Self::NoAccount => "the directory does not know the account",
            Self::SeveralAccounts => "the directory knows more than one such account",
            Self::Closed(Closed::Disabled) => "the directory says that the account is disabled",
            Self::Closed(Closed::Expired) => "the directory says that the account has expired",
            Self::Closed(Closed::LockedOut) => "the directory says that the account is locked out",
            Self::AccountElsewhere => {
                "the directory does not know the account and points to other servers, which are not asked"
            }
            Self::Elsewhere(count) => {
                return write!(
                    f,
                    "{count} groups, or places with groups, of the account are outside of groups.ldap.group_base or on other \
                     servers (groups.ldap.elsewhere = \"ignore\" leaves them out)"
                );
            }
            Self::Ambiguous(name) => {
                return write!(f, "more than one group of the directory is called {name:?}, or it has other names too");
            }
            Self::TooDeep => "groups are nested deeper than is followed",
        })
    }
}

impl std::error::Error for GroupsError {}

impl GroupSource {
    /// Whether anybody can be in a group of this name.
    pub fn may_give(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Static(groups) => groups.has(name),
            Self::Pac(names) => {
                names.names.values().any(|one| one == name)
                    || (names.unmapped == Unmapped::Sid && name.parse::<Sid>().is_ok())
            }
            Self::Directory(_) => name.parse::<Sid>().is_err(),
        }
    }

    /// What stands in the way of a group that nobody can be in.
    pub const fn why_not(&self) -> &'static str {
        match self {
            Self::None => "groups.source is \"none\"",
            Self::Static(_) => "groups.static_file does not have it",
            Self::Pac(_) => "groups.sid_names gives no identifier that name",
            Self::Directory(_) => "a directory gives names, and no identifiers",
        }
    }

    /// The same, where a directory is asked with what it does counted here.
    #[must_use]
    pub fn counted_by(&self, counters: DirectoryCounters) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory.counted_by(counters)),
            Self::None | Self::Static(_) | Self::Pac(_) => self.clone(),
        }
    }

    /// The groups of an accepted client. A directory is asked only where its answer matters, and until the deadline.
    pub async fn groups_of(
        &self,
        accepted: &Accepted,
        wanted: Wanted<'_>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<GroupSet, GroupsError> {
        match self {
            Self::None => Ok(GroupSet::default()),
            Self::Static(groups) => Ok(groups.of(accepted.client())),
            Self::Pac(names) => {
                let LogonGroups { groups, .. } = logon_groups(accepted.logon_info())?;
                Ok(groups.iter().filter_map(|sid| names.name(sid)).collect())
            }
            Self::Directory(directory) if wanted.by_audience || directory.config().check_account => {
                let account = account_of(accepted, &directory.config().find_by)?;
                directory.groups_of(&account, wanted.names, now, deadline).await
            }
            Self::Directory(_) => Ok(GroupSet::default()),
        }
    }
}

/// How a directory finds an accepted client.
fn account_of<'a>(accepted: &Accepted, find_by: &'a FindBy) -> Result<Account<'a>, GroupsError> {
    if *find_by == FindBy::Sid {
        let LogonGroups { user, .. } = logon_groups(accepted.logon_info())?;
        return user.map(Account::Sid).ok_or(GroupsError::Nameless);
    }
    Account::of(accepted.client(), find_by).ok_or(GroupsError::NoAccount)
}

/// Whether the account behind a ticket is a machine's or a managed service's, by what its PAC says. Without one nobody says so.
pub fn is_machine(info: &LogonInfo) -> bool {
    logon_groups(info).is_ok_and(|logon| logon.account.ends_with('$'))
}

fn logon_groups(info: &LogonInfo) -> Result<LogonGroups, GroupsError> {
    match info {
        LogonInfo::NotRead | LogonInfo::Absent => Err(GroupsError::NoPac),
        LogonInfo::Unverified => Err(GroupsError::Unverified),
        LogonInfo::TooLong => Err(GroupsError::Malformed),
        LogonInfo::Verified(bytes) => LogonGroups::read(bytes).map_err(|_| GroupsError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::pac::tests::Written;

    fn of(source: &GroupSource, info: LogonInfo) -> Result<Vec<String>, GroupsError> {
        let alice = crate::principal::canonical("alice@A.TEST").unwrap();
        let accepted = Accepted::for_test(alice).with_logon_info(info);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = BTreeSet::new();
        let wanted = Wanted {
            by_audience: true,
            names: &names,
        };
        let groups = source.groups_of(&accepted, wanted, UnixTime::from_seconds(2000), Instant::now());
        let groups = runtime.block_on(groups)?;
        Ok(groups.iter().map(str::to_owned).collect())
    }

    fn pac(unmapped: Unmapped) -> GroupSource {
        let names = [
            ("S-1-5-21-1-2-3-1200", "clerks"),
            ("S-1-5-21-7-8-9-1500", "clerks"),
            ("S-1-5-32-544", "admins"),
        ];
        GroupSource::Pac(SidNames {
            names: names.map(|(sid, name)| (sid.parse().unwrap(), name.to_owned())).into(),
            unmapped,
        })
    }

    #[test]
    fn groups_of_a_pac_have_the_names_of_the_configuration() {
        let info = LogonInfo::Verified(Written::default().bytes());
        assert!(!is_machine(&info) && !is_machine(&LogonInfo::Absent));
        let mut machine = Written::default();
        machine.names[0] = "WS01$";
        assert!(is_machine(&LogonInfo::Verified(machine.bytes())));
        assert_eq!(of(&pac(Unmapped::Drop), info.clone()).unwrap(), ["clerks"]);
        assert_eq!(
            of(&pac(Unmapped::Sid), info).unwrap(),
            ["S-1-18-1", "S-1-5-21-1-2-3-1300", "S-1-5-21-1-2-3-513", "clerks"]
        );
    }

    #[test]
    fn a_pac_that_says_nothing_is_a_refusal_and_no_empty_list() {
        for (info, error) in [
            (LogonInfo::NotRead, GroupsError::NoPac),
            (LogonInfo::Absent, GroupsError::NoPac),
            (LogonInfo::Unverified, GroupsError::Unverified),
            (LogonInfo::TooLong, GroupsError::Malformed),
            (LogonInfo::Verified(b"no ndr".to_vec()), GroupsError::Malformed),
        ] {
            assert_eq!(error.reason(), Reason::GroupsUnavailable);
            assert_eq!(of(&pac(Unmapped::Sid), info.clone()), Err(error), "{info:?}");
            // Nobody's business where groups come from elsewhere.
            assert_eq!(of(&GroupSource::None, info), Ok(Vec::new()));
        }
    }

    #[test]
    fn only_a_source_that_needs_it_reads_the_pac() {}
}
