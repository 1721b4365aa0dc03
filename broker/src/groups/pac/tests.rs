use proptest::prelude::*;

use super::*;

/// From a ticket of a Samba 4.17 domain: alice, in two groups, one of them in a third.
const SAMBA: &[u8] = include_bytes!("samba.ndr");
/// From the same domain: a user in 500 groups.
const SAMBA_500_GROUPS: &[u8] = include_bytes!("samba-500-groups.ndr");
const DOMAIN: &str = "S-1-5-21-3794170874-3701114284-2413206106";
/// Mandatory, enabled by default, enabled.
const ON: u32 = 7;

fn sid(text: &str) -> Sid {
    text.parse().unwrap()
}

/// Logon information as a Windows domain writes it.
#[derive(Clone)]
pub(in crate::groups) struct Written {
    pub(in crate::groups) user: u32,
    pub(in crate::groups) domain: Option<Sid>,
    pub(in crate::groups) groups: Vec<(u32, u32)>,
    pub(in crate::groups) flags: u32,
    pub(in crate::groups) extra: Vec<(Sid, u32)>,
    pub(in crate::groups) resource: Option<(Sid, Vec<(u32, u32)>)>,
    pub(in crate::groups) names: [&'static str; 6],
}

impl Default for Written {
    fn default() -> Self {
        Self {
            user: 1103,
            domain: Some(sid("S-1-5-21-1-2-3")),
            groups: vec![(513, ON), (1200, ON)],
            flags: EXTRA_SIDS | RESOURCE_GROUPS,
            extra: vec![(sid("S-1-5-21-7-8-9-1500"), ON), (sid("S-1-18-1"), ON)],
            resource: Some((sid("S-1-5-21-1-2-3"), vec![(1300, ON | 0x2000_0000)])),
            names: ["alice", "Alice Adams", "", r"\\files\profiles", "odd", "H:"],
        }
    }
}

impl Written {
    pub(in crate::groups) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut next = 0x2_0000_u32;
        let mut pointer = move |there: bool| {
            next = next.wrapping_add(4);
            if there { next } else { 0 }
        };
        let number = |body: &mut Vec<u8>, number: u32| body.extend(number.to_le_bytes());
        let count = |length: usize| u32::try_from(length).unwrap();
        number(&mut body, pointer(true));
        body.extend([0xff; TIMES]);
        for name in self.names {
            let length = u16::try_from(name.encode_utf16().count().saturating_mul(2)).unwrap();
            body.extend([length.to_le_bytes(), length.to_le_bytes()].concat());
            number(&mut body, pointer(!name.is_empty()));
        }
        body.extend([0; COUNTS]);
        for word in [
            self.user,
            513,
            count(self.groups.len()),
            pointer(!self.groups.is_empty()),
            self.flags,
        ] {
            number(&mut body, word);
        }
        body.extend([0; SESSION_KEY]);
        for _ in 0..2 {
            number(&mut body, 0x0004_0004);
            number(&mut body, pointer(true));
        }
        number(&mut body, pointer(self.domain.is_some()));
        body.extend([0; BETWEEN]);
        let (resource_domain, resource) = self.resource.clone().unzip();
        let resource = resource.unwrap_or_default();
        for word in [count(self.extra.len()), pointer(!self.extra.is_empty())] {
            number(&mut body, word);
        }
        for word in [
            pointer(resource_domain.is_some()),
            count(resource.len()),
            pointer(!resource.is_empty()),
        ] {
            number(&mut body, word);
        }
        for name in self.names.into_iter().filter(|name| !name.is_empty()) {
            text(&mut body, name);
        }
        memberships(&mut body, &self.groups);
        text(&mut body, "DC");
        text(&mut body, "LAB");
        self.domain.iter().for_each(|domain| identifier(&mut body, domain));
        if !self.extra.is_empty() {
            number(&mut body, count(self.extra.len()));
            for (_, attributes) in &self.extra {
                number(&mut body, pointer(true));
                number(&mut body, *attributes);
            }
            self.extra.iter().for_each(|(sid, _)| identifier(&mut body, sid));
        }
        resource_domain.iter().for_each(|domain| identifier(&mut body, domain));
        memberships(&mut body, &resource);
        let length = count(body.len()).to_le_bytes();
        [&[1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc][..], &length, &[0; 4], &body].concat()
    }

    fn groups(&self) -> Result<Vec<String>, Malformed> {
        LogonGroups::read(&self.bytes()).map(|read| read.groups.iter().map(ToString::to_string).collect())
    }
}

fn align(body: &mut Vec<u8>) {
    while !body.len().is_multiple_of(4) {
        body.push(0);
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    align(body);
    let units: Vec<u16> = text.encode_utf16().collect();
    let count = u32::try_from(units.len()).unwrap();
    for word in [count, 0, count] {
        body.extend(word.to_le_bytes());
    }
    body.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

fn memberships(body: &mut Vec<u8>, memberships: &[(u32, u32)]) {
    if memberships.is_empty() {
        return;
    }
    align(body);
    body.extend(u32::try_from(memberships.len()).unwrap().to_le_bytes());
    for (relative, attributes) in memberships {
        body.extend([relative.to_le_bytes(), attributes.to_le_bytes()].concat());
    }
}

fn identifier(body: &mut Vec<u8>, sid: &Sid) {
    align(body);
    let packed = sid.to_bytes();
    body.extend(u32::from(packed[1]).to_le_bytes());
    body.extend(packed);
}

/// What holds of any bytes: they are refused, or what is read of them is bounded by their length.
fn any_bytes(bytes: &[u8]) {
    if let Ok(LogonGroups { groups, .. }) = LogonGroups::read(bytes) {
        assert!(
            groups.len().saturating_mul(8) < bytes.len(),
            "{} groups of {} bytes",
            groups.len(),
            bytes.len()
        );
    }
}

#[test]
fn the_groups_of_a_samba_ticket_are_read_nested_ones_too() {
    let read = LogonGroups::read(SAMBA).unwrap();
    assert_eq!(read.account, "alice");
    assert_eq!(read.user, Some(sid(&format!("{DOMAIN}-1102"))));
    let expected: Vec<Sid> = [513, 1108, 1110, 1111]
        .map(|relative| sid(&format!("{DOMAIN}-{relative}")))
        .into_iter()
        .chain([sid("S-1-18-1")])
        .collect();
    assert_eq!(read.groups, expected);
}

#[test]
fn an_account_without_a_name_has_none_and_one_that_is_no_text_is_refused() {
    let named = |names| {
        Written {
            names,
            ..Written::default()
        }
        .bytes()
    };
    let nameless = named(["", "Alice Adams", "", "", "", ""]);
    assert_eq!(LogonGroups::read(&nameless).unwrap().account, "");
    let mut broken = named(["\u{1f600}", "", "", "", "", ""]);
    let at = broken.windows(2).position(|unit| unit == [0x3d, 0xd8]).unwrap();
    broken[at + 1] = 0;
    assert_eq!(LogonGroups::read(&broken), Err(Malformed));
}

#[test]
fn five_hundred_groups_are_read() {
    let read = LogonGroups::read(SAMBA_500_GROUPS).unwrap();
    // Domain Users, and who says that the user was authenticated.
    assert_eq!(read.groups.len(), 502);
}

#[test]
fn groups_of_the_domain_of_others_and_of_the_resource_are_one_list() {
    assert_eq!(
        Written::default().groups().unwrap(),
        [
            "S-1-5-21-1-2-3-513",
            "S-1-5-21-1-2-3-1200",
            "S-1-5-21-7-8-9-1500",
            "S-1-18-1",
            "S-1-5-21-1-2-3-1300"
        ]
    );
    let alone = Written {
        groups: Vec::new(),
        extra: Vec::new(),
        resource: None,
        names: [""; 6],
        ..Written::default()
    };
    assert_eq!(alone.groups(), Ok(Vec::new()));
}

#[test]
fn a_group_that_is_not_in_force_is_none() {
    let written = Written {
        groups: vec![(1, 3), (2, 0), (3, ON | DENY_ONLY), (4, ENABLED)],
        extra: vec![
            (sid("S-1-5-21-7-8-9-1"), 3),
            (sid("S-1-5-21-7-8-9-2"), DENY_ONLY | ENABLED),
        ],
        resource: Some((sid("S-1-5-21-1-2-3"), vec![(5, 0x2000_0003)])),
        ..Written::default()
    };
    assert_eq!(written.groups().unwrap(), ["S-1-5-21-1-2-3-4"]);
}

#[test]
fn lists_that_the_flags_do_not_announce_do_not_count() {
    let with = |flags| Written {
        flags,
        ..Written::default()
    };
    assert_eq!(with(0).groups().unwrap(), ["S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-1200"]);
    let resource = with(RESOURCE_GROUPS).groups().unwrap();
    assert_eq!(resource.last().unwrap(), "S-1-5-21-1-2-3-1300");
    assert_eq!(resource.len(), 3);
}

#[test]
fn an_account_without_a_number_of_its_own_is_nobody() {
    let written = Written {
        user: 0,
        ..Written::default()
    };
    assert_eq!(LogonGroups::read(&written.bytes()).unwrap().user, None);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let good = Written::default();
    let refused = |written: &Written| assert_eq!(written.groups(), Err(Malformed));
    refused(&Written {
        domain: None,
        ..good.clone()
    });
    let most = usize::try_from(MOST_GROUPS).unwrap();
    let many = |count| vec![(1, ON); count];
    assert_eq!(
        Written {
            groups: many(most),
            ..good.clone()
        }
        .groups()
        .map(|groups| groups.len()),
        Ok(most + 3)
    );
    refused(&Written {
        groups: many(most + 1),
        ..good.clone()
    });
    let full = Sid::new([0, 0, 0, 0, 0, 5], vec![0; 15]).unwrap();
    refused(&Written {
        resource: Some((full, vec![(1, ON)])),
        ..good.clone()
    });
    let bytes = good.bytes();
    let changed = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        LogonGroups::read(&bytes).map(drop)
    };
    assert_eq!(changed(0, 1), Ok(()));
    // Another version, big-endian numbers, a longer header, and a length that is not there.
    for (at, to) in [(0, 2), (1, 0), (2, 16), (10, 1)] {
        assert_eq!(changed(at, to), Err(Malformed), "byte {at}");
    }
    // The count of groups in the structure, and that before the array.
    let group_count = 16 + 4 + TIMES + 48 + COUNTS + 8;
    assert_eq!(bytes[group_count], 2);
    assert_eq!(changed(group_count, 3), Err(Malformed));
    assert_eq!(changed(group_count + 3, 1), Err(Malformed));
}

#[test]
fn bytes_that_are_cut_off_are_refused() {
    let good = Written::default().bytes();
    for bytes in [SAMBA, SAMBA_500_GROUPS, &good] {
        for end in 0..bytes.len() {
            assert_eq!(
                LogonGroups::read(&bytes[..end]),
                Err(Malformed),
                "{end} of {}",
                bytes.len()
            );
            // Also where the announced length is what is left.
            let mut shorter = bytes[..end].to_vec();
            if let Some(length) = shorter.get_mut(8..12) {
                length.copy_from_slice(&u32::try_from(end.saturating_sub(16)).unwrap().to_le_bytes());
            }
            any_bytes(&shorter);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        any_bytes(&bytes);
    }

    #[test]
    fn good_bytes_with_some_replaced_are_refused_or_read_within_bounds(
        seed in prop::sample::select(vec![SAMBA.to_vec(), Written::default().bytes()]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = seed;
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        any_bytes(&bytes);
    }
}
