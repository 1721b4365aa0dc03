//! Matches paths by whole segments, and refuses paths that two readers could read differently.

use std::borrow::Cow;
use std::collections::HashSet;

/// Deepest pattern, in segments.
pub(crate) const DEPTH_LIMIT: usize = 64;

/// Which paths a route is for: segments, and what may follow them. A path's segments are what stands between its slashes;
/// the last one is empty where the path ends with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Tail,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// These bytes, percent-decoded.
    Literal(Box<[u8]>),
    /// Any segment that is not empty.
    Any,
}

/// What may follow the segments of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    Nothing,
    /// Nothing, or a slash and whatever comes then.
    Below,
    /// A slash and at least one segment that is not empty.
    OneOrMore,
}

impl PathPattern {
    /// A pattern that no path matches, in the place of one that is wrong.
    pub(crate) fn nothing() -> Self {
        Self {
            segments: Vec::new(),
            tail: Tail::Nothing,
        }
    }

    /// This path and no other. `None` for a path that a request cannot have.
    pub(crate) fn exact(path: &str) -> Option<Self> {
        Self::literal(path, Tail::Nothing)
    }

    /// This path, without a slash at its end, and what lies below it; `/` is every path.
    pub(crate) fn prefix(path: &str) -> Option<Self> {
        let mut pattern = Self::literal(path, Tail::Below)?;
        if pattern.segments.last() == Some(&Segment::Literal(Box::default())) {
            pattern.segments.pop();
        }
        Some(pattern)
    }

    /// `/v1/{tenant}/files/{rest=**}`: `{name}` is one segment, `{name=**}` at the end one or more.
    pub(crate) fn template(template: &str) -> Option<Self> {
        let mut pattern = Self {
            segments: Vec::new(),
            tail: Tail::Nothing,
        };
        let mut names = HashSet::new();
        for part in template.strip_prefix('/')?.split('/') {
            // Behind `{name=**}` comes nothing.
            if pattern.tail != Tail::Nothing {
                return None;
            }
            match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(inside) => {
                    let (name, is_rest) = match inside.strip_suffix("=**") {
                        Some(name) => (name, true),
                        None => (inside, false),
                    };
                    let is_word =
                        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    if !is_word || !names.insert(name) {
                        return None;
                    }
                    if is_rest {
                        pattern.tail = Tail::OneOrMore;
                    } else {
                        pattern.segments.push(Segment::Any);
                    }
                }
                None if part.is_empty() || part.contains(['{', '}', '*', '?']) => return None,
                None => {
                    let path = format!("/{part}");
                    pattern
                        .segments
                        .extend(segments(&unambiguous(path.as_bytes())?).map(|text| Segment::Literal(text.into())));
                }
            }
        }
        (pattern.segments.len() <= DEPTH_LIMIT).then_some(pattern)
    }

    fn literal(path: &str, tail: Tail) -> Option<Self> {
        if path.contains(['?', '*', '{', '}']) {
            return None;
        }
        let path = unambiguous(path.as_bytes())?;
        let segments: Vec<Segment> = segments(&path).map(|text| Segment::Literal(text.into())).collect();
        (segments.len() <= DEPTH_LIMIT).then_some(Self { segments, tail })
    }

    /// Whether a path, unambiguous and decoded, is one of these.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let mut shown = segments(path);
        let head = self.segments.iter().all(|segment| match (segment, shown.next()) {
            (Segment::Literal(own), Some(text)) => **own == *text,
            (Segment::Any, Some(text)) => !text.is_empty(),
            (Segment::Literal(_) | Segment::Any, None) => false,
        });
        let next = shown.next();
        head && match self.tail {
            Tail::Nothing => next.is_none(),
            Tail::Below => true,
            Tail::OneOrMore => next.is_some_and(|text| !text.is_empty()),
        }
    }

    /// Whether every path that `other` matches is matched by this one too. A `false` may be wrong in corners, a `true` is not.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.segments.iter();
        for own in &self.segments {
            let covered = match (own, theirs.next()) {
                (Segment::Literal(own), Some(Segment::Literal(their))) => own == their,
                (Segment::Any, Some(Segment::Literal(their))) => !their.is_empty(),
                (Segment::Any, Some(Segment::Any)) => true,
                (Segment::Literal(_), Some(Segment::Any)) | (Segment::Literal(_) | Segment::Any, None) => false,
            };
            if !covered {
                return false;
            }
        }
        let next = theirs.next();
        match (self.tail, next) {
            (Tail::Nothing, None) => other.tail == Tail::Nothing,
            (Tail::Nothing, Some(_)) => false,
            (Tail::Below, _) => true,
            (Tail::OneOrMore, Some(Segment::Literal(their))) => !their.is_empty(),
            (Tail::OneOrMore, Some(Segment::Any)) => true,
            (Tail::OneOrMore, None) => other.tail == Tail::OneOrMore,
        }
    }
}

/// The segments of a path that is unambiguous and decoded.
pub(crate) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.get(1..).unwrap_or_default().split(|byte| *byte == b'/')
}

/// The path of a request target without its query, percent-decoded, if every reader reads it alike: it begins with a slash;
/// holds no empty or dot segment, no `\\`, no `#`, no `;` (servlet containers cut there), no byte outside visible ASCII,
/// and nothing encoded that would mean something else decoded: a slash, backslash, dot, percent sign, semicolon, question
/// mark, number sign or control.
///
/// Routes are chosen by the decoded path: `/%61dmin` is `/admin` to whoever serves it.
pub(crate) fn unambiguous(target: &[u8]) -> Option<Cow<'_, [u8]>> {
    let path = target.split(|byte| *byte == b'?').next()?;
    let rest = path.strip_prefix(b"/")?;
    if !path
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b';'))
    {
        return None;
    }
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return None;
        }
    }
    if !path.contains(&b'%') {
        return Some(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        let (byte, tail) = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let high = char::from(*high).to_digit(16)?;
                let low = char::from(*low).to_digit(16)?;
                let byte = u8::try_from(high << 4 | low).ok()?;
                if byte.is_ascii_control() || b"/\\.%;?#".contains(&byte) {
                    return None;
                }
                (byte, tail)
            }
            (b'%', _) => return None,
            (byte, tail) => (*byte, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &PathPattern, path: &str) -> bool {
        pattern.matches(path.as_bytes())
    }

    #[test]
    fn patterns_match_by_whole_segments() {
        let prefix = PathPattern::prefix("/orders/").unwrap();
        let every = PathPattern::prefix("/").unwrap();
        let exact = PathPattern::exact("/health").unwrap();
        let template = PathPattern::template("/v1/{tenant}/files/{rest=**}").unwrap();
        let one = PathPattern::template("/v1/{tenant}").unwrap();
        for (pattern, path, wanted) in [
            (&prefix, "/orders", true),
            (&prefix, "/orders/", true),
            (&prefix, "/orders/1", true),
            (&prefix, "/orders2", false),
            (&prefix, "/order", false),
            (&prefix, "/x/orders", false),
            (&every, "/", true),
            (&every, "/x", true),
            (&exact, "/health", true),
            (&exact, "/health/", false),
            (&exact, "/health/x", false),
            (&template, "/v1/t/files/a", true),
            (&template, "/v1/t/files/a/b/", true),
            (&template, "/v1/t/files/", false),
            (&template, "/v1/t/files", false),
            (&template, "/v1/t/u/files/a", false),
            (&one, "/v1/t", true),
            (&one, "/v1/t/", false),
            (&one, "/v1/", false),
        ] {
            assert_eq!(matches(pattern, path), wanted, "{pattern:?} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a", "//", "/a//b", "/../a", "/a?b", "/a*", "/{a}"] {
            assert_eq!(PathPattern::exact(text), None, "{text}");
            assert_eq!(PathPattern::prefix(text), None, "{text}");
        }
        for text in [
            "",
            "a",
            "/{}",
            "/{a",
            "/a}",
            "/{a}{b}",
            "/x{a}",
            "/{a}/{a}",
            "/{a=**}/b",
            "/{a=*}",
            "/*",
            "/{a b}",
            "/a//{b}",
            "/%2f/{a}",
        ] {
            assert_eq!(PathPattern::template(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_ambiguous() {
        for path in [
            "",
            "orders",
            "*",
            "//",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00b",
            "/a%3fb",
            "/a%23b",
            "/a%2e%2e/b",
            "/a%2e",
            "/a%252f",
            "/a\\b",
            "/a;x=1/b",
            "/a%3bx",
            "/a#b",
            "/a b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a\u{e4}",
            "/a%0ab",
            "/a\x7f",
        ] {
            assert_eq!(unambiguous(path.as_bytes()), None, "{path}");
        }
        for (target, path) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a?x=//..;%2f", "/a"),
            ("/a%20b", "/a b"),
            ("/%61dmin", "/admin"),
            ("/v1%3Abatch%40%21", "/v1:batch@!"),
            ("/%C3%A4", "/\u{e4}"),
        ] {
            assert_eq!(
                unambiguous(target.as_bytes()).as_deref(),
                Some(path.as_bytes()),
                "{target}"
            );
        }
    }

    fn pattern() -> impl Strategy<Value = PathPattern> {
        let segment = prop_oneof![
            Just(Segment::Any),
            "[ab]".prop_map(|text| Segment::Literal(text.into_bytes().into()))
        ];
        let tail = prop_oneof![Just(Tail::Nothing), Just(Tail::Below), Just(Tail::OneOrMore)];
        (proptest::collection::vec(segment, 0..4), tail)
            .prop_filter("the root has one segment", |(segments, tail)| {
                !segments.is_empty() || *tail != Tail::Nothing
            })
            .prop_map(|(segments, tail)| PathPattern { segments, tail })
    }

    proptest! {
        #[test]
        fn what_covers_matches_whatever_the_other_matches(a in pattern(), b in pattern(), path in "(/[ab]){0,4}/?") {
            prop_assume!(!path.is_empty());
            if a.covers(&b) && matches(&b, &path) {
                prop_assert!(matches(&a, &path), "{a:?} {b:?} {path}");
            }
        }

        #[test]
        fn no_target_panics_and_what_passes_has_no_dot_segment(target in "[/.%a2fFe;?\\\\]{0,24}") {
            if let Some(path) = unambiguous(target.as_bytes()) {
                prop_assert!(!path.split(|b| *b == b'/').any(|s| s == b".." || s == b"."));
                prop_assert!(path.starts_with(b"/") && !path.windows(2).any(|w| w == b"//"));
            }
        }

        #[test]
        fn however_a_path_is_encoded_it_is_one_path(plain in "(/[a-z:@!$]{1,3}){1,4}", encode: [bool; 16], upper: bool) {
            let encoded: String = plain
                .bytes()
                .enumerate()
                .map(|(at, byte)| match (byte, encode[at % 16]) {
                    (b'/', _) | (_, false) => char::from(byte).to_string(),
                    (_, true) if upper => format!("%{byte:02X}"),
                    (_, true) => format!("%{byte:02x}"),
                })
                .collect();
            let decoded = unambiguous(encoded.as_bytes());
            prop_assert_eq!(decoded.as_deref(), Some(plain.as_bytes()));
        }

        #[test]
        fn no_bytes_panic(target: Vec<u8>, text: String) {
            let _path = unambiguous(&target);
            drop((PathPattern::exact(&text), PathPattern::prefix(&text), PathPattern::template(&text)));
        }
    }
}
