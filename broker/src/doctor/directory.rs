//! Asks the directory of `[groups.ldap]` what an exchange would ask: whether it lets the broker in, holds what the configuration
//! names, has each group of the policy once, and what it says of an account.

use std::collections::BTreeSet;
use std::time::Duration;

use kerbridge_wire::Reason;
use tokio::time::{Instant, timeout};

use super::finding::{Finding, Remedy, Verdict};
use crate::config::Config;
use crate::groups::directory::{Account, AccountError, Directory, DirectoryConfig, GroupRules};
use crate::groups::{GroupSource, GroupsError};
use crate::ldap::{Bind, Connection, Entry, Filter, LdapError, Place, Scope, Search, Security};
use crate::time::UnixTime;

const CHECK: &str = "directory";
/// How long one question may take here, in seconds: longer than an exchange has, to tell a slow directory from a dead one.
const PATIENCE: u32 = 10;

/// Looks at the directory, where there is one; with an account also at what becomes of it.
pub fn look(config: &Config, account: Option<&str>, now: UnixTime) -> Vec<Finding> {
    let GroupSource::Directory(directory) = config.groups() else {
        let unasked = "--look-up asks the directory of [groups.ldap], and groups.source is not \"ldap\"";
        return account
            .map(|account| Finding::skipped(CHECK, account, unasked))
            .into_iter()
            .collect();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(examine(directory, config, account, now)),
        Err(error) => vec![Finding::bad(CHECK, "this machine", Reason::Internal, error.to_string())],
    }
}

async fn examine(directory: &Directory, config: &Config, account: Option<&str>, now: UnixTime) -> Vec<Finding> {
    let rules = directory.config();
    let mut findings = Vec::new();
    let mut connection = None;
    for place in &rules.server.places {
        let began = Instant::now();
        match patiently(Connection::open(place, &rules.server.bind)).await {
            Ok(opened) => {
                findings.push(in_time(place, began.elapsed(), config.limits().deadline));
                connection.get_or_insert(opened);
            }
            Err(error) => {
                let finding = Finding::bad(CHECK, place.to_string(), Reason::GroupsUnavailable, error.to_string());
                findings.push(finding.mended_by([by_hand(place, &rules.server.bind)]));
            }
        }
    }
    let Some(mut connection) = connection else {
        return findings;
    };
    let before = findings.len();
    let bases: BTreeSet<&str> = [rules.base.as_str(), rules.groups.base.as_str()].into();
    for base in bases {
        findings.push(look_at_base(&mut connection, base, rules).await);
    }
    // Nothing can be found below an entry that is not there.
    if findings
        .iter()
        .skip(before)
        .any(|finding| finding.verdict == Verdict::Bad)
    {
        connection.close().await;
        return findings;
    }
    for group in config.policy().wanted_groups() {
        findings.push(look_at_group(&mut connection, group, rules).await);
    }
    findings.push(match account {
        Some(text) => match Account::read(text, &rules.find_by) {
            Ok(account) => look_at_account(&mut connection, directory, &account, text, config, now).await,
            Err(error) => no_account(text, error),
        },
        None => Finding::skipped(
            CHECK,
            "an account",
            "give --look-up, such as alice@EXAMPLE.COM, or its objectSid where find_by is \"sid\"",
        ),
    });
    connection.close().await;
    findings
}

async fn patiently<T>(question: impl Future<Output = Result<T, LdapError>>) -> Result<T, LdapError> {
    let within = Duration::from_secs(PATIENCE.into());
    let silent = |_| LdapError::Connection(format!("no answer within {PATIENCE} s"));
    timeout(within, question).await.map_err(silent)?
}

/// The same question with OpenLDAP's own tool, which says more about TLS and the bind.
fn by_hand(place: &Place, bind: &Bind) -> Remedy {
    let (url, who) = words(place, bind);
    Remedy::any(format!("LDAPTLS_CACERT=CA_FILE ldapwhoami -H {url} {who}"))
}

/// The same for what an entry shows.
fn by_hand_at(base: &str, rules: &DirectoryConfig) -> Remedy {
    let place = rules
        .server
        .places
        .first()
        .map(|place| words(place, &rules.server.bind));
    let (url, who) = place.unwrap_or_default();
    Remedy::any(format!(
        "LDAPTLS_CACERT=CA_FILE ldapsearch -H {url} {who} -b '{base}' -s base"
    ))
}

/// Where and as whom, in the words of OpenLDAP's tools.
fn words(place: &Place, bind: &Bind) -> (String, String) {
    let (url, tls) = match place {
        Place::Tcp { security, .. } => {
            let tls = if matches!(security, Security::StartTls(..)) {
                "-ZZ "
            } else {
                ""
            };
            (place.to_string(), tls)
        }
        Place::Unix(path) => (
            format!("ldapi://{}", path.display().to_string().replace('/', "%2F")),
            "",
        ),
    };
    let who = match bind {
        Bind::Simple { name, password: _ } => format!("{tls}-x -D '{name}' -W"),
        Bind::External => "-Y EXTERNAL".to_owned(),
    };
    (url, who)
}

fn in_time(place: &Place, took: Duration, deadline: Duration) -> Finding {
    let took = format!("it lets the broker in, in {} ms", took.as_millis());
    Finding::good(
        CHECK,
        place.to_string(),
        format!("{took} of the {} ms that an exchange has", deadline.as_millis()),
    )
}

async fn look_at_base(connection: &mut Connection, base: &str, rules: &DirectoryConfig) -> Finding {
    let search = Search {
        base: base.to_owned(),
        scope: Scope::Base,
        filter: Filter::Present("objectClass".to_owned()),
        attributes: vec!["objectClass".to_owned()],
        most: 1,
    };
    let problem = match patiently(connection.search(&search, PATIENCE)).await {
        Ok(found) if !found.entries.is_empty() => return Finding::good(CHECK, base, "it is there"),
        Ok(_) => "it is not there, or may not be seen by who asks".to_owned(),
        Err(error) => error.to_string(),
    };
    Finding::bad(CHECK, base, Reason::GroupsUnavailable, problem).mended_by([by_hand_at(base, rules)])
}

async fn look_at_group(connection: &mut Connection, group: &str, rules: &DirectoryConfig) -> Finding {
    let search = rules.groups.named(group);
    let found = match patiently(connection.search(&search, PATIENCE)).await {
        Ok(found) => found.entries,
        Err(error) => {
            let finding = Finding::bad(CHECK, group, Reason::GroupsUnavailable, error.to_string());
            return finding.mended_by([by_hand_at(&rules.groups.base, rules)]);
        }
    };
    let groups: Vec<&Entry> = found.iter().filter(|entry| GroupRules::gives_rights(entry)).collect();
    match groups.as_slice() {
        [] => Finding::warning(
            CHECK,
            group,
            "no group is called so, or it may not be seen: nobody is in it",
        ),
        [one] => {
            let names: Vec<&[u8]> = one.values(&rules.groups.name_attribute).collect();
            match names.as_slice() {
                [name] if *name == group.as_bytes() => Finding::good(CHECK, group, format!("it is {}", one.name)),
                [name] => Finding::warning(
                    CHECK,
                    group,
                    format!(
                        "the directory writes it {:?}, which is another name: nobody is in it",
                        String::from_utf8_lossy(name)
                    ),
                )
                .mended_by([Remedy::any("write the group in the policy as the directory does")]),
                _ => Finding::bad(
                    CHECK,
                    group,
                    Reason::GroupsUnavailable,
                    format!("{} has other names too", one.name),
                )
                .mended_by([Remedy::any("leave it one value of groups.ldap.name_attribute")]),
            }
        }
        [one, other, ..] => Finding::bad(
            CHECK,
            group,
            Reason::GroupsUnavailable,
            format!("it may be {} or {}: its members are refused", one.name, other.name),
        )
        .mended_by([Remedy::any(
            "rename one of them, or name a groups.ldap.group_base that holds one alone",
        )]),
    }
}

async fn look_at_account(
    connection: &mut Connection,
    directory: &Directory,
    account: &Account<'_>,
    text: &str,
    config: &Config,
    now: UnixTime,
) -> Finding {
    let rules = directory.config();
    let shown = match patiently(connection.search(&account.state(&rules.base), PATIENCE)).await {
        Ok(found) => found.entries.first().map(Account::said).unwrap_or_default(),
        Err(error) => return refused(text, &error.into()),
    };
    let began = Instant::now();
    let deadline = began.checked_add(config.limits().deadline).unwrap_or(began);
    let wanted = config.policy().wanted_groups();
    match directory.groups_of(account, wanted, now, deadline).await {
        Ok(groups) => {
            let names: Vec<&str> = groups.iter().collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            let found = format!(
                "of the policy's groups it is in: {names}; found in {} ms",
                began.elapsed().as_millis()
            );
            if shown.is_empty() {
                let hidden = "nothing is said of whether it is open, or who asks may not read it";
                Finding::warning(CHECK, text, format!("{found}; {hidden}")).mended_by([Remedy::any(
                    "let bind_dn read the attributes of docs/groups.md, \"The account\"",
                )])
            } else {
                Finding::good(CHECK, text, format!("{found}; open by {}", shown.join(", ")))
            }
        }
        Err(error) => refused(text, &error),
    }
}

fn refused(text: &str, error: &GroupsError) -> Finding {
    Finding::bad(CHECK, text, error.reason(), error.to_string())
        .mended_by([Remedy::any("see [groups.ldap] in kerbridge.toml, and docs/groups.md")])
}

fn no_account(text: &str, error: AccountError) -> Finding {
    match error {
        AccountError::NoSid | AccountError::NoPrincipal => Finding::skipped(CHECK, text, error.to_string()),
        AccountError::OfAnotherRealm => Finding::bad(CHECK, text, Reason::PrincipalNotMapped, error.to_string())
            .mended_by([Remedy::any(
                "name a principal of account_realm, or write find_by = \"principal\"",
            )]),
    }
}
