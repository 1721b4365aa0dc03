use proptest::prelude::*;

use super::*;

/// One entry without the 32-bit key version.
fn entry(realm: &[u8], components: &[&[u8]], kvno: u8, enctype: u16) -> Vec<u8> {
    let counted = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let mut entry = u16::try_from(components.len()).unwrap().to_be_bytes().to_vec();
    entry.extend(counted(realm));
    components.iter().for_each(|component| entry.extend(counted(component)));
    entry.extend([0, 0, 0, 1, 0, 0, 0, 0, kvno]);
    entry.extend(enctype.to_be_bytes());
    entry.extend(counted(&[0x5e; 32]));
    entry
}

fn record(entry: &[u8]) -> Vec<u8> {
    [&i32::try_from(entry.len()).unwrap().to_be_bytes(), entry].concat()
}

fn keytab(records: &[Vec<u8>]) -> Vec<u8> {
    [vec![5, 2], records.concat()].concat()
}

#[test]
fn a_hole_is_passed_over_and_a_long_kvno_read() {
    let http = entry(b"LAB.TEST", &[b"HTTP", b"localhost"], 1, 18);
    let hole = [&(-8_i32).to_be_bytes()[..], &[0xff; 8]].concat();
    let long = [http.clone(), 257_u32.to_be_bytes().to_vec()].concat();
    let filled = [http.clone(), vec![0; 4]].concat();
    let bytes = keytab(&[record(&http), hole, record(&long), record(&filled)]);
    let keytab = Keytab::parse(&bytes).unwrap();
    assert_eq!(
        keytab.entries().iter().map(KeytabEntry::kvno).collect::<Vec<_>>(),
        [1, 257, 1]
    );
    assert_eq!(
        keytab.principals(),
        [Principal::parse("HTTP/localhost@LAB.TEST").unwrap()]
    );
    assert_eq!(keytab.entries()[0].enctype().to_string(), "aes256-cts-hmac-sha1-96");
}

#[test]
fn a_component_with_separators_is_escaped_and_stays_one() {
    let bytes = keytab(&[record(&entry(b"LAB.TEST", &[br"a/b@c\d"], 1, 23))]);
    let keytab = Keytab::parse(&bytes).unwrap();
    assert_eq!(keytab.entries()[0].principal().as_str(), r"a\/b\@c\\d@LAB.TEST");
    assert!(keytab.entries()[0].enctype().is_weak());
}

#[test]
fn what_is_no_keytab_is_refused() {
    let good = keytab(&[record(&entry(b"LAB.TEST", &[b"HTTP", b"localhost"], 1, 18))]);
    let lying = keytab(&[record(&[0xff, 0xff, 0, 1, b'R'])]);
    let control = keytab(&[record(&entry(b"LAB.TEST", &[b"a\x1b"], 1, 18))]);
    let bytes = keytab(&[record(&entry(b"LAB.TEST", &[b"\xff"], 1, 18))]);
    assert!(matches!(Keytab::parse(b""), Err(KeytabError::WrongFormat)));
    assert!(matches!(Keytab::parse(&[5, 1, 0]), Err(KeytabError::WrongFormat)));
    assert!(matches!(Keytab::parse(b"-----BEGIN"), Err(KeytabError::WrongFormat)));
    assert!(matches!(Keytab::parse(&[5, 2]), Err(KeytabError::Empty)));
    assert!(matches!(
        Keytab::parse(&good[..good.len() - 1]),
        Err(KeytabError::CutOff { offset: 2 })
    ));
    assert!(matches!(Keytab::parse(&lying), Err(KeytabError::CutOff { offset: 2 })));
    assert!(matches!(
        Keytab::parse(&control),
        Err(KeytabError::Principal(PrincipalError::ControlCharacter))
    ));
    assert!(matches!(
        Keytab::parse(&bytes),
        Err(KeytabError::Principal(PrincipalError::NotUtf8))
    ));
}

#[test]
fn a_keytab_that_is_too_large_or_absent_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, vec![5; Keytab::LARGEST + 1]).unwrap();
    assert!(matches!(Keytab::open(&large), Err(KeytabError::TooLarge)));
    assert!(matches!(
        Keytab::open(&folder.path().join("absent")),
        Err(KeytabError::Unreadable(_))
    ));
}

#[test]
fn no_key_byte_is_shown() {
    let bytes = keytab(&[record(&entry(b"LAB.TEST", &[b"HTTP", b"localhost"], 1, 18))]);
    let shown = format!("{:?}", Keytab::parse(&bytes).unwrap());
    assert!(
        !shown.contains("94") && !shown.contains("5e") && !shown.contains("^^"),
        "{shown}"
    );
}

#[test]
fn an_encryption_type_is_read_by_the_name_that_it_shows() {
    for enctype in Enctype::ALL {
        assert_eq!(enctype.to_string().parse(), Ok(enctype));
    }
    for name in [
        "aes",
        "rc4-hmac",
        "AES256-CTS-HMAC-SHA1-96",
        "enctype-18",
        "des-cbc-crc",
        "",
    ] {
        assert_eq!(name.parse::<Enctype>(), Err(UnknownEnctype), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_list(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for bytes in [keytab(std::slice::from_ref(&bytes)), keytab(&[record(&bytes)])] {
            prop_assert!(Keytab::parse(&bytes).map_or(true, |keytab| !keytab.entries().is_empty()));
        }
    }
}
