//! Reads DER (X.690 §10) one element after the other: definite lengths, no recursion, no copies, never past its bytes.

/// The bytes are not what was expected. Which byte is nobody's business: they are a stranger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const GENERAL_STRING: u8 = 0x1b;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Tag of `[number]`, constructed; numbers up to 30.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Tag of `[APPLICATION number]`, constructed; numbers up to 30.
pub(crate) const fn application(number: u8) -> u8 {
    0x60 | number
}

/// Elements one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.optional(tag)?.ok_or(Malformed)
    }

    /// The content of the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        let Some((&found, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        if found != tag {
            return Ok(None);
        }
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Windows writes lengths with more octets than needed; four are more than our largest token needs.
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                let length = octets
                    .iter()
                    .fold(0_u32, |length, &octet| (length << 8) | u32::from(octet));
                (usize::try_from(length).map_err(|_| Malformed)?, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Some(content))
    }

    /// Tag and content of the next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        let Some(&tag) = self.0.first() else {
            return Ok(None);
        };
        let content = self.optional(tag)?;
        Ok(content.map(|content| (tag, content)))
    }

    /// The content of the one element that there is.
    pub(crate) fn only(mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let content = self.expect(tag)?;
        self.end()?;
        Ok(content)
    }

    /// There is nothing more.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
