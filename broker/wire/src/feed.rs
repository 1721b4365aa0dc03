//! Gives the revocation feed its shape: signed pages of fixed-width entries, and the keys by which entries name tokens.
//!
//! A page is one compact JWS (RFC 7515 §7.1) with the `typ` [`TYPE`] and the claims of [`PageClaims`], a line feed, and a
//! binary body of at most [`BODY_LIMIT`] bytes, whose SHA-256 stands among the claims. The body is a row of entries:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | [`RevocationKey`] of a token, a session or a subject: one width for all |
//! | 4 | `needed_until`: the last second in which a token that it names could be valid, big-endian, Unix time |
//! | 4 | `issued_at_or_before`: it names tokens with an `iat` up to this, big-endian; [`EVER`] names them all |
//!
//! A full snapshot (`base` null) says all that is revoked; a delta says what was revoked after the version `base`. Each
//! may have several pages, which share `epoch`, `version`, `base`, `pages`, `entries` and `sha256_of_pages`: the last tells
//! pages apart that were cut, or ordered, otherwise, and of which a mixture would miss some. A delta without entries from
//! a version to itself says that nothing happened up to `iat`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `typ` of a page's JWS.
pub const TYPE: &str = "kerbridge-feed+jwt";
/// Media type of a page.
pub const MEDIA_TYPE: &str = "application/vnd.kerbridge.feed";
/// The one format number so far.
pub const FORMAT: u32 = 1;
/// Longest JWS of a page, in bytes.
pub const JWS_LIMIT: usize = 4 * 1024;
/// Longest body of a page, in bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 24;
/// Most entries of a page.
pub const PAGE_ENTRIES: usize = BODY_LIMIT / ENTRY_BYTES;
/// Most pages of a snapshot or delta.
pub const PAGES_LIMIT: u32 = 1000;
/// Most entries of a snapshot or delta, and of what a filter holds of one issuer: more is refused, never cut short.
pub const ENTRIES_LIMIT: u32 = 4_000_000;
/// As `issued_at_or_before`: whenever issued. As `needed_until`: for ever.
pub const EVER: u32 = u32::MAX;

/// A subject as revocations know it: ASCII letters before the last `@` are small. Active Directory knows an account by any case, and
/// a ticket has the one that was asked for: who was taken out must not come back by another. Where names are told apart by case,
/// both are taken out.
pub fn plain_subject(subject: &str) -> String {
    match subject.rsplit_once('@') {
        Some((name, realm)) => format!("{}@{realm}", name.to_ascii_lowercase()),
        None => subject.to_ascii_lowercase(),
    }
}

/// Names a token, a session or a subject of one issuer: the first 16 bytes of a SHA-256 over all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationKey(pub [u8; 16]);

impl RevocationKey {
    /// The token with this `jti`.
    pub fn token(issuer: &str, token_id: &str) -> Self {
        Self::of(1, issuer, token_id)
    }

    /// All tokens with this `sid`.
    pub fn session(issuer: &str, session: &str) -> Self {
        Self::of(2, issuer, session)
    }

    /// All tokens with this `sub`, [however it is spelled](plain_subject).
    pub fn subject(issuer: &str, subject: &str) -> Self {
        Self::of(3, issuer, &plain_subject(subject))
    }

    /// Kind and lengths stand in front: no two of (kind, issuer, value) are the same bytes.
    fn of(kind: u8, issuer: &str, value: &str) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        hash.update(b"kerbridge revocation 1\0");
        hash.update([kind]);
        for text in [issuer, value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(key)
    }
}

impl fmt::Debug for RevocationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(self.0), f)
    }
}

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is revoked.
    pub key: RevocationKey,
    /// The last second in which a token that it names could be valid, Unix time; [`EVER`] has no end.
    pub needed_until: u32,
    /// Tokens with an `iat` up to this are revoked, Unix time; [`EVER`] takes all, those without an `iat` too.
    pub issued_at_or_before: u32,
}

impl Entry {
    /// An entry from Unix times. One beyond the width (from the year 2106 on) becomes [`EVER`]: rather too strict than lost.
    pub fn new(key: RevocationKey, needed_until: u64, issued_at_or_before: Option<u64>) -> Self {
        let narrow = |time: u64| u32::try_from(time).unwrap_or(EVER);
        Self {
            key,
            needed_until: narrow(needed_until),
            issued_at_or_before: issued_at_or_before.map_or(EVER, narrow),
        }
    }

    /// The entry as it stands in a body.
    pub fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let Self {
            key: RevocationKey(key),
            needed_until,
            issued_at_or_before,
        } = self;
        let fields = key
            .into_iter()
            .chain(needed_until.to_be_bytes())
            .chain(issued_at_or_before.to_be_bytes());
        let mut bytes = [0; ENTRY_BYTES];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// The entry that these bytes are. Any are one.
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        // The pattern takes the array apart without a length that could be wrong.
        let [
            k0,
            k1,
            k2,
            k3,
            k4,
            k5,
            k6,
            k7,
            k8,
            k9,
            k10,
            k11,
            k12,
            k13,
            k14,
            k15, //
            n0,
            n1,
            n2,
            n3,
            i0,
            i1,
            i2,
            i3,
        ] = *bytes;
        Self {
            key: RevocationKey([k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15]),
            needed_until: u32::from_be_bytes([n0, n1, n2, n3]),
            issued_at_or_before: u32::from_be_bytes([i0, i1, i2, i3]),
        }
    }
}

/// Claims of a page's JWS. Unknown members are ignored; none of these may be missing but the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageClaims {
    /// [`FORMAT`]
    pub format: u32,
    /// Whose tokens are revoked; the keys of the same issuer sign.
    pub iss: String,
    /// When this was the newest version, Unix time.
    pub iat: u64,
    /// Drawn at random when the store was made: versions of different stores cannot be compared.
    pub epoch: Epoch,
    /// Grows with each revocation, in commit order.
    pub version: u64,
    /// The version that a delta builds on; null for a full snapshot.
    #[serde(deserialize_with = "null_or_number")]
    pub base: Option<u64>,
    /// Which page this is, from 0.
    pub page: u32,
    /// How many there are, 1 to [`PAGES_LIMIT`].
    pub pages: u32,
    /// Entries of all pages together, at most [`ENTRIES_LIMIT`].
    pub entries: u32,
    /// SHA-256 of this page's body.
    pub sha256: BodyHash,
    /// [`hash_of_pages`]; may be absent where there is one page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_of_pages: Option<BodyHash>,
}

/// An `Option` that must be there: a delta that forgot its base must not be read as a snapshot.
fn null_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(deserializer)
}

/// The random name of a store, 128 bits.
pub type Epoch = Hex<16>;
/// A SHA-256.
pub type BodyHash = Hex<32>;

/// Bytes that stand in JSON as lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format_args!("expected {N} bytes as lower-case hexadecimal digits"));
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
            b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != N || !rest.is_empty() {
            return Err(wrong());
        }
        let mut bytes = [0; N];
        for (to, [high, low]) in bytes.iter_mut().zip(pairs) {
            *to = digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| high << 4 | low)
                .ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// Hashes a body piece by piece.
#[derive(Clone)]
pub struct BodyHasher(hmac_sha256::Hash);

impl BodyHasher {
    /// Before the first piece.
    pub fn new() -> Self {
        Self(hmac_sha256::Hash::new())
    }

    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// After the last piece.
    pub fn finish(self) -> BodyHash {
        Hex(self.0.finalize())
    }
}

impl Default for BodyHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHasher")
    }
}

/// The hash of a whole body.
pub fn body_hash(body: &[u8]) -> BodyHash {
    Hex(hmac_sha256::Hash::hash(body))
}

/// The hash of the hashes of all pages, in order.
pub fn hash_of_pages(hashes: &[BodyHash]) -> BodyHash {
    let mut hasher = BodyHasher::new();
    for Hex(hash) in hashes {
        hasher.update(hash);
    }
    hasher.finish()
}

/// The bodies of a snapshot's or delta's pages, in order. There is always one, though it be empty.
pub fn bodies(entries: &[Entry]) -> Vec<Vec<u8>> {
    let body = |entries: &[Entry]| entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    if entries.is_empty() {
        return vec![Vec::new()];
    }
    entries.chunks(PAGE_ENTRIES).map(body).collect()
}

/// A page of its JWS and body.
pub fn join_page(jws: &str, body: &[u8]) -> Vec<u8> {
    [jws.as_bytes(), b"\n", body].concat()
}

/// The length of a page's JWS: what stands before the first line feed. `None` if there is none within [`JWS_LIMIT`].
pub fn jws_length(page: &[u8]) -> Option<usize> {
    page.iter()
        .take(JWS_LIMIT.saturating_add(1))
        .position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> PageClaims {
        PageClaims {
            format: FORMAT,
            iss: "https://broker.test".into(),
            iat: 1_800_000_000,
            epoch: Hex([7; 16]),
            version: 9,
            base: None,
            page: 0,
            pages: 1,
            entries: 0,
            sha256: body_hash(b""),
            sha256_of_pages: Some(hash_of_pages(&[body_hash(b"")])),
        }
    }

    #[test]
    fn keys_are_those_of_the_documents() {
        // printf 'kerbridge revocation 1\0\1\0\0\0\0\0\0\0\1i\0\0\0\0\0\0\0\1v' | sha256sum
        assert_eq!(
            format!("{:?}", RevocationKey::token("i", "v")),
            "3e7fd814c410fe3bc502acf7b05fb316"
        );
        assert_eq!(
            format!("{:?}", RevocationKey::session("i", "v")),
            "2021cc2957b0b95300bd9cddff424a67"
        );
        assert_eq!(
            format!("{:?}", RevocationKey::subject("i", "v")),
            "645bbeee58996f0023163475a9546cea"
        );
    }

    #[test]
    fn a_subject_is_known_in_any_case_of_its_name_and_no_other_realm() {
        for (one, other, is_same) in [
            ("alice@A.TEST", "ALICE@A.TEST", true),
            ("Alice", "aLICE", true),
            ("a@b@A.TEST", "A@B@A.TEST", true),
            ("alice@A.TEST", "alice@a.test", false),
            ("Älice@A.TEST", "älice@A.TEST", false),
        ] {
            let (one, other) = (RevocationKey::subject("i", one), RevocationKey::subject("i", other));
            assert_eq!(one == other, is_same, "{one:?} {other:?}");
        }
        assert_ne!(RevocationKey::token("i", "A"), RevocationKey::token("i", "a"));
        assert_ne!(RevocationKey::session("i", "A"), RevocationKey::session("i", "a"));
    }

    #[test]
    fn no_two_meanings_share_a_key() {
        let texts = ["", "a", "b", "ab", "a\0", "\u{1}a", "aa"];
        let mut seen = std::collections::HashSet::new();
        for issuer in texts {
            for value in texts {
                assert!(seen.insert(RevocationKey::token(issuer, value)), "{issuer:?} {value:?}");
                assert!(
                    seen.insert(RevocationKey::session(issuer, value)),
                    "{issuer:?} {value:?}"
                );
                assert!(
                    seen.insert(RevocationKey::subject(issuer, value)),
                    "{issuer:?} {value:?}"
                );
            }
        }
    }

    #[test]
    fn entries_are_written_and_read_back() {
        let entry = Entry {
            key: RevocationKey(*b"0123456789abcdef"),
            needed_until: 0x0102_0304,
            issued_at_or_before: 0xf0f1_f2f3,
        };
        assert_eq!(&entry.to_bytes(), b"0123456789abcdef\x01\x02\x03\x04\xf0\xf1\xf2\xf3");
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), entry);
    }

    #[test]
    fn times_beyond_the_width_are_rather_too_strict_than_lost() {
        let key = RevocationKey([0; 16]);
        let beyond = u64::from(u32::MAX) + 5;
        for entry in [Entry::new(key, beyond, Some(beyond)), Entry::new(key, u64::MAX, None)] {
            assert_eq!((entry.needed_until, entry.issued_at_or_before), (EVER, EVER));
        }
        let entry = Entry::new(key, 20, Some(10));
        assert_eq!((entry.needed_until, entry.issued_at_or_before), (20, 10));
    }

    #[test]
    fn claims_are_written_and_read_back() {
        for claims in [
            claims(),
            PageClaims {
                base: Some(8),
                ..claims()
            },
            PageClaims {
                sha256_of_pages: None,
                ..claims()
            },
        ] {
            let text = serde_json::to_string(&claims).unwrap();
            assert_eq!(serde_json::from_str::<PageClaims>(&text).unwrap(), claims, "{text}");
        }
    }

    #[test]
    fn claims_of_a_newer_broker_are_read_and_a_missing_one_is_not_guessed() {
        let whole = serde_json::to_value(claims()).unwrap();
        let mut newer = whole.clone();
        newer["later"] = serde_json::json!([1]);
        assert!(serde_json::from_value::<PageClaims>(newer).is_ok());
        for name in whole
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "sha256_of_pages")
        {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(name);
            assert!(serde_json::from_value::<PageClaims>(less).is_err(), "without {name}");
        }
    }

    #[test]
    fn hexadecimal_text_is_read_strictly() {
        let good = "00ff".repeat(8);
        assert!(serde_json::from_value::<Epoch>(good.clone().into()).is_ok());
        let wrong = [
            String::new(),
            "00".into(),
            good.replacen('0', "", 1),
            format!("{good}0"),
            format!("{good}00"),
            good.to_uppercase(),
            good.replacen('f', "g", 1),
            good.replacen("ff", "é", 1),
        ];
        for text in wrong {
            assert!(serde_json::from_value::<Epoch>(text.clone().into()).is_err(), "{text}");
        }
    }

    #[test]
    fn bodies_hold_all_entries_in_order_within_the_bound() {
        let entry = |at: usize| Entry::new(RevocationKey((at as u128).to_be_bytes()), 5, None);
        for (count, pages) in [(0, 1), (1, 1), (PAGE_ENTRIES, 1), (PAGE_ENTRIES + 1, 2)] {
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            let bodies = bodies(&entries);
            assert_eq!(bodies.len(), pages);
            assert!(bodies.iter().all(|body| body.len() <= BODY_LIMIT));
            let whole = bodies.concat();
            let (back, rest) = whole.as_chunks();
            assert!(back.iter().map(Entry::from_bytes).eq(entries) && rest.is_empty());
        }
    }

    #[test]
    fn a_page_is_split_at_its_first_line_feed() {
        let page = join_page("a.b.c", b"\n\nbody");
        assert_eq!(jws_length(&page), Some(5));
        assert_eq!(jws_length(b"a.b.c"), None);
        assert_eq!(jws_length(&join_page(&"x".repeat(JWS_LIMIT), b"")), Some(JWS_LIMIT));
        assert_eq!(jws_length(&join_page(&"x".repeat(JWS_LIMIT + 1), b"")), None);
    }

    #[test]
    fn a_body_has_the_same_hash_in_pieces() {
        // printf abc | sha256sum
        let whole = body_hash(b"abc");
        assert_eq!(
            whole.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut pieces = BodyHasher::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), whole);
        let (a, b) = (body_hash(b"a"), body_hash(b"b"));
        assert_eq!(hash_of_pages(&[a, b]), body_hash(&[a.0, b.0].concat()));
    }
}
