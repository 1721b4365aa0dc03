//! Reads and writes the two header lines by which spans of several programs become one trace (W3C Trace Context).
//!
//! Both come from strangers. What is not exactly as the recommendation has it is nothing: a trace is then not joined, and no
//! request is refused for it.

use std::fmt;

/// The line that names the trace and the span that calls.
pub const TRACEPARENT: &str = "traceparent";
/// The line in which tracing systems keep what is theirs.
pub const TRACESTATE: &str = "tracestate";

/// The version that is written (§3.2.1). A later one is read as far as this one knows it.
const LENGTH: usize = 55;
/// Longest `tracestate` that is passed on, in bytes; as long as the recommendation wants it to be at least (§3.3.1.5).
const STATE_LIMIT: usize = 512;
/// Most members of one (§3.3.1.1).
const STATE_MEMBERS: usize = 32;
/// The span that calls records what it does, and wants those that it calls to.
const SAMPLED: u8 = 0x01;

/// Which span calls, in which trace. Neither identifier is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

/// What tracing systems say of a trace, at most 512 bytes of ASCII without control characters but tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(String);

/// Where in which trace a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The span that calls.
    pub parent: TraceParent,
    /// What tracing systems say of it.
    pub state: Option<TraceState>,
}

impl TraceParent {
    /// A span of a trace; nothing where one of the identifiers is zero, which none is.
    pub fn new(trace: [u8; 16], span: [u8; 8], sampled: bool) -> Option<Self> {
        let is_some = trace != [0; 16] && span != [0; 8];
        is_some.then_some(Self { trace, span, sampled })
    }

    /// Reads one line (§3.2.2): lower-case digits only, as the recommendation wants them.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (known, rest) = line.split_at_checked(LENGTH)?;
        let is_dash = |at: usize| known.get(at) == Some(&b'-');
        let (mut version, mut flags) = ([0], [0]);
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        let is_read = is_dash(2)
            && is_dash(35)
            && is_dash(52)
            && read(known.get(..2)?, &mut version)
            && read(known.get(3..35)?, &mut trace)
            && read(known.get(36..52)?, &mut span)
            && read(known.get(53..)?, &mut flags);
        let is_whole = match version {
            [0x00] => rest.is_empty(),
            [0xff] => false,
            [_] => rest.is_empty() || rest.starts_with(b"-"),
        };
        let [flags] = flags;
        let parent = Self::new(trace, span, flags & SAMPLED != 0)?;
        (is_read && is_whole).then_some(parent)
    }

    /// The trace.
    pub const fn trace(&self) -> &[u8; 16] {
        &self.trace
    }

    /// The span that calls.
    pub const fn span(&self) -> &[u8; 8] {
        &self.span
    }

    /// Whether it is recorded.
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, sampled } = self;
        let mut line = String::with_capacity(LENGTH);
        line.push_str("00-");
        write(trace, &mut line);
        line.push('-');
        write(span, &mut line);
        line.push_str(if *sampled { "-01" } else { "-00" });
        f.write_str(&line)
    }
}

impl TraceState {
    /// Reads what the lines say, joined by commas (§3.3.1).
    pub fn parse(lines: &[u8]) -> Option<Self> {
        if lines.len() > STATE_LIMIT {
            return None;
        }
        let mut members = 0_usize;
        // An empty member is none, and is allowed.
        for member in lines.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !member.is_empty() {
                members = members.saturating_add(1);
                if !is_member(member) {
                    return None;
                }
            }
        }
        let text = String::from_utf8(lines.to_vec()).ok()?;
        (1..=STATE_MEMBERS).contains(&members).then_some(Self(text))
    }

    /// As it stands in the line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TraceContext {
    /// Reads both lines; what the second says is left out where it cannot be read.
    pub fn parse(parent: &[u8], state: &[u8]) -> Option<Self> {
        Some(Self {
            parent: TraceParent::parse(parent)?,
            state: TraceState::parse(state),
        })
    }

    /// The lines, as they go to whoever is called.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![(TRACEPARENT, self.parent.to_string())];
        if let Some(TraceState(state)) = &self.state {
            lines.push((TRACESTATE, state.clone()));
        }
        lines
    }
}

/// Reads exactly so many bytes from lower-case hexadecimal digits, or says that these are none.
fn read(text: &[u8], bytes: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return false;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return false;
        };
        *byte = (high << 4) | low;
    }
    true
}

fn write(bytes: &[u8], line: &mut String) {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    for byte in bytes {
        line.push(digit(byte >> 4));
        line.push(digit(byte & 15));
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

/// `key=value` (§3.3.1.3): a key of a system, or of a tenant of a system's.
fn is_member(member: &[u8]) -> bool {
    let Some((key, value)) = around(member, b'=') else {
        return false;
    };
    let is_key = match around(key, b'@') {
        None => is_name(key, 256, false),
        Some((tenant, system)) => is_name(tenant, 241, true) && is_name(system, 14, false),
    };
    let of_value = |byte: &u8| (b' '..=b'~').contains(byte) && !b",=".contains(byte);
    is_key && !value.is_empty() && value.len() <= 256 && value.iter().all(of_value)
}

/// What stands before and behind the first of these bytes.
fn around(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|found| *found == byte)?;
    let (before, rest) = text.split_at(at);
    Some((before, rest.get(1..)?))
}

fn is_name(name: &[u8], longest: usize, may_begin_with_digit: bool) -> bool {
    let begins = |byte: &u8| byte.is_ascii_lowercase() || (may_begin_with_digit && byte.is_ascii_digit());
    let goes_on = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
    name.len() <= longest && name.first().is_some_and(begins) && name.iter().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written_as_it_is() {
        let parent = TraceParent::parse(LINE.as_bytes()).unwrap();
        assert_eq!(parent.to_string(), LINE);
        assert!(parent.is_sampled());
        assert_eq!(parent.trace().first(), Some(&0x4b));
        assert_eq!(parent.span().last(), Some(&0xb7));
        let unsampled = TraceParent::parse(LINE.replace("-01", "-00").as_bytes()).unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes_and_written_as_this_one() {
        for later in [
            LINE.replacen("00", "01", 1),
            format!("{}-what-comes-later", LINE.replacen("00", "cc", 1)),
        ] {
            assert_eq!(
                TraceParent::parse(later.as_bytes()).unwrap().to_string(),
                LINE,
                "{later}"
            );
        }
        // Flags of which nothing is known are not passed on as if they were.
        let flags = LINE.replace("-01", "-09");
        assert_eq!(TraceParent::parse(flags.as_bytes()).unwrap().to_string(), LINE);
    }

    #[test]
    fn what_is_not_exactly_one_line_is_nothing() {
        for odd in [
            String::new(),
            LINE.to_uppercase(),
            LINE.replacen("00", "ff", 1),
            LINE.replacen("00", "0x", 1),
            format!("{LINE}-"),
            format!("{LINE},{LINE}"),
            format!(" {LINE}"),
            format!("{}x", LINE.replacen("00", "01", 1)),
            LINE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            LINE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            LINE.replace('-', "_"),
            LINE.replace("4bf9", "4bf-"),
            LINE.replace("-01", "-0g"),
            LINE.chars().take(54).collect(),
        ] {
            assert_eq!(TraceParent::parse(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    #[test]
    fn members_of_a_state_are_kept_as_they_came_and_a_bad_one_spoils_it() {
        let state = |text: &str| TraceState::parse(text.as_bytes()).map(|state| state.as_str().to_owned());
        assert_eq!(
            state("rojo=00f0 6,,congo=t61 ,\tfw529a3039@dt=FfAA").unwrap(),
            "rojo=00f0 6,,congo=t61 ,\tfw529a3039@dt=FfAA"
        );
        let (long, many) = (format!("a={}", "x".repeat(257)), vec!["a=b"; 33].join(","));
        let whole = vec!["abcdefg=12345678"; 32].join(",");
        assert_eq!(whole.len(), 543);
        for odd in [
            "", ",", "a", "=b", "a=", "A=b", "a=b=c", "a=\u{e6}", "a@=b", "@a=b", "0a=b", "a@0=b", &long, &many, &whole,
        ] {
            assert_eq!(state(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_context_without_a_readable_state_has_none() {
        let context = TraceContext::parse(LINE.as_bytes(), b"A=b").unwrap();
        assert_eq!(context.lines(), [("traceparent", LINE.to_owned())]);
        let context = TraceContext::parse(LINE.as_bytes(), b"a=b").unwrap();
        assert_eq!(context.lines().last(), Some(&("tracestate", "a=b".to_owned())));
        assert_eq!(TraceContext::parse(b"", b"a=b"), None);
    }
}
