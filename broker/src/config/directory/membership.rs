//! Decides how accounts are found in a directory, which of its entries are groups, and how it says who is in them.

use super::{attribute, required};
use crate::groups::directory::{Elsewhere, FindBy, GroupRules, Member, Membership};
use crate::problem::Problems;

/// The attribute of RFC 2307 whose values are names of accounts; those of others are distinguished names.
const MEMBER_UID: &str = "memberUid";

/// The rules as the file says them.
pub(super) struct Rules {
    pub(super) group_base: Option<String>,
    pub(super) find_by: Option<String>,
    pub(super) principal_attribute: Option<String>,
    pub(super) account_attribute: Option<String>,
    pub(super) account_realm: Option<String>,
    pub(super) membership: Option<String>,
    pub(super) member_attribute: Option<String>,
    pub(super) group_class: Option<String>,
    pub(super) name_attribute: Option<String>,
    pub(super) elsewhere: Option<String>,
}

/// How the account is found, and in which groups it is. `realms` are those that are taken.
pub(super) fn check(
    rules: Rules,
    base: Option<&str>,
    realms: Option<&[String]>,
    problems: &mut Problems,
) -> Option<(FindBy, GroupRules)> {
    let Rules {
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
    } = rules;
    let by_sid = !matches!(find_by.as_deref(), Some("principal" | "name"));
    let by_name = find_by.as_deref() == Some("name");
    let member_uid = member_attribute
        .as_deref()
        .is_some_and(|name| name.eq_ignore_ascii_case(MEMBER_UID));
    if account_attribute.is_some() && !by_name && !member_uid {
        problems.note(
            "groups.ldap.account_attribute",
            "has no use here",
            "remove it; it is for find_by = \"name\" and for member_attribute = \"memberUid\"",
        );
    }
    let account = attribute(
        account_attribute.as_deref().unwrap_or("uid"),
        "account_attribute",
        problems,
    );
    let wishes = Wishes {
        principal_attribute,
        account: account.clone(),
        account_realm,
    };
    let find_by = check_find_by(find_by.as_deref(), wishes, realms, problems);
    let membership = check_membership(
        membership.as_deref(),
        by_sid,
        member_attribute.as_deref(),
        account,
        problems,
    );
    let class = match group_class {
        None if by_sid => Some("group".to_owned()),
        class => required(
            class,
            "group_class",
            "write the object class that makes an entry a group: \"groupOfNames\", \"groupOfUniqueNames\", \
             \"posixGroup\"; \"ipaUserGroup\" (FreeIPA), \"group\" (Active Directory)",
            problems,
        )
        .and_then(|class| attribute(&class, "group_class", problems)),
    };
    let own_name = if by_sid { "sAMAccountName" } else { "cn" };
    let name_attribute = attribute(
        name_attribute.as_deref().unwrap_or(own_name),
        "name_attribute",
        problems,
    );
    let group_base = match group_base {
        Some(base) => required(Some(base), "group_base", "remove it, or name an entry", problems),
        None => base.map(str::to_owned),
    };
    let elsewhere = match elsewhere.as_deref() {
        None | Some("refuse") => Some(Elsewhere::Refuse),
        Some("ignore") => Some(Elsewhere::Ignore),
        Some(other) => {
            problems.note(
                "groups.ldap.elsewhere",
                format!("{other:?} is neither \"refuse\" nor \"ignore\""),
                "write \"refuse\", or \"ignore\" to leave out groups that cannot be looked at",
            );
            None
        }
    };
    let groups = GroupRules {
        base: group_base?,
        class: class?,
        name_attribute: name_attribute?,
        membership: membership?,
        elsewhere: elsewhere?,
    };
    Some((find_by?, groups))
}

struct Wishes {
    principal_attribute: Option<String>,
    account: Option<String>,
    account_realm: Option<String>,
}

fn check_find_by(
    find_by: Option<&str>,
    wishes: Wishes,
    realms: Option<&[String]>,
    problems: &mut Problems,
) -> Option<FindBy> {
    let Wishes {
        principal_attribute,
        account,
        account_realm,
    } = wishes;
    let find_by = find_by.unwrap_or("sid");
    for (field, given, used_by) in [
        ("principal_attribute", principal_attribute.is_some(), "principal"),
        ("account_realm", account_realm.is_some(), "name"),
    ] {
        if given && find_by != used_by {
            problems.note(
                format!("groups.ldap.{field}"),
                format!("has no use where find_by is {find_by:?}"),
                format!("remove it, or write find_by = {used_by:?}"),
            );
        }
    }
    match find_by {
        "sid" => Some(FindBy::Sid),
        "principal" => {
            let name = required(
                principal_attribute,
                "principal_attribute",
                "name the attribute that holds the full principal, such as \"krbPrincipalName\" or \"userPrincipalName\"",
                problems,
            )?;
            let attribute = attribute(&name, "principal_attribute", problems)?;
            Some(FindBy::Principal { attribute })
        }
        "name" => {
            let realm = required(
                account_realm,
                "account_realm",
                "name the realm whose principals have these names: alice of another realm is somebody else",
                problems,
            )?;
            if realms.is_some_and(|realms| !realms.contains(&realm)) {
                problems.note(
                    "groups.ldap.account_realm",
                    format!("{realm:?} is not in kerberos.realms, so that nobody is ever found"),
                    "add the realm there, or correct it here",
                );
            }
            let attribute = account?;
            Some(FindBy::Name { attribute, realm })
        }
        other => {
            problems.note(
                "groups.ldap.find_by",
                format!("{other:?} is neither \"sid\", \"principal\" nor \"name\""),
                "write \"sid\" for Active Directory and Samba, one of the others elsewhere",
            );
            None
        }
    }
}

fn check_membership(
    membership: Option<&str>,
    by_sid: bool,
    member_attribute: Option<&str>,
    account: Option<String>,
    problems: &mut Problems,
) -> Option<Membership> {
    const FIELD: &str = "groups.ldap.member_attribute";
    let membership = membership.unwrap_or(if by_sid { "token_groups" } else { "direct" });
    let is_of_account = matches!(membership, "token_groups" | "member_of");
    match member_attribute {
        Some(_) if is_of_account => problems.note(
            FIELD,
            format!("has no use where membership is {membership:?}, which is the account's"),
            "remove it, or write membership = \"direct\" or \"walk\"",
        ),
        Some(name) if name.eq_ignore_ascii_case("memberOf") => {
            problems.note(FIELD, "is an attribute of accounts", "write membership = \"member_of\"");
        }
        Some(name) if membership != "direct" && name.eq_ignore_ascii_case(MEMBER_UID) => problems.note(
            FIELD,
            "names accounts only, so that no group is in another",
            "write membership = \"direct\"",
        ),
        Some(_) | None => {}
    }
    let attribute = attribute(member_attribute.unwrap_or("member"), "member_attribute", problems)?;
    match membership {
        "token_groups" => Some(Membership::TokenGroups),
        "member_of" => Some(Membership::MemberOf),
        "chain" => Some(Membership::Chain(attribute)),
        "walk" => Some(Membership::Walk(attribute)),
        "direct" if attribute.eq_ignore_ascii_case(MEMBER_UID) => Some(Membership::Direct(Member::Name {
            attribute,
            of: account?,
        })),
        "direct" => Some(Membership::Direct(Member::Dn(attribute))),
        other => {
            problems.note(
                "groups.ldap.membership",
                format!("{other:?} is no way to look for groups"),
                "write token_groups, member_of, direct, walk or chain",
            );
            None
        }
    }
}
