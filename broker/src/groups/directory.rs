//! Asks a directory which groups somebody is in, for as long as the exchange may take, and keeps good answers for a while.

mod account;
mod counters;
mod lookup;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use self::account::{Account, AccountError};
pub use self::counters::DirectoryCounters;
use self::lookup::{Answer, Lookup};
use super::{GroupSet, GroupsError};
use crate::ldap::{Entry, Filter, LdapError, Lent, Pool, Scope, Search, Server};
use crate::time::UnixTime;

/// Questions at once. More wait, each within its own deadline.
const MOST_AT_ONCE: usize = 16;
/// Groups of one person that are read.
const MOST_GROUPS: usize = 4096;
const SID: &str = "objectSid";
const GROUP_TYPE: &str = "groupType";
/// Answers that are kept.
const MOST_KEPT: usize = 10_000;

/// How the account of a ticket is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindBy {
    /// By the account's identifier in the PAC: nobody else can have it.
    Sid,
    /// By the full principal in this attribute.
    Principal {
        /// Such as `krbPrincipalName` or `userPrincipalName`.
        attribute: String,
    },
    /// By the principal's one component, for principals of one realm.
    Name {
        /// Such as `uid`.
        attribute: String,
        /// Whose names these are.
        realm: String,
    },
}

/// How a directory says who is in which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// By the account's `tokenGroups`, which Active Directory computes as a KDC does: nested groups, the primary one too.
    TokenGroups,
    /// By the account's `memberOf`: as far as the directory's own plug-in resolves it.
    MemberOf,
    /// By this attribute of the groups, which names the account, or a group that does, and so on: Active Directory's own rule.
    Chain(String),
    /// By this attribute of the groups, which names the account.
    Direct(Member),
    /// By this attribute of the groups, which names the account, then by that of groups which name those, and so on.
    Walk(String),
}

/// What names a member in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// This attribute holds distinguished names: `member`, `uniqueMember`.
    Dn(String),
    /// This attribute holds what another one of the account does: `memberUid`, and `uid`.
    Name {
        /// Of the group.
        attribute: String,
        /// Of the account.
        of: String,
    },
}

/// What becomes of an account that is in groups which cannot be looked at: of another server, or outside of the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nobody knows its groups then.
    #[default]
    Refuse,
    /// They are counted and left out.
    Ignore,
}

/// Which entries are groups, what they are called, and who is in them.
#[derive(Clone, Debug)]
pub struct GroupRules {
    /// The distinguished name below which groups are.
    pub base: String,
    /// The object class that makes an entry a group.
    pub class: String,
    /// The attribute that is a group's name.
    pub name_attribute: String,
    /// Who is in which.
    pub membership: Membership,
    /// What becomes of those that cannot be looked at.
    pub elsewhere: Elsewhere,
}

impl GroupRules {
    /// A question for all groups of a name, by the directory's own rule.
    pub fn named(&self, name: &str) -> Search {
        self.search(Filter::Equals(self.name_attribute.clone(), name.as_bytes().to_vec()))
    }

    /// A question for groups of which this holds too.
    fn search(&self, which: Filter) -> Search {
        let is_group = Filter::Equals("objectClass".to_owned(), self.class.as_bytes().to_vec());
        self.below_base(Filter::All(vec![is_group, which]))
    }

    /// A question for entries of any class where groups are.
    fn below_base(&self, filter: Filter) -> Search {
        Search {
            base: self.base.clone(),
            scope: Scope::Subtree,
            filter,
            attributes: [self.name_attribute.as_str(), GROUP_TYPE, SID]
                .map(str::to_owned)
                .into(),
            most: MOST_GROUPS,
        }
    }

    /// Whether a group gives rights: a distribution list of Active Directory has members too, and often somebody else's
    /// (`GROUP_TYPE_SECURITY_ENABLED`, MS-ADTS §2.2.12). Where there is no such attribute there are no such lists.
    pub fn gives_rights(group: &Entry) -> bool {
        const SECURITY_ENABLED: i64 = 0x8000_0000;
        // A number of 32 bits with a sign.
        group
            .text(GROUP_TYPE)
            .is_none_or(|bits| bits.parse::<i64>().is_ok_and(|bits| bits & SECURITY_ENABLED != 0))
    }
}

/// What is asked of which directory.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// Where, and who asks.
    pub server: Server,
    /// The distinguished name below which accounts are.
    pub base: String,
    /// How the account is found.
    pub find_by: FindBy,
    /// Which groups count.
    pub groups: GroupRules,
    /// Whether it is asked about the account where no group is needed, too.
    pub check_account: bool,
    /// How long a good answer is kept; zero keeps none.
    pub keep: Duration,
}

/// A directory, and what it said lately.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    config: DirectoryConfig,
    pool: Pool,
    turns: Semaphore,
    kept: Mutex<HashMap<String, Kept>>,
    counters: DirectoryCounters,
    /// Whether the log has it that groups were left out.
    has_left_out: AtomicBool,
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

impl Directory {
    /// Asks nothing yet.
    pub fn new(config: DirectoryConfig) -> Self {
        Self::counted(config, DirectoryCounters::default())
    }

    fn counted(config: DirectoryConfig, counters: DirectoryCounters) -> Self {
        Self(Arc::new(Inner {
            pool: Pool::new(config.server.clone()),
            turns: Semaphore::new(MOST_AT_ONCE),
            kept: Mutex::default(),
            counters,
            has_left_out: AtomicBool::new(false),
            config,
        }))
    }

    /// The same, with nothing kept yet, and counted here.
    #[must_use]
    pub fn counted_by(&self, counters: DirectoryCounters) -> Self {
        Self::counted(self.0.config.clone(), counters)
    }

    /// What is asked.
    pub fn config(&self) -> &DirectoryConfig {
        &self.0.config
    }

    /// The groups of an account, of those that are `wanted`. An answer that was not given by the deadline is none.
    pub async fn groups_of(
        &self,
        account: &Account<'_>,
        wanted: &BTreeSet<Box<str>>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<GroupSet, GroupsError> {
        let key = account.key();
        if let Some(groups) = self.0.kept(&key, Instant::now()) {
            self.0.counters.kept();
            return Ok(groups);
        }
        let asked = timeout_at(deadline, self.0.ask(account, wanted, now, deadline)).await;
        let outcome = asked.unwrap_or_else(|_late| {
            self.0.pool.distrust();
            Err(GroupsError::TooSlow)
        });
        self.0.counters.asked(&outcome);
        let Answer { groups, left_out } = outcome?;
        self.0.note_left_out(left_out, &key);
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

    /// Counts groups that were left out, and says so once.
    fn note_left_out(&self, count: usize, account: &str) {
        if count == 0 {
            return;
        }
        self.counters.left_out(count);
        if !self.has_left_out.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                account,
                count,
                "groups outside of groups.ldap.group_base, or of other servers, are left out, as groups.ldap.elsewhere says; \
                 this is said once, and kerbridge_directory_groups_left_out counts them"
            );
        }
    }

    async fn ask(
        &self,
        account: &Account<'_>,
        wanted: &BTreeSet<Box<str>>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<Answer, GroupsError> {
        // It is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| GroupsError::TooSlow)?;
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        let question = Question {
            account,
            wanted,
            now,
            seconds: u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1),
        };
        let lent = self.pool.lend(deadline).await?;
        let is_used = lent.is_used;
        if !is_used {
            self.counters.opened();
        }
        match self.ask_over(lent, question).await {
            // The server had ended it, and this side could not have known. A question can be asked twice.
            Err(GroupsError::Directory(LdapError::Connection(_))) if is_used => {
                let lent = self.pool.open(deadline).await?;
                self.counters.opened();
                self.ask_over(lent, question).await
            }
            outcome => outcome,
        }
    }

    async fn ask_over(&self, mut lent: Lent, question: Question<'_>) -> Result<Answer, GroupsError> {
        let outcome = Lookup::new(&self.config, &mut lent.connection, question).run().await;
        // Where the directory failed, or is still talking, the connection ends.
        if !matches!(outcome, Err(GroupsError::Directory(_))) {
            self.pool.give_back(lent).await;
        }
        outcome
    }
}

/// What is asked of a directory for one exchange.
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    account: &'a Account<'a>,
    /// The groups that matter.
    wanted: &'a BTreeSet<Box<str>>,
    now: UnixTime,
    /// How long the server may take for one answer.
    seconds: u32,
}

#[cfg(test)]
mod tests;
