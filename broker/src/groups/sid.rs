//! Reads and writes security identifiers (MS-DTYP §2.4.2): as text, and as the bytes of a PAC or a directory.

use std::fmt;
use std::str::FromStr;

/// Most sub-authorities (MS-DTYP §2.4.2.2).
const MOST_PARTS: usize = 15;
/// The one revision that there is.
const REVISION: u8 = 1;

/// A security identifier, such as `S-1-5-21-1004336348-1177238915-682003330-512`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid {
    /// 48 bits.
    authority: u64,
    parts: Vec<u32>,
}

/// The text or the bytes are no security identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSid;

impl fmt::Display for NoSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no security identifier")
    }
}

impl std::error::Error for NoSid {}

impl Sid {
    /// From the identifier authority (6 bytes, the highest first) and sub-authorities; `None` with more than 15 of these.
    pub fn new(authority: [u8; 6], parts: Vec<u32>) -> Option<Self> {
        let authority = authority
            .iter()
            .fold(0_u64, |number, &byte| (number << 8) | u64::from(byte));
        (parts.len() <= MOST_PARTS).then_some(Self { authority, parts })
    }

    /// The identifier of one of a domain's accounts; `None` where there is no room for another sub-authority.
    pub fn of_domain(domain: &Self, relative: u32) -> Option<Self> {
        if domain.parts.len() >= MOST_PARTS {
            return None;
        }
        let mut sid = domain.clone();
        sid.parts.push(relative);
        Some(sid)
    }

    /// From the packed form of `objectSid` and `tokenGroups` (MS-DTYP §2.4.2.2), all of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoSid> {
        let (&[revision, count], rest) = bytes.split_first_chunk().ok_or(NoSid)?;
        let (&authority, rest) = rest.split_first_chunk::<6>().ok_or(NoSid)?;
        let (parts, odd) = rest.as_chunks::<4>();
        if revision != REVISION || parts.len() != usize::from(count) || !odd.is_empty() {
            return Err(NoSid);
        }
        let parts = parts.iter().map(|part| u32::from_le_bytes(*part)).collect();
        Self::new(authority, parts).ok_or(NoSid)
    }

    /// The packed form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![REVISION, u8::try_from(self.parts.len()).unwrap_or_default()];
        bytes.extend(self.authority.to_be_bytes().iter().skip(2));
        bytes.extend(self.parts.iter().flat_map(|part| part.to_le_bytes()));
        bytes
    }
}

impl fmt::Display for Sid {
    /// An authority of more than 32 bits is hexadecimal (MS-DTYP §2.4.2.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.authority > u64::from(u32::MAX) {
            write!(f, "S-{REVISION}-{:#014X}", self.authority)?;
        } else {
            write!(f, "S-{REVISION}-{}", self.authority)?;
        }
        self.parts.iter().try_for_each(|part| write!(f, "-{part}"))
    }
}

impl FromStr for Sid {
    type Err = NoSid;

    /// One text for each identifier: no leading zeroes, no signs, `S` in capitals.
    fn from_str(text: &str) -> Result<Self, NoSid> {
        let mut words = text.strip_prefix("S-1-").ok_or(NoSid)?.split('-');
        let authority = words.next().ok_or(NoSid)?;
        let authority = match authority.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| NoSid)?,
            None => authority.parse().map_err(|_| NoSid)?,
        };
        let parts: Vec<u32> = words
            .map(|word| word.parse().map_err(|_| NoSid))
            .collect::<Result<_, _>>()?;
        let sid = Self { authority, parts };
        let fits = sid.authority < 1 << 48 && sid.parts.len() <= MOST_PARTS;
        // A number reads `+1` and `01` too.
        (fits && sid.to_string() == text).then_some(sid).ok_or(NoSid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADMINISTRATORS: &str = "S-1-5-21-1004336348-1177238915-682003330-512";

    #[test]
    fn an_identifier_has_one_text_and_one_packed_form() {
        let sid: Sid = ADMINISTRATORS.parse().unwrap();
        let packed = [
            &[1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0][..],
            &1_004_336_348_u32.to_le_bytes(),
            &1_177_238_915_u32.to_le_bytes(),
            &682_003_330_u32.to_le_bytes(),
            &512_u32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(sid.to_bytes(), packed);
        assert_eq!(Sid::from_bytes(&packed), Ok(sid));
        let everyone: Sid = "S-1-1-0".parse().unwrap();
        assert_eq!(everyone.to_string(), "S-1-1-0");
        let large: Sid = "S-1-0x0100000000AB-7".parse().unwrap();
        assert_eq!(Sid::from_bytes(&large.to_bytes()), Ok(large));
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        for text in [
            "",
            "S-1",
            "S-1-",
            "S-2-5-32",
            "s-1-5-32",
            "S-1-5-032",
            "S-1-+5-32",
            "S-1-5--32",
            "S-1-5-4294967296",
            "S-1-5-32 ",
            "S-1-0x5-1",
            "S-1-0x000000000005-1",
            "S-1-0X0100000000AB-7",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
        ] {
            assert_eq!(text.parse::<Sid>(), Err(NoSid), "{text}");
        }
        for bytes in [
            &[][..],
            &[1, 0],
            &[2, 0, 0, 0, 0, 0, 0, 5],
            &[1, 1, 0, 0, 0, 0, 0, 5],
            &[1, 0, 0, 0, 0, 0, 0, 5, 0],
            &[1, 1, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0],
        ] {
            assert_eq!(Sid::from_bytes(bytes), Err(NoSid), "{bytes:?}");
        }
    }

    #[test]
    fn an_account_is_its_domain_and_one_number_more() {
        let domain: Sid = "S-1-5-21-1-2-3".parse().unwrap();
        assert_eq!(Sid::of_domain(&domain, 513).unwrap().to_string(), "S-1-5-21-1-2-3-513");
        let full = Sid::new([0, 0, 0, 0, 0, 5], vec![0; 15]).unwrap();
        assert_eq!(Sid::of_domain(&full, 1), None);
        assert_eq!(Sid::new([0; 6], vec![0; 16]), None);
    }

    proptest! {
        #[test]
        fn any_text_and_any_bytes_are_refused_or_come_back(text in ".{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(sid) = text.parse::<Sid>() {
                prop_assert_eq!(sid.to_string(), text);
            }
            if let Ok(sid) = Sid::from_bytes(&bytes) {
                prop_assert_eq!(sid.to_bytes(), bytes);
                prop_assert_eq!(sid.to_string().parse(), Ok(sid));
            }
        }
    }
}
