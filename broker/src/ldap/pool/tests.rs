use super::*;
use crate::ldap::scripted::{self, Scripted, Then, said};

fn soon() -> Instant {
    Instant::now().checked_add(Duration::from_secs(3600)).unwrap()
}

async fn quiet() -> Scripted {
    Scripted::after_the_bind(|asked| Then::Say(said::done(asked.number, 0))).await
}

#[tokio::test]
async fn a_connection_is_used_again_by_whoever_comes_next_and_by_one_at_a_time() {
    let scripted = quiet().await;
    let pool = Pool::new(scripted.server());
    for round in 0..3 {
        let lent = pool.lend(soon()).await.unwrap();
        assert_eq!(lent.is_used, round > 0);
        pool.give_back(lent).await;
    }
    assert_eq!(scripted.connections(), 1);
    let (first, second) = (pool.lend(soon()).await.unwrap(), pool.lend(soon()).await.unwrap());
    assert!(first.is_used && !second.is_used);
    pool.give_back(first).await;
    // Dropped, as after an error: it is not used again.
    drop(second);
    assert_eq!(scripted.connections(), 2);
    assert!(pool.lend(soon()).await.unwrap().is_used);
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_up_when_it_was_idle_for_long_or_is_old() {
    let scripted = quiet().await;
    let pool = Pool::new(scripted.server());
    let lent = pool.lend(soon()).await.unwrap();
    pool.give_back(lent).await;
    tokio::time::advance(LONGEST_IDLE).await;
    let lent = pool.lend(soon()).await.unwrap();
    assert!(!lent.is_used);
    // Used all the time.
    let mut lent = Some(lent);
    for _ in 0..20 {
        pool.give_back(lent.take().unwrap()).await;
        tokio::time::advance(LONGEST_LIFE / 20).await;
        lent = Some(pool.lend(soon()).await.unwrap());
    }
    assert!(!lent.unwrap().is_used, "it has lived for its time");
}

#[tokio::test]
async fn a_connection_that_the_server_ended_meanwhile_is_not_used() {
    // It takes the bind, and then says that it ends.
    let scripted = Scripted::serve(|asked| Then::End([said::bound(asked.number, 0), said::notice()].concat())).await;
    let pool = Pool::new(scripted.server());
    for _ in 0..2 {
        let lent = pool.lend(soon()).await.unwrap();
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
        lent.push(pool.lend(soon()).await.unwrap());
    }
    for one in lent {
        pool.give_back(one).await;
    }
    assert_eq!(pool.idle.lock().unwrap().len(), MOST_IDLE);
}

/// A pool of these ports, in this order.
fn pool_of(ports: &[u16]) -> Pool {
    let places = ports.iter().map(|port| scripted::place(*port)).collect();
    Pool::new(Server {
        places,
        ..scripted::server(0)
    })
}

/// A port of loopback on which nobody listens.
async fn nobody() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn where_one_server_is_away_or_busy_the_next_is_asked_and_stays_the_first() {
    let busy = Scripted::serve(|asked| Then::Say(said::bound(asked.number, 51))).await;
    let good = quiet().await;
    let pool = pool_of(&[nobody().await, busy.port, good.port]);
    for round in 1..4 {
        pool.lend(soon()).await.unwrap();
        assert_eq!((busy.connections(), good.connections()), (1, round));
    }
}

#[tokio::test]
async fn a_server_that_keeps_quiet_has_its_share_of_the_time_and_no_more() {
    let silent = Scripted::serve(|_| Then::Say(Vec::new())).await;
    let good = quiet().await;
    let pool = pool_of(&[silent.port, good.port]);
    let began = Instant::now();
    let deadline = began.checked_add(Duration::from_secs(1)).unwrap();
    pool.lend(deadline).await.unwrap();
    let took = began.elapsed();
    assert!((400..900).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_password_that_one_server_refuses_is_not_tried_at_the_next() {
    let refusing = Scripted::serve(|asked| Then::Say(said::bound(asked.number, 49))).await;
    let good = quiet().await;
    let pool = pool_of(&[refusing.port, good.port]);
    let outcome = pool.lend(soon()).await.map(drop);
    assert!(
        matches!(outcome, Err(LdapError::Refused { code: 49, .. })),
        "{outcome:?}"
    );
    assert_eq!(good.connections(), 0);
}

#[tokio::test]
async fn a_server_that_is_distrusted_is_asked_after_the_others() {
    let (one, other) = (quiet().await, quiet().await);
    let pool = pool_of(&[one.port, other.port]);
    let lent = pool.lend(soon()).await.unwrap();
    pool.give_back(lent).await;
    pool.distrust();
    assert!(!pool.lend(soon()).await.unwrap().is_used);
    assert_eq!((one.connections(), other.connections()), (1, 1));
    // Where there is one alone, nothing is gained by closing what is open.
    let pool = pool_of(&[one.port]);
    let lent = pool.lend(soon()).await.unwrap();
    pool.give_back(lent).await;
    pool.distrust();
    assert!(pool.lend(soon()).await.unwrap().is_used);
}
