//! Holds the broker's audit events to docs/audit.md: every event that a broker of the tests writes has a name that stands there, and
//! fields that stand behind that name, of the type that they should have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use crate::document::{quoted, tables};
use crate::error::HarnessError;
use crate::{canary, shipped};

/// The target of audit events.
const TARGET: &str = "kerbridge::audit";
/// The fields of every event.
const OF_ALL: [&str; 4] = ["timestamp", "level", "target", "message"];

/// What the document says.
struct Document {
    events: BTreeMap<String, BTreeSet<String>>,
    types: BTreeMap<String, String>,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    // Without the document no event is in it.
    let text = std::fs::read_to_string(shipped::repository().join("docs/audit.md")).unwrap_or_default();
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    Document {
        events: tables(&text, "event")
            .iter()
            .map(|row| {
                (
                    quoted(&cell(row, 0)).concat(),
                    quoted(&cell(row, 2)).into_iter().collect(),
                )
            })
            .collect(),
        types: tables(&text, "field")
            .iter()
            .flat_map(|row| quoted(&cell(row, 0)).into_iter().map(|field| (field, cell(row, 1))))
            .collect(),
    }
});

/// Holds a line of a log to the document, where it is an audit event.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] with what is wrong, and the line.
pub fn check(line: &Value) -> Result<(), HarnessError> {
    if line.get("target").and_then(Value::as_str) != Some(TARGET) {
        return Ok(());
    }
    match odd(line) {
        None => Ok(()),
        Some(problem) => Err(HarnessError::UnexpectedAnswer {
            what: format!("an audit event ({problem}; see docs/audit.md)"),
            answer: line.to_string(),
        }),
    }
}

fn odd(line: &Value) -> Option<String> {
    let name = line.get("message").and_then(Value::as_str).unwrap_or_default();
    let Some(fields) = DOCUMENT.events.get(name) else {
        return Some(format!("{name:?} is not in the table of events"));
    };
    if let Some(missing) = OF_ALL.iter().find(|field| line.get(**field).is_none()) {
        return Some(format!("{missing:?} is missing"));
    }
    let of_its_own = line
        .as_object()?
        .iter()
        .filter(|(field, _)| !OF_ALL.contains(&field.as_str()));
    for (field, value) in of_its_own {
        if !fields.contains(field) {
            return Some(format!("{field:?} is none of its fields"));
        }
        let kind = match value {
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null | Value::Array(_) | Value::Object(_) => "nothing that a field is",
        };
        let types = DOCUMENT.types.get(field).map(String::as_str).unwrap_or_default();
        if !types.split(" or ").any(|one| one == kind) {
            return Some(format!("{field:?} is {kind} and not {types}"));
        }
    }
    None
}

/// Holds the audit files of a folder, those that were put aside too, to the document, and searches them for credentials.
///
/// # Errors
///
/// [`HarnessError::Leaked`], [`HarnessError::UnexpectedAnswer`], or [`HarnessError::Io`].
pub fn check_files(folder: &Path) -> Result<(), HarnessError> {
    let failed = |source| HarnessError::io(format!("read the audit files of {}", folder.display()), source);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("audit.log") {
            let bytes = std::fs::read(&path).map_err(failed)?;
            canary::search(&name, &bytes)?;
            check_lines(&String::from_utf8_lossy(&bytes))?;
        }
    }
    Ok(())
}

/// Holds lines to the document, each of which must be an audit event.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`].
pub fn check_lines(text: &str) -> Result<(), HarnessError> {
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        if event.get("target").and_then(Value::as_str) != Some(TARGET) {
            return Err(HarnessError::UnexpectedAnswer {
                what: "an audit file (a line is no audit event)".to_owned(),
                answer: line.to_owned(),
            });
        }
        check(&event)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(more: &Value) -> Value {
        let mut event =
            json!({ "timestamp": "2026-01-31T12:00:00Z", "level": "INFO", "target": TARGET, "message": "refused" });
        let members = event.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        event
    }

    #[test]
    fn an_event_that_is_not_as_its_document_says_is_found() {
        check(&event(&json!({ "reason": "replay", "principal": "alice@A.TEST" }))).unwrap();
        check(&json!({ "target": "kerbridge_broker::cli", "message": "anything", "more": [] })).unwrap();
        for (more, problem) in [
            (json!({ "message": "given" }), "\"given\" is not in the table"),
            (json!({ "token": "x" }), "\"token\" is none of its fields"),
            (json!({ "kid": "x" }), "\"kid\" is none of its fields"),
            (json!({ "reason": 5 }), "\"reason\" is number and not text"),
            (json!({ "principal": null }), "\"principal\" is nothing that a field is"),
        ] {
            let error = check(&event(&more)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(check_lines("{}").is_err());
        assert!(check_lines("").is_ok());
    }
}
