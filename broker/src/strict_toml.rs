//! Reads a TOML file strictly and goes on after a mistake, so that one reading finds all unknown and ill-typed fields.

use kerbridge_gate::shape::in_words;
use serde::de::DeserializeOwned;
use toml::Value;

use crate::problem::Problems;

/// Mistakes after which the reading stops: nobody mends more at once.
const MOST_PROBLEMS: usize = 50;

/// Reads what can be read. The value is absent where the text is not TOML, or where a field is missing that the type
/// itself demands. A field with a mistake is noted and read as if it were absent.
pub fn read<T: DeserializeOwned>(text: &str, problems: &mut Problems) -> Option<T> {
    let mut table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            problems.note(
                format!("line {line}"),
                format!("not TOML: {}", one_line(error.message())),
                "correct this line",
            );
            return None;
        }
    };
    let lines = toml::de::DeTable::parse(text).ok();
    // What was taken out, by its place in the file.
    let mut removed: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MOST_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, T>(table.clone()) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let mut path: Vec<Step> = error.path().iter().filter_map(Step::of).collect();
        let message = in_words(&one_line(error.inner().message()));
        // The path of an unknown field is its parent's; the field itself stands in the message.
        if let Some(unknown) = quoted(&message, "unknown field `")
            && path.last() != Some(&Step::Key(unknown.to_owned()))
        {
            path.push(Step::Key(unknown.to_owned()));
        }
        let place = in_the_file(&path, &removed);
        let line = lines
            .as_ref()
            .and_then(|lines| position(lines.get_ref(), &place))
            .map(|at| format!(" (line {})", line_of(text, at)))
            .unwrap_or_default();
        let remedy = match message.split_once(", expected ") {
            Some((_, expected)) if message.starts_with("unknown") => format!("expected {expected}"),
            Some(_) | None if message.starts_with("missing") => "add it".to_owned(),
            Some(_) | None => "correct it".to_owned(),
        };
        let what = message.split_once(", expected ").map_or(message.as_str(), |(what, _)| {
            if message.starts_with("unknown") {
                what
            } else {
                message.as_str()
            }
        });
        // A field with a mistake was said to have one, and is missing now because of that.
        let is_consequence = quoted(&message, "missing field `").is_some_and(|name| {
            let field = Step::Key(name.to_owned());
            removed
                .iter()
                .any(|gone| gone.split_last() == Some((&field, place.as_slice())))
        });
        if !is_consequence {
            problems.note(field(&place), format!("{what}{line}"), remedy);
        }
        if !remove(&mut table, &path) {
            return None;
        }
        removed.push(place);
    }
    None
}

/// The lines of a text at which the elements of a list begin, in their order.
pub fn lines_of(text: &str, list: &str) -> Vec<usize> {
    let Ok(table) = toml::de::DeTable::parse(text) else {
        return Vec::new();
    };
    let elements = table.get_ref().iter().find(|(key, _)| key.get_ref() == list);
    let elements = elements.and_then(|(_, value)| value.get_ref().as_array());
    let elements = elements.into_iter().flatten();
    elements.map(|element| line_of(text, element.span().start)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &serde_path_to_error::Segment) -> Option<Self> {
        match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Self::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Self::Key(key.clone())),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
        }
    }
}

/// Where a path leads in the file, from which elements of arrays are missing by now.
fn in_the_file(path: &[Step], removed: &[Vec<Step>]) -> Vec<Step> {
    let mut place: Vec<Step> = Vec::new();
    for step in path {
        place.push(match step {
            Step::Key(key) => Step::Key(key.clone()),
            Step::Index(index) => {
                let mut gone: Vec<usize> = removed
                    .iter()
                    .filter_map(|place_of_one| match place_of_one.strip_prefix(place.as_slice()) {
                        Some([Step::Index(index)]) => Some(*index),
                        Some(_) | None => None,
                    })
                    .collect();
                gone.sort_unstable();
                Step::Index(gone.into_iter().fold(
                    *index,
                    |index, gone| {
                        if gone <= index { index.saturating_add(1) } else { index }
                    },
                ))
            }
        });
    }
    place
}

fn field(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    if text.is_empty() { "the file".into() } else { text }
}

fn remove(table: &mut toml::Table, path: &[Step]) -> bool {
    let Some((Step::Key(first), rest)) = path.split_first() else {
        return false;
    };
    if rest.is_empty() {
        return table.remove(first).is_some();
    }
    let Some(mut value) = table.get_mut(first) else {
        return false;
    };
    let Some((last, between)) = rest.split_last() else {
        return false;
    };
    for step in between {
        let next = match step {
            Step::Key(key) => value.get_mut(key.as_str()),
            Step::Index(index) => value.get_mut(*index),
        };
        match next {
            Some(next) => value = next,
            None => return false,
        }
    }
    match (last, value) {
        (Step::Key(key), Value::Table(table)) => table.remove(key).is_some(),
        (Step::Index(index), Value::Array(array)) if *index < array.len() => {
            array.remove(*index);
            true
        }
        (Step::Key(_) | Step::Index(_), _) => false,
    }
}

fn position(table: &toml::de::DeTable<'_>, path: &[Step]) -> Option<usize> {
    let (Step::Key(first), rest) = path.split_first()? else {
        return None;
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first.as_str())?;
    let mut at = key.span().start;
    let mut value = value.get_ref();
    for step in rest {
        match (step, value) {
            (Step::Key(name), toml::de::DeValue::Table(table)) => {
                let (key, next) = table.iter().find(|(key, _)| key.get_ref() == name.as_str())?;
                at = key.span().start;
                value = next.get_ref();
            }
            (Step::Index(index), toml::de::DeValue::Array(array)) => {
                let next = array.get(*index)?;
                at = next.span().start;
                value = next.get_ref();
            }
            (Step::Key(_) | Step::Index(_), _) => return Some(at),
        }
    }
    Some(at)
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|&&byte| byte == b'\n').count().saturating_add(1)
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(", ")
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split_once('`').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        number: Option<u8>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        numbers: Vec<u8>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        word: Option<String>,
    }

    fn problems(text: &str) -> (bool, Vec<String>) {
        let mut problems = Problems::default();
        let value: Option<Outer> = read(text, &mut problems);
        (value.is_some(), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_unknown_and_ill_typed_fields_are_found_in_one_reading() {
        let (read, found) = problems(
            "number = 300\nnumbre = 3\n[inner]\nwrod = \"x\"\nword = 5\n[[list]]\nword = \"a\"\n[[list]]\nnope = 1\n",
        );
        assert!(read);
        assert_eq!(found.len(), 5, "{found:#?}");
        for (start, end) in [
            (
                "number: invalid value: integer `300`, expected a whole number from 0 to 255 (line 1)",
                "correct it",
            ),
            (
                "numbre: unknown field `numbre` (line 2); ",
                "expected one of `number`, `inner`, `list`, `numbers`",
            ),
            ("inner.word: ", "correct it"),
            ("inner.wrod: unknown field `wrod` (line 4); ", "expected `word`"),
            ("list[1].nope: unknown field `nope` (line 9); ", "expected `word`"),
        ] {
            assert!(
                found.iter().any(|line| line.starts_with(start) && line.ends_with(end)),
                "{start}: {found:#?}"
            );
        }
    }

    #[test]
    fn an_element_keeps_its_number_when_one_before_it_was_wrong() {
        let (read, found) = problems(
            "list = [\n 1,\n {word = \"a\"},\n {word = 2},\n 3,\n {wrod = \"b\"},\n]\nnumbers = [\"a\", 1, \"b\"]\n",
        );
        assert!(read);
        let starts = [
            "list[0]: ",
            "list[2].word: ",
            "list[3]: ",
            "list[4].wrod: ",
            "numbers[0]: ",
            "numbers[2]: ",
        ];
        let lines = [2, 4, 5, 6, 8, 8];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (start, line) in starts.into_iter().zip(lines) {
            let line = format!("(line {line})");
            assert!(
                found
                    .iter()
                    .any(|found| found.starts_with(start) && found.contains(&line)),
                "{start}{line}: {found:#?}"
            );
        }
    }

    #[test]
    fn the_elements_of_a_list_are_found_by_their_lines() {
        let text = "number = 1\n\n[[list]]\nword = \"a\"\n# more\n[[list]]\n[[list]]\nword = \"b\"\n";
        assert_eq!(lines_of(text, "list"), [3, 6, 7]);
        assert_eq!(lines_of("numbers = [\n 1,\n 2]\n", "numbers"), [2, 3]);
        for text in ["", "number = 3", "not toml"] {
            assert_eq!(lines_of(text, "number"), Vec::<usize>::new(), "{text}");
        }
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line() {
        let (read, found) = problems("number = 3\nnumber 4\n");
        assert!(!read);
        assert!(found[0].starts_with("line 2: not TOML: "), "{found:?}");
    }
}
