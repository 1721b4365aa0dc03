//! What a VM reads in what order, and what becomes of a series that it cannot read.

use std::collections::HashMap;

use super::super::board::{Board, Brought};
use super::super::{Names, digest};
use super::*;
use proptest::prelude::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(1_000_000_u64.saturating_add(seconds)).unwrap()
}

fn pages(series: u64, count: u32, newest: u64) -> Pages {
    Pages {
        series,
        count,
        newest,
        as_of: at(0),
        is_void: false,
    }
}

/// Reads all that is published, each page signed by this key.
fn read_all(reader: &mut Reader, published: Pages, signer: &str) -> Vec<Next> {
    let mut read = Vec::new();
    loop {
        let next = reader.next(published);
        if next == Next::Nothing {
            return read;
        }
        reader.took(next, published, Some(signer.into()));
        read.push(next);
    }
}

#[test]
fn the_pages_of_a_series_are_read_in_order_then_the_newest_and_another_series_from_its_first() {
    let mut reader = Reader::default();
    let all = [Next::Page(0), Next::Page(1), Next::Newest];
    assert_eq!(read_all(&mut reader, pages(1, 2, 1), "k"), all);
    assert_eq!(read_all(&mut reader, pages(1, 3, 1), "k"), [Next::Page(2)]);
    assert_eq!(read_all(&mut reader, pages(1, 3, 2), "k"), [Next::Newest]);
    assert_eq!(read_all(&mut reader, pages(2, 1, 2), "k"), [Next::Page(0)]);
    reader.restart();
    assert_eq!(
        read_all(&mut reader, pages(2, 1, 2), "k"),
        [Next::Page(0), Next::Newest]
    );
}

#[test]
fn a_series_that_cannot_be_read_twice_is_given_up_once_and_the_next_is_read_without_delay() {
    let mut reader = Reader::default();
    let series = pages(1, 2, 0);
    assert!(reader.may_read(Some(series), at(0)));
    reader.failed(series, at(0));
    assert!(reader.is_stuck() && !reader.gives_up(series));
    assert!(!reader.may_read(Some(series), at(AGAIN - 1)));
    assert!(reader.may_read(Some(series), at(AGAIN)));
    // It begins again, and gets further.
    reader.restart();
    assert_eq!(reader.next(series), Next::Page(0));
    reader.took(Next::Page(0), series, None);
    reader.failed(series, at(AGAIN));
    assert!(reader.gives_up(series));
    assert!(
        !reader.gives_up(Pages {
            is_void: true,
            ..series
        }),
        "once is enough"
    );
    assert!(!reader.may_read(Some(series), at(2 * AGAIN)));
    let next = pages(2, 1, 0);
    assert!(reader.may_read(Some(next), at(AGAIN)) && !reader.gives_up(next));
    reader.restart();
    assert_eq!(read_all(&mut reader, next, "k"), [Next::Page(0)]);
    // What was read to its end is forgiven.
    reader.failed(pages(2, 2, 0), at(100));
    assert!(reader.may_read(Some(pages(2, 2, 0)), at(100 + AGAIN)));
}

#[test]
fn who_cannot_read_any_series_gives_them_up_ever_more_seldom() {
    let mut reader = Reader::default();
    let (mut now, mut given_up) = (0, Vec::new());
    let mut published = pages(1, 1, 0);
    for _ in 0..40 {
        while !reader.may_read(Some(published), at(now)) {
            now += 1;
        }
        reader.restart();
        reader.failed(published, at(now));
        if reader.gives_up(published) {
            given_up.push(now);
            published.series += 1;
        }
    }
    let pauses: Vec<u64> = given_up.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(given_up[0], AGAIN);
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&(AGAIN << DOUBLINGS)));
    // Nor does a clock that was set back hold it up.
    assert!(reader.may_read(Some(published), at(0)));
}

#[test]
fn a_key_that_goes_is_missed_where_it_signed_a_page_of_the_series() {
    let mut reader = Reader::default();
    let lost = |reader: &Reader, known: &[&str]| reader.has_lost_a_signer(|kid| known.contains(&kid));
    assert_eq!(read_all(&mut reader, pages(1, 1, 0), "old").len(), 1);
    assert!(!lost(&reader, &["old", "new"]));
    reader.published(pages(1, 2, 0), "new".into());
    assert!(lost(&reader, &["new"]) && lost(&reader, &["old"]) && lost(&reader, &[]));
    // The next series is the new key's alone, whoever signs that nothing else was revoked.
    reader.published(pages(2, 1, 0), "new".into());
    reader.published(pages(2, 1, 1), "other".into());
    assert!(!lost(&reader, &["new"]));
    reader.skip_to(pages(2, 1, 1));
    assert!(!lost(&reader, &[]), "it is being fetched anew");
}

/// What the VMs of a process share, and what the board named so far: pages by series and place.
struct Shared {
    names: Names,
    board: Vec<u8>,
    entries: HashMap<String, Vec<u8>>,
    named: HashMap<(u64, u32), Vec<u8>>,
    /// Pages made so far: no two are the same.
    made: u64,
    now: u64,
}

impl Shared {
    fn board(&self) -> Board {
        Board::read(&self.board, 1)
    }
}

/// A VM that reads, and polls where it believes that it holds the lease.
#[derive(Default)]
struct Vm {
    reader: Reader,
    writing: Option<Writing>,
}

/// A fetched page on its way to the others. Between its steps, the other VMs do what they like.
struct Writing {
    on: Option<Pages>,
    brought: Brought,
    page: Vec<u8>,
}

impl Vm {
    /// Looks whether the place is free for a page that builds on all that this VM has read.
    fn begin_to_publish(&mut self, shared: &mut Shared, is_newest: bool) {
        let board = shared.board();
        let published = board.issuer(0).feed;
        if published.is_some_and(|pages| pages.is_void) {
            self.reader.skip_to(published.unwrap());
        }
        let read = self.reader.read();
        let place = |pages: Pages| (pages.series, pages.count);
        if place(read) != place(published.unwrap_or_default()) {
            return;
        }
        let brought = match published {
            Some(pages) if !pages.is_void && is_newest => Brought::Newest,
            Some(pages) if !pages.is_void => Brought::Page,
            Some(_) | None => Brought::Snapshot,
        };
        shared.made = shared.made.saturating_add(1);
        self.writing = Some(Writing {
            on: (read.count > 0).then_some(read),
            brought,
            page: shared.made.to_be_bytes().to_vec(),
        });
    }

    fn write(&self, shared: &mut Shared) {
        let Some(writing) = &self.writing else { return };
        let after = self.reader.read().after(writing.brought);
        let key = if writing.brought == Brought::Newest {
            shared.names.newest(0)
        } else {
            shared.names.page(0, after.series, after.count.saturating_sub(1))
        };
        shared.entries.insert(key, writing.page.clone());
    }

    fn announce(&mut self, shared: &mut Shared) {
        let Some(writing) = self.writing.take() else { return };
        let mut board = shared.board();
        if !board.end_feed(0, writing.on, at(shared.now), writing.brought, digest(&writing.page)) {
            self.reader.restart();
            return;
        }
        shared.board = board.write();
        let after = self.reader.read().after(writing.brought);
        self.reader.published(after, "k".into());
        if writing.brought != Brought::Newest {
            shared
                .named
                .insert((after.series, after.count.saturating_sub(1)), writing.page);
        }
    }

    /// Reads the next page, as far as it is the one that was named.
    fn read(&mut self, shared: &mut Shared) -> Result<(), TestCaseError> {
        let mut board = shared.board();
        let published = board.issuer(0).clone();
        let Some(pages) = published.feed.filter(|_| self.writing.is_none()) else {
            return Ok(());
        };
        if !self.reader.may_read(Some(pages), at(shared.now)) {
            return Ok(());
        }
        if self.reader.is_stuck() {
            self.reader.restart();
        }
        let next = self.reader.next(pages);
        let key = match next {
            Next::Nothing => return Ok(()),
            Next::Page(page) => shared.names.page(0, pages.series, page),
            Next::Newest => shared.names.newest(0),
        };
        let page = shared.entries.get(&key).cloned().unwrap_or_default();
        if published.names(next, digest(&page)) {
            if let Next::Page(at) = next {
                prop_assert_eq!(Some(&page), shared.named.get(&(pages.series, at)), "taken unnamed");
            }
            self.reader.took(next, pages, None);
        } else if next == Next::Newest {
            self.reader.took(next, pages, None);
        } else {
            self.reader.failed(pages, at(shared.now));
            if self.reader.gives_up(pages) && board.void_feed(0, pages.series) {
                shared.board = board.write();
            }
        }
        Ok(())
    }
}

proptest! {
    /// Three VMs that all believe that they poll: nobody takes a page that the board did not name, and once one polls alone
    /// everybody reads to the end, whatever stands in the places.
    #[test]
    fn pages_that_were_written_over_are_never_taken_and_hold_nobody_up(
        steps in proptest::collection::vec((0..3_usize, 0..7_u8), 1..200)
    ) {
        let mut shared = Shared {
            names: Names::new(b"{}"),
            board: Board::empty(1).write(),
            entries: HashMap::new(),
            named: HashMap::new(),
            made: 0,
            now: 0,
        };
        let mut vms = [Vm::default(), Vm::default(), Vm::default()];
        for (number, step) in steps {
            match step {
                0 => vms[number].begin_to_publish(&mut shared, false),
                1 => vms[number].begin_to_publish(&mut shared, true),
                2 => vms[number].write(&mut shared),
                3 => vms[number].announce(&mut shared),
                4 | 5 => vms[number].read(&mut shared)?,
                _ => shared.now = shared.now.saturating_add(1),
            }
        }
        vms.iter_mut().for_each(|vm| vm.writing = None);
        for _ in 0..8 {
            shared.now = shared.now.saturating_add(AGAIN << DOUBLINGS);
            for _ in 0..shared.board().issuer(0).feed.map_or(0, |pages| pages.count.saturating_add(2)) {
                for vm in &mut vms {
                    vm.read(&mut shared)?;
                }
            }
            if shared.board().issuer(0).feed.is_none_or(|pages| pages.is_void) {
                vms[0].begin_to_publish(&mut shared, false);
                vms[0].write(&mut shared);
                vms[0].announce(&mut shared);
            }
        }
        let published = shared.board().issuer(0).feed.unwrap();
        for vm in &vms {
            prop_assert_eq!((vm.reader.read().series, vm.reader.read().count), (published.series, published.count));
        }
    }
}
