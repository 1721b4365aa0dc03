//! Asks a directory which groups somebody is in, for as long as the exchange may take, and keeps good answers for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::sid::Sid;
use super::{GroupSet, GroupsError, LONGEST_NAME};
use crate::ldap::{Connection, Entry, Filter, LdapError, Scope, Search, Server};
use crate::time::UnixTime;

/// Questions at once. More wait, each within its own deadline.
const MOST_AT_ONCE: usize = 16;
/// Answers that are kept.
const MOST_KEPT: usize = 10_000;
/// Groups of one person that are read.
const MOST_GROUPS: usize = 4096;
/// Identifiers in one question for names.
const BATCH: usize = 100;
/// `ACCOUNTDISABLE` in `userAccountControl` (MS-ADTS §2.2.16).
const DISABLED: u32 = 0x2;

/// How the account of a ticket is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindBy {
    /// By the account's identifier in the PAC: nobody else can have it.
    Sid,
    /// By the full principal in this attribute.
    Principal {
        /// Such as `userPrincipalName` or `krbPrincipalName`.
        attribute: String,
    },
}

/// Which groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    /// Those that name the account as a member, and those that name these, and so on, by the directory's own matching rule.
    Chain,
    /// Those that name the account as a member.
    Direct,
    /// Those of the account's `tokenGroups`, which the directory computes as a KDC does: the primary group too.
    TokenGroups,
}

/// What is asked of which directory.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// Where, and who asks.
    pub server: Server,
    /// The distinguished name below which accounts and groups are.
    pub base: String,
    /// How the account is found.
    pub find_by: FindBy,
    /// Which groups count.
    pub nested: Nested,
    /// The attribute that is a group's name.
    pub name_attribute: String,
    /// How long a good answer is kept; zero keeps none.
    pub keep: Duration,
}

/// A directory, and what it said lately.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    config: DirectoryConfig,
    turns: Semaphore,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    until: Instant,
    groups: GroupSet,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.fmt(f)
    }
}

/// Somebody, as the directory can find them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account<'a> {
    Sid(Sid),
    Principal { attribute: &'a str, value: &'a str },
}

impl Directory {
    /// Asks nothing yet.
    pub fn new(config: DirectoryConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            turns: Semaphore::new(MOST_AT_ONCE),
            kept: Mutex::default(),
        }))
    }

    /// How accounts are found.
    pub fn find_by(&self) -> &FindBy {
        &self.0.config.find_by
    }

    /// The groups of an account. An answer that was not given by the deadline is none.
    pub(super) async fn groups_of(
        &self,
        account: &Account<'_>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<GroupSet, GroupsError> {
        let key = match account {
            Account::Sid(sid) => sid.to_string(),
            Account::Principal { value, .. } => (*value).to_owned(),
        };
        if let Some(groups) = self.0.kept(&key, Instant::now()) {
            return Ok(groups);
        }
        let asked = timeout_at(deadline, self.0.ask(account, now, deadline)).await;
        let groups = asked.unwrap_or(Err(GroupsError::TooSlow))?;
        self.0.keep(key, &groups, Instant::now());
        Ok(groups)
    }
}

impl Inner {
    fn kept(&self, key: &str, now: Instant) -> Option<GroupSet> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(key).filter(|kept| now < kept.until);
        found.map(|kept| kept.groups.clone())
    }

    fn keep(&self, key: String, groups: &GroupSet, now: Instant) {
        let Some(until) = now.checked_add(self.config.keep).filter(|until| now < *until) else {
            return;
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, kept| now < kept.until);
        }
        if kept.len() < MOST_KEPT {
            let groups = groups.clone();
            kept.insert(key, Kept { until, groups });
        }
    }

    async fn ask(&self, account: &Account<'_>, now: UnixTime, deadline: Instant) -> Result<GroupSet, GroupsError> {
        // It is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| GroupsError::TooSlow)?;
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        let seconds = u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1);
        let mut connection = Connection::open(&self.config.server).await?;
        let names = self.names(&mut connection, account, now, seconds).await;
        // What was said is not worth less where the good-bye is not heard.
        connection.close().await;
        names
    }

    async fn names(
        &self,
        connection: &mut Connection,
        account: &Account<'_>,
        now: UnixTime,
        seconds: u32,
    ) -> Result<GroupSet, GroupsError> {
        let found = connection.search(&self.account(account), seconds).await?;
        let [entry] = found.as_slice() else {
            return Err(if found.is_empty() {
                GroupsError::NoAccount
            } else {
                GroupsError::SeveralAccounts
            });
        };
        // By an identifier it is Active Directory, which says of every account whether it is open.
        let must_say = match account {
            Account::Sid(_) => true,
            // A directory compares by rules of its own, most often without regard to case.
            Account::Principal { attribute, value } if !is_named(entry.values(attribute), value) => {
                return Err(GroupsError::NoAccount);
            }
            Account::Principal { .. } => false,
        };
        check_open(entry, must_say, now)?;
        let groups = match self.config.nested {
            Nested::Chain => {
                let filter = Filter::InChain("member".to_owned(), entry.name.as_bytes().to_vec());
                connection.search(&self.groups(filter), seconds).await?
            }
            Nested::Direct => {
                let filter = Filter::Equals("member".to_owned(), entry.name.as_bytes().to_vec());
                connection.search(&self.groups(filter), seconds).await?
            }
            Nested::TokenGroups => self.token_groups(connection, entry, seconds).await?,
        };
        let in_force = groups.iter().filter(|group| is_for_security(group.text(GROUP_TYPE)));
        Ok(in_force.filter_map(|group| self.name(group)).collect())
    }

    async fn token_groups(
        &self,
        connection: &mut Connection,
        account: &Entry,
        seconds: u32,
    ) -> Result<Vec<Entry>, GroupsError> {
        const TOKEN_GROUPS: &str = "tokenGroups";
        // Computed for one entry at a time, so it is asked for at the account alone.
        let search = Search {
            base: account.name.clone(),
            scope: Scope::Base,
            filter: Filter::Equals("objectClass".to_owned(), b"user".to_vec()),
            attributes: vec![TOKEN_GROUPS.to_owned()],
            most: 1,
        };
        let found = connection.search(&search, seconds).await?;
        let entry = found.first().ok_or(GroupsError::NoAccount)?;
        let sids: Vec<&[u8]> = entry.values(TOKEN_GROUPS).collect();
        // Everybody has a primary group, so none at all is a directory that does not say.
        if sids.is_empty() || entry.is_partial(TOKEN_GROUPS) || sids.len() > MOST_GROUPS {
            return Err(LdapError::Protocol("it does not give all tokenGroups").into());
        }
        let mut groups = Vec::new();
        for batch in sids.chunks(BATCH) {
            let one = |sid: &&[u8]| Filter::Equals("objectSid".to_owned(), sid.to_vec());
            let filter = Filter::Any(batch.iter().map(one).collect());
            groups.extend(connection.search(&self.groups(filter), seconds).await?);
        }
        Ok(groups)
    }

    fn account(&self, account: &Account<'_>) -> Search {
        let mut attributes: Vec<String> = [CONTROL, EXPIRES].map(str::to_owned).into();
        let filter = match account {
            Account::Sid(sid) => Filter::Equals("objectSid".to_owned(), sid.to_bytes()),
            Account::Principal { attribute, value } => {
                attributes.push((*attribute).to_owned());
                Filter::Equals((*attribute).to_owned(), value.as_bytes().to_vec())
            }
        };
        Search {
            base: self.config.base.clone(),
            scope: Scope::Subtree,
            filter,
            attributes,
            most: 2,
        }
    }

    fn groups(&self, filter: Filter) -> Search {
        Search {
            base: self.config.base.clone(),
            scope: Scope::Subtree,
            filter,
            attributes: vec![self.config.name_attribute.clone(), GROUP_TYPE.to_owned()],
            most: MOST_GROUPS,
        }
    }

    /// A group whose name cannot stand in a token or looks like an identifier is none.
    fn name(&self, group: &Entry) -> Option<Box<str>> {
        let name = group.text(&self.config.name_attribute)?;
        let good = !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
        (good && name.parse::<Sid>().is_err()).then(|| name.into())
    }
}

const CONTROL: &str = "userAccountControl";
const EXPIRES: &str = "accountExpires";
const GROUP_TYPE: &str = "groupType";

/// Whether one of these values is this principal: the name to the byte, the realm as the DNS domain that directories write
/// there, in any case.
fn is_named<'a>(mut values: impl Iterator<Item = &'a [u8]>, principal: &str) -> bool {
    let parts = |text: &'a str| text.rsplit_once('@');
    let Some((name, realm)) = principal.rsplit_once('@') else {
        return false;
    };
    values.any(|value| {
        std::str::from_utf8(value)
            .ok()
            .and_then(parts)
            .is_some_and(|(own, domain)| own == name && domain.eq_ignore_ascii_case(realm))
    })
}

/// Whether a group gives rights: a distribution list of Active Directory has members too, and often somebody else's
/// (`GROUP_TYPE_SECURITY_ENABLED`, MS-ADTS §2.2.12). Where there is no such attribute there are no such lists.
fn is_for_security(group_type: Option<&str>) -> bool {
    const SECURITY_ENABLED: i64 = 0x8000_0000;
    // A number of 32 bits with a sign.
    group_type.is_none_or(|bits| bits.parse::<i64>().is_ok_and(|bits| bits & SECURITY_ENABLED != 0))
}

/// Refuses an account that Active Directory says is disabled or has expired; a directory that need say neither has no such
/// thing.
fn check_open(account: &Entry, must_say: bool, now: UnixTime) -> Result<(), GroupsError> {
    let unreadable = || LdapError::Protocol("an account's state cannot be read");
    match account.text(CONTROL) {
        // A number of 32 bits with a sign.
        Some(bits) => {
            let bits: i64 = bits.parse().map_err(|_| unreadable())?;
            if bits & i64::from(DISABLED) != 0 {
                return Err(GroupsError::Disabled);
            }
        }
        None if must_say => return Err(unreadable().into()),
        None => {}
    }
    if let Some(expires) = account.text(EXPIRES) {
        let expires: u64 = expires.parse().map_err(|_| unreadable())?;
        let never = expires == 0 || expires >= i64::MAX.unsigned_abs();
        if !never && unix_seconds(expires) <= now.seconds() {
            return Err(GroupsError::Disabled);
        }
    }
    Ok(())
}

/// Seconds since 1970 of a `FILETIME`: tenths of microseconds since 1601 (MS-DTYP §2.3.3).
const fn unix_seconds(filetime: u64) -> u64 {
    const TICKS: u64 = 10_000_000;
    const FROM_1601_TO_1970: u64 = 11_644_473_600;
    (filetime / TICKS).saturating_sub(FROM_1601_TO_1970)
}

#[cfg(test)]
mod tests;
