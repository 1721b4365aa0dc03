//! Lists what a keytab holds (format 0x0502), without showing a key.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::principal::{Principal, PrincipalError};

/// The entries of a keytab file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keytab {
    entries: Vec<KeytabEntry>,
}

/// One entry: everything but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeytabEntry {
    principal: Principal,
    kvno: u32,
    enctype: Enctype,
}

impl KeytabEntry {
    /// Whose key it is.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The key's version.
    pub const fn kvno(&self) -> u32 {
        self.kvno
    }

    /// What the key is for.
    pub const fn enctype(&self) -> Enctype {
        self.enctype
    }
}

/// A Kerberos encryption type (IANA "Kerberos Encryption Type Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Enctype(i32);

impl Enctype {
    /// Those that tickets may have with an MIT krb5 of today, the weak ones last.
    pub const ALL: [Self; 8] = [
        Self(17),
        Self(18),
        Self(19),
        Self(20),
        Self(25),
        Self(26),
        Self(16),
        Self(23),
    ];

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Whether it is DES, triple DES or RC4 (RFC 6649, RFC 8429).
    pub const fn is_weak(self) -> bool {
        matches!(self.0, 1..=16 | 23 | 24)
    }
}

impl FromStr for Enctype {
    type Err = UnknownEnctype;

    /// Reads one of MIT's names, as it is displayed.
    fn from_str(name: &str) -> Result<Self, UnknownEnctype> {
        Self::ALL
            .into_iter()
            .find(|enctype| enctype.to_string() == name)
            .ok_or(UnknownEnctype)
    }
}

/// No encryption type has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEnctype;

impl fmt::Display for UnknownEnctype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no encryption type has this name")
    }
}

impl std::error::Error for UnknownEnctype {}

impl From<i32> for Enctype {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Enctype {
    /// MIT's name, as krb5.conf takes it, or `enctype-N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "des-cbc-crc",
            2 => "des-cbc-md4",
            3 => "des-cbc-md5",
            16 => "des3-cbc-sha1",
            17 => "aes128-cts-hmac-sha1-96",
            18 => "aes256-cts-hmac-sha1-96",
            19 => "aes128-cts-hmac-sha256-128",
            20 => "aes256-cts-hmac-sha384-192",
            23 => "arcfour-hmac",
            24 => "arcfour-hmac-exp",
            25 => "camellia128-cts-cmac",
            26 => "camellia256-cts-cmac",
            number => return write!(f, "enctype-{number}"),
        })
    }
}

/// Why a keytab cannot be listed.
#[derive(Debug)]
pub enum KeytabError {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// Larger than [`Keytab::LARGEST`] bytes.
    TooLarge,
    /// Not a keytab, or of the format 0x0501, which is in the byte order of whatever wrote it.
    WrongFormat,
    /// An entry ends before it is complete, at this offset of the file.
    CutOff {
        /// Where the entry's length stands, in bytes from the beginning.
        offset: usize,
    },
    /// An entry's principal is unusable.
    Principal(PrincipalError),
    /// No entry at all.
    Empty,
}

impl fmt::Display for KeytabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the keytab cannot be read: {error}"),
            Self::TooLarge => f.write_str("the keytab is larger than 1 MiB"),
            Self::WrongFormat => f.write_str("the file is not a keytab of format 0x0502"),
            Self::CutOff { offset } => write!(f, "the keytab is cut off in the entry at offset {offset}"),
            Self::Principal(error) => write!(f, "the keytab has an entry whose name cannot be used: {error}"),
            Self::Empty => f.write_str("the keytab holds no key"),
        }
    }
}

impl std::error::Error for KeytabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Principal(error) => Some(error),
            Self::TooLarge | Self::WrongFormat | Self::CutOff { .. } | Self::Empty => None,
        }
    }
}

impl Keytab {
    /// Largest keytab that is read, in bytes.
    pub const LARGEST: usize = 1024 * 1024;

    /// Lists a keytab file. The bytes read are wiped before this returns.
    pub fn open(path: &Path) -> Result<Self, KeytabError> {
        let mut file = File::open(path).map_err(KeytabError::Unreadable)?;
        let size = file.metadata().map_err(KeytabError::Unreadable)?.len();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > Self::LARGEST {
            return Err(KeytabError::TooLarge);
        }
        let mut length = 0_usize;
        // Into one buffer of the right size: a vector that grows would leave copies of the keys behind. What is added to the
        // file meanwhile is not read.
        let mut bytes = Zeroizing::new(vec![0; size]);
        while let Some(rest) = bytes.get_mut(length..)
            && !rest.is_empty()
        {
            match file.read(rest) {
                Ok(0) => break,
                Ok(count) => length = length.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KeytabError::Unreadable(error)),
            }
        }
        Self::parse(bytes.get(..length).unwrap_or_default())
    }

    /// Lists a keytab's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeytabError> {
        let mut reader = Reader { rest: bytes };
        if reader.take(2) != Some(&[5, 2]) {
            return Err(KeytabError::WrongFormat);
        }
        let mut entries = Vec::new();
        while !reader.rest.is_empty() {
            let offset = bytes.len().saturating_sub(reader.rest.len());
            let cut_off = KeytabError::CutOff { offset };
            let Some(length) = reader.u32() else {
                return Err(cut_off);
            };
            // A negative length is a hole that a deleted entry left, of that size; zero is the end (MIT kt_file.c).
            let signed = length.cast_signed();
            if signed == 0 {
                break;
            }
            let size = usize::try_from(signed.unsigned_abs()).unwrap_or(usize::MAX);
            let Some(record) = reader.take(size) else {
                // MIT lets a hole run past the end.
                if signed < 0 {
                    break;
                }
                return Err(cut_off);
            };
            if signed > 0 {
                let parts = Reader { rest: record }.entry().ok_or(cut_off)?;
                entries.push(parts.into_entry()?);
            }
        }
        if entries.is_empty() {
            Err(KeytabError::Empty)
        } else {
            Ok(Self { entries })
        }
    }

    /// The entries, in the file's order.
    pub fn entries(&self) -> &[KeytabEntry] {
        &self.entries
    }

    /// The principals, each once, in the file's order.
    pub fn principals(&self) -> Vec<Principal> {
        let mut principals: Vec<Principal> = Vec::new();
        for entry in &self.entries {
            if !principals.contains(&entry.principal) {
                principals.push(entry.principal.clone());
            }
        }
        principals
    }
}

/// An entry's fields, as they stand in the file.
struct Fields<'k> {
    realm: &'k [u8],
    components: Vec<&'k [u8]>,
    kvno: u32,
    enctype: u16,
}

impl Fields<'_> {
    fn into_entry(self) -> Result<KeytabEntry, KeytabError> {
        let mut name = String::new();
        for component in &self.components {
            if !name.is_empty() {
                name.push('/');
            }
            quote(component, &mut name)?;
        }
        name.push('@');
        quote(self.realm, &mut name)?;
        let principal = Principal::parse(&name).map_err(KeytabError::Principal)?;
        // MIT reads the 16 bits as signed.
        let enctype = Enctype(i32::from(self.enctype.cast_signed()));
        Ok(KeytabEntry {
            principal,
            kvno: self.kvno,
            enctype,
        })
    }
}

/// Appends a component in display form, escaped as `krb5_unparse_name` does.
fn quote(component: &[u8], name: &mut String) -> Result<(), KeytabError> {
    let text = std::str::from_utf8(component).map_err(|_| KeytabError::Principal(PrincipalError::NotUtf8))?;
    for character in text.chars() {
        if matches!(character, '/' | '@' | '\\') {
            name.push('\\');
        }
        name.push(character);
    }
    Ok(())
}

struct Reader<'k> {
    rest: &'k [u8],
}

impl<'k> Reader<'k> {
    fn take(&mut self, count: usize) -> Option<&'k [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn counted(&mut self) -> Option<&'k [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    fn entry(&mut self) -> Option<Fields<'k>> {
        let count = self.u16()?;
        let realm = self.counted()?;
        // Each component takes two bytes at least, so a large count ends with the record, not with the memory.
        let components = (0..count).map(|_| self.counted()).collect::<Option<Vec<_>>>()?;
        let _name_type = self.u32()?;
        let _written_at = self.u32()?;
        let short_kvno = u32::from(self.u8()?);
        let enctype = self.u16()?;
        let _key = self.counted()?;
        // The key version has 32 bits if they are there and not zero, which is filling.
        let kvno = self.u32().filter(|kvno| *kvno != 0).unwrap_or(short_kvno);
        Some(Fields {
            realm,
            components,
            kvno,
            enctype,
        })
    }
}

#[cfg(test)]
mod tests;
