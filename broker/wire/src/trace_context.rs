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

/// What tracing systems say of a trace, at most 512 bytes of visible ASCII and spaces.
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
        let parts: Vec<&[u8]> = known.split(|byte| *byte == b'-').collect();
        let &[version, trace, span, flags] = parts.as_slice() else {
            return None;
        };
        let [version] = digits::<1>(version)?;
        let is_whole = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let [flags] = digits::<1>(flags)?;
        let parent = Self::new(digits(trace)?, digits(span)?, flags & SAMPLED != 0)?;
        is_whole.then_some(parent)
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
        f.write_str("00-")?;
        trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", if *sampled { SAMPLED } else { 0 })
    }
}

impl TraceState {
    /// Reads what the lines say, joined by commas (§3.3.1).
    pub fn parse(lines: &[u8]) -> Option<Self> {
        if lines.len() > STATE_LIMIT {
            return None;
        }
        let members = lines.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // An empty member is none, and is allowed.
        let members: Vec<&[u8]> = members.filter(|member| !member.is_empty()).collect();
        let is_good =
            !members.is_empty() && members.len() <= STATE_MEMBERS && members.iter().all(|member| is_member(member));
        let text = String::from_utf8(members.join(b",".as_slice())).ok()?;
        is_good.then_some(Self(text))
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
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| (TRACESTATE, state.as_str().to_owned()));
        std::iter::once((TRACEPARENT, self.parent.to_string())).chain(state)
    }
}

/// Exactly so many bytes, in lower-case hexadecimal digits.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N.checked_mul(2)? {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (digit(high)? << 4) | digit(low)?;
    }
    Some(bytes)
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
    let Some(at) = member.iter().position(|byte| *byte == b'=') else {
        return false;
    };
    let (key, rest) = member.split_at(at);
    let value = rest.get(1..).unwrap_or_default();
    let of_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
    let is_key = match key.iter().position(|byte| *byte == b'@') {
        None => key.len() <= 256 && key.first().is_some_and(u8::is_ascii_lowercase) && key.iter().all(of_key),
        Some(at) => {
            let (tenant, system) = key.split_at(at);
            let system = system.get(1..).unwrap_or_default();
            let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            tenant.len() <= 241
                && tenant.first().is_some_and(begins)
                && tenant.iter().all(of_key)
                && system.len() <= 14
                && system.first().is_some_and(u8::is_ascii_lowercase)
                && system.iter().all(of_key)
        }
    };
    let of_value = |byte: &u8| (b' '..=b'~').contains(byte) && !b",=".contains(byte);
    is_key && !value.is_empty() && value.len() <= 256 && value.iter().all(of_value)
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
    fn members_of_a_state_are_kept_in_their_order_and_a_bad_one_spoils_it() {
        let state = |text: &str| TraceState::parse(text.as_bytes()).map(|state| state.as_str().to_owned());
        assert_eq!(
            state("rojo=00f0 6,,congo=t61 ,\tfw529a3039@dt=FfAA").unwrap(),
            "rojo=00f0 6,congo=t61,fw529a3039@dt=FfAA"
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
        assert_eq!(context.lines().collect::<Vec<_>>(), [("traceparent", LINE.to_owned())]);
        let context = TraceContext::parse(LINE.as_bytes(), b"a=b").unwrap();
        assert_eq!(context.lines().last(), Some(("tracestate", "a=b".to_owned())));
        assert_eq!(TraceContext::parse(b"", b"a=b"), None);
    }
}
