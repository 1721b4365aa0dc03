//! The board as all VMs write it, and what each of them decides by it.

use super::board::{FORMAT, RENEW_AT};
use super::*;
use crate::demand::BUDGET;
use proptest::prelude::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(1_000_000_u64.saturating_add(seconds)).unwrap()
}

/// Two issuers: keys every 2 s and a feed every 4 s; keys every 300 s.
fn config() -> Config {
    let text = r#"{
        "issuers": [
            {"issuer": "https://a", "jwks": {"cluster": "a", "poll": "2s"}, "feed": {"cluster": "a", "poll": "4s"}},
            {"issuer": "https://b", "jwks": {"cluster": "b", "poll": "5m", "max_staleness": "1h"},
                "audiences": {"api": []}}
        ],
        "broker": {"issuer": "https://a"},
        "routes": [{"path_prefix": "/", "access": "required", "accept": ["bearer"], "audience": "api"}]
    }"#;
    Config::parse(text.as_bytes()).unwrap()
}

const PAGE: Digest = [7; 16];

fn board_with(lease: Option<(u64, u64)>) -> Board {
    Board {
        lease: lease.map(|(holder, until)| (Holder(holder), at(until))),
        ..Board::empty(2)
    }
}

#[test]
fn names_of_another_configuration_are_others() {
    let (one, other) = (Names::new(b"{}"), Names::new(b"{ }"));
    assert_ne!(one.board(), other.board());
    assert_eq!(one, Names::new(b"{}"));
    let all = [
        one.board(),
        one.keys(0),
        one.keys(1),
        one.newest(0),
        one.newest(1),
        one.page(0, 0, 0),
        one.page(0, 0, 1),
        one.page(0, 1, 0),
        one.page(1, 0, 0),
    ];
    for (place, name) in all.iter().enumerate() {
        assert!(!all[..place].contains(name), "{name}");
    }
}

#[test]
fn a_free_or_ended_lease_is_taken_and_anothers_is_left() {
    for (lease, expected) in [
        (None, Some(true)),
        (Some((1, LEASE)), Some(false)),
        (Some((1, RENEW_AT)), Some(true)),
        (Some((1, 0)), Some(true)),
        (Some((2, LEASE)), None),
        (Some((2, 1)), None),
        (Some((2, 0)), Some(true)),
        // Written before the clock was set back by an hour.
        (Some((2, 3600)), Some(true)),
    ] {
        let mut board = board_with(lease);
        assert_eq!(board.contend(Holder(1), at(0)), expected, "{lease:?}");
        let holder = if expected.is_some() { Holder(1) } else { Holder(2) };
        assert_eq!(board.lease.map(|(holder, _)| holder), Some(holder), "{lease:?}");
    }
}

#[test]
fn the_holder_fetches_what_is_due_and_nobody_else_does() {
    let config = config();
    let mut board = Board::empty(2);
    let mut poller = Poller::new(2, Holder(1));
    let all = [Fetch::Keys(0), Fetch::Feed(0), Fetch::Keys(1)];
    let plan = poller.plan(at(0), &config, &mut board, &[]);
    assert_eq!((plan.write, plan.fetch.as_slice()), (true, all.as_slice()));
    for fetch in all {
        poller.began(fetch, at(0));
    }
    assert_eq!(
        poller.plan(at(1), &config, &mut board, &[]).fetch,
        [],
        "they are under way"
    );
    assert_eq!(
        Poller::new(2, Holder(2)).plan(at(1), &config, &mut board, &[]),
        Plan::default()
    );

    // What failed is asked for again after a second, what came after its time.
    for fetch in all {
        poller.ended(fetch);
    }
    board.end_keys(1, at(0), Some(digest(b"keys")), false);
    assert_eq!(
        poller.plan(at(1), &config, &mut board, &[]).fetch,
        [Fetch::Keys(0), Fetch::Feed(0)]
    );
    board.end_keys(0, at(0), Some(digest(b"keys")), false);
    assert!(board.end_feed(0, None, at(0), Brought::Snapshot, PAGE));
    assert_eq!(poller.plan(at(1), &config, &mut board, &[]).fetch, []);
    assert_eq!(poller.plan(at(2), &config, &mut board, &[]).fetch, [Fetch::Keys(0)]);
    assert_eq!(
        poller.plan(at(4), &config, &mut board, &[]).fetch,
        [Fetch::Keys(0), Fetch::Feed(0)]
    );
    assert_eq!(poller.plan(at(300), &config, &mut board, &[]).fetch, all);
    // A VM that takes over goes by what is published.
    let mut heir = board.clone();
    heir.lease = None;
    assert_eq!(
        Poller::new(2, Holder(2)).plan(at(3), &config, &mut heir, &[]).fetch,
        [Fetch::Keys(0)]
    );
}

#[test]
fn unknown_keys_are_fetched_by_whoever_needs_them_once_in_the_budgets_time() {
    let config = config();
    let mut board = board_with(Some((9, LEASE)));
    let poller = Poller::new(2, Holder(1));
    let plan = poller.plan(at(0), &config, &mut board, &[1]);
    assert_eq!(
        plan,
        Plan {
            polls: false,
            write: true,
            fetch: vec![Fetch::UnknownKeys(1)]
        }
    );
    assert_eq!(
        board.issuer(1).refetch,
        Some(Refetch {
            began: at(0),
            ended: None
        })
    );
    board.lease = Some((Holder(9), at(BUDGET)));
    assert_eq!(poller.plan(at(BUDGET - 1), &config, &mut board, &[1]), Plan::default());
    assert!(board.end_keys(1, at(0), Some(digest(b"set")), true));
    assert_eq!(
        board.issuer(1).refetch,
        Some(Refetch {
            began: at(0),
            ended: Some(true)
        })
    );
    board.lease = Some((Holder(9), at(BUDGET + 1)));
    assert!(poller.plan(at(BUDGET), &config, &mut board, &[1]).write);
    // The regular poll's end is not its end.
    board.end_keys(1, at(BUDGET), Some(digest(b"set")), false);
    assert_eq!(board.issuer(1).refetch.unwrap().ended, None);
}

#[test]
fn an_older_answer_that_comes_late_replaces_nothing() {
    let mut board = Board::empty(1);
    assert!(board.end_keys(0, at(5), Some(digest(b"new")), false));
    assert!(!board.end_keys(0, at(4), Some(digest(b"old")), false));
    assert_eq!(board.issuer(0).keys.unwrap().digest, digest(b"new"));
    assert!(!board.end_keys(0, at(6), None, false), "no answer says nothing");
    assert!(board.end_keys(0, at(6), Some(digest(b"new")), false));
    assert_eq!(board.issuer(0).keys.unwrap().as_of, at(6));
}

#[test]
fn after_the_clock_was_set_back_what_is_fetched_counts_again() {
    let config = config();
    let mut board = board_with(Some((2, 3600)));
    for issuer in [0, 1] {
        board.end_keys(issuer, at(3600), Some(digest(b"old")), false);
    }
    board.end_feed(0, None, at(3600), Brought::Snapshot, PAGE);
    assert!(board.begin_refetch(1, at(3600)));
    let plan = Poller::new(2, Holder(1)).plan(at(0), &config, &mut board, &[1]);
    let due = [Fetch::UnknownKeys(1), Fetch::Keys(0), Fetch::Feed(0), Fetch::Keys(1)];
    assert_eq!((plan.polls, plan.fetch.as_slice()), (true, due.as_slice()));
    assert!(board.end_keys(1, at(0), Some(digest(b"new")), true));
    assert_eq!(
        board.issuer(1).keys,
        Some(Keys {
            digest: digest(b"new"),
            as_of: at(0)
        })
    );
    let feed = board.issuer(0).feed;
    assert!(board.end_feed(0, feed, at(0), Brought::Newest, PAGE));
    assert_eq!(board.issuer(0).feed.unwrap().as_of, at(0));
}

#[test]
fn pages_are_published_by_whoever_knows_all_that_is_published() {
    let mut board = Board::empty(1);
    assert!(board.end_feed(0, None, at(1), Brought::Snapshot, PAGE));
    let first = board.issuer(0).feed;
    assert_eq!(
        first,
        Some(Pages {
            series: 1,
            count: 1,
            newest: 0,
            as_of: at(1),
            is_void: false
        })
    );
    assert!(board.end_feed(0, first, at(2), Brought::Page, PAGE));
    let second = board.issuer(0).feed;
    assert_eq!(
        second,
        Some(Pages {
            series: 1,
            count: 2,
            newest: 0,
            as_of: at(2),
            is_void: false
        })
    );
    // Another poller, who has not seen the second page: its own second page would be lost.
    assert!(!board.end_feed(0, first, at(3), Brought::Page, PAGE));
    assert!(!board.end_feed(0, None, at(3), Brought::Snapshot, PAGE));
    assert_eq!(board.issuer(0).feed, second);
    assert!(board.end_feed(0, second, at(3), Brought::Newest, PAGE));
    let third = board.issuer(0).feed;
    assert_eq!(
        third,
        Some(Pages {
            series: 1,
            count: 2,
            newest: 1,
            as_of: at(3),
            is_void: false
        })
    );
    assert!(
        board.end_feed(0, second, at(2), Brought::Nothing, PAGE),
        "the same pages, though not the newest"
    );
    assert_eq!(board.issuer(0).feed, third, "time does not go back");
    assert!(board.end_feed(0, third, at(4), Brought::Snapshot, PAGE));
    assert_eq!(
        board.issuer(0).feed,
        Some(Pages {
            series: 2,
            count: 1,
            newest: 1,
            as_of: at(4),
            is_void: false
        })
    );
}

#[test]
fn a_series_that_somebody_gave_up_is_fetched_anew_within_a_second_and_once() {
    let config = config();
    let mut board = board_with(Some((1, LEASE)));
    let mut poller = Poller::new(2, Holder(1));
    for issuer in [0, 1] {
        board.end_keys(issuer, at(0), Some(digest(b"keys")), false);
    }
    board.end_feed(0, None, at(0), Brought::Snapshot, PAGE);
    poller.began(Fetch::Feed(0), at(0));
    poller.ended(Fetch::Feed(0));
    assert!(!board.void_feed(0, 7), "a series of the past");
    assert!(!board.void_feed(1, 1), "nothing is published");
    assert!(board.void_feed(0, 1));
    assert!(!board.void_feed(0, 1), "it is known");
    assert_eq!(Board::read(&board.write(), 2), board);
    assert_eq!(poller.plan(at(0), &config, &mut board, &[]).fetch, []);
    assert_eq!(poller.plan(at(1), &config, &mut board, &[]).fetch, [Fetch::Feed(0)]);
    let void = board.issuer(0).feed;
    assert!(board.end_feed(0, void, at(1), Brought::Snapshot, PAGE));
    assert!(!board.issuer(0).feed.unwrap().is_void);
    poller.began(Fetch::Feed(0), at(1));
    poller.ended(Fetch::Feed(0));
    assert_eq!(poller.plan(at(1), &config, &mut board, &[]).fetch, []);
}

#[test]
fn what_is_no_board_is_an_empty_one() {
    let board = board_with(Some((1, 3)));
    let bytes = board.write();
    assert_eq!(Board::read(&bytes, 2), board);
    for broken in [&bytes[1..], &bytes[..bytes.len() - 1], &[], &[FORMAT], &[2; 200]] {
        assert_eq!(Board::read(broken, 2), Board::empty(2));
    }
    assert_eq!(Board::read(&bytes, 3), Board::empty(3));
}

fn published() -> impl Strategy<Value = Published> {
    let time = || (0..2_000_000_u64).prop_map(|seconds| UnixTime::from_seconds(seconds).unwrap());
    let keys = (any::<Digest>(), time()).prop_map(|(digest, as_of)| Keys { digest, as_of });
    let refetch = (time(), any::<Option<bool>>()).prop_map(|(began, ended)| Refetch { began, ended });
    let feed = (any::<u64>(), any::<u64>(), time(), any::<bool>()).prop_map(|(series, newest, as_of, is_void)| Pages {
        series,
        count: 0,
        newest,
        as_of,
        is_void,
    });
    let pages = proptest::collection::vec(any::<Digest>(), 0..4);
    let feed = (feed, pages).prop_map(|(feed, pages)| {
        let count = pages.len().try_into().unwrap();
        (Pages { count, ..feed }, pages)
    });
    (
        proptest::option::of(keys),
        proptest::option::of(refetch),
        proptest::option::of(feed),
        any::<Digest>(),
    )
        .prop_map(|(keys, refetch, feed, newest)| {
            let (feed, pages) = feed.unzip();
            Published {
                keys,
                refetch,
                feed,
                pages: pages.unwrap_or_default(),
                newest,
            }
        })
}

/// A VM of the model. Between what it reads and what it writes, others act; within a tick no second passes.
struct Vm {
    poller: Poller,
    tick: Option<(u32, Board, Plan)>,
    asked: Vec<(Fetch, UnixTime)>,
}

impl Vm {
    fn answer(&mut self, fetch: Fetch, began: UnixTime, board: &mut Board) {
        self.poller.ended(fetch);
        let is_refetch = matches!(fetch, Fetch::UnknownKeys(_));
        match fetch {
            Fetch::Keys(issuer) | Fetch::UnknownKeys(issuer) => {
                board.end_keys(issuer, began, Some(digest(b"set")), is_refetch);
            }
            Fetch::Feed(issuer) => {
                let on = board.issuer(issuer).feed;
                board.end_feed(issuer, on, began, Brought::Newest, PAGE);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_board_is_read_as_it_was_written(issuers in proptest::collection::vec(published(), 0..4), lease: Option<u64>) {
        let board = Board { lease: lease.map(|holder| (Holder(holder), at(1))), issuers };
        prop_assert_eq!(Board::read(&board.write(), board.issuers.len()), board);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, issuers in 0..4_usize) {
        Board::read(&bytes, issuers);
    }

    /// Three VMs, any order of reads, writes, answers and seconds: one VM polls at a time, each source in its time, unknown
    /// keys once in the budget's time, and whoever is left alone polls soon.
    #[test]
    fn the_vms_of_a_process_poll_as_one(steps in proptest::collection::vec((0..3_usize, 0..9_u8), 1..400)) {
        let config = config();
        let new = |number| Vm { poller: Poller::new(2, Holder(number)), tick: None, asked: Vec::new() };
        let mut vms: Vec<Vm> = (0..3).map(new).collect();
        let mut stored = (1, Board::empty(2).write());
        let mut now = at(0);
        let mut fetches: Vec<(usize, Fetch, UnixTime)> = Vec::new();
        for (number, action) in steps {
            let vm = &mut vms[number];
            match action {
                0..=2 => {
                    let mut board = Board::read(&stored.1, 2);
                    let wanted: &[usize] = if action == 0 { &[1] } else { &[] };
                    let plan = vm.poller.plan(now, &config, &mut board, wanted);
                    vm.tick = Some((stored.0, board, plan));
                }
                3..=5 => {
                    let Some((cas, board, plan)) = vm.tick.take() else { continue };
                    if plan.write {
                        if cas != stored.0 {
                            continue;
                        }
                        stored = (cas.saturating_add(1), board.write());
                    }
                    for fetch in plan.fetch {
                        vm.poller.began(fetch, now);
                        vm.asked.push((fetch, now));
                        fetches.push((number, fetch, now));
                    }
                }
                6 => {
                    now = now.plus(1);
                    vms.iter_mut().for_each(|vm| vm.tick = None);
                }
                _ => if let Some((fetch, began)) = vm.asked.pop() {
                    let mut board = Board::read(&stored.1, 2);
                    vm.answer(fetch, began, &mut board);
                    stored = (stored.0.saturating_add(1), board.write());
                },
            }
        }
        for (place, (vm, fetch, time)) in fetches.iter().enumerate() {
            let later = fetches.iter().skip(place.saturating_add(1));
            for (other, again, later) in later {
                let (is_poll, pause) = match fetch {
                    Fetch::Keys(0) => (true, 2),
                    // Both poll less often; a holder that waits for an answer loses the lease, and its heir asks.
                    Fetch::Keys(_) | Fetch::Feed(_) => (true, LEASE),
                    Fetch::UnknownKeys(_) => (false, BUDGET),
                };
                if fetch == again {
                    prop_assert!(later.since(*time) >= pause, "{fetch:?} at {time} and {later}");
                }
                if is_poll && !matches!(again, Fetch::UnknownKeys(_)) && time == later {
                    prop_assert_eq!(vm, other, "two VMs polled at {}", time);
                }
            }
        }
        let mut board = Board::read(&stored.1, 2);
        let alone = Poller::new(2, Holder(7));
        let later = now.plus(LEASE + 2);
        prop_assert!(alone.plan(later, &config, &mut board, &[]).fetch.contains(&Fetch::Keys(0)));
    }
}
