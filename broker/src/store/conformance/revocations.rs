//! What every store promises of revocations.

use super::*;

fn target(kind: Kind, number: u32) -> Target {
    Target::new(kind, &format!("value {number}")).unwrap()
}

fn session(number: u32, before: Option<u64>, until: Option<u64>) -> Revocation {
    Revocation {
        target: target(Kind::Session, number),
        issued_at_or_before: before.map(at),
        needed_until: until.map(at),
    }
}

async fn since(store: &dyn Store, version: u64) -> Vec<Recorded> {
    store.revoked_since(version, 1000).await.unwrap().recorded
}

async fn newest(store: &dyn Store) -> Position {
    store.revoked_since(0, 0).await.unwrap().newest
}

/// Each revocation is a version, the versions are in order, and what comes after any of them can be read, piece by piece.
pub(crate) async fn what_comes_after_a_version_is_read_in_order(store: &dyn Store) {
    assert_eq!(newest(store).await.version, 0);
    let mut expected = Vec::new();
    for number in 0..40 {
        let kind = Kind::ALL[number as usize % 3];
        let revocation = Revocation {
            target: target(kind, number),
            issued_at_or_before: (number % 2 == 0).then(|| at(u64::from(number))),
            needed_until: (number % 5 != 0).then(|| at(5000 + u64::from(number))),
        };
        let Revoked {
            position,
            revocation: stands,
        } = store.revoke(revocation.clone(), at(1000)).await.unwrap();
        assert_eq!(stands, revocation);
        assert_eq!(position, newest(store).await);
        expected.push(Recorded {
            version: position.version,
            at: at(1000),
            revocation,
        });
    }
    assert!(expected.windows(2).all(|two| two[0].version < two[1].version));
    assert_eq!(since(store, 0).await, expected);
    for after in [0, 7, 38, 39] {
        assert_eq!(
            since(store, expected[after].version).await,
            expected.iter().skip(after).skip(1).cloned().collect::<Vec<_>>()
        );
    }
    assert_eq!(since(store, u64::MAX).await, []);
    let (mut pieces, mut from) = (Vec::new(), 0);
    loop {
        let piece = store.revoked_since(from, 7).await.unwrap().recorded;
        let Some(last) = piece.last() else { break };
        from = last.version;
        pieces.extend(piece);
    }
    assert_eq!(pieces, expected);
}

/// Of one target there is one revocation, the stricter of all; it stands at the version of its last change.
pub(crate) async fn revocations_of_one_target_are_merged(store: &dyn Store) {
    let first = store
        .revoke(session(1, Some(10), Some(20)), at(1))
        .await
        .unwrap()
        .position;
    store.revoke(session(2, None, None), at(2)).await.unwrap();
    for weaker in [session(1, Some(9), Some(20)), session(2, Some(5), Some(5))] {
        let before = newest(store).await;
        let revoked = store.revoke(weaker.clone(), at(3)).await.unwrap();
        assert_eq!(revoked.position, before, "a version for nothing");
        assert_ne!(revoked.revocation, weaker);
    }
    let revoked = store.revoke(session(1, Some(11), Some(15)), at(4)).await.unwrap();
    assert_eq!(revoked.revocation, session(1, Some(11), Some(20)));
    let last = revoked.position;
    assert!(last.version > first.version && last.epoch == first.epoch);
    let changed: Vec<_> = since(store, first.version).await;
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[1].revocation, session(1, Some(11), Some(20)));
    assert_eq!((changed[1].version, changed[1].at), (last.version, at(4)));
    assert_eq!(since(store, 0).await, changed);
    // The same value of another kind is another target.
    let other = Revocation {
        target: target(Kind::Subject, 1),
        ..session(1, None, None)
    };
    store.revoke(other, at(5)).await.unwrap();
    assert_eq!(since(store, 0).await.len(), 3);
}

/// Of several at once each has its version, in their order.
pub(crate) async fn several_are_revoked_at_once_in_their_order(store: &dyn Store) {
    let wanted: Vec<_> = (0..5).map(|number| session(number, Some(7), Some(3000))).collect();
    let revoked = store.revoke_all(wanted.clone(), at(1)).await.unwrap();
    let said: Vec<_> = revoked
        .iter()
        .map(|one| (one.position.version, one.revocation.clone()))
        .collect();
    assert_eq!(said, (1..).zip(wanted.clone()).collect::<Vec<_>>());
    let stand: Vec<_> = since(store, 0).await.into_iter().map(|one| one.revocation).collect();
    assert_eq!(stand, wanted);
    assert_eq!(store.revoke_all(Vec::new(), at(1)).await, Ok(Vec::new()));
    // Two of one target are one.
    let twice = vec![session(7, Some(7), Some(9)), session(7, Some(8), Some(9))];
    let revoked = store.revoke_all(twice, at(1)).await.unwrap();
    assert_eq!(revoked[1].revocation, session(7, Some(8), Some(9)));
    assert_eq!(since(store, 5).await.len(), 1);
}

/// What is taken back is gone, and nobody who read it before may go on from there.
pub(crate) async fn what_is_lifted_is_gone_and_cannot_be_gone_on_with(store: &dyn Store) {
    for number in 0..3 {
        store.revoke(session(number, None, None), at(1)).await.unwrap();
    }
    let before = newest(store).await;
    assert_eq!(store.revoked_since(0, 0).await.unwrap().continues_from, 0);
    assert_eq!(store.lift(target(Kind::Session, 7)).await, Ok(None));
    assert_eq!(store.lift(target(Kind::Token, 1)).await, Ok(None));
    assert_eq!(newest(store).await, before);
    let lifted = store.lift(target(Kind::Session, 1)).await.unwrap().unwrap();
    assert!(lifted.version > before.version);
    let changes = store.revoked_since(0, 10).await.unwrap();
    assert_eq!((changes.newest, changes.continues_from), (lifted, lifted.version));
    let left: Vec<_> = changes.recorded.iter().map(|one| one.revocation.clone()).collect();
    assert_eq!(left, [session(0, None, None), session(2, None, None)]);
    assert_eq!(store.lift(target(Kind::Session, 1)).await, Ok(None));
    // And can be revoked anew.
    let again = store.revoke(session(1, None, None), at(2)).await.unwrap().position;
    let changes = store.revoked_since(lifted.version, 10).await.unwrap();
    assert_eq!((changes.newest, changes.recorded.len()), (again, 1));
    assert_eq!(changes.continues_from, lifted.version);
}

/// What nobody needs any more is forgotten, to the second, and its version is not used again.
pub(crate) async fn what_no_token_can_need_is_swept_and_nothing_else(store: &dyn Store) {
    store.revoke(session(0, Some(5), None), at(1)).await.unwrap();
    for number in 1..=10 {
        let until = Some(1000 + u64::from(number));
        store.revoke(session(number, None, until), at(1)).await.unwrap();
    }
    let before = newest(store).await;
    let swept = async |now: u64| store.sweep(at(now)).await.unwrap().revocations;
    assert_eq!(swept(1001 + KEPT_LONGER).await, 0);
    assert_eq!(swept(1006 + KEPT_LONGER).await, 5);
    assert_eq!(swept(1006 + KEPT_LONGER).await, 0);
    let left: Vec<_> = since(store, 0).await.into_iter().map(|one| one.revocation).collect();
    let mut expected = vec![session(0, Some(5), None)];
    expected.extend((6..=10).map(|number| session(number, None, Some(1000 + u64::from(number)))));
    assert_eq!(left, expected);
    assert_eq!(newest(store).await, before, "who read it before goes on");
    // One that is needed longer than at first is kept as long.
    store.revoke(session(6, None, Some(9000)), at(1)).await.unwrap();
    assert_eq!(swept(u64::from(u32::MAX)).await, 5);
    assert_eq!(since(store, 0).await.len(), 1, "what has no end is kept");
    let next = store.revoke(session(3, None, None), at(1)).await.unwrap().position;
    assert!(next.version > before.version);
}

/// The end of all tokens only moves on.
pub(crate) async fn the_end_of_tokens_never_moves_back(store: &dyn Store) {
    for (at_least, end) in [(0, 0), (1000, 1000), (900, 1000), (1001, 1001), (0, 1001)] {
        assert_eq!(store.tokens_end(at(at_least)).await, Ok(at(end)));
    }
}

/// Revocations at the same time are all there, each at a version of its own, and an answer is never ahead of what can be
/// read: whoever has read up to a version misses nothing.
pub(crate) async fn revocations_at_the_same_time_are_in_commit_order(store: Arc<dyn Store>) {
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let position = store.revoke(session(number, None, None), at(1)).await.unwrap().position;
                let read = since(&*store, 0).await;
                assert!(read.iter().any(|one| one.version == position.version));
                position.version
            })
        })
        .collect();
    // Whoever reads along, from version to version, comes to the same.
    let (mut along, mut from) = (Vec::new(), 0);
    while along.len() < 200 {
        let changes = store.revoked_since(from, 1000).await.unwrap();
        along.extend(changes.recorded.into_iter().map(|one| one.version));
        from = changes.newest.version;
        tokio::task::yield_now().await;
    }
    let mut versions = BTreeSet::new();
    for call in calls {
        versions.insert(call.await.unwrap());
    }
    assert_eq!(versions.len(), 200);
    assert_eq!(along, versions.into_iter().collect::<Vec<_>>());
}

/// Two stores are never taken for each other, and one is the same after it was closed and opened again.
pub(crate) async fn revocations_stay_after_a_restart(open: impl Fn() -> Arc<dyn Store>, other: &dyn Store) {
    let before = {
        let store = open();
        for number in 0..5 {
            store.revoke(session(number, Some(7), Some(3000)), at(1)).await.unwrap();
        }
        store.lift(target(Kind::Session, 0)).await.unwrap();
        store.tokens_end(at(4000)).await.unwrap();
        store.revoked_since(0, 10).await.unwrap()
    };
    assert_ne!(newest(other).await.epoch, before.newest.epoch);
    let store = open();
    assert_eq!(store.revoked_since(0, 10).await.unwrap(), before);
    assert_eq!(store.tokens_end(at(0)).await, Ok(at(4000)));
    let next = store.revoke(session(0, None, None), at(1)).await.unwrap().position;
    assert!(next.version > before.newest.version);
    drop(store);
    let store = open();
    let swept = store.sweep(at(3001 + KEPT_LONGER)).await.unwrap();
    assert_eq!(swept.revocations, 4);
}
