//! Says how an account is found, that it is the one, and whether the directory says that it is open.

use std::fmt;

use kerbridge_gss::Principal;

use super::super::sid::Sid;
use super::super::{Closed, GroupsError};
use super::FindBy;
use crate::ldap::{Entry, Filter, LdapError, Scope, Search};
use crate::principal;
use crate::time::UnixTime;

/// `userAccountControl` (MS-ADTS §2.2.16): `ACCOUNTDISABLE`.
const CONTROL: &str = "userAccountControl";
const DISABLED: i64 = 0x2;
/// When an account of Active Directory ends; 0 and the largest number are never.
const EXPIRES: &str = "accountExpires";
/// MS-ADTS §3.1.1.4.5.17: `LOCKOUT`, computed with the domain's times.
const COMPUTED: &str = "msDS-User-Account-Control-Computed";
const LOCKED_OUT: i64 = 0x10;
/// FreeIPA and 389: `TRUE` where an account was disabled.
const LOCK: &str = "nsAccountLock";
/// MIT's and FreeIPA's: when the principal ends; the beginning of 1970 is never.
const KRB_EXPIRES: &str = "krbPrincipalExpiration";
/// MIT's and FreeIPA's: `KRB5_KDB_DISALLOW_ALL_TIX`.
const KRB_FLAGS: &str = "krbTicketFlags";
const NO_TICKETS: i64 = 0x40;
/// OpenLDAP's password policy. Other values than this one are times of too many wrong passwords at the directory itself.
const PASSWORD_LOCK: &str = "pwdAccountLockedTime";
const FOR_EVER: &str = "000001010000Z";

/// All that a directory may say of an account's state. What it does not know it leaves out.
const STATE: [&str; 7] = [CONTROL, EXPIRES, COMPUTED, LOCK, KRB_EXPIRES, KRB_FLAGS, PASSWORD_LOCK];

/// Somebody, as the directory can find them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// By identifier.
    Sid(Sid),
    /// By the full principal in this attribute.
    Principal {
        /// The attribute.
        attribute: &'a str,
        /// The principal.
        value: String,
    },
    /// By the name alone in this attribute.
    Name {
        /// The attribute.
        attribute: &'a str,
        /// The name.
        value: String,
    },
}

/// Why a text names no account that the directory could find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountError {
    /// Accounts are found by identifier, and it is none.
    NoSid,
    /// Accounts are found by principal, and it is none.
    NoPrincipal,
    /// It is not of the realm whose names the directory has, or has an instance.
    OfAnotherRealm,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSid => "find_by is \"sid\": name the account's objectSid, such as S-1-5-21-1-2-3-1104",
            Self::NoPrincipal => "no full principal, such as alice@EXAMPLE.COM",
            Self::OfAnotherRealm => {
                "it is not of groups.ldap.account_realm, or has an instance: the directory knows no such account"
            }
        })
    }
}

impl std::error::Error for AccountError {}

impl<'a> Account<'a> {
    /// The account that a text names, as the directory is asked for it.
    pub fn read(text: &str, find_by: &'a FindBy) -> Result<Self, AccountError> {
        if *find_by == FindBy::Sid {
            return text.parse().map(Self::Sid).map_err(|_| AccountError::NoSid);
        }
        let client = principal::canonical(text).map_err(|_| AccountError::NoPrincipal)?;
        Self::of(&client, find_by).ok_or(AccountError::OfAnotherRealm)
    }

    /// The account of a client; nobody where it is found by an identifier, which its name does not say, or where it is of
    /// another realm than the one whose names the directory has, or has more than one component: `alice/admin` is nobody.
    pub(in crate::groups) fn of(client: &Principal, find_by: &'a FindBy) -> Option<Self> {
        match find_by {
            FindBy::Sid => None,
            FindBy::Principal { attribute } => Some(Account::Principal {
                attribute,
                value: client.as_str().to_owned(),
            }),
            FindBy::Name { attribute, realm } => {
                let mut parts = principal::parts(client);
                let value = parts.pop()?;
                (parts.is_empty() && client.realm() == realm).then_some(Account::Name { attribute, value })
            }
        }
    }

    /// A question for all that is said of its state, below this base.
    pub fn state(&self, base: &str) -> Search {
        let mut attributes: Vec<String> = STATE.map(str::to_owned).into();
        attributes.extend(self.attribute().map(str::to_owned));
        Search {
            base: base.to_owned(),
            scope: Scope::Subtree,
            filter: self.filter(),
            attributes,
            most: 2,
        }
    }

    /// By which attributes a directory says something of an account's state.
    pub fn said(entry: &Entry) -> Vec<&'static str> {
        let is_there = |attribute: &&str| entry.values(attribute).next().is_some();
        STATE.into_iter().filter(is_there).collect()
    }

    /// What answers about it are kept under.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Sid(sid) => sid.to_string(),
            Self::Principal { value, .. } | Self::Name { value, .. } => value.clone(),
        }
    }

    /// The attribute by which it is found, where it has to be compared here.
    fn attribute(&self) -> Option<&str> {
        match self {
            Self::Sid(_) => None,
            Self::Principal { attribute, .. } | Self::Name { attribute, .. } => Some(attribute),
        }
    }

    fn filter(&self) -> Filter {
        match self {
            Self::Sid(sid) => Filter::Equals("objectSid".to_owned(), sid.to_bytes()),
            Self::Principal { attribute, value } | Self::Name { attribute, value } => {
                Filter::Equals((*attribute).to_owned(), value.as_bytes().to_vec())
            }
        }
    }

    /// Whether an entry is this account: a directory compares by rules of its own, most often without regard to case.
    pub(super) fn is(&self, entry: &Entry) -> bool {
        match self {
            // Bytes, of which there is one of a kind.
            Self::Sid(_) => true,
            Self::Principal { attribute, value } => is_named(entry.values(attribute), value),
            Self::Name { attribute, value } => entry.values(attribute).any(|one| one == value.as_bytes()),
        }
    }

    /// Whether the directory must say of it that it is open: by an identifier it is Active Directory, which says so of all.
    pub(super) fn must_say(&self) -> bool {
        match self {
            Self::Sid(_) => true,
            Self::Principal { .. } | Self::Name { .. } => false,
        }
    }
}

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

/// Refuses an account that the directory says is closed, in whichever of its words. One that `must_say` and does not is
/// refused as unreadable; elsewhere what is absent says nothing.
pub(super) fn check_open(account: &Entry, must_say: bool, now: UnixTime) -> Result<(), GroupsError> {
    let unreadable = || GroupsError::from(LdapError::Protocol("an account's state cannot be read"));
    let number = |attribute| -> Result<Option<i64>, GroupsError> {
        let text = account.values(attribute).next();
        text.map(|text| number(text).ok_or_else(unreadable)).transpose()
    };
    let has = |bits: Option<i64>, bit| bits.is_some_and(|bits| bits & bit != 0);
    let (control, expires) = (number(CONTROL)?, number(EXPIRES)?);
    if must_say && (control.is_none() || expires.is_none()) {
        return Err(unreadable());
    }
    let locked = match account.values(LOCK).next() {
        Some(value) if value.eq_ignore_ascii_case(b"true") => true,
        Some(value) if !value.eq_ignore_ascii_case(b"false") => return Err(unreadable()),
        Some(_) | None => false,
    };
    let locked_for_ever = account.values(PASSWORD_LOCK).any(|value| value == FOR_EVER.as_bytes());
    if has(control, DISABLED) || locked || has(number(KRB_FLAGS)?, NO_TICKETS) || locked_for_ever {
        return Err(GroupsError::Closed(Closed::Disabled));
    }
    if has(number(COMPUTED)?, LOCKED_OUT) {
        return Err(GroupsError::Closed(Closed::LockedOut));
    }
    let ends = match account.values(KRB_EXPIRES).next() {
        Some(time) => Some(generalized_time(time).ok_or_else(unreadable)?),
        None => None,
    };
    let never = |seconds: &u64| *seconds == 0;
    let ends = ends.filter(|seconds| !never(seconds));
    let expires = expires.and_then(unix_seconds);
    if [ends, expires].into_iter().flatten().any(|end| end <= now.seconds()) {
        return Err(GroupsError::Closed(Closed::Expired));
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since 1970 of a `FILETIME`, tenths of microseconds since 1601 (MS-DTYP §2.3.3); `None` for never. One that is
/// negative has been.
fn unix_seconds(filetime: i64) -> Option<u64> {
    const TICKS: u64 = 10_000_000;
    const FROM_1601_TO_1970: u64 = 11_644_473_600;
    if filetime == 0 || filetime == i64::MAX {
        return None;
    }
    let ticks = u64::try_from(filetime).unwrap_or_default();
    Some((ticks / TICKS).saturating_sub(FROM_1601_TO_1970))
}

/// Seconds since 1970 of `YYYYMMDDHHMMSSZ`, with a fraction or without (RFC 4517 §3.3.13), as KDCs write it. A moment before
/// is the first after: the beginning itself has a meaning of its own.
fn generalized_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day)
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    Some(u64::try_from(seconds).unwrap_or(1))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. The years begin in March here, so that the leap day is their last.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "four digits of a year are the largest number"
)]
const fn days(year: i64, month: i64, day: i64) -> i64 {
    const TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - TO_1970
}

#[cfg(test)]
mod tests;
