use super::*;
use crate::ldap::scripted::{Scripted, Then, said};

async fn quiet() -> Scripted {
    Scripted::after_the_bind(|asked| Then::Say(said::done(asked.number, 0))).await
}

#[tokio::test]
async fn a_connection_is_used_again_by_whoever_comes_next_and_by_one_at_a_time() {
    let scripted = quiet().await;
    let pool = Pool::new(scripted.server());
    for round in 0..3 {
        let lent = pool.lend().await.unwrap();
        assert_eq!(lent.is_used, round > 0);
        pool.give_back(lent).await;
    }
    assert_eq!(scripted.connections(), 1);
    let (first, second) = (pool.lend().await.unwrap(), pool.lend().await.unwrap());
    assert!(first.is_used && !second.is_used);
    pool.give_back(first).await;
    // Dropped, as after an error: it is not used again.
    drop(second);
    assert_eq!(scripted.connections(), 2);
    assert!(pool.lend().await.unwrap().is_used);
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_up_when_it_was_idle_for_long_or_is_old() {
    let scripted = quiet().await;
    let pool = Pool::new(scripted.server());
    let lent = pool.lend().await.unwrap();
    pool.give_back(lent).await;
    tokio::time::advance(LONGEST_IDLE).await;
    let lent = pool.lend().await.unwrap();
    assert!(!lent.is_used);
    // Used all the time.
    let mut lent = Some(lent);
    for _ in 0..20 {
        pool.give_back(lent.take().unwrap()).await;
        tokio::time::advance(LONGEST_LIFE / 20).await;
        lent = Some(pool.lend().await.unwrap());
    }
    assert!(!lent.unwrap().is_used, "it has lived for its time");
}

#[tokio::test]
async fn a_connection_that_the_server_ended_meanwhile_is_not_used() {
    // It takes the bind, and then says that it ends.
    let scripted = Scripted::serve(|asked| Then::End([said::bound(asked.number, 0), said::notice()].concat())).await;
    let pool = Pool::new(scripted.server());
    for _ in 0..2 {
        let lent = pool.lend().await.unwrap();
        pool.give_back(lent).await;
        // Until this side has heard of it.
        let mut idle = pool.pop(Instant::now()).unwrap();
        while idle.connection.is_quiet().await {
            tokio::task::yield_now().await;
        }
        // What is_quiet has read is gone; the end is still to be seen.
        pool.idle.lock().unwrap().push(idle);
    }
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test]
async fn no_more_connections_wait_than_may() {
    let scripted = quiet().await;
    let pool = Pool::new(scripted.server());
    let mut lent = Vec::new();
    for _ in 0..=MOST_IDLE {
        lent.push(pool.lend().await.unwrap());
    }
    for one in lent {
        pool.give_back(one).await;
    }
    assert_eq!(pool.idle.lock().unwrap().len(), MOST_IDLE);
}
