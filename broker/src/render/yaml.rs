//! Writes JSON values as YAML that people read: maps and lists in blocks, text of several lines as it is.
//!
//! Whatever could be read as anything but this text is quoted as JSON, which is YAML too.

use std::fmt::Write as _;

use serde_json::Value;

/// Several documents, one after the other.
pub(super) fn documents(values: &[Value]) -> String {
    let mut yaml = String::new();
    for value in values {
        yaml.push_str("---\n");
        yaml.push_str(&document(value));
    }
    yaml
}

/// One value.
pub(super) fn document(value: &Value) -> String {
    let mut yaml = String::new();
    block(&mut yaml, value, 0);
    yaml
}

/// A value on lines of its own, each at least this deep.
fn block(yaml: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                indent(yaml, depth);
                yaml.push_str(&scalar(&Value::String(name.clone())));
                yaml.push(':');
                after_name(yaml, member, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                block(&mut text, item, depth.saturating_add(2));
                // The first line of the item begins behind its dash.
                let first: String = text.chars().skip(depth.saturating_add(2)).collect();
                indent(yaml, depth);
                yaml.push_str("- ");
                yaml.push_str(&first);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            indent(yaml, depth);
            yaml.push_str(&scalar(value));
            yaml.push('\n');
        }
    }
}

/// A member's value behind its name.
fn after_name(yaml: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            yaml.push('\n');
            block(yaml, value, depth.saturating_add(2));
        }
        // A list stands as deep as its name.
        Value::Array(items) if !items.is_empty() => {
            yaml.push('\n');
            block(yaml, value, depth);
        }
        Value::String(text) if is_literal(text) => {
            yaml.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                indent(yaml, depth.saturating_add(2));
                yaml.push_str(line);
                yaml.push('\n');
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            yaml.push(' ');
            yaml.push_str(&scalar(value));
            yaml.push('\n');
        }
    }
}

/// Whether the text is several lines that a literal block keeps as they are.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && body
            .lines()
            .next()
            .is_some_and(|line| line.starts_with(|c: char| c.is_ascii_graphic()))
        && body.lines().all(|line| !line.is_empty() && !line.ends_with(' '))
        && body.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic())
}

/// A value in one line.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Whether the text is a word that YAML takes for nothing else.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "~",
    ];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// JSON's form, with what YAML does not take unescaped escaped as well.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in Value::String(text.to_owned()).to_string().chars() {
        if letter == ' ' || letter.is_ascii_graphic() {
            quoted.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a text never fails.
                _ = write!(quoted, "\\u{unit:04x}");
            }
        }
    }
    quoted
}

fn indent(yaml: &mut String, depth: usize) {
    yaml.push_str(&" ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_texts_stand_as_people_write_them() {
        let value = json!({
            "a": {"b": 1, "empty": {}, "none": []},
            "list": [{"x": "one", "z": [1, 2]}, "two", ["deep"]],
            "text": "{\n  \"p\": 1\n}\n",
        });
        let expected = "a:\n  b: 1\n  empty: {}\n  none: []\n\
                        list:\n- x: one\n  z:\n  - 1\n  - 2\n- two\n- - deep\n\
                        text: |\n  {\n    \"p\": 1\n  }\n";
        assert_eq!(document(&value), expected);
        assert_eq!(documents(&[json!({"a": 1}), json!({"b": 2})]), "---\na: 1\n---\nb: 2\n");
    }

    #[test]
    fn what_could_be_read_as_something_else_is_quoted() {
        for text in [
            "",
            "yes",
            "No",
            "null",
            "1",
            "1.5",
            "0x10",
            "-",
            "- a",
            "a: b",
            "a #b",
            "*",
            "&a",
            "2s",
            "@type",
            "'",
            " a",
            "a\nb\n\nc",
            "outbound|1||a",
            "\u{7f}",
            "é",
            "\u{1F600}",
        ] {
            let yaml = document(&json!({ "k": text }));
            let (_, written) = yaml.trim_end().split_once(": ").unwrap();
            assert!(written.starts_with('"') && written.is_ascii(), "{text:?}: {written}");
            assert_eq!(serde_json::from_str::<String>(written).unwrap(), text);
        }
        assert_eq!(
            document(&json!({"a-b_c.d/e": "FAIL_RELOAD"})),
            "a-b_c.d/e: FAIL_RELOAD\n"
        );
    }
}
