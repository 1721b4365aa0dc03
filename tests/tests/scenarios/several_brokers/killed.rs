//! Whoever is killed, a broker or the database, nothing that was answered is lost and nothing is good twice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::http::Request;
use kerbridge_tests::tls;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;

use super::{ASKED, EFFECT, Pair, jti, subject};

#[test]
fn whichever_is_killed_nothing_that_was_answered_is_lost_and_tokens_pass() {
    let mut pair = Pair::start();
    let bob = pair.token("bob");
    let alice = pair.token("alice");
    let used = pair.world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(pair.show(&used, 1), 1);
    let (stop, refused, passed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let request = Request::get("/orders/1").header("authorization", format!("Bearer {bob}"));
    std::thread::scope(|scope| {
        let load = {
            let connection = pair.world.connect().unwrap();
            let (stop, refused, passed, request) = (&stop, &refused, &passed, &request);
            move || {
                let mut connection = connection;
                while !stop.load(Ordering::Relaxed) {
                    let status = connection.exchange(request).unwrap().status;
                    let count = if status == 200 { passed } else { refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        scope.spawn(load);
        // The database: nothing is minted, and nothing is revoked that could not be written.
        pair.world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
        pair.server.process().kill().unwrap();
        for _ in 0..ASKED {
            let answer = pair.world.curl_as("alice", "/orders/1").send().unwrap();
            assert_eq!(
                pair.world.reason(&answer).unwrap(),
                (503, "store_unavailable".to_owned())
            );
        }
        assert!(pair.other.revoke(&["--subject", &subject(&bob)]).is_err());
        pair.server.restart().unwrap();
        wait_until("tickets are taken again", EFFECT, || pair.mints(4)).unwrap();
        assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
        wait_until("alice's token is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
        // A broker, which had just answered that somebody is out.
        let another = pair.token("alice");
        pair.other.revoke(&["--jti", &jti(&another)]).unwrap();
        pair.other.kill().unwrap();
        wait_until("its revocation is in force", EFFECT, || pair.all_are(&another, 401)).unwrap();
        wait_until("tickets are taken by the one that is left", EFFECT, || pair.mints(4)).unwrap();
        pair.other.start().unwrap();
        wait_until("tickets are taken", EFFECT, || pair.mints(8)).unwrap();
        assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        refused.load(Ordering::Relaxed),
        0,
        "of a token that nobody had taken back"
    );
    assert!(passed.load(Ordering::Relaxed) > 100);
}

/// Tickets that each come to both brokers at once, over and over, and to Envoy.
struct Load {
    sockets: [PathBuf; 2],
    /// Of Envoy, and who signed its certificate.
    envoy: (u16, PathBuf),
    tickets: Vec<String>,
    next: AtomicUsize,
    stop: AtomicBool,
    answered: AtomicUsize,
    /// How many tokens each broker gave.
    minted: [AtomicUsize; 2],
    /// The number of a ticket, and a token that came for it.
    given: Mutex<Vec<(usize, String)>>,
}

/// More than a broker takes to start, or the database to recover, on a machine that has much to do.
const UNDER_LOAD: Duration = Duration::from_secs(60);

impl Load {
    fn of(pair: &mut Pair) -> Self {
        Self {
            sockets: pair.sockets(),
            envoy: (pair.world.port(), pair.world.certificates().authority.clone()),
            tickets: pair.world.negotiate_tokens("alice", 4000).unwrap(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            minted: [const { AtomicUsize::new(0) }; 2],
            given: Mutex::new(Vec::new()),
        }
    }

    fn fresh(&self) -> Option<(usize, &String)> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let ticket = self.tickets.get(number)?;
        (!self.stop.load(Ordering::SeqCst)).then_some((number, ticket))
    }

    fn give(&self, number: usize, token: String) {
        self.given.lock().unwrap().push((number, token));
    }

    /// One of those for whom a token came, by this number.
    fn used(&self, number: usize) -> Option<usize> {
        let given = self.given.lock().unwrap();
        let at = number.checked_rem(given.len())?;
        given.get(at).map(|(number, _)| *number)
    }

    fn at_both(&self, number: usize) {
        let [first, other] = &self.sockets;
        let Some(ticket) = self.tickets.get(number) else { return };
        let answers = std::thread::scope(|scope| {
            let one = scope.spawn(|| exchange(first, ticket));
            [exchange(other, ticket), one.join().unwrap()]
        });
        let [at_other, at_first] = answers;
        for (answer, minted) in [at_first, at_other].into_iter().zip(&self.minted) {
            match answer {
                Ok(Exchanged::Token(token)) => {
                    minted.fetch_add(1, Ordering::SeqCst);
                    self.give(number, token);
                }
                Ok(refused @ Exchanged::Refused(..)) => assert!(
                    refused == Exchanged::replay() || refused == Exchanged::store_unavailable(),
                    "{refused:?}"
                ),
                // Who is killed says nothing.
                Err(_) => {}
            }
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    fn show_at_both(&self) {
        while let Some((number, _)) = self.fresh() {
            self.at_both(number);
            if let Some(again) = self.used(number) {
                self.at_both(again);
            }
        }
    }

    fn show_to_envoy(&self) {
        let (port, authority) = &self.envoy;
        while let Some((number, ticket)) = self.fresh() {
            let request = Request::get("/orders/1").header("authorization", format!("Negotiate {ticket}"));
            let answer = tls::send(*port, authority, &request).unwrap();
            match answer.header_text("x-kerbridge-token") {
                Some(token) => self.give(number, token),
                None => assert_eq!(answer.status, 503, "{}", answer.text()),
            }
        }
    }

    /// Waits until each broker has given so many more tokens.
    fn both_mint(&self, count: usize) {
        let wanted = self
            .minted
            .each_ref()
            .map(|minted| minted.load(Ordering::SeqCst).saturating_add(count));
        wait_until("tokens of both brokers", UNDER_LOAD, || {
            let minted = self.minted.iter().map(|minted| minted.load(Ordering::SeqCst));
            minted.zip(wanted).all(|(minted, wanted)| minted >= wanted)
        })
        .unwrap();
    }

    /// Waits until so many more tickets came to whoever is there.
    fn go_on(&self, count: usize) {
        let wanted = self.answered.load(Ordering::SeqCst).saturating_add(count);
        wait_until("more tickets", UNDER_LOAD, || {
            self.answered.load(Ordering::SeqCst) >= wanted
        })
        .unwrap();
    }
}

/// Ends the load when it goes, also where the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whichever_is_killed_while_both_mint_no_ticket_gives_two_tokens_and_no_revocation_is_lost() {
    type Act = fn(&mut Pair);
    let steps: [(&str, Act, Act); 4] = [
        (
            "a broker",
            |pair| pair.world.broker().kill().unwrap(),
            |pair| pair.world.broker().start().unwrap(),
        ),
        (
            "the other broker",
            |pair| pair.other.kill().unwrap(),
            |pair| pair.other.start().unwrap(),
        ),
        (
            "the database",
            |pair| assert!(pair.server.process().kill().is_ok()),
            |pair| pair.server.restart().unwrap(),
        ),
        (
            "the database and a broker",
            |pair| {
                pair.server.process().kill().unwrap();
                pair.world.broker().kill().unwrap();
            },
            |pair| {
                pair.server.restart().unwrap();
                pair.world.broker().start().unwrap();
            },
        ),
    ];
    let mut pair = Pair::start();
    let mut revoked = Vec::new();
    let mut jtis = BTreeSet::new();
    for (what, kill, mend) in steps {
        let taken_back = pair.token("bob");
        let load = Load::of(&mut pair);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| load.show_at_both());
            }
            scope.spawn(|| load.show_to_envoy());
            let stopping = Stopping(&load.stop);
            load.both_mint(10);
            // The last that it answered.
            let killed = if what == "the other broker" {
                &pair.other
            } else {
                pair.world.broker()
            };
            killed.revoke(&["--jti", &jti(&taken_back)]).unwrap();
            kill(&mut pair);
            load.go_on(20);
            mend(&mut pair);
            load.both_mint(10);
            drop(stopping);
        });
        revoked.push(taken_back);
        let given = load.given.into_inner().unwrap();
        let tickets: BTreeSet<usize> = given.iter().map(|(number, _)| *number).collect();
        assert_eq!(tickets.len(), given.len(), "{what}: a ticket gave two tokens");
        println!("{what}: {} tokens", given.len());
        for (number, token) in given {
            assert!(jtis.insert(jti(&token)), "{what}: a token came twice");
            let ticket = load.tickets.get(number).unwrap();
            for at in &load.sockets {
                wait_until("a replay is told", EFFECT, || {
                    let answer = exchange(at, ticket).unwrap();
                    assert!(!answer.is_token(), "{what}: a ticket that was used before");
                    answer == Exchanged::replay()
                })
                .unwrap();
            }
        }
        wait_until("everything that was taken back is out", EFFECT, || {
            revoked.iter().all(|token| pair.all_are(token, 401))
        })
        .unwrap();
        wait_until("tickets are taken", EFFECT, || pair.mints(8)).unwrap();
    }
}
