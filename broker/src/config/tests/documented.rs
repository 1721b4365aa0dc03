//! Holds docs/configuration.md to the types, both ways, and its defaults to what the program does.

mod pages;

use std::collections::BTreeSet;
use std::path::PathBuf;

use toml::Value;

use super::*;
use crate::strict_toml;

/// No field is called so.
const NOBODY: &str = "no_such_field";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What one of the two files is read by.
#[derive(Clone, Copy)]
enum File {
    Broker,
    Policy,
}

impl File {
    /// What is wrong with the shape of a text.
    fn problems(self, text: &str) -> Vec<Problem> {
        let mut problems = Problems::default();
        match self {
            Self::Broker => drop(strict_toml::read::<raw::Config>(text, &mut problems)),
            Self::Policy => drop(strict_toml::read::<wire_policy::Policy>(text, &mut problems)),
        }
        problems.iter().cloned().collect()
    }

    /// The heading of its part of the page.
    const fn heading(self) -> &'static str {
        match self {
            Self::Broker => "## kerbridge.toml",
            Self::Policy => "## policy.toml",
        }
    }
}

/// `a.b` with this in it, however deep; each step a table or an element of a list.
fn nested(steps: &[(String, bool)], inner: &str) -> String {
    let Some(((name, listed), rest)) = steps.split_first() else {
        return inner.to_owned();
    };
    let inside = nested(rest, inner);
    let (open, close) = if *listed { ("[{", "}]") } else { ("{", "}") };
    format!("\"{name}\" = {open}{inside}{close}")
}

/// The fields that a section has, as its reader names them when it sees one that is none; nothing where it is no section.
fn fields_of(file: File, steps: &[(String, bool)]) -> Option<BTreeSet<String>> {
    let problems = file.problems(&nested(steps, &format!("{NOBODY} = 1")));
    let remedy = problems
        .iter()
        .find(|problem| problem.problem.contains(&format!("unknown field `{NOBODY}`")))?;
    Some(remedy.remedy.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Every section with its fields, by asking from the top down.
fn read_by(file: File) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut open: Vec<Vec<(String, bool)>> = vec![Vec::new()];
    while let Some(steps) = open.pop() {
        let name: Vec<&str> = steps.iter().map(|(name, _)| name.as_str()).collect();
        for field in fields_of(file, &steps).expect("a section") {
            found.insert((name.join("."), field.clone()));
            for listed in [false, true] {
                let inner: Vec<_> = steps.iter().cloned().chain([(field.clone(), listed)]).collect();
                if fields_of(file, &inner).is_some() {
                    open.push(inner);
                    break;
                }
            }
        }
    }
    found
}

/// A row of the page.
struct Row {
    /// Whether each step of the section's path is a list.
    section: Vec<(String, bool)>,
    field: String,
    default: Option<String>,
    example: Option<String>,
}

impl Row {
    fn section_name(&self) -> String {
        let names: Vec<&str> = self.section.iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }
}

/// The code of a cell that is nothing but code.
fn literal(cell: &str) -> Option<String> {
    let inside = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!inside.contains('`')).then(|| inside.to_owned())
}

/// The rows of the page about a file. A heading may name several sections: each then has all of its rows.
fn rows(file: File) -> Vec<Row> {
    let page = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let lines = page.lines().skip_while(|line| *line != file.heading()).skip(1);
    let mut sections: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("## ")) {
        if let Some(heading) = line.strip_prefix("### ") {
            sections = heading.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            if heading == "The top" {
                sections.push(String::new());
            }
        } else if line.starts_with("| `") {
            let cells = line.trim().trim_start_matches('|').trim_end_matches('|');
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 6, "{line}");
            for section in &sections {
                let names = section.trim_matches(['[', ']']).split('.');
                let names = names.filter(|name| !name.is_empty());
                rows.push(Row {
                    section: settled(file, names),
                    field: literal(cells[0]).unwrap(),
                    default: literal(cells[2]),
                    example: literal(cells[5]),
                });
            }
        }
    }
    rows
}

/// The steps as the reader takes them: whether each is a table or a list of tables.
fn settled<'a>(file: File, names: impl Iterator<Item = &'a str>) -> Vec<(String, bool)> {
    let mut known: Vec<(String, bool)> = Vec::new();
    for name in names {
        let takes = |listed: &bool| {
            let inner: Vec<_> = known.iter().cloned().chain([(name.to_owned(), *listed)]).collect();
            fields_of(file, &inner).is_some()
        };
        let listed = [false, true].into_iter().find(takes).unwrap_or_default();
        known.push((name.to_owned(), listed));
    }
    known
}

#[test]
fn every_field_has_its_row_and_no_other_has() {
    for file in [File::Broker, File::Policy] {
        let written: Vec<(String, String)> = rows(file)
            .into_iter()
            .map(|row| (row.section_name(), row.field))
            .collect();
        let once: BTreeSet<_> = written.iter().cloned().collect();
        assert_eq!(once.len(), written.len(), "a field has two rows: {written:?}");
        let read = read_by(file);
        assert!(read.len() > 80, "{read:?}");
        let missing: Vec<_> = read.difference(&once).collect();
        let unknown: Vec<_> = once.difference(&read).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "docs/configuration.md, {}: without a row {missing:?}, no field {unknown:?}",
            file.heading()
        );
    }
}

#[test]
fn every_example_and_every_default_of_the_page_is_taken() {
    let mut wrong = Vec::new();
    for file in [File::Broker, File::Policy] {
        for row in rows(file) {
            let is_table = {
                let steps = |listed| [row.section.clone(), vec![(row.field.clone(), listed)]].concat();
                [false, true]
                    .into_iter()
                    .any(|listed| fields_of(file, &steps(listed)).is_some())
            };
            if row.example.is_none() != is_table {
                wrong.push(format!(
                    "[{}] {}: a field has an example, a table has none",
                    row.section_name(),
                    row.field
                ));
            }
            for value in row.default.iter().chain(&row.example) {
                let text = nested(&row.section, &format!("{} = {value}", row.field));
                let bad = file.problems(&text);
                // What else the section demands is no matter of this field.
                let bad = bad
                    .iter()
                    .filter(|problem| !problem.problem.starts_with("missing field"));
                wrong.extend(bad.map(|problem| format!("{text}: {problem}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Configurations that are good, with all sections whose defaults they are to show, and the fields that would be a mistake there.
const BASES: &[(&str, &[&str])] = &[
    (
        "[names]\n[groups]\n[limits]\n[replay]\n[audit]\n[log]\n[kerberos.channel_bindings]\n\
         [delegation]\nprincipal = \"svc-kerbridge@A.TEST\"\nkeytab = \"delegation.keytab\"\n\
         [[delegation.keys]]\nissuer = \"https://idp.test\"\nfile = \"idp.jwks\"\n",
        &[
            "listen.mesh.clear_text",
            "groups.unmapped_sids",
            "delegation.follow_revocations",
            "audit.mebibytes",
            "audit.keep",
            "audit.socket",
            "audit.facility",
            "audit.format",
        ],
    ),
    (
        "[audit]\nto = \"file\"\nfile = \"audit.log\"\n",
        &[
            "listen.mesh.clear_text",
            "audit.socket",
            "audit.facility",
            "audit.format",
        ],
    ),
    (
        "[audit]\nto = \"syslog\"\n[groups]\nsource = \"pac\"\n[groups.sid_names]\n\"S-1-5-21-1-2-3-4\" = \"a\"\n",
        &["listen.mesh.clear_text", "audit.mebibytes", "audit.keep"],
    ),
    (
        "[groups]\nsource = \"ldap\"\n[groups.ldap]\nurl = \"ldap://[::1]:389/\"\nclear_text = true\n\
         bind_dn = \"CN=reader\"\npassword_file = \"password\"\nbase = \"DC=a\"\nfind_by = \"name\"\n\
         account_realm = \"A.TEST\"\nmember_attribute = \"memberUid\"\nmembership = \"direct\"\n\
         group_class = \"posixGroup\"\n",
        &["listen.mesh.clear_text", "groups.unmapped_sids", "groups.ldap.starttls"],
    ),
    (
        "[store.postgres]\nhosts = [\"/run/postgresql\"]\n[tracing]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n",
        &["listen.mesh.clear_text"],
    ),
];

/// Whom a broker with `[delegation]` acts for.
const LINES: &str = "[[delegation]]\ntarget = \"HTTP/legacy.test@A.TEST\"\naudience = \"orders\"\nprincipals = [\"*@A.TEST\"]\n\
                     clients = [\"mesh\"]\n";

/// Defaults that no base shows: of listeners that none has, and what only a directory says that is asked in another way.
const NOT_SHOWN: &[&str] = &[
    "listen.mesh.clear_text",
    "listen.public.mode",
    "listen.public.clear_text",
    "listen.observe.mode",
    "listen.observe.clear_text",
    "listen.admin.mode",
    "listen.admin.clear_text",
    "issuer_keys.max_staleness",
    "issuer_feeds.max_staleness",
    "delegation.follow_revocations",
    "delegation.feeds.max_staleness",
    "client.algorithms",
    "groups.ldap.starttls",
    "groups.ldap.clear_text",
    "groups.ldap.find_by",
    "groups.ldap.member_attribute",
];

/// The table that a row is about, where a file has it.
fn section_of<'a>(table: &'a mut toml::Table, row: &Row) -> Option<&'a mut toml::Table> {
    row.section.iter().try_fold(table, |table, (name, listed)| {
        let value = table.get_mut(name)?;
        let value = if *listed { value.get_mut(0)? } else { value };
        value.as_table_mut()
    })
}

#[test]
fn a_broker_that_says_the_defaults_of_the_page_is_the_one_that_says_nothing() {
    let rows = rows(File::Broker);
    let mut shown: BTreeSet<String> = NOT_SHOWN.iter().map(|name| (*name).to_owned()).collect();
    for (more, mistakes) in BASES {
        let folder = Folder::good();
        folder.write("delegation.keytab", keytab(&["svc-kerbridge"], "A.TEST", 18), 0o600);
        folder.write("password", "secret\n", 0o600);
        let lines = if more.contains("[delegation]") { LINES } else { "" };
        folder.write("policy.toml", format!("{POLICY}{TRACED}{lines}"), 0o644);
        let text = format!("{GOOD}{more}");
        folder.write("kerbridge.toml", &text, 0o644);
        let absent = folder.load().unwrap_or_else(|problems| panic!("{more}: {problems:#?}"));
        let mut table: toml::Table = text.parse().unwrap();
        for row in &rows {
            let name = format!("{}.{}", row.section_name(), row.field);
            let (Some(default), Some(section)) = (&row.default, section_of(&mut table, row)) else {
                continue;
            };
            if mistakes.contains(&name.as_str()) || section.contains_key(&row.field) {
                continue;
            }
            let value: toml::Table = format!("x = {default}").parse().unwrap();
            section.insert(row.field.clone(), value["x"].clone());
            shown.insert(name);
        }
        folder.write("kerbridge.toml", toml::to_string(&table).unwrap(), 0o644);
        let said = folder.load().unwrap_or_else(|problems| panic!("{more}: {problems:#?}"));
        assert_eq!(format!("{said:#?}"), format!("{absent:#?}"), "{more}");
    }
    let all = rows.iter().filter(|row| row.default.is_some());
    let all: BTreeSet<String> = all.map(|row| format!("{}.{}", row.section_name(), row.field)).collect();
    let left: Vec<_> = all.difference(&shown).collect();
    assert!(left.is_empty(), "no base of this test shows {left:?}");
}

#[test]
fn the_defaults_of_the_policy_are_those_of_its_types() {
    // What the policy's types say by themselves.
    let policy: wire_policy::Policy = toml::from_str(
        "[[audience]]\nname = \"a\"\n\
         [[issuer]]\nissuer = \"i\"\njwks = {}\nfeed = { cluster = \"c\" }\n\
         [[delegation]]\ntarget = \"HTTP/a@B\"\naudience = \"a\"\n\
         [filter]\nexplain = { sources = [] }\n",
    )
    .unwrap();
    let serialized = Value::try_from(&policy).unwrap();
    let mut compared = 0_u32;
    for row in rows(File::Policy) {
        let Some(default) = &row.default else { continue };
        let place = row.section.iter().try_fold(&serialized, |value, (name, listed)| {
            let inner = value.get(name)?;
            if *listed { inner.get(0) } else { Some(inner) }
        });
        let Some(value) = place.and_then(|place| place.get(&row.field)) else {
            continue;
        };
        let written: toml::Table = format!("x = {default}").parse().unwrap();
        assert_eq!(Some(value), written.get("x"), "[{}] {}", row.section_name(), row.field);
        compared = compared.saturating_add(1);
    }
    assert!(compared > 20, "{compared}");
}
