//! Decides where groups come from, and that nothing is said that the chosen source does not use.

use std::collections::BTreeMap;
use std::path::Path;

use super::{directory, raw, read_text};
use crate::groups::directory::Directory;
use crate::groups::sid::Sid;
use crate::groups::{GroupSource, SidNames, StaticGroups, Unmapped};
use crate::policy::no_group_name;
use crate::problem::Problems;

/// Builds the source, or notes what is wrong. Principals of other realms than these in a static file are a mistake.
pub(super) fn check(
    groups: raw::Groups,
    folder: &Path,
    realms: Option<&[String]>,
    problems: &mut Problems,
) -> Option<GroupSource> {
    let raw::Groups {
        source,
        static_file,
        sid_names,
        unmapped_sids,
        ldap,
    } = groups;
    let source = source.as_deref().unwrap_or("none");
    let used = match source {
        "none" => &[][..],
        "static" => &["static_file"],
        "pac" => &["sid_names", "unmapped_sids"],
        "ldap" => &["ldap"],
        other => {
            problems.note(
                "groups.source",
                format!("{other:?} is no source of groups"),
                "write none, static, pac or ldap",
            );
            return None;
        }
    };
    for (field, given) in [
        ("static_file", static_file.is_some()),
        ("sid_names", sid_names.is_some()),
        ("unmapped_sids", unmapped_sids.is_some()),
        ("ldap", ldap.is_some()),
    ] {
        if given && !used.contains(&field) {
            problems.note(
                format!("groups.{field}"),
                format!("has no use where groups.source is {source:?}"),
                "remove it, or choose the source that it is for",
            );
        }
    }
    match source {
        "static" => {
            let Some(file) = static_file else {
                problems.missing(
                    "groups.static_file",
                    "name a file with lines such as clerks = [\"alice@EXAMPLE.COM\"]",
                );
                return None;
            };
            let path = folder.join(file);
            let text = read_text(&path, "groups.static_file", problems)?;
            let mut found = Problems::default();
            let groups = StaticGroups::read(&text, realms, &mut found);
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            problems.absorb(&format!("{name}: "), found);
            groups.map(GroupSource::Static)
        }
        "pac" => check_names(sid_names.unwrap_or_default(), unmapped_sids.as_deref(), problems).map(GroupSource::Pac),
        "ldap" => {
            let Some(ldap) = ldap else {
                problems.missing(
                    "groups.ldap",
                    "add [groups.ldap] with url, ca, bind_dn, password_file and base",
                );
                return None;
            };
            directory::check(ldap, folder, realms, problems)
                .map(|config| GroupSource::Directory(Directory::new(config)))
        }
        _ => Some(GroupSource::None),
    }
}

/// The same for who needs only the names of groups: a directory's cannot be known, and its password is not looked at.
pub(super) fn check_without_secrets(
    groups: raw::Groups,
    folder: &Path,
    realms: Option<&[String]>,
    problems: &mut Problems,
) -> Option<GroupSource> {
    if groups.source.as_deref() == Some("ldap") {
        return None;
    }
    check(groups, folder, realms, problems)
}

fn check_names(names: BTreeMap<String, String>, unmapped: Option<&str>, problems: &mut Problems) -> Option<SidNames> {
    let mut mapped = BTreeMap::new();
    for (text, name) in names {
        let field = format!("groups.sid_names.{text}");
        match text.parse::<Sid>() {
            // A name that looks like an identifier could be mistaken for one that has no name.
            Ok(_) if name.parse::<Sid>().is_ok() => {
                problems.note(
                    field,
                    format!("{name:?} is an identifier, not a name"),
                    "choose another name",
                );
            }
            Ok(sid) => match no_group_name(&name) {
                Some(problem) => problems.note(field, format!("{name:?} {problem}"), "choose another name"),
                None => drop(mapped.insert(sid, name)),
            },
            Err(error) => problems.note(
                field,
                format!("{error}"),
                "write the group's objectSid, such as \"S-1-5-21-1004336348-1177238915-682003330-1104\"",
            ),
        }
    }
    let unmapped = match unmapped {
        None | Some("drop") => Unmapped::Drop,
        Some("sid") => Unmapped::Sid,
        Some(other) => {
            problems.note(
                "groups.unmapped_sids",
                format!("{other:?} is neither \"drop\" nor \"sid\""),
                "write \"drop\", or \"sid\" for the identifier's text as name",
            );
            return None;
        }
    };
    if mapped.is_empty() && unmapped == Unmapped::Drop {
        problems.missing(
            "groups.sid_names",
            "give the groups of the PAC names, by their objectSid; or write unmapped_sids = \"sid\"",
        );
    }
    Some(SidNames {
        names: mapped,
        unmapped,
    })
}
