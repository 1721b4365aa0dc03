//! Looks one account up, over one connection: that it is open, which groups it is in, and that each of them that matters is
//! the only one of its name.

use std::collections::{BTreeMap, BTreeSet};

use super::super::sid::Sid;
use super::super::{GroupSet, GroupsError};
use super::account::check_open;
use super::{DirectoryConfig, Elsewhere, GroupRules, MOST_GROUPS, Member, Membership, Question, SID};
use crate::ldap::{Connection, Entry, Filter, Found, LdapError, Scope, Search};

/// Values in one question.
const BATCH: usize = 100;
/// How deep the groups of the account may lie in others.
const MOST_LEVELS: usize = 10;

const CLASS: &str = "objectClass";
const TOKEN_GROUPS: &str = "tokenGroups";
const MEMBER_OF: &str = "memberOf";
/// Every entry's own name, to search by (RFC 5020).
const ENTRY_DN: &str = "entryDN";

/// Of the groups that matter, those that the account is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) groups: GroupSet,
    /// How many groups, or places where there may be some, were left out.
    pub(super) left_out: usize,
}

/// Groups that were found, and how many more there are or may be.
#[derive(Debug, Default)]
struct Gathered {
    groups: Vec<Entry>,
    elsewhere: usize,
}

pub(super) struct Lookup<'a> {
    config: &'a DirectoryConfig,
    connection: &'a mut Connection,
    question: Question<'a>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(config: &'a DirectoryConfig, connection: &'a mut Connection, question: Question<'a>) -> Self {
        Self {
            config,
            connection,
            question,
        }
    }

    pub(super) async fn run(mut self) -> Result<Answer, GroupsError> {
        let entry = self.account().await?;
        check_open(&entry, self.question.account.must_say(), self.question.now)?;
        if self.question.wanted.is_empty() {
            return Ok(Answer::default());
        }
        let Gathered { groups, elsewhere } = self.gather(&entry).await?;
        let (own, nameless) = self.named(&groups)?;
        let left_out = elsewhere.saturating_add(nameless);
        if left_out > 0 && self.config.groups.elsewhere == Elsewhere::Refuse {
            return Err(GroupsError::Elsewhere(left_out));
        }
        self.check_unique(&own).await?;
        let groups = own.into_keys().collect();
        Ok(Answer { groups, left_out })
    }

    /// The one entry that is the account.
    async fn account(&mut self) -> Result<Entry, GroupsError> {
        let account = self.question.account;
        let mut search = account.state(&self.config.base);
        match &self.config.groups.membership {
            Membership::MemberOf => search.attributes.push(MEMBER_OF.to_owned()),
            Membership::Direct(Member::Name { attribute: _, of }) => search.attributes.push(of.clone()),
            Membership::TokenGroups
            | Membership::Chain(_)
            | Membership::Direct(Member::Dn(_))
            | Membership::Walk(_) => {}
        }
        let Found {
            mut entries,
            references,
        } = self.search(&search).await?;
        let unseen = count_elsewhere(&references);
        match (entries.pop(), entries.pop()) {
            (None, _) if unseen > 0 && self.config.groups.elsewhere == Elsewhere::Refuse => {
                Err(GroupsError::AccountElsewhere)
            }
            (Some(_), Some(_)) => Err(GroupsError::SeveralAccounts),
            (Some(entry), None) if account.is(&entry) => Ok(entry),
            (Some(_) | None, None) | (None, Some(_)) => Err(GroupsError::NoAccount),
        }
    }

    async fn gather(&mut self, account: &Entry) -> Result<Gathered, GroupsError> {
        let dn = || account.name.as_bytes().to_vec();
        match &self.config.groups.membership {
            Membership::TokenGroups => self.token_groups(account).await,
            Membership::MemberOf => self.member_of(account).await,
            Membership::Chain(attribute) => self.those(Filter::InChain(attribute.clone(), dn())).await,
            Membership::Direct(Member::Dn(attribute)) => self.those(Filter::Equals(attribute.clone(), dn())).await,
            Membership::Direct(Member::Name { attribute, of }) => {
                let mut names = account.values(of);
                let (Some(name), None) = (names.next(), names.next()) else {
                    return Err(LdapError::Protocol("the account has no account_attribute, or several").into());
                };
                self.those(Filter::Equals(attribute.clone(), name.to_vec())).await
            }
            Membership::Walk(attribute) => self.walk(attribute, account).await,
        }
    }

    /// Groups that a filter finds. What it does not find here may be where the server points to.
    async fn those(&mut self, filter: Filter) -> Result<Gathered, GroupsError> {
        let Found { entries, references } = self.groups(filter).await?;
        Ok(Gathered {
            groups: entries,
            elsewhere: count_elsewhere(&references),
        })
    }

    async fn token_groups(&mut self, account: &Entry) -> Result<Gathered, GroupsError> {
        // Computed for one entry at a time, so it is asked for at the account alone.
        let search = Search {
            base: account.name.clone(),
            scope: Scope::Base,
            filter: Filter::Equals(CLASS.to_owned(), b"user".to_vec()),
            attributes: vec![TOKEN_GROUPS.to_owned()],
            most: 1,
        };
        let found = self.search(&search).await?;
        let entry = found.entries.first().ok_or(GroupsError::NoAccount)?;
        let sids: BTreeSet<&[u8]> = entry.values(TOKEN_GROUPS).collect();
        // Everybody has a primary group, so none at all is a directory that does not say.
        if sids.is_empty() || entry.is_partial(TOKEN_GROUPS) || sids.len() > MOST_GROUPS {
            return Err(LdapError::Protocol("it does not give all tokenGroups").into());
        }
        let sids: Vec<&[u8]> = sids.into_iter().collect();
        let groups = self.each_of(SID, &sids).await?;
        let named: BTreeSet<&[u8]> = groups.iter().flat_map(|group| group.values(SID)).collect();
        let elsewhere = sids.iter().filter(|sid| !named.contains(*sid)).count();
        Ok(Gathered { groups, elsewhere })
    }

    async fn member_of(&mut self, account: &Entry) -> Result<Gathered, GroupsError> {
        let names: BTreeSet<&[u8]> = account.values(MEMBER_OF).collect();
        if account.is_partial(MEMBER_OF) || names.len() > MOST_GROUPS {
            return Err(LdapError::Protocol("it does not give all of memberOf").into());
        }
        let names: Vec<&[u8]> = names.into_iter().collect();
        let groups = self.each_of(ENTRY_DN, &names).await?;
        // Roles and rules of other kinds are there too, in other places.
        let below = names.iter().filter(|name| is_below(name, &self.config.groups.base));
        let below = below.count();
        if groups.len() >= below {
            return Ok(Gathered { groups, elsewhere: 0 });
        }
        // What is below the base and of another class is no group. What is not there at all, or may not be seen, may be one.
        let mut seen = 0_usize;
        for batch in names.chunks(BATCH) {
            let filter = any_of(ENTRY_DN, batch);
            seen = seen.saturating_add(self.below_base(filter).await?.entries.len());
        }
        let elsewhere = below.saturating_sub(seen);
        Ok(Gathered { groups, elsewhere })
    }

    async fn walk(&mut self, attribute: &str, account: &Entry) -> Result<Gathered, GroupsError> {
        let mut gathered = Gathered::default();
        let mut seen = BTreeSet::new();
        let mut level = vec![account.name.clone()];
        // The account's own, those that they lie in, and a look at whether there are more.
        for _ in 0..=MOST_LEVELS.saturating_add(1) {
            let names: Vec<&[u8]> = level.iter().map(String::as_bytes).collect();
            let mut next = Vec::new();
            for batch in names.chunks(BATCH) {
                let Gathered { groups, elsewhere } = self.those(any_of(attribute, batch)).await?;
                gathered.elsewhere = gathered.elsewhere.saturating_add(elsewhere);
                for group in groups {
                    if GroupRules::gives_rights(&group) && seen.insert(group.name.clone()) {
                        next.push(group.name.clone());
                        gathered.groups.push(group);
                    }
                }
            }
            if gathered.groups.len() > MOST_GROUPS {
                return Err(LdapError::Protocol("it has more entries than are read").into());
            }
            if next.is_empty() {
                return Ok(gathered);
            }
            level = next;
        }
        Err(GroupsError::TooDeep)
    }

    /// Groups with one of these values, wherever the server points to besides: each value is of one group.
    async fn each_of(&mut self, attribute: &str, values: &[&[u8]]) -> Result<Vec<Entry>, GroupsError> {
        let mut groups = Vec::new();
        for batch in values.chunks(BATCH) {
            groups.extend(self.groups(any_of(attribute, batch)).await?.entries);
        }
        Ok(groups)
    }

    /// Of the groups that matter, those that are among these, with the entry of each; and how many have no name.
    fn named(&self, groups: &[Entry]) -> Result<(BTreeMap<Box<str>, String>, usize), GroupsError> {
        let (mut own, mut nameless) = (BTreeMap::new(), 0_usize);
        for group in groups.iter().filter(|group| GroupRules::gives_rights(group)) {
            let names: Vec<&[u8]> = group.values(&self.config.groups.name_attribute).collect();
            if names.is_empty() {
                nameless = nameless.saturating_add(1);
            }
            let texts = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
            for name in texts.filter(|name| self.question.wanted.contains(*name) && name.parse::<Sid>().is_err()) {
                let other = own.insert(Box::from(name), group.name.clone());
                // One group of two names is as unclear as two groups of one.
                if names.len() > 1 || other.is_some_and(|other| other != group.name) {
                    return Err(GroupsError::Ambiguous(name.into()));
                }
            }
        }
        Ok((own, nameless))
    }

    /// Refuses where another group has a name of these, by the directory's own rule, which most often is without case.
    async fn check_unique(&mut self, own: &BTreeMap<Box<str>, String>) -> Result<(), GroupsError> {
        let names: Vec<(&str, &str)> = own.iter().map(|(name, dn)| (&**name, dn.as_str())).collect();
        for batch in names.chunks(BATCH) {
            let values: Vec<&[u8]> = batch.iter().map(|(name, _)| name.as_bytes()).collect();
            let filter = any_of(&self.config.groups.name_attribute, &values);
            let found = self.groups(filter).await?.entries;
            let others = found.iter().filter(|group| GroupRules::gives_rights(group));
            let mut strangers = others.filter(|group| !batch.iter().any(|(_, dn)| *dn == group.name));
            if let Some(stranger) = strangers.next() {
                return Err(GroupsError::Ambiguous(self.shared_name(stranger, batch)));
            }
        }
        Ok(())
    }

    /// The name of these that another group has too, for the log; where only the directory knows how, the first.
    fn shared_name(&self, stranger: &Entry, own: &[(&str, &str)]) -> Box<str> {
        let has = |name: &str| {
            let mut names = stranger.values(&self.config.groups.name_attribute);
            names.any(|other| other.eq_ignore_ascii_case(name.as_bytes()))
        };
        let shared = own.iter().find(|(name, _)| has(name)).or(own.first());
        shared.map_or_else(Box::default, |(name, _)| Box::from(*name))
    }

    async fn groups(&mut self, which: Filter) -> Result<Found, GroupsError> {
        let config = self.config;
        self.search(&config.groups.search(which)).await
    }

    async fn below_base(&mut self, filter: Filter) -> Result<Found, GroupsError> {
        let config = self.config;
        self.search(&config.groups.below_base(filter)).await
    }

    async fn search(&mut self, search: &Search) -> Result<Found, GroupsError> {
        Ok(self.connection.search(search, self.question.seconds).await?)
    }
}

fn any_of(attribute: &str, values: &[&[u8]]) -> Filter {
    let one = |value: &&[u8]| Filter::Equals(attribute.to_owned(), value.to_vec());
    Filter::Any(values.iter().map(one).collect())
}

/// How many places that a server points to may hold accounts or groups. A domain controller points to its own three other
/// parts whenever it is asked below its domain (MS-ADTS §3.1.1.1.5), and neither are there.
fn count_elsewhere(references: &[String]) -> usize {
    const NEITHER: [&str; 3] = ["cn=configuration,", "dc=domaindnszones,", "dc=forestdnszones,"];
    let is_one = |url: &&String| {
        let dn = url.splitn(4, '/').nth(3).unwrap_or_default().to_ascii_lowercase();
        !NEITHER.iter().any(|part| dn.starts_with(part))
    };
    references.iter().filter(is_one).count()
}

/// Whether a distinguished name ends in another, as far as spaces and case do not matter.
fn is_below(name: &[u8], base: &str) -> bool {
    let plain = |text: &str| {
        let parts = text.split(',').map(|part| part.trim().to_lowercase());
        parts.collect::<Vec<_>>().join(",")
    };
    let name = plain(&String::from_utf8_lossy(name));
    name.strip_suffix(&plain(base)).is_some_and(|rest| rest.ends_with(','))
}

#[cfg(test)]
mod tests;
