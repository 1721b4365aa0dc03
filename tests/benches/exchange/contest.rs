//! Measures who takes tickets, in turn: all of them run, one is shown tickets at a time, round after round. In each round all
//! are shown the same ones.

use kerbridge_tests::HarnessError;
use kerbridge_tests::apache::Apache;
use kerbridge_tests::bench::exchange::{Acceptor, ExchangeSetup};
use kerbridge_tests::bench::load::{Place, send_each};
use kerbridge_tests::bench::machine::{apache_version, krb5_version};
use kerbridge_tests::bench::processor::{pin, resident_kib, used};
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::record::{Measured, Round};
use kerbridge_tests::bench::settings::Settings;

use crate::raw::RawLoop;
use crate::realm::{Realm, Running, Tickets};

/// Tickets that each is shown before the first round.
const WARM_UP: u32 = 500;

/// Somebody who is being measured.
struct Subject {
    acceptor: Acceptor,
    program: Program,
    rounds: Vec<Round>,
}

enum Program {
    Raw(RawLoop),
    Apache { port: u16, pid: u32, _running: Box<Apache> },
    Broker(Box<Running>),
}

/// All acceptors, and the versions of those that are not ours.
pub(crate) fn run(settings: &Settings, realm: &Realm) -> Result<(String, Vec<ExchangeSetup>), HarnessError> {
    let wanted = Acceptor::ALL.iter().filter(|one| settings.wants(one.name()));
    let started: Result<Vec<Subject>, HarnessError> = wanted.map(|one| Subject::start(*one, settings, realm)).collect();
    let mut subjects = started?;
    let warm_up = realm.tickets(WARM_UP)?;
    for subject in &subjects {
        subject.round(settings, &warm_up)?;
    }
    for number in 1..=settings.rounds {
        let tickets = realm.tickets(settings.exchanges)?;
        // Another one goes first each time, so that nobody always follows the same neighbour.
        let order = (0..subjects.len()).cycle().skip(number as usize).take(subjects.len());
        for at in order {
            let Some(subject) = subjects.get_mut(at) else { continue };
            let round = subject.round(settings, &tickets)?;
            say(&format!(
                "round {number}/{}  {:<36} {:7.1} µs  {:7.0} exchanges a second",
                settings.rounds,
                subject.acceptor.title(),
                round.cpu_microseconds,
                round.counted.requests_per_second()
            ));
            subject.rounds.push(round);
        }
    }
    let setups: Result<Vec<ExchangeSetup>, HarnessError> = subjects.into_iter().map(Subject::finish).collect();
    Ok((versions(), setups?))
}

/// What those that are not ours say of themselves; whoever is not here was not measured.
fn versions() -> String {
    let (krb5, apache) = (krb5_version(), apache_version());
    format!("MIT krb5 {krb5}, Apache {apache}")
}

impl Subject {
    fn start(acceptor: Acceptor, settings: &Settings, realm: &Realm) -> Result<Self, HarnessError> {
        say(&format!("starting {}", acceptor.title()));
        let broker = |store, tcp| {
            realm
                .broker(acceptor.name(), store, tcp)
                .map(Box::new)
                .map(Program::Broker)
        };
        let program = match acceptor {
            Acceptor::RawLoop => Program::Raw(RawLoop::new(realm, settings.cores.measured)?),
            Acceptor::Apache => {
                let mut apache = Apache::start_bare(&realm.keytab(), realm.krb5_config())?;
                let pid = apache.process().pid();
                pin(pid, settings.cores.measured)?;
                Program::Apache {
                    port: apache.port(),
                    pid,
                    _running: Box::new(apache),
                }
            }
            Acceptor::Kerbridge => broker(true, false)?,
            Acceptor::KerbridgeWithoutStore => broker(false, false)?,
            Acceptor::KerbridgeOverTcp => broker(true, true)?,
        };
        Ok(Self {
            acceptor,
            program,
            rounds: Vec::new(),
        })
    }

    fn round(&self, settings: &Settings, tickets: &Tickets) -> Result<Round, HarnessError> {
        let (pid, place, requests) = match &self.program {
            Program::Raw(raw) => return raw.round(tickets),
            Program::Apache { port, pid, .. } => (*pid, Place::Tcp(*port), tickets.requests()),
            Program::Broker(running) => {
                let place = running
                    .port
                    .map_or_else(|| Place::Unix(running.broker.socket()), Place::Tcp);
                (running.pid()?, place, tickets.exchanges())
            }
        };
        let before = used(pid)?;
        let counted = send_each(&place, &requests, settings.connections as usize)?;
        Ok(Round {
            cpu_microseconds: (used(pid)? - before) / counted.requests as f64,
            beside_microseconds: 0.0,
            counted,
        })
    }

    fn finish(self) -> Result<ExchangeSetup, HarnessError> {
        let resident = match &self.program {
            Program::Raw(_) => 0,
            Program::Apache { pid, .. } => resident_kib(*pid)?,
            Program::Broker(running) => resident_kib(running.pid()?)?,
        };
        let measured = Measured::new(self.rounds, resident, 0).ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: format!("rounds of {}", self.acceptor.title()),
            answer: "none".to_owned(),
        })?;
        Ok(ExchangeSetup {
            acceptor: self.acceptor,
            title: self.acceptor.title().to_owned(),
            measured,
        })
    }
}
