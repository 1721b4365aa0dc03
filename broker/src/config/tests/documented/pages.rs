//! Holds what every page says of the two files to their readers: its TOML, and the fields that it names.

use super::*;

/// Names of files that begin as a section does.
const NO_FIELDS: &[&str] = &[
    "policy.toml",
    "groups.toml",
    "audit.log",
    "filter.yaml",
    "keys.rs",
    "store.redb",
];

/// The pages, each with its text.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<PathBuf> = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(repository().join("README.md"));
    pages.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    pages.iter().map(read).collect()
}

/// The blocks of a language, each with what stands behind the language's name.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(&'a str, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if let Some(rest) = info.strip_prefix(language)
            && (rest.is_empty() || rest.starts_with(' '))
        {
            blocks.push((rest.trim(), body.join("\n")));
        }
    }
    blocks
}

/// Says of a file of groups, or of cases, whether it is one.
fn is_another_file(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else {
        return false;
    };
    let lists = table.values().all(|value| value.as_array().is_some());
    let is_cases = table.keys().all(|key| key == "case");
    lists
        && !table.is_empty()
        && (is_cases
            || table
                .values()
                .flat_map(|value| value.as_array())
                .flatten()
                .all(Value::is_str))
}

/// Whether a word is written like a field with its section: `limits.threads`.
fn is_dotted(word: &str, sections: &BTreeSet<String>) -> bool {
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    word.contains('.')
        && word.split('.').all(is_name)
        && word.split('.').next().is_some_and(|first| sections.contains(first))
}

#[test]
fn every_field_that_a_document_names_with_its_section_exists() {
    let mut known = BTreeSet::new();
    let mut sections = BTreeSet::new();
    for file in [File::Broker, File::Policy] {
        for (section, field) in read_by(file) {
            match section.split('.').next() {
                Some("") | None => drop(sections.insert(field.clone())),
                Some(_) => {}
            }
            known.insert(if section.is_empty() {
                field
            } else {
                format!("{section}.{field}")
            });
        }
    }
    let (mut wrong, mut seen) = (Vec::new(), 0_u32);
    for (page, text) in pages() {
        let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        // `limits.threads = 4` and `names.rule[0]` name the field, too.
        let names = words.map(|word| word.split([' ', '[']).next().unwrap_or_default());
        for name in names.filter(|name| is_dotted(name, &sections)) {
            seen = seen.saturating_add(1);
            if !known.contains(name) && !NO_FIELDS.contains(&name) {
                wrong.push(format!("{page}: there is no field {name}"));
            }
        }
    }
    assert!(seen > 40, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_toml_block_of_the_documents_is_read_without_a_mistake() {
    let (mut wrong, mut seen) = (Vec::new(), 0_u32);
    for (page, text) in pages() {
        for (info, block) in blocks(&text, "toml") {
            seen = seen.saturating_add(1);
            // `toml in [[route]]`: the lines stand in that section of the policy or of the configuration.
            let block = match info.strip_prefix("in ") {
                Some(section) => format!("{section}\n{block}"),
                None => block,
            };
            let found = [File::Broker, File::Policy].map(|file| file.problems(&block));
            if found.iter().any(Vec::is_empty) || is_another_file(&block) {
                continue;
            }
            wrong.push(format!("{page}:\n{block}\n{found:#?}"));
        }
    }
    assert!(seen > 30, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
