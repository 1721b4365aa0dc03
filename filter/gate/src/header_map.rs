//! Reads the host's serialised header map, whatever bytes it holds.
//!
//! The proxy-wasm ABI hands all headers over as one buffer: a count, then two lengths for each pair, then names and
//! values, each ended by a zero byte; all numbers are 32 bits, little-endian. The SDK's reader unwraps names as UTF-8;
//! this one knows bytes only and answers a malformed buffer with `None`.

/// A header map: one buffer and the places of names and values in it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeaderMap {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HeaderMap {
    /// Reads a serialised map; `None` if lengths and buffer disagree.
    pub fn parse(buffer: &[u8]) -> Option<Self> {
        if buffer.is_empty() {
            return Some(Self::default());
        }
        let (count, mut lengths) = take_u32(buffer)?;
        let mut data = lengths.get(count.checked_mul(8)?..)?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let (name_length, rest) = take_u32(lengths)?;
            let (value_length, rest) = take_u32(rest)?;
            lengths = rest;
            let (name, rest) = take_ended(data, name_length)?;
            let (value, rest) = take_ended(rest, value_length)?;
            data = rest;
            pairs.push((name.to_vec(), value.to_vec()));
        }
        Some(Self { pairs })
    }

    /// A map of these pairs, names in lower case, as the host gives them.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        Self {
            pairs: pairs
                .into_iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        }
    }

    /// All pairs, in order, repeated names as often as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
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

fn take_ended(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    match rest.split_first()? {
        (0, rest) => Some((taken, rest)),
        _ => None,
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
            let map = HeaderMap::parse(&serialise(&pairs)).unwrap();
            prop_assert_eq!(map.pairs, pairs);
        }

        #[test]
        fn no_buffer_panics(buffer: Vec<u8>) {
            drop(HeaderMap::parse(&buffer));
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
        assert_eq!(HeaderMap::parse(&u32::MAX.to_le_bytes()), None);
    }
}
