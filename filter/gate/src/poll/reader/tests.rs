//! What a VM reads in what order, and what becomes of a series that it cannot read.

use super::*;

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
