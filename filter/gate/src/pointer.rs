//! Finds a claim by its name or by a JSON pointer (RFC 6901).

use crate::json::Json;

/// Deepest pointer.
const DEPTH_LIMIT: usize = 8;

/// The place of a claim: one to eight member names, from the outside in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// Reads `email`, `/realm_access/roles` or `/https:~1~1example.com~1roles`. What does not begin with a slash is one name,
    /// whatever characters it has.
    ///
    /// `None` for an empty text, one over 255 bytes, a depth over eight, or a `~` that is not `~0` or `~1`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 255 {
            return None;
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Some(Self(vec![text.into()]));
        };
        let names: Vec<Box<str>> = rest.split('/').map(unescaped).collect::<Option<_>>()?;
        (names.len() <= DEPTH_LIMIT).then_some(Self(names))
    }

    /// The value at this place of an object, if there is one. Lists are not entered.
    pub fn find<'j>(&self, payload: &'j Json) -> Option<&'j Json> {
        self.0.iter().try_fold(payload, |value, name| value.member(name))
    }
}

/// RFC 6901 §4: `~1` is a slash, `~0` a tilde, and nothing else may follow a tilde.
fn unescaped(name: &str) -> Option<Box<str>> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(character) = rest.next() {
        out.push(match character {
            '~' => match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(pointer: &str, payload: &str) -> Option<Json> {
        Pointer::parse(pointer)
            .unwrap()
            .find(&Json::parse(payload.as_bytes()).unwrap())
            .cloned()
    }

    #[test]
    fn a_name_or_a_pointer_finds_its_claim() {
        let one = Some(Json::Number(1.0));
        assert_eq!(find("a", r#"{"a":1}"#), one);
        assert_eq!(find("/a/b", r#"{"a":{"b":1}}"#), one);
        assert_eq!(find("a/b", r#"{"a/b":1}"#), one);
        assert_eq!(find("/a~1b/~0", r#"{"a/b":{"~":1}}"#), one);
        assert_eq!(find("https://example.com/x", r#"{"https://example.com/x":1}"#), one);
        assert_eq!(find("/", r#"{"":1}"#), one);
        for (pointer, payload) in [("b", r#"{"a":1}"#), ("/a/b", r#"{"a":1}"#), ("/a/0", r#"{"a":[1]}"#)] {
            assert_eq!(find(pointer, payload), None, "{pointer} {payload}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        let long = "x".repeat(256);
        for text in ["", "/~", "/a~2", "/1/2/3/4/5/6/7/8/9", &long] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            drop(Pointer::parse(&text));
        }
    }
}
