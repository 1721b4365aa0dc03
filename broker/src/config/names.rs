//! Decides whether the rules for names fit together: each can name somebody, and no two people get one name.

use std::path::Path;

use super::{KerberosConfig, kerberos, raw, read_text};
use crate::principal::mapping::{Instances, NamePattern, NameRules, Rule, Template, Unmatched};
use crate::problem::Problems;
use crate::strict_toml;

/// Most rules; each is looked at with every ticket.
const MOST_RULES: usize = 1_000;

/// As much of the configuration as names need: no keytab, no keys, no certificates, no policy. Built by
/// [`NamesConfig::load`] only.
#[derive(Debug)]
pub struct NamesConfig {
    kerberos: KerberosConfig,
    rules: NameRules,
}

impl NamesConfig {
    /// Reads the configuration, and checks realms and names.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let config = read_text(path, "--config", &mut problems)
            .and_then(|text| strict_toml::read::<raw::Config>(&text, &mut problems))
            .and_then(|file| {
                let rules = check(file.names, &file.kerberos.realms, &mut problems);
                let kerberos = kerberos::check_without_acceptors(file.kerberos, &mut problems);
                Some(Self {
                    kerberos: kerberos?,
                    rules: rules?,
                })
            });
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    /// Realms whose principals are taken; the first is krb5's default.
    pub fn realms(&self) -> &[String] {
        &self.kerberos.realms
    }

    /// What krb5.conf is made of, with nothing to accept.
    pub fn kerberos(&self) -> &KerberosConfig {
        &self.kerberos
    }

    /// What tokens call those who are taken.
    pub fn rules(&self) -> &NameRules {
        &self.rules
    }
}

pub(super) fn check(names: raw::Names, realms: &[String], problems: &mut Problems) -> Option<NameRules> {
    let raw::Names {
        rule,
        auth_to_local,
        instances,
        strip_realm_of,
        unmatched,
    } = names;
    let mut found = Problems::default();
    let auth_to_local = auth_to_local == Some(true);
    if auth_to_local {
        let decided = [
            ("names.instances", instances.is_some()),
            ("names.strip_realm_of", !strip_realm_of.is_empty()),
            ("names.unmatched", unmatched.is_some()),
        ];
        for (field, _) in decided.iter().filter(|(_, given)| *given) {
            found.note(
                *field,
                "is never asked, since names.auth_to_local decides about all whom no rule names",
                "remove one of the two",
            );
        }
    }
    let rules = check_rules(rule, realms, &mut found);
    let stripped_realm = check_stripped(strip_realm_of, realms, &rules, &mut found);
    let instances = one_of(
        "names.instances",
        instances.as_deref(),
        [("keep", Instances::Keep), ("refuse", Instances::Refuse)],
        &mut found,
    );
    let unmatched = one_of(
        "names.unmatched",
        unmatched.as_deref(),
        [("keep", Unmatched::Keep), ("refuse", Unmatched::Refuse)],
        &mut found,
    );
    let good = found.is_empty();
    problems.absorb("", found);
    good.then_some(NameRules {
        rules: rules.into_iter().flatten().collect(),
        auth_to_local,
        instances,
        stripped_realm,
        unmatched,
    })
}

fn one_of<T: Copy + Default>(field: &str, given: Option<&str>, words: [(&str, T); 2], problems: &mut Problems) -> T {
    let Some(given) = given else { return T::default() };
    match words.iter().find(|(word, _)| *word == given) {
        Some((_, value)) => *value,
        None => {
            let [(first, _), (second, _)] = words;
            problems.note(
                field,
                format!("{given:?} is neither {first} nor {second}"),
                format!("write \"{first}\" or \"{second}\""),
            );
            T::default()
        }
    }
}

/// The rules, each at its place; absent where it is wrong.
fn check_rules(lines: Vec<raw::NameRule>, realms: &[String], problems: &mut Problems) -> Vec<Option<Rule>> {
    if lines.len() > MOST_RULES {
        problems.note(
            "names.rule",
            format!("more than {MOST_RULES}"),
            "use patterns such as */admin@EXAMPLE.COM",
        );
    }
    let mut rules: Vec<Option<Rule>> = Vec::new();
    for (index, line) in lines.into_iter().enumerate().take(MOST_RULES) {
        let field = format!("names.rule[{index}]");
        let rule = check_rule(line, &field, realms, problems);
        if let Some(rule) = &rule {
            let earlier = || {
                let known = rules.iter().enumerate();
                known.filter_map(|(index, known)| known.as_ref().map(|known| (index, known)))
            };
            if let Some((first, _)) = earlier().find(|(_, first)| first.pattern.covers(&rule.pattern)) {
                problems.note(
                    format!("{field}.match"),
                    format!("never matches, since names.rule[{first}] does"),
                    "put it before that one, or remove it",
                );
            } else if let Some((first, _)) = earlier().find(|(_, first)| first.template.covers(&rule.template)) {
                problems.note(
                    format!("{field}.subject"),
                    format!("gives no name that names.rule[{first}] could not give to somebody else"),
                    "choose a name that differs, by what it begins or ends with",
                );
            }
        }
        rules.push(rule);
    }
    rules
}

fn check_rule(line: raw::NameRule, field: &str, realms: &[String], problems: &mut Problems) -> Option<Rule> {
    let raw::NameRule { pattern, subject } = line;
    let (match_field, subject_field) = (format!("{field}.match"), format!("{field}.subject"));
    let pattern = match pattern {
        None => {
            problems.missing(&match_field, "name principals, such as \"*/admin@EXAMPLE.COM\"");
            None
        }
        Some(text) => {
            let read = NamePattern::parse(&text);
            if let Err(error) = &read {
                problems.note(
                    &match_field,
                    format!("{text:?}: {error}"),
                    "write components and realm, each component a text or *, such as \"*/admin@EXAMPLE.COM\"",
                );
            }
            read.ok()
        }
    };
    if let Some(pattern) = &pattern
        && !realms.iter().any(|realm| realm == pattern.realm())
    {
        problems.note(
            &match_field,
            format!(
                "realm {:?} is not in kerberos.realms, so that it never matches",
                pattern.realm()
            ),
            "add the realm there, or correct it here",
        );
    }
    let Some(subject) = subject else {
        problems.missing(&subject_field, "give them a name, such as \"{1}-admin\"");
        return None;
    };
    let pattern = pattern?;
    match Template::parse(&subject, &pattern) {
        Ok(template) => Some(Rule { pattern, template }),
        Err(error) => {
            problems.note(
                subject_field,
                format!("{subject:?}: {error}"),
                "use each * of match once, with visible ASCII around it but no @, / and \\, such as \"{1}-admin\"",
            );
            None
        }
    }
}

fn check_stripped(
    list: Vec<String>,
    realms: &[String],
    rules: &[Option<Rule>],
    problems: &mut Problems,
) -> Option<String> {
    let field = "names.strip_realm_of";
    for (index, realm) in list.iter().enumerate() {
        if !realms.contains(realm) {
            problems.note(
                format!("{field}[{index}]"),
                format!("realm {realm:?} is not in kerberos.realms"),
                "add the realm there, or correct it here",
            );
        }
    }
    let mut list = list.into_iter();
    let (realm, second) = (list.next()?, list.next());
    if let Some(second) = second {
        problems.note(
            field,
            format!("alice@{realm} and alice@{second} would be one subject"),
            format!("keep one realm, and add a [[names.rule]] with match = \"*@{second}\" and another subject, such as \"b-{{1}}\""),
        );
    }
    let mut known = rules.iter().enumerate();
    if let Some((index, _)) = known.find(|(_, rule)| rule.as_ref().is_some_and(|rule| rule.template.covers_all())) {
        problems.note(
            field,
            format!("every short name is one that names.rule[{index}] could give to somebody else"),
            "let that rule's subject begin or end with a text of its own",
        );
    }
    Some(realm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<NameRules, Vec<String>> {
        let mut problems = Problems::default();
        let realms = ["A.TEST".to_owned(), "B.TEST".to_owned()];
        let rules =
            strict_toml::read::<raw::Names>(text, &mut problems).and_then(|names| check(names, &realms, &mut problems));
        match rules {
            Some(rules) if problems.is_empty() => Ok(rules),
            Some(_) | None => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn nothing_said_is_the_full_principal_for_everybody() {
        let rules = rules("").unwrap();
        assert!(rules.rules.is_empty() && !rules.auth_to_local);
        assert_eq!((rules.instances, rules.unmatched), (Instances::Keep, Unmatched::Keep));
        assert_eq!(rules.stripped_realm, None);
    }

    #[test]
    fn what_would_make_two_people_one_is_a_mistake_of_the_configuration() {
        for (text, expected) in [
            (
                "strip_realm_of = [\"A.TEST\", \"B.TEST\"]",
                "names.strip_realm_of: alice@A.TEST and alice@B.TEST would be one subject; keep one realm",
            ),
            (
                "strip_realm_of = [\"A.TEST\"]\n[[rule]]\nmatch = \"*@B.TEST\"\nsubject = \"{1}\"",
                "names.strip_realm_of: every short name is one that names.rule[0] could give to somebody else; ",
            ),
            (
                "[[rule]]\nmatch = \"*@A.TEST\"\nsubject = \"{1}\"\n[[rule]]\nmatch = \"*@B.TEST\"\nsubject = \"b-{1}\"",
                "names.rule[1].subject: gives no name that names.rule[0] could not give to somebody else; ",
            ),
            (
                "[[rule]]\nmatch = \"*/admin@A.TEST\"\nsubject = \"admin\"",
                "names.rule[0].subject: \"admin\": leaves out component 1, so that two principals had one name; ",
            ),
            (
                "[[rule]]\nmatch = \"*/*@A.TEST\"\nsubject = \"{1}{2}\"",
                "names.rule[0].subject: \"{1}{2}\": has two components side by side",
            ),
        ] {
            let found = rules(text).unwrap_err();
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{expected}: {found:#?}"
            );
        }
    }

    #[test]
    fn each_mistake_is_named_with_field_and_remedy() {
        for (text, expected) in [
            (
                "instances = \"drop\"",
                "names.instances: \"drop\" is neither keep nor refuse; write",
            ),
            (
                "unmatched = \"\"",
                "names.unmatched: \"\" is neither keep nor refuse; write",
            ),
            (
                "strip_realm_of = [\"C.TEST\"]",
                "names.strip_realm_of[0]: realm \"C.TEST\" is not in kerberos.realms; add",
            ),
            (
                "auth_to_local = true\nunmatched = \"keep\"",
                "names.unmatched: is never asked, since names.auth_to_local decides",
            ),
            (
                "auth_to_local = true\nstrip_realm_of = [\"A.TEST\"]",
                "names.strip_realm_of: is never asked, since names.auth_to_local decides",
            ),
            ("[[rule]]\nsubject = \"x\"", "names.rule[0].match: is missing; name"),
            (
                "[[rule]]\nmatch = \"x@A.TEST\"",
                "names.rule[0].subject: is missing; give",
            ),
            (
                "[[rule]]\nmatch = \"x@C.TEST\"\nsubject = \"x\"",
                "names.rule[0].match: realm \"C.TEST\" is not in kerberos.realms",
            ),
            (
                "[[rule]]\nmatch = \"a*@A.TEST\"\nsubject = \"x\"",
                "names.rule[0].match: \"a*@A.TEST\": a * stands only alone in a component; write",
            ),
            (
                "[[rule]]\nmatch = \"alice\"\nsubject = \"x\"",
                "names.rule[0].match: \"alice\": a full principal ends in @REALM; write",
            ),
            (
                "[[rule]]\nmatch = \"*@A.TEST\"\nsubject = \"{1}@x\"",
                "names.rule[0].subject: \"{1}@x\": '@' may not stand in a name; use",
            ),
            (
                "[[rule]]\nmatch = \"*@A.TEST\"\nsubject = \"x\"\n[[rule]]\nmatch = \"alice@A.TEST\"\nsubject = \"y\"",
                "names.rule[0].subject: \"x\": leaves out component 1",
            ),
            (
                "[[rule]]\nmatch = \"*@A.TEST\"\nsubject = \"x-{1}\"\n[[rule]]\nmatch = \"alice@A.TEST\"\nsubject = \"y\"",
                "names.rule[1].match: never matches, since names.rule[0] does; put it before",
            ),
        ] {
            let found = rules(text).unwrap_err();
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{expected}: {found:#?}"
            );
        }
        let rule = "[[rule]]\nmatch = \"x/*@A.TEST\"\nsubject = \"{2}\"\n".repeat(MOST_RULES + 1);
        assert!(
            rules(&rule)
                .unwrap_err()
                .iter()
                .any(|line| line.starts_with("names.rule: more than 1000; "))
        );
    }
}
