//! Random histories of a broker and of what reaches a filter, compared with a reader that is as plain as can be.
//!
//! Beside the plain reader there is the truth: what the broker has committed up to the version that the filter says it has
//! read must be heeded, whatever was lost, repeated, mixed up or forged on the way.

use std::collections::HashMap;

use kerbridge_gate::feed::{Feed, UnverifiedPage};
use kerbridge_gate::revocation::RevocationKeys;
use kerbridge_wire::feed::{Entry, Hex, PageClaims, body_hash};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::issuer::{Given, Issuer, NOW, SKEW, at, claims, entry, feed, token_of};

const SUBJECTS: u64 = 12;
const LEEWAY: u64 = 300;

/// One revocation, in plain numbers.
#[derive(Clone, Copy, Debug)]
struct Revocation {
    subject: u64,
    until: u64,
    issued: Option<u64>,
}

/// A page, in plain words, and as it is sent.
#[derive(Clone, Debug)]
struct Page {
    claims: PageClaims,
    revocations: Vec<Revocation>,
    is_genuine: bool,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Action {
    /// So many subjects are revoked, in one commit.
    Revoke(Vec<(u64, u64, Option<u64>)>),
    Wait(u64),
    /// The broker says all, in pages of so many, of which these are lost.
    Snapshot {
        each: usize,
        lost: Vec<Index>,
    },
    /// It says what came after some version.
    Delta {
        after: Index,
        each: usize,
        lost: Vec<Index>,
    },
    /// It says what came after the version that the filter has.
    Next {
        each: usize,
    },
    /// Pages of before come again.
    Replay(Vec<Index>),
    /// A page of before comes with a bit flipped, or signed by somebody else.
    Forge {
        page: Index,
        flip: Option<Index>,
    },
    /// The store is lost; the new one knows what the old one knew up to some version.
    Lose(Index),
}

fn action() -> impl Strategy<Value = Action> {
    let lost = || proptest::collection::vec(any::<Index>(), 0..2);
    let revocation = (0..SUBJECTS, 0..3000_u64, proptest::option::of(0..2000_u64));
    prop_oneof![
        5 => proptest::collection::vec(revocation, 1..5).prop_map(Action::Revoke),
        3 => (0..500_u64).prop_map(Action::Wait),
        2 => (1..6_usize, lost()).prop_map(|(each, lost)| Action::Snapshot { each, lost }),
        2 => (any::<Index>(), 1..6_usize, lost()).prop_map(|(after, each, lost)| Action::Delta { after, each, lost }),
        4 => (1..6_usize).prop_map(|each| Action::Next { each }),
        2 => proptest::collection::vec(any::<Index>(), 1..4).prop_map(Action::Replay),
        2 => (any::<Index>(), proptest::option::of(any::<Index>())).prop_map(|(page, flip)| Action::Forge { page, flip }),
        1 => any::<Index>().prop_map(Action::Lose),
    ]
}

/// What a broker has committed: for each version, what came with it.
#[derive(Clone, Default)]
struct Store(Vec<Vec<Revocation>>);

impl Store {
    fn version(&self) -> u64 {
        self.0.len() as u64
    }

    fn after(&self, version: u64) -> Vec<Revocation> {
        self.0
            .iter()
            .skip(version.try_into().unwrap())
            .flatten()
            .copied()
            .collect()
    }
}

/// The plain reader: keeps whole pages until it has them all, then puts them into a map.
#[derive(Default)]
struct Reader {
    held: Option<Held>,
    /// Each with when it came: what had ended by then is not heeded, whenever the last one comes.
    loading: Option<Vec<(Page, u64)>>,
}

#[derive(Clone)]
struct Held {
    epoch: Hex<16>,
    version: u64,
    issued: u64,
    as_of: u64,
    map: HashMap<u64, (u64, Option<u64>)>,
}

impl Held {
    fn insert(&mut self, revocation: Revocation, now: u64) {
        let Revocation { subject, until, issued } = revocation;
        if now > until + LEEWAY {
            return;
        }
        let known = self.map.entry(subject).or_insert((until, issued));
        if now > known.0 + LEEWAY {
            *known = (until, issued);
        }
        known.0 = known.0.max(until);
        known.1 = known.1.zip(issued).map(|(old, new)| old.max(new));
    }
}

impl Reader {
    /// Whether the page changed anything that can be seen, or `None` if it is refused.
    fn take(&mut self, page: &Page, now: u64) -> Option<bool> {
        let claims = &page.claims;
        if !page.is_genuine || claims.iat > now + SKEW {
            return None;
        }
        let as_of = claims.iat.min(now);
        let same = self.held.as_mut().filter(|held| held.epoch == claims.epoch);
        if let Some(held) = same.filter(|held| claims.version <= held.version) {
            let is_same = claims.version == held.version;
            if is_same {
                held.issued = held.issued.max(claims.iat);
                held.as_of = held.as_of.max(as_of);
            }
            return is_same.then_some(false);
        }
        let belongs = |other: &Page| {
            let alike = |claims: &PageClaims| PageClaims {
                page: 0,
                iat: 0,
                sha256: body_hash(b""),
                ..claims.clone()
            };
            alike(&other.claims) == alike(claims)
        };
        let mut pages = match self.loading.take() {
            Some(pages) if belongs(&pages[0].0) => {
                let next = pages.len() as u32;
                if claims.page != next {
                    self.loading = Some(pages);
                    return (claims.page < next).then_some(false);
                }
                pages
            }
            loading => {
                let of_past = |pages: &Vec<(Page, u64)>| {
                    let begun = &pages[0].0.claims;
                    begun.epoch == claims.epoch && claims.version < begun.version
                };
                let is_possible = match (&self.held, claims.base) {
                    (Some(held), Some(base)) => held.epoch == claims.epoch && base <= held.version,
                    (None, Some(_)) => false,
                    (Some(held), None) => held.epoch == claims.epoch || claims.iat > held.issued,
                    (None, None) => true,
                };
                if loading.as_ref().is_some_and(of_past) || !is_possible || claims.page != 0 {
                    self.loading = loading;
                    return None;
                }
                Vec::new()
            }
        };
        pages.push((page.clone(), now));
        if (pages.len() as u32) < claims.pages {
            self.loading = Some(pages);
            return Some(false);
        }
        let issued = pages.iter().map(|(page, _)| page.claims.iat).min().unwrap();
        // Pages arrive while time passes, but each was issued before it arrived, or within the skew.
        let mut next = Held {
            epoch: claims.epoch,
            version: claims.version,
            issued,
            as_of: issued.min(now),
            map: HashMap::new(),
        };
        match &self.held {
            Some(held) if held.epoch == claims.epoch => {
                next.issued = next.issued.max(held.issued);
                next.as_of = next.as_of.max(held.as_of);
                if claims.base.is_some() {
                    next.map.clone_from(&held.map);
                }
            }
            Some(held) if issued <= held.issued => return None,
            Some(_) | None => {}
        }
        for (page, came) in &pages {
            for revocation in &page.revocations {
                next.insert(*revocation, *came);
            }
        }
        self.held = Some(next);
        Some(true)
    }

    fn revokes(&self, subject: u64, issued: u64, now: u64) -> bool {
        self.held
            .as_ref()
            .and_then(|held| held.map.get(&subject))
            .is_some_and(|(until, upto)| now <= until + LEEWAY && upto.is_none_or(|upto| issued <= upto))
    }
}

struct World {
    issuer: Issuer,
    stranger: Issuer,
    now: u64,
    epoch: u8,
    /// By epoch.
    stores: Vec<Store>,
    sent: Vec<Page>,
    feed: Feed,
    reader: Reader,
    tokens: Vec<RevocationKeys>,
}

impl World {
    fn new() -> Self {
        Self {
            issuer: Issuer::new(),
            stranger: Issuer::new(),
            now: NOW,
            epoch: 0,
            stores: vec![Store::default()],
            sent: Vec::new(),
            feed: feed(),
            reader: Reader::default(),
            tokens: (0..SUBJECTS).map(token_of).collect(),
        }
    }

    fn store(&mut self) -> &mut Store {
        &mut self.stores[usize::from(self.epoch)]
    }

    fn pages(&mut self, base: Option<u64>, each: usize) -> Vec<Page> {
        let revocations = self.store().after(base.unwrap_or(0));
        let version = self.store().version();
        let head = PageClaims {
            epoch: Hex([self.epoch; 16]),
            version,
            base,
            iat: self.now,
            ..claims()
        };
        let entries: Vec<Entry> = revocations
            .iter()
            .map(|one| entry(one.subject, one.until, one.issued))
            .collect();
        let bytes = self.issuer.pages(&head, &entries, each);
        let count = bytes.len() as u32;
        let page = |(number, bytes): (usize, Vec<u8>)| {
            let revocations: Vec<Revocation> = revocations.iter().skip(number * each).take(each).copied().collect();
            Page {
                claims: PageClaims {
                    page: number as u32,
                    pages: count,
                    entries: entries.len() as u32,
                    // Of all there is to say, and how it is cut: as good as the hash.
                    sha256_of_pages: Some(body_hash(format!("{each} {entries:?}").as_bytes())),
                    ..head.clone()
                },
                revocations,
                is_genuine: true,
                bytes,
            }
        };
        bytes.into_iter().enumerate().map(page).collect()
    }

    fn send(&mut self, pages: &[Page], lost: &[Index]) -> Result<(), TestCaseError> {
        let lost: Vec<usize> = lost.iter().map(|lost| lost.index(pages.len())).collect();
        for (number, page) in pages.iter().enumerate() {
            self.sent.push(page.clone());
            if !lost.contains(&number) {
                self.deliver(page)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, page: &Page) -> Result<(), TestCaseError> {
        let before = self.feed.position();
        let given = self.issuer.give(&mut self.feed, &page.bytes, self.now);
        let expected = self.reader.take(page, self.now);
        prop_assert_eq!(
            given.ok().map(|given| given == Given::Whole),
            expected,
            "{:?}: {:?}",
            page,
            given
        );
        if let (Some(before), Some(after)) = (before, self.feed.position()) {
            prop_assert!(before.epoch != after.epoch || before.version <= after.version);
        }
        self.compare()
    }

    fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Revoke(several) => {
                let now = self.now;
                let plain = |(subject, until, issued): (u64, u64, Option<u64>)| Revocation {
                    subject,
                    until: now + until,
                    issued: issued.map(|issued| now + issued - 1500),
                };
                self.store().0.push(several.into_iter().map(plain).collect());
            }
            Action::Wait(seconds) => self.now += seconds,
            Action::Snapshot { each, lost } => {
                let pages = self.pages(None, each);
                self.send(&pages, &lost)?;
            }
            Action::Delta { after, each, lost } => {
                let version = self.store().version();
                let base = after.index(usize::try_from(version).unwrap() + 1) as u64;
                let pages = self.pages(Some(base), each);
                self.send(&pages, &lost)?;
            }
            Action::Next { each } => {
                let base = self
                    .feed
                    .position()
                    .filter(|position| position.epoch == Hex([self.epoch; 16]));
                let pages = self.pages(base.map(|position| position.version), each);
                self.send(&pages, &[])?;
            }
            Action::Replay(pages) if !self.sent.is_empty() => {
                for page in pages {
                    let page = self.sent[page.index(self.sent.len())].clone();
                    self.deliver(&page)?;
                }
            }
            Action::Forge { page, flip } if !self.sent.is_empty() => {
                let mut page = self.sent[page.index(self.sent.len())].clone();
                page.is_genuine = false;
                match flip {
                    Some(flip) => {
                        // In what is signed: a wrong body is found when it is read, and ends what is being read.
                        let place = flip.index(page.bytes.iter().position(|byte| *byte == b'\n').unwrap());
                        page.bytes[place] = if page.bytes[place] == b'A' { b'B' } else { b'A' };
                    }
                    None => {
                        let body = page.bytes.split(|byte| *byte == b'\n').next().unwrap().len() + 1;
                        let body = page.bytes[body..].to_vec();
                        let claims = PageClaims {
                            sha256: body_hash(&body),
                            version: 1 << 40,
                            iat: self.now,
                            ..page.claims.clone()
                        };
                        page.bytes = self.stranger.page_as_said(&claims, &body);
                        prop_assert!(UnverifiedPage::read(page.bytes.clone(), &self.issuer.keys).is_ok());
                    }
                }
                self.deliver(&page)?;
            }
            Action::Replay(_) | Action::Forge { .. } => {}
            Action::Lose(upto) if self.epoch < 200 => {
                let mut store = self.store().clone();
                store.0.truncate(upto.index(store.0.len() + 1));
                self.stores.push(store);
                self.epoch += 1;
            }
            Action::Lose(_) => {}
        }
        // Idle steps sweep; nobody may notice.
        for _ in 0..3 {
            if self.feed.wants().is_none() {
                prop_assert!(self.feed.step(at(self.now)).is_ok());
            }
        }
        self.compare()
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let known = self.feed.known();
        let held = self.reader.held.as_ref();
        prop_assert_eq!(
            self.feed.position().map(|p| (p.epoch, p.version)),
            held.map(|h| (h.epoch, h.version))
        );
        let as_of = known.as_ref().map(|known| known.freshness.as_of());
        prop_assert_eq!(as_of, held.map(|held| at(held.as_of)));
        let Some(known) = known else { return Ok(()) };
        let revokes = |subject: u64, issued| {
            let token = &self.tokens[usize::try_from(subject).unwrap()];
            known.revocations.revokes(token, at(issued), at(self.now))
        };
        for subject in 0..SUBJECTS {
            for issued in [0, self.now - 1500, self.now - 100, self.now, self.now + 400] {
                prop_assert_eq!(revokes(subject, issued), self.reader.revokes(subject, issued, self.now));
            }
        }
        // The truth.
        let position = self.feed.position().unwrap();
        let store = &self.stores[usize::from(position.epoch.0[0])];
        let read = usize::try_from(position.version).unwrap();
        for one in store.0.iter().take(read).flatten().filter(|one| one.until >= self.now) {
            prop_assert!(revokes(one.subject, one.issued.unwrap_or(self.now)), "{:?}", one);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_reaches_it_the_feed_agrees_with_a_plain_reader_and_misses_nothing(
        actions in proptest::collection::vec(action(), 1..60)
    ) {
        let mut world = World::new();
        for action in actions {
            world.act(action)?;
        }
    }
}
