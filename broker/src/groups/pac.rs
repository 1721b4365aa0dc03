//! Finds in a PAC's logon information (`KERB_VALIDATION_INFO`, MS-PAC §2.5) who somebody is and which groups are in force.

mod ndr;

use std::fmt;

use self::ndr::{Membership, Ndr};
use super::sid::Sid;

/// Most groups of one kind that are read; Windows itself stops at 1,015 for all of them.
const MOST_GROUPS: u32 = 4096;
/// `LOGON_EXTRA_SIDS`: the extra identifiers mean something.
const EXTRA_SIDS: u32 = 0x20;
/// `LOGON_RESOURCE_GROUPS`: so do the resource groups.
const RESOURCE_GROUPS: u32 = 0x200;
/// `SE_GROUP_ENABLED`.
const ENABLED: u32 = 0x4;
/// `SE_GROUP_USE_FOR_DENY_ONLY`.
const DENY_ONLY: u32 = 0x10;

/// The bytes are not what MS-PAC says. Which byte is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pac's logon information cannot be read")
    }
}

impl std::error::Error for Malformed {}

/// Who somebody is to a Windows domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogonGroups {
    /// The account's name (`EffectiveName`), without its domain; empty where the domain gives none.
    pub account: String,
    /// The account; absent where the domain gives it no number of its own.
    pub user: Option<Sid>,
    /// Every group that is in force, nested ones included: the KDC has resolved them. In no order, some maybe twice.
    pub groups: Vec<Sid>,
}

impl LogonGroups {
    /// Reads the bytes of a buffer whose signatures were verified. Total: any bytes are read or refused.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut ndr = Ndr::open(bytes)?;
        // The structure itself is behind a pointer that is never null.
        ndr.pointer()?;
        ndr.skip(TIMES)?;
        let account = ndr.text_pointer()?;
        let mut names = Vec::new();
        for _ in 0..5 {
            names.push(ndr.text_pointer()?);
        }
        ndr.skip(COUNTS)?;
        let user = ndr.number()?;
        ndr.number()?;
        let (group_count, groups) = (bounded(ndr.number()?)?, ndr.pointer()?);
        let flags = ndr.number()?;
        ndr.skip(SESSION_KEY)?;
        let (server, domain_name) = (ndr.text_pointer()?, ndr.text_pointer()?);
        let domain = ndr.pointer()?;
        ndr.skip(BETWEEN)?;
        let (extra_count, extra) = (bounded(ndr.number()?)?, ndr.pointer()?);
        let resource_domain = ndr.pointer()?;
        let (resource_count, resource) = (bounded(ndr.number()?)?, ndr.pointer()?);

        let account = ndr.text(account)?;
        for name in names {
            ndr.skip_text(name)?;
        }
        let groups = ndr.memberships(groups, group_count)?;
        ndr.skip_text(server)?;
        ndr.skip_text(domain_name)?;
        let domain = ndr.sid(domain)?.ok_or(Malformed)?;
        let extra = ndr.sids(extra, extra_count)?;
        let resource_domain = ndr.sid(resource_domain)?;
        let resource = ndr.memberships(resource, resource_count)?;

        let mut found = of_domain(&domain, &groups)?;
        if flags & EXTRA_SIDS != 0 {
            found.extend(
                extra
                    .into_iter()
                    .filter(|(_, bits)| in_force(*bits))
                    .map(|(sid, _)| sid),
            );
        }
        if flags & RESOURCE_GROUPS != 0 && !resource.is_empty() {
            found.extend(of_domain(&resource_domain.ok_or(Malformed)?, &resource)?);
        }
        let user = match user {
            0 => None,
            relative => Some(Sid::of_domain(&domain, relative).ok_or(Malformed)?),
        };
        Ok(Self {
            account,
            user,
            groups: found,
        })
    }
}

/// `LogonTime` to `PasswordMustChange`: six times of 8 bytes.
const TIMES: usize = 48;
/// `LogonCount` and `BadPasswordCount`.
const COUNTS: usize = 4;
/// `UserSessionKey`.
const SESSION_KEY: usize = 16;
/// `Reserved1` to `Reserved3`.
const BETWEEN: usize = 40;

fn bounded(count: u32) -> Result<u32, Malformed> {
    (count <= MOST_GROUPS).then_some(count).ok_or(Malformed)
}

const fn in_force(attributes: u32) -> bool {
    attributes & ENABLED != 0 && attributes & DENY_ONLY == 0
}

fn of_domain(domain: &Sid, memberships: &[Membership]) -> Result<Vec<Sid>, Malformed> {
    memberships
        .iter()
        .filter(|membership| in_force(membership.attributes))
        .map(|membership| Sid::of_domain(domain, membership.relative).ok_or(Malformed))
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
