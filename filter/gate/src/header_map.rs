//! Reads the host's serialised header map, whatever bytes it holds.
//!
//! The proxy-wasm ABI hands all headers over as one buffer: a count, then two lengths for each pair, then names and
//! values, each ended by a zero byte; all numbers are 32 bits, little-endian. The SDK's reader unwraps names as UTF-8;
//! this one knows bytes only and answers a malformed buffer with `None`.

use std::fmt;
use std::ops::Range;

/// A header map: one buffer and the places of names and values in it, so that reading it costs no copy of each.
#[derive(Clone, Default)]
pub struct HeaderMap {
    buffer: Vec<u8>,
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

impl HeaderMap {
    /// Reads a serialised map; `None` if lengths and buffer disagree.
    pub fn parse(buffer: impl Into<Vec<u8>>) -> Option<Self> {
        let buffer = buffer.into();
        if buffer.is_empty() {
            return Some(Self::default());
        }
        let (count, mut lengths) = take_u32(&buffer)?;
        // What is left at each step says where it begins.
        let mut data = lengths.get(count.checked_mul(8)?..)?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let (name_length, rest) = take_u32(lengths)?;
            let (value_length, rest) = take_u32(rest)?;
            lengths = rest;
            let name = place(&buffer, data, name_length)?;
            data = after(data, name_length)?;
            let value = place(&buffer, data, value_length)?;
            data = after(data, value_length)?;
            pairs.push((name, value));
        }
        Some(Self { buffer, pairs })
    }

    /// A map of these pairs, names in lower case, as the host gives them.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut map = Self::default();
        for (name, value) in pairs {
            let mut add = |bytes: &[u8]| {
                let start = map.buffer.len();
                map.buffer.extend(bytes);
                start..map.buffer.len()
            };
            let pair = (add(name), add(value));
            map.pairs.push(pair);
        }
        map
    }

    /// All pairs, in order, repeated names as often as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let at = |place: &Range<usize>| self.buffer.get(place.clone()).unwrap_or_default();
        self.pairs.iter().map(move |(name, value)| (at(name), at(value)))
    }

    /// All values of one name.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The same for a name that lives elsewhere.
    pub(crate) fn values_of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes();
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The first value of one name.
    pub fn first<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// Where the bytes lie that begin what is left.
fn place(buffer: &[u8], left: &[u8], length: usize) -> Option<Range<usize>> {
    let start = buffer.len().checked_sub(left.len())?;
    Some(start..start.checked_add(length)?)
}

/// What follows so many bytes and the zero byte that ends them.
fn after(left: &[u8], length: usize) -> Option<&[u8]> {
    match left.split_at_checked(length)?.1.split_first()? {
        (0, rest) => Some(rest),
        _ => None,
    }
}

impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for HeaderMap {}

impl fmt::Debug for HeaderMap {
    /// Names only: a value may be a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| String::from_utf8_lossy(name));
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn serialise(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut out = u32::try_from(pairs.len()).unwrap().to_le_bytes().to_vec();
        for (name, value) in pairs {
            out.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
            out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        }
        for (name, value) in pairs {
            out.extend(name);
            out.push(0);
            out.extend(value);
            out.push(0);
        }
        out
    }

    proptest! {
        #[test]
        fn every_map_of_bytes_is_read_back(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let map = HeaderMap::parse(serialise(&pairs)).unwrap();
            let read: Vec<_> = map.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn no_buffer_panics(buffer: Vec<u8>) {
            drop(HeaderMap::parse(buffer));
        }

        #[test]
        fn a_truncated_map_is_refused(pairs in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 1..4), cut in 1_usize..64) {
            let whole = serialise(&pairs);
            let kept = whole.len().saturating_sub(cut).max(1);
            prop_assert_eq!(HeaderMap::parse(&whole[..kept]), None);
        }
    }

    #[test]
    fn a_count_larger_than_the_buffer_allocates_nothing() {
        assert_eq!(HeaderMap::parse(u32::MAX.to_le_bytes()), None);
    }
}
