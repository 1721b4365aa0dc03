//! Decides which directory is asked for groups, by whom, and for how long its answer is kept.

mod membership;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_wire::Span;

use super::raw;
use super::secret_file::{self, Reach};
use crate::groups::directory::DirectoryConfig;
use crate::ldap::{Bind, Place, Server};
use crate::problem::Problems;

const PASSWORD: &str = "groups.ldap.password_file";
/// How long an answer is kept unless the file says otherwise.
const KEEP: Duration = Duration::from_secs(60);
/// The longest: who leaves a group is in it for so long, and for the life of a token.
const LONGEST_KEEP: u32 = 600;

/// Builds the directory's configuration, or notes what is wrong. `realms` are those that are taken.
pub(super) fn check(
    ldap: raw::Ldap,
    folder: &Path,
    realms: Option<&[String]>,
    problems: &mut Problems,
) -> Option<DirectoryConfig> {
    let raw::Ldap {
        url,
        fallback_urls,
        starttls,
        ca,
        clear_text,
        bind,
        bind_dn,
        password_file,
        base,
        group_base,
        find_by,
        principal_attribute,
        account_attribute,
        account_realm,
        membership,
        member_attribute,
        group_class,
        name_attribute,
        elsewhere,
        check_account,
        cache,
    } = ldap;
    let wishes = place::Wishes {
        url,
        fallback_urls,
        starttls: starttls.unwrap_or(false),
        clear_text: clear_text.unwrap_or(false),
        ca: ca.map(|path| folder.join(path)),
    };
    let places = place::check(&wishes, problems);
    let asker = Asker {
        bind,
        bind_dn,
        password_file: password_file.map(|path| folder.join(path)),
    };
    let bind = check_bind(asker, places.as_deref(), problems);
    let base = required(
        base,
        "base",
        "name the entry below which accounts and groups are, such as \"DC=example,DC=com\"",
        problems,
    );
    let rules = membership::Rules {
        group_base,
        find_by,
        principal_attribute,
        account_attribute,
        account_realm,
        membership,
        member_attribute,
        group_class,
        name_attribute,
        elsewhere,
    };
    let rules = membership::check(rules, base.as_deref(), realms, problems);
    let keep = check_cache(cache.as_deref(), problems);
    let (find_by, groups) = rules?;
    Some(DirectoryConfig {
        server: Server {
            places: places?,
            bind: bind?,
        },
        base: base?,
        find_by,
        groups,
        check_account: check_account.unwrap_or(false),
        keep: keep?,
    })
}

/// Who asks, as the file says it.
struct Asker {
    bind: Option<String>,
    bind_dn: Option<String>,
    password_file: Option<PathBuf>,
}

fn check_bind(asker: Asker, places: Option<&[Place]>, problems: &mut Problems) -> Option<Bind> {
    let Asker {
        bind,
        bind_dn,
        password_file,
    } = asker;
    match bind.as_deref() {
        None | Some("simple") => {
            let name = required(
                bind_dn,
                "bind_dn",
                "name the account that asks, such as \"CN=kerbridge,CN=Users,DC=example,DC=com\"",
                problems,
            );
            let password = match password_file {
                Some(path) => secret_file::password(&path, Reach::Owner, PASSWORD, problems),
                None => {
                    problems.missing(PASSWORD, "name a file, mode 0600, with the password of bind_dn");
                    None
                }
            };
            Some(Bind::Simple {
                name: name?,
                password: password?,
            })
        }
        Some("external") => {
            for (field, given) in [
                ("bind_dn", bind_dn.is_some()),
                ("password_file", password_file.is_some()),
            ] {
                if given {
                    problems.note(
                        format!("groups.ldap.{field}"),
                        "has no use where bind is \"external\"",
                        "remove it, or write bind = \"simple\"",
                    );
                }
            }
            let is_remote = |place: &Place| matches!(place, Place::Tcp { .. });
            if places.is_some_and(|places| places.iter().any(is_remote)) {
                problems.note(
                    "groups.ldap.bind",
                    "\"external\" is for ldapi:// alone, where the directory sees the broker's user",
                    "write bind = \"simple\" with bind_dn and password_file",
                );
                return None;
            }
            Some(Bind::External)
        }
        Some(other) => {
            problems.note(
                "groups.ldap.bind",
                format!("{other:?} is neither \"simple\" nor \"external\""),
                "write \"simple\", or \"external\" with ldapi://",
            );
            None
        }
    }
}

fn required(value: Option<String>, field: &str, remedy: &str, problems: &mut Problems) -> Option<String> {
    match value {
        Some(value) if !value.is_empty() => Some(value),
        Some(_) => {
            problems.note(format!("groups.ldap.{field}"), "is empty", remedy);
            None
        }
        None => {
            problems.missing(&format!("groups.ldap.{field}"), remedy);
            None
        }
    }
}

/// The letters of an attribute's or a class's name (RFC 4512 §2.5); options, such as `;binary`, have no use here.
fn attribute(name: &str, field: &str, problems: &mut Problems) -> Option<String> {
    let good =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good {
        return Some(name.to_owned());
    }
    problems.note(
        format!("groups.ldap.{field}"),
        format!("{name:?} is no name in a schema"),
        "write its name alone",
    );
    None
}

fn check_cache(cache: Option<&str>, problems: &mut Problems) -> Option<Duration> {
    match cache {
        None => Some(KEEP),
        Some("none") => Some(Duration::ZERO),
        Some(text) => {
            let span = text.parse::<Span>().ok().map(Span::seconds);
            let good = span.filter(|seconds| *seconds <= LONGEST_KEEP);
            if good.is_none() {
                problems.note(
                    "groups.ldap.cache",
                    format!("{text:?} is not 1s to {LONGEST_KEEP}s"),
                    "write a span such as \"60s\", or \"none\"",
                );
            }
            good.map(|seconds| Duration::from_secs(seconds.into()))
        }
    }
}
