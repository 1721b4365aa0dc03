mod scripted;

use kerbridge_gss::{EnterpriseName, ServicePrincipal};

use self::scripted::{
    DEADLINE, EVERYBODY, LIMITS, ScriptedCredential, at, grant, grant_towards, owner, principal, reason, start, ticket,
    ticket_at, ticket_until,
};
use super::flights::{Look, Settled};
use super::kdc::Acting;
use super::*;
use crate::metrics::Found;

#[tokio::test(flavor = "multi_thread")]
async fn many_users_at_once_get_each_their_own_and_ask_once_for_each() {
    let (delegation, script) = start(LIMITS);
    let mut waiting = Vec::new();
    for turn in 0..200 {
        let (delegation, user) = (delegation.clone(), format!("user-{}@A.TEST", turn * 7 % 10));
        waiting.push(tokio::spawn(async move {
            let deadline = Instant::now().checked_add(Duration::from_secs(10)).unwrap();
            let made = delegation.ticket(&grant(&user), at(5000), at(1000), deadline).await;
            assert_eq!(owner(made.unwrap()), user);
        }));
    }
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(script.asked(), 10);
    assert_eq!(ticket(&delegation, "user-3@A.TEST").await.unwrap().found(), Found::Kept);
}

#[tokio::test]
async fn a_ticket_is_of_use_until_the_token_the_ticket_or_the_policy_ends() {
    let (delegation, script) = start(LIMITS);
    let expires =
        |now, outcome: Result<ServiceTicket, NoTicket>| outcome.map(|ticket| (ticket.life(at(now)), ticket.expires()));
    // The policy's hour, from when the KDC was asked.
    assert_eq!(
        expires(1000, ticket_at(&delegation, "a@A.TEST", 1000).await),
        Ok((3600, at(4600)))
    );
    assert_eq!(
        expires(4000, ticket_at(&delegation, "a@A.TEST", 4000).await),
        Ok((600, at(4600)))
    );
    assert_eq!(script.asked(), 1);
    // Then anew; the token's end.
    assert_eq!(
        expires(4600, ticket_at(&delegation, "a@A.TEST", 4600).await),
        Ok((400, at(5000)))
    );
    assert_eq!(script.asked(), 2);
    let deadline = || Instant::now().checked_add(DEADLINE).unwrap();
    let long = |now| {
        let delegation = delegation.clone();
        async move {
            delegation
                .ticket(&grant("a@A.TEST"), at(99_999), at(now), deadline())
                .await
        }
    };
    assert_eq!(expires(9000, long(9000).await), Ok((1000, at(10_000))));
    assert_eq!(script.asked(), 3);
    assert_eq!(reason(long(10_000).await), Reason::Internal);
}

#[tokio::test]
async fn no_token_is_made_of_a_ticket_that_is_about_to_end() {
    let (delegation, script) = start(LIMITS);
    let found = |now| {
        let delegation = delegation.clone();
        async move {
            ticket_until(&delegation, "a@A.TEST", now, 99_999)
                .await
                .unwrap()
                .found()
        }
    };
    assert_eq!(found(9000).await, Found::Asked);
    // Its end is 10,000; clocks may differ by 300 seconds, and a request takes one at most.
    assert_eq!(found(9698).await, Found::Kept);
    assert_eq!(found(9699).await, Found::Asked);
    // The KDC gives no longer one: it is used for half of its life.
    assert_eq!(found(9849).await, Found::Kept);
    assert_eq!(found(9850).await, Found::Asked);
    assert_eq!(script.asked(), 3);
}

#[tokio::test]
async fn a_refusal_of_the_kdc_is_not_asked_for_again_at_once() {
    let (delegation, script) = start(LIMITS);
    script.refuse(Some(Reason::DelegationDenied));
    for _ in 0..20 {
        assert_eq!(reason(ticket(&delegation, "a@A.TEST").await), Reason::DelegationDenied);
    }
    assert_eq!(script.asked(), 1);
    // It is about that user alone.
    script.refuse(None);
    assert!(ticket(&delegation, "b@A.TEST").await.is_ok());
    assert_eq!(reason(ticket(&delegation, "a@A.TEST").await), Reason::DelegationDenied);
}

#[tokio::test]
async fn a_kdc_that_hangs_costs_those_who_need_it_one_deadline_and_nobody_else_anything() {
    let (delegation, script) = start(LIMITS);
    assert!(ticket(&delegation, "kept@A.TEST").await.is_ok());
    script.hang(&EVERYBODY);
    let (a, b) = tokio::join!(ticket(&delegation, "a@A.TEST"), ticket(&delegation, "b@A.TEST"));
    assert_eq!((reason(a), reason(b)), (Reason::KdcUnreachable, Reason::KdcUnreachable));
    // From now on nobody waits, and no thread more is asked for.
    let asked = script.asked();
    let began = Instant::now();
    for user in 0..1000 {
        assert_eq!(
            reason(ticket(&delegation, &format!("c{user}@A.TEST")).await),
            Reason::KdcUnreachable
        );
    }
    assert_eq!(reason(ticket(&delegation, "a@A.TEST").await), Reason::KdcUnreachable);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(script.asked(), asked);
    assert_eq!(owner(ticket(&delegation, "kept@A.TEST").await.unwrap()), "kept@A.TEST");
    script.hang(&[]);
    // What was asked is answered, if late, and kept.
    let again = Instant::now();
    while ticket(&delegation, "a@A.TEST").await.is_err() {
        assert!(again.elapsed() < Duration::from_secs(10));
    }
    assert!(ticket(&delegation, "d@A.TEST").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kdc_of_another_realm_that_hangs_is_that_realms_affair() {
    let (delegation, script) = start(DelegationLimits { workers: 4, ..LIMITS });
    script.hang(&["B.TEST", "C.TEST"]);
    // Nobody gives up before the threads have begun, however long that takes.
    let patient = async |delegation: &Delegation, user: &str| {
        let deadline = Instant::now().checked_add(Duration::from_secs(60)).unwrap();
        delegation.ticket(&grant(user), at(5000), at(1000), deadline).await
    };
    let mut hanging = Vec::new();
    for user in 0..8 {
        for realm in ["B.TEST", "C.TEST"] {
            let (delegation, user) = (delegation.clone(), format!("u{user}@{realm}"));
            hanging.push(tokio::spawn(async move { patient(&delegation, &user).await.is_ok() }));
        }
    }
    // More users than there are threads wait for the two already.
    while script.asked() < 3 {
        tokio::task::yield_now().await;
    }
    for user in 0..8 {
        assert!(patient(&delegation, &format!("u{user}@A.TEST")).await.is_ok());
    }
    assert_eq!(
        script.asked(),
        3 + 8,
        "half of the threads for one, all but one for both"
    );
    // Each of the two has had a place, and comes to be known not to answer.
    for realm in ["B.TEST", "C.TEST"] {
        while !delegation.0.asking.is_overdue(realm) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(reason(ticket(&delegation, "v@B.TEST").await), Reason::KdcUnreachable);
    assert_eq!(script.asked(), 3 + 8);
    script.hang(&[]);
    // Whoever had the patience is served in the end.
    for one in hanging {
        assert!(one.await.unwrap());
    }
}

#[tokio::test]
async fn a_realm_that_owes_an_answer_has_not_answered_where_nobody_was_asked() {
    let (delegation, script) = start(DelegationLimits { workers: 4, ..LIMITS });
    script.hang(&["B.TEST"]);
    let comes_to = async |expected: Reason| {
        let began = Instant::now();
        while reason(ticket(&delegation, "a@B.TEST").await) != expected {
            assert!(began.elapsed() < Duration::from_secs(10), "{expected:?}");
            tokio::task::yield_now().await;
        }
    };
    // It may take a thread longer than a deadline to begin.
    comes_to(Reason::KdcUnreachable).await;
    // Whoever asked has waited for long enough; the question itself may have begun later.
    while !delegation.0.asking.is_overdue("B.TEST") {
        tokio::task::yield_now().await;
    }
    let asked = script.asked();
    // It gives up in the end, and our own log-in is refused meanwhile.
    script.ask_nobody();
    script.hang(&[]);
    comes_to(Reason::Internal).await;
    assert_eq!(reason(ticket(&delegation, "b@B.TEST").await), Reason::KdcUnreachable);
    assert_eq!(script.asked(), asked, "it is overdue still");
}

#[tokio::test]
async fn who_comes_when_a_question_is_given_up_asks_it_again() {
    let (delegation, script) = start(LIMITS);
    let user = principal("a@A.TEST");
    let target = grant("a@A.TEST").target().clone();
    let key = TicketKey { user, target };
    let Look::Ask(given_up, waiting) = delegation.0.tickets.look(&key, |_| true, at(5000), Instant::now()) else {
        panic!()
    };
    drop(waiting);
    let asks = delegation.clone();
    let asks = tokio::spawn(async move { ticket(&asks, "a@A.TEST").await });
    while !given_up.is_wanted() {
        tokio::task::yield_now().await;
    }
    let table = &delegation.0.tickets;
    table.settle(given_up, Settled::Abandoned, at(5000), Instant::now());
    assert_eq!(asks.await.unwrap().map(owner), Ok("a@A.TEST".to_owned()));
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn more_than_may_wait_is_refused_at_once() {
    let (delegation, script) = start(DelegationLimits {
        workers: 1,
        queue: 1,
        ..LIMITS
    });
    script.hang(&EVERYBODY);
    let asking: Vec<_> = (0..6)
        .map(|user| {
            let delegation = delegation.clone();
            tokio::spawn(async move { reason(ticket(&delegation, &format!("u{user}@A.TEST")).await) })
        })
        .collect();
    let mut reasons = Vec::new();
    for one in asking {
        reasons.push(one.await.unwrap());
    }
    let overloaded = reasons
        .iter()
        .filter(|reason| **reason == Reason::BrokerOverloaded)
        .count();
    assert!(overloaded >= 4, "{reasons:?}");
    script.hang(&[]);
}

#[tokio::test]
async fn a_ticket_for_another_service_does_not_leave_and_is_not_kept() {
    let (delegation, script) = start(LIMITS);
    *script.gives.lock().unwrap() = Some("other.test".into());
    let refused = ticket(&delegation, "a@A.TEST").await.unwrap_err();
    assert_eq!(refused.reason, Reason::Internal);
    assert!(refused.detail.contains("HTTP/other.test@A.TEST"), "{}", refused.detail);
    *script.gives.lock().unwrap() = None;
    assert!(ticket(&delegation, "a@A.TEST").await.is_ok());
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn nobody_is_acted_for_towards_a_broker_or_in_this_ones_name() {
    let (delegation, script) = start(LIMITS);
    let deadline = Instant::now().checked_add(DEADLINE).unwrap();
    for grant in [
        grant_towards("HTTP/api.test@A.TEST", "a@A.TEST"),
        grant_towards("HTTP/tokens.test@A.TEST", "a@A.TEST"),
        grant_towards("host/api@A.TEST", "a@A.TEST"),
        grant("HTTP/api.test@A.TEST"),
    ] {
        let refused = delegation
            .ticket(&grant, at(5000), at(1000), deadline)
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::DelegationDenied);
    }
    assert_eq!(script.asked(), 0);
}

#[tokio::test]
async fn a_user_or_a_target_that_has_had_too_many_waits() {
    let limited = DelegationLimits {
        user_per_minute: 3,
        target_per_minute: 5,
        ..LIMITS
    };
    let (delegation, _) = start(limited);
    // In whatever case: one person has no more by writing their name in another.
    for user in ["alice@A.TEST", "ALICE@A.TEST", "Alice@A.TEST"] {
        assert!(ticket(&delegation, user).await.is_ok());
    }
    assert_eq!(reason(ticket(&delegation, "aLICE@A.TEST").await), Reason::RateLimited);
    for user in ["b@A.TEST", "c@A.TEST"] {
        assert!(ticket(&delegation, user).await.is_ok());
    }
    assert_eq!(reason(ticket(&delegation, "d@A.TEST").await), Reason::RateLimited);
}

#[tokio::test]
async fn whoever_has_had_too_many_tickets_is_not_looked_up_either() {
    let limited = DelegationLimits {
        user_per_minute: 2,
        ..LIMITS
    };
    let (delegation, script) = start(limited);
    let look_up = |name: &str, now| {
        let name = EnterpriseName::parse(name, "A.TEST").unwrap();
        let name = ByKdc::for_test(DelegatedUser::Enterprise(name), &["A.TEST"]);
        let delegation = delegation.clone();
        async move {
            let deadline = Instant::now().checked_add(DEADLINE).unwrap();
            let outcome = delegation.resolve(&name, at(now), deadline).await;
            outcome.map_err(|refused| refused.reason)
        }
    };
    // Each at a time when what was known of the name counts no more.
    for now in [1000, 2000] {
        assert!(look_up("alice@corp.test", now).await.is_ok());
    }
    for name in ["alice@corp.test", "ALICE@corp.test"] {
        assert_eq!(look_up(name, 3000).await, Err(Reason::RateLimited));
    }
    assert_eq!(script.asked(), 2);
    assert!(look_up("bob@corp.test", 3000).await.is_ok());
}

#[tokio::test]
async fn a_name_is_resolved_once_in_a_while_and_only_to_whom_it_may_mean() {
    let (delegation, script) = start(LIMITS);
    let sought = |realms: &[&str]| {
        let name = EnterpriseName::parse("alice@corp.test", "A.TEST").unwrap();
        ByKdc::for_test(DelegatedUser::Enterprise(name), realms)
    };
    let resolve = |name: ByKdc, now| {
        let delegation = delegation.clone();
        async move {
            let deadline = Instant::now().checked_add(DEADLINE).unwrap();
            delegation.resolve(&name, at(now), deadline).await
        }
    };
    let alice = principal("alice@A.TEST");
    assert_eq!(resolve(sought(&["A.TEST"]), 1000).await, Ok(alice.clone()));
    assert_eq!(resolve(sought(&["A.TEST"]), 1299).await, Ok(alice.clone()));
    assert_eq!(script.asked(), 1);
    assert_eq!(resolve(sought(&["A.TEST"]), 1300).await, Ok(alice));
    assert_eq!(script.asked(), 2);
    let refused = resolve(sought(&["B.TEST"]), 1300).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RealmNotAllowed);
}

#[tokio::test]
async fn what_nobody_can_use_any_more_is_forgotten() {
    let (delegation, script) = start(LIMITS);
    assert!(ticket(&delegation, "a@A.TEST").await.is_ok());
    delegation.sweep_once(at(4999));
    assert_eq!(ticket(&delegation, "a@A.TEST").await.unwrap().found(), Found::Kept);
    // The token for which it was got has ended.
    delegation.sweep_once(at(5000));
    assert_eq!(ticket(&delegation, "a@A.TEST").await.unwrap().found(), Found::Asked);
    assert_eq!(script.asked(), 2);
}

#[test]
fn a_ticket_does_not_show_in_debug_output() {
    let ticket = ServiceTicket {
        token: Zeroizing::new("canary".into()),
        expires: at(1),
        found: Found::Kept,
    };
    assert!(!format!("{ticket:?}").contains("canary"));
    let (user, host) = (principal("a@A.TEST"), ServicePrincipal::parse("HTTP/h@A.TEST").unwrap());
    let credential = ScriptedCredential {
        host: host.host().into(),
        user,
    };
    let acting = Acting::new(Box::new(credential), at(7));
    assert_eq!(format!("{acting:?}"), "Acting { ticket_end: UnixTime(7), .. }");
}
