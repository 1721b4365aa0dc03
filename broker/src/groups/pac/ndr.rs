//! Reads the few forms of NDR that a PAC uses, one after the other: little-endian, bounded, never past its bytes.
//!
//! What a pointer refers to comes after the structure that holds the pointer, in the pointers' order (C706 §14.3.12.2), so
//! that nothing is ever looked up by an offset from the bytes.

use super::Malformed;
use crate::groups::sid::Sid;

/// Bytes that are read from their beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ndr<'a> {
    rest: &'a [u8],
    /// What was read, modulo 4: numbers stand at multiples of their size.
    phase: usize,
}

/// A pointer: whether something comes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer(bool);

/// `RPC_UNICODE_STRING` (MS-DTYP §2.3.10), of which only the pointer matters.
pub(super) type TextPointer = Pointer;

/// `GROUP_MEMBERSHIP` (MS-PAC §2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) relative: u32,
    pub(super) attributes: u32,
}

impl<'a> Ndr<'a> {
    /// The content of a type serialised by version 1 (MS-RPCE §2.2.6): two headers, then the bytes that they announce.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const VERSION_1_LITTLE_ENDIAN: [u8; 4] = [1, 0x10, 8, 0];
        const HEADERS: usize = 16;
        let (&common, _) = bytes.split_first_chunk::<4>().ok_or(Malformed)?;
        let length = bytes.get(8..).and_then(<[u8]>::first_chunk::<4>).ok_or(Malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Malformed)?;
        if common != VERSION_1_LITTLE_ENDIAN {
            return Err(Malformed);
        }
        let rest = bytes.get(HEADERS..).and_then(|rest| rest.get(..length));
        Ok(Self {
            rest: rest.ok_or(Malformed)?,
            phase: 0,
        })
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        self.phase = self.phase.wrapping_add(count) % 4;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// An unsigned number of 32 bits, where it has to stand.
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        let padding = 4_usize.wrapping_sub(self.phase) % 4;
        self.skip(padding)?;
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn pointer(&mut self) -> Result<Pointer, Malformed> {
        self.number().map(|referent| Pointer(referent != 0))
    }

    /// A text's two lengths and its pointer.
    pub(super) fn text_pointer(&mut self) -> Result<TextPointer, Malformed> {
        self.number()?;
        self.pointer()
    }

    /// What a text's pointer refers to, if anything.
    pub(super) fn text(&mut self, text: TextPointer) -> Result<String, Malformed> {
        let units = self
            .utf16(text)?
            .chunks_exact(2)
            .filter_map(|unit| unit.try_into().ok());
        let units = units.map(u16::from_le_bytes);
        char::decode_utf16(units)
            .collect::<Result<_, _>>()
            .map_err(|_| Malformed)
    }

    /// The same for a text that is nobody's business here.
    pub(super) fn skip_text(&mut self, text: TextPointer) -> Result<(), Malformed> {
        self.utf16(text).map(drop)
    }

    fn utf16(&mut self, text: TextPointer) -> Result<&'a [u8], Malformed> {
        if text == Pointer(false) {
            return Ok(&[]);
        }
        let (room, offset, count) = (self.number()?, self.number()?, self.number()?);
        if offset != 0 || count > room {
            return Err(Malformed);
        }
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(2));
        self.take(bytes.ok_or(Malformed)?)
    }

    /// What the pointer to an array of `count` elements refers to: the array's own count is the same.
    fn array_head(&mut self, pointer: Pointer, count: u32) -> Result<usize, Malformed> {
        let announced = match pointer {
            Pointer(true) => self.number()?,
            Pointer(false) => 0,
        };
        if announced != count {
            return Err(Malformed);
        }
        usize::try_from(count).map_err(|_| Malformed)
    }

    /// An array of memberships.
    pub(super) fn memberships(&mut self, pointer: Pointer, count: u32) -> Result<Vec<Membership>, Malformed> {
        let count = self.array_head(pointer, count)?;
        let mut memberships = Vec::new();
        for _ in 0..count {
            memberships.push(Membership {
                relative: self.number()?,
                attributes: self.number()?,
            });
        }
        Ok(memberships)
    }

    /// An array of `KERB_SID_AND_ATTRIBUTES` (MS-PAC §2.2.1): first all pointers, then all identifiers.
    pub(super) fn sids(&mut self, pointer: Pointer, count: u32) -> Result<Vec<(Sid, u32)>, Malformed> {
        let count = self.array_head(pointer, count)?;
        let mut heads = Vec::new();
        for _ in 0..count {
            heads.push((self.pointer()?, self.number()?));
        }
        heads
            .into_iter()
            .map(|(pointer, attributes)| Ok((self.sid(pointer)?.ok_or(Malformed)?, attributes)))
            .collect()
    }

    /// What the pointer to an identifier refers to, if anything (`RPC_SID`, MS-DTYP §2.4.2.3).
    pub(super) fn sid(&mut self, pointer: Pointer) -> Result<Option<Sid>, Malformed> {
        if pointer == Pointer(false) {
            return Ok(None);
        }
        let announced = self.number()?;
        let [revision, count] = self.array()?;
        let authority = self.array::<6>()?;
        if revision != 1 || announced != u32::from(count) {
            return Err(Malformed);
        }
        let parts = (0..count).map(|_| self.number()).collect::<Result<Vec<_>, _>>()?;
        Sid::new(authority, parts).map(Some).ok_or(Malformed)
    }
}
