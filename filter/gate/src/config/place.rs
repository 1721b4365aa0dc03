//! Tells which field of a JSON text a position lies in, so that a reader's error can name it.

/// A value that contains the position.
enum Frame {
    /// An object; the member that is being read, if one has begun.
    Object(Option<String>),
    /// An array; the index of the element that is being read.
    Array(usize),
}

/// The path of the field at a line and column (both counted from 1, as `serde_json` has them): `routes[2].accept[0]`; empty for
/// the whole. The text need not be JSON beyond the position.
pub(super) fn path_at(text: &[u8], line: usize, column: usize) -> String {
    let before: usize = text
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let end = before.saturating_add(column).min(text.len());
    let mut rest = text.get(..end).unwrap_or_default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut reads_name = false;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'{' => {
                frames.push(Frame::Object(None));
                reads_name = true;
            }
            b'[' => frames.push(Frame::Array(0)),
            b'}' | b']' => {
                frames.pop();
                reads_name = false;
            }
            b',' => match frames.last_mut() {
                Some(Frame::Array(index)) => *index = index.saturating_add(1),
                Some(Frame::Object(_)) => reads_name = true,
                None => {}
            },
            b'"' => {
                let length = string_length(rest);
                let (string, after) = rest.split_at_checked(length).unwrap_or((rest, b""));
                rest = after.get(1..).unwrap_or_default();
                if reads_name && let Some(Frame::Object(name)) = frames.last_mut() {
                    *name = Some(String::from_utf8_lossy(string).into_owned());
                    reads_name = false;
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for frame in &frames {
        match frame {
            Frame::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Frame::Object(None) => {}
            Frame::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// Bytes up to the quotation mark that ends a string.
fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    text.iter()
        .position(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            ends
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_is_named_by_the_members_and_elements_around_it() {
        let text = "{\"a\": 1, \"b\\\"[\": {\"c\": [true,\n {\"d\": \"x]\", \"e\": 2}]}}";
        let at = |part: &str| {
            let offset = text.find(part).unwrap() + part.len();
            let before = text.as_bytes().get(..offset).unwrap();
            let line = before.split(|byte| *byte == b'\n').count();
            let column = before.rsplit(|byte| *byte == b'\n').next().unwrap().len();
            path_at(text.as_bytes(), line, column)
        };
        assert_eq!(at("{"), "");
        assert_eq!(at("\"a\": 1"), "a");
        assert_eq!(at("tru"), "b\\\"[.c[0]");
        assert_eq!(at("\"x]\""), "b\\\"[.c[1].d");
        assert_eq!(at(": 2"), "b\\\"[.c[1].e");
        assert_eq!(at("2}"), "b\\\"[.c[1]");
        assert_eq!(at("2}]}"), "b\\\"[");
    }

    proptest! {
        #[test]
        fn no_text_and_no_position_panics(text: Vec<u8>, line in 0..5_usize, column in 0..50_usize) {
            drop(path_at(&text, line, column));
        }
    }
}
