//! Reads JSON in which a member name stands once: a second `iss` or `alg` is an attack, not a value (RFC 8725 §2.4).

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value. Depth is bounded by `serde_json` (128), size by whoever reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number. Integers beyond 2⁵³ lose precision; no claim that is read needs it.
    Number(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object, members in order, each name once.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Reads one value and nothing behind it; `None` if it is not JSON or a member stands twice.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Bytes that it takes in memory, about: a short token can hold a list of thousands.
    pub(crate) fn weight(&self) -> usize {
        const NODE: usize = size_of::<Json>() * 2;
        let within = match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::String(text) => text.len(),
            Self::Array(items) => items
                .iter()
                .fold(0, |sum: usize, item| sum.saturating_add(item.weight())),
            Self::Object(members) => members.iter().fold(0, |sum: usize, (name, value)| {
                sum.saturating_add(name.len())
                    .saturating_add(NODE)
                    .saturating_add(value.weight())
            }),
        };
        within.saturating_add(NODE)
    }

    /// A member of an object.
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// The value as JSON writes it, visible ASCII only: everything else is escaped. `None` where there is a number with a
    /// fraction, or one that may have lost precision.
    pub fn to_text(&self) -> Option<String> {
        let mut out = String::new();
        self.write(&mut out).then_some(out)
    }

    fn write(&self, out: &mut String) -> bool {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) => match whole(*value) {
                Some(number) => out.push_str(&number.to_string()),
                None => return false,
            },
            Self::String(text) => write_text(text, out),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    if !item.write(out) {
                        return false;
                    }
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    if !value.write(out) {
                        return false;
                    }
                }
                out.push('}');
            }
        }
        true
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }
}

/// A number without a fraction, below 2⁵³: beyond, it might not be the one that was sent.
fn whole(value: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked, and a fraction shows in the comparison"
    )]
    let number = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "below 2⁵³ there is none")]
    let is_same = value.abs() < 9_007_199_254_740_992.0 && (number as f64).total_cmp(&value).is_eq();
    is_same.then_some(number)
}

/// A JSON string of visible ASCII (RFC 8259 §7).
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some(character) if character == ' ' || character.is_ascii_graphic() => out.push(character),
            Some(_) | None => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// Members of an object that are looked through one by one.
const FEW: usize = 32;

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "documented at `Json::Number`")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "documented at `Json::Number`")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        // Where there are many, a table of names; where there are few, as in every token, looking through them is quicker.
        let mut names = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            let is_known = if members.len() < FEW {
                members.iter().any(|(known, _)| *known == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|(known, _)| known.clone()));
                }
                !names.insert(name.clone())
            };
            if is_known {
                return Err(A::Error::custom("a member stands twice"));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_text_that_takes_much_memory_weighs_it() {
        let numbers = Json::parse(format!("[{}0]", "0,".repeat(4000)).as_bytes()).unwrap();
        assert!(numbers.weight() >= 4001 * size_of::<Json>());
        let members = Json::parse(br#"{"a":{"b":"c"}}"#).unwrap();
        assert!(members.weight() > Json::parse(br#"{"a":0}"#).unwrap().weight());
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[{"a":1,"\u0061":2}]"#,
        ] {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Json::parse(br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#).is_some());
    }

    #[test]
    fn what_is_written_is_ascii_and_reads_the_same() {
        let text = r#"{"a":[1,-2,true,null,"\u00e4\ud83d\ude00\n\"\\ x"],"b":{}}"#;
        let value = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(
            value.to_text().as_deref(),
            Some(r#"{"a":[1,-2,true,null,"\u00e4\ud83d\ude00\u000a\"\\ x"],"b":{}}"#)
        );
        for number in ["9007199254740993", "0.5", "1e300", "-1e-9"] {
            assert_eq!(
                Json::parse(format!("[{number}]").as_bytes()).unwrap().to_text(),
                None,
                "{number}"
            );
        }
    }

    #[test]
    fn what_stands_behind_the_value_is_refused() {
        assert_eq!(Json::parse(b"{} {}"), None);
        assert_eq!(Json::parse(b""), None);
        assert_eq!(Json::parse(b"\xff"), None);
    }

    #[test]
    fn deep_nesting_is_refused_without_a_stack_overflow() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert_eq!(Json::parse(&deep), None);
    }

    proptest! {
        #[test]
        fn every_text_is_written_so_that_it_reads_the_same(text: String) {
            let written = Json::String(text.clone()).to_text().unwrap();
            prop_assert!(written.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert_eq!(Json::parse(written.as_bytes()), Some(Json::String(text)));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            drop(Json::parse(&text));
        }
    }
}
