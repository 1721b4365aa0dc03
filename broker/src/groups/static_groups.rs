//! Reads a file that says who is in which group, for realms whose tickets do not say it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kerbridge_gss::Principal;

use super::GroupSet;
use crate::policy::{PrincipalPattern, no_group_name};
use crate::problem::Problems;
use crate::strict_toml;

/// Most memberships of a file, over all groups.
const MOST_MEMBERS: usize = 100_000;

/// Who is in which group. Nothing is nested.
#[derive(Clone, Debug, Default)]
pub struct StaticGroups(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    names: Vec<Arc<str>>,
    exactly: HashMap<Principal, Vec<Arc<str>>>,
    patterns: Vec<(PrincipalPattern, Arc<str>)>,
}

impl StaticGroups {
    /// Reads the text of a TOML file, `group = ["alice@EXAMPLE.COM", "*@EXAMPLE.COM"]`, or notes all that is wrong with it.
    /// Principals of a realm that is not taken never come, so they are a mistake.
    pub fn read(text: &str, realms: Option<&[String]>, problems: &mut Problems) -> Option<Self> {
        let mut found = Problems::default();
        let file: Option<BTreeMap<String, Vec<String>>> = strict_toml::read(text, &mut found);
        let mut index = Index::default();
        let file = file.unwrap_or_default();
        if file.values().map(Vec::len).fold(0, usize::saturating_add) > MOST_MEMBERS {
            found.note(
                "the file",
                format!("has more than {MOST_MEMBERS} members"),
                "use *@REALM",
            );
        }
        for (group, members) in &file {
            if let Some(problem) = no_group_name(group) {
                found.note(group, problem, "choose another name");
            }
            let name: Arc<str> = group.as_str().into();
            index.names.push(Arc::clone(&name));
            for (at, member) in members.iter().enumerate().take(MOST_MEMBERS) {
                let field = || format!("{group}[{at}]");
                match member.parse::<PrincipalPattern>() {
                    Ok(pattern) if realms.is_some_and(|realms| !realms.iter().any(|one| one == pattern.realm())) => {
                        found.note(
                            field(),
                            format!(
                                "realm {:?} is not in kerberos.realms, so that it never matches",
                                pattern.realm()
                            ),
                            "add the realm there, or correct it here",
                        );
                    }
                    Ok(PrincipalPattern::Exactly(principal)) => {
                        index.exactly.entry(principal).or_default().push(Arc::clone(&name));
                    }
                    Ok(pattern @ PrincipalPattern::Like { .. }) => {
                        index.patterns.push((pattern, Arc::clone(&name)));
                    }
                    Err(error) => found.note(
                        field(),
                        format!("{member:?}: {error}"),
                        "write a full principal, \"alice@EXAMPLE.COM\", or \"*@EXAMPLE.COM\"",
                    ),
                }
            }
        }
        let good = found.is_empty();
        problems.absorb("", found);
        good.then(|| Self(Arc::new(index)))
    }

    /// The groups of a principal; none is an answer here, since the file names everybody.
    pub fn of(&self, principal: &Principal) -> GroupSet {
        let exactly = self.0.exactly.get(principal).into_iter().flatten();
        let patterns = self.0.patterns.iter();
        let patterns = patterns
            .filter(|(pattern, _)| pattern.matches(principal))
            .map(|(_, name)| name);
        exactly.chain(patterns).map(|name| Box::<str>::from(&**name)).collect()
    }

    /// Whether the file has this group.
    pub fn has(&self, name: &str) -> bool {
        self.0.names.iter().any(|one| **one == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        order-clerks = ["alice@A.TEST", "svc/robot@A.TEST"]
        "all of us" = ["*@A.TEST"]
        nobody = []
    "#;

    fn groups_of(principal: &str) -> Vec<String> {
        let realms = ["A.TEST".to_owned()];
        let groups = StaticGroups::read(FILE, Some(&realms), &mut Problems::default()).unwrap();
        assert!(groups.has("nobody") && !groups.has("Nobody"));
        groups
            .of(&crate::principal::canonical(principal).unwrap())
            .iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_principal_is_in_the_groups_that_name_it_and_no_others() {
        assert_eq!(groups_of("alice@A.TEST"), ["all of us", "order-clerks"]);
        assert_eq!(groups_of("bob@A.TEST"), ["all of us"]);
        assert_eq!(groups_of("svc/robot@A.TEST"), ["order-clerks"]);
        for stranger in ["alice@B.TEST", "alice/admin@A.TEST", "ALICE/x@A.TEST"] {
            assert_eq!(groups_of(stranger), Vec::<String>::new(), "{stranger}");
        }
    }

    #[test]
    fn each_mistake_of_the_file_is_named() {
        let mut problems = Problems::default();
        let text = "a = [\"alice\", \"x@B.TEST\", \"a*@A.TEST\"]\n\"\" = []\nb = \"alice@A.TEST\"";
        let realms = ["A.TEST".to_owned()];
        assert!(StaticGroups::read(text, Some(&realms), &mut problems).is_none());
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for start in [
            "b: invalid type: string",
            ": is not 1 to 255 bytes",
            "a[0]: \"alice\"",
            "a[1]: realm \"B.TEST\" is not in kerberos.realms",
            "a[2]: \"a*@A.TEST\"",
        ] {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
        }
        assert_eq!(found.len(), 5, "{found:#?}");
    }
}
