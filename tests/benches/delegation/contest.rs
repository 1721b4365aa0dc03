//! Measures the ways in turn: everything runs, one way is loaded at a time, round after round.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::delegation::{MeasuredWay, Shares, Way};
use kerbridge_tests::bench::load::{Place as At, send_each};
use kerbridge_tests::bench::machine::{apache_version, krb5_version};
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::raw::Looped;
use kerbridge_tests::bench::record::{Measured, Round};
use kerbridge_tests::bench::settings::Settings;

use crate::place::Place;
use crate::raw::RawLoop;
use crate::{NEW_USERS, USERS};

/// A way and its rounds so far.
struct Contestant {
    way: Way,
    rounds: Vec<Round>,
    shares: Vec<Shares>,
}

pub(crate) fn run(settings: &Settings, place: &mut Place) -> Result<Vec<MeasuredWay>, HarnessError> {
    let raw = RawLoop::new(settings.cores.measured)?;
    let wanted = Way::ALL.iter().filter(|way| settings.wants(way.name()));
    let mut contestants: Vec<Contestant> = wanted
        .map(|way| Contestant {
            way: *way,
            rounds: Vec::new(),
            shares: Vec::new(),
        })
        .collect();
    let by_token = place.by_token(0..USERS, settings.exchanges)?;
    // The first round is nobody's: it fetches the tickets of those who are no new users.
    for number in 0..=settings.rounds {
        // Another one goes first each time, so that nobody always follows the same neighbour.
        let order = (0..contestants.len())
            .cycle()
            .skip(number as usize)
            .take(contestants.len());
        for at in order {
            let Some(contestant) = contestants.get_mut(at) else {
                continue;
            };
            let (round, shares) = contestant.way.round(number, settings, place, &raw, &by_token)?;
            if number == 0 {
                continue;
            }
            say(&format!(
                "round {number}/{}  {:<44} {:7.1} µs  {:7.0} a second, {:.0} KDC requests for 1,000",
                settings.rounds,
                contestant.way.title(),
                round.cpu_microseconds,
                round.counted.requests_per_second(),
                shares.kdc_requests
            ));
            contestant.rounds.push(round);
            contestant.shares.push(shares);
        }
    }
    contestants.into_iter().map(Contestant::finish).collect()
}

/// What those that are not ours say of themselves.
pub(crate) fn versions() -> String {
    let (krb5, apache) = (krb5_version(), apache_version());
    format!("MIT krb5 {krb5}, its KDC on a directory, Apache {apache}")
}

trait Measure {
    fn round(
        self,
        number: u32,
        settings: &Settings,
        place: &mut Place,
        raw: &RawLoop,
        by_token: &[Vec<u8>],
    ) -> Result<(Round, Shares), HarnessError>;
}

impl Measure for Way {
    fn round(
        self,
        number: u32,
        settings: &Settings,
        place: &mut Place,
        raw: &RawLoop,
        by_token: &[Vec<u8>],
    ) -> Result<(Round, Shares), HarnessError> {
        let from = USERS.saturating_add(number.saturating_mul(NEW_USERS));
        let new_users = from..from.saturating_add(NEW_USERS);
        let requests = match self {
            Self::RawLoop | Self::RawLoopNewUsers => {
                let before = place.used()?;
                let [tickets, tokens] = raw.round(&place.realm, new_users, settings.exchanges)?;
                let after = place.used()?;
                let shares = match self {
                    Self::RawLoopNewUsers => after.since(&before, tickets.counted.requests),
                    Self::RawLoop | Self::Direct | Self::Kerbridge | Self::KerbridgeNewUsers => Shares::default(),
                };
                let looped = if self == Self::RawLoop { tokens } else { tickets };
                return Ok(alone(looped, shares));
            }
            Self::Direct => place.by_ticket(settings.exchanges)?,
            Self::Kerbridge => by_token.to_vec(),
            Self::KerbridgeNewUsers => place.by_token(new_users, NEW_USERS)?,
        };
        let port = if self == Self::Direct {
            place.apache.port()
        } else {
            place.world.port()
        };
        let before = place.used()?;
        let counted = send_each(&At::Tcp(port), &requests, settings.connections as usize)?;
        let shares = place.used()?.since(&before, counted.requests);
        let round = Round {
            cpu_microseconds: shares.sum(),
            beside_microseconds: 0.0,
            counted,
        };
        Ok((round, shares))
    }
}

/// The loop's own processor time stands where the broker's does.
fn alone(looped: Looped, shares: Shares) -> (Round, Shares) {
    let shares = Shares {
        envoy: 0.0,
        broker: looped.cpu,
        service: 0.0,
        ..shares
    };
    let round = Round {
        cpu_microseconds: shares.sum(),
        beside_microseconds: 0.0,
        counted: looped.counted,
    };
    (round, shares)
}

impl Contestant {
    fn finish(self) -> Result<MeasuredWay, HarnessError> {
        let measured = Measured::new(self.rounds, 0, 0).ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: format!("rounds of {}", self.way.title()),
            answer: "none".to_owned(),
        })?;
        Ok(MeasuredWay {
            way: self.way,
            title: self.way.title().to_owned(),
            measured,
            shares: self.shares,
        })
    }
}
