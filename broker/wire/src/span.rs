//! Reads and writes spans of time as people write them in configuration: `90s`, `15m`, `8h`, `1d`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of whole seconds, 1 s to 3650 d. Zero is not a span: what can be switched off says so in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(u32);

/// The text is not a number with one of the units `s`, `m`, `h`, `d`, or lies outside 1 s to 3650 d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanError;

const LONGEST: u64 = 3650 * 86_400;

impl Span {
    /// 2 s.
    pub const TWO_SECONDS: Self = Self(2);
    /// 5 s.
    pub const FIVE_SECONDS: Self = Self(5);
    /// 5 min.
    pub const FIVE_MINUTES: Self = Self(300);
    /// 15 min.
    pub const FIFTEEN_MINUTES: Self = Self(900);

    /// A span of that many seconds, if it lies within 1 s to 3650 d.
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds as u64 > LONGEST {
            None
        } else {
            Some(Self(seconds))
        }
    }

    /// Seconds, 1 to 315,360,000.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text.strip_prefix(digits) {
            Some("s") => 1,
            Some("m") => 60,
            Some("h") => 3_600,
            Some("d") => 86_400,
            Some(_) | None => return Err(SpanError),
        };
        if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(SpanError);
        }
        let count: u64 = digits.parse().map_err(|_| SpanError)?;
        let seconds = count.checked_mul(unit).ok_or(SpanError)?;
        u32::try_from(seconds)
            .ok()
            .and_then(Self::from_seconds)
            .ok_or(SpanError)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
            if s.checked_rem(unit) == Some(0) {
                return write!(f, "{}{name}", s.checked_div(unit).unwrap_or(s));
            }
        }
        write!(f, "{s}s")
    }
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time span such as \"90s\", \"15m\", \"8h\" or \"1d\", from 1s to 3650d")
    }
}

impl std::error::Error for SpanError {}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

/// Refuses within the value, so that a reader with positions names the place of the span and not of what is around it.
struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time span such as \"90s\", \"15m\", \"8h\" or \"1d\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_back() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("15m", 900),
            ("8h", 28_800),
            ("1d", 86_400),
            ("3650d", 315_360_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.seconds(), seconds);
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(Span::from_seconds(120).unwrap().to_string(), "2m");
    }

    #[test]
    fn what_is_not_a_span_is_refused() {
        for text in [
            "",
            "0s",
            "15",
            "m",
            "-1m",
            "1.5h",
            "15 m",
            "15M",
            "3651d",
            "99999999999s",
            "1h30m",
            "١m",
            "+1s",
        ] {
            assert_eq!(text.parse::<Span>(), Err(SpanError), "{text}");
        }
    }
}
