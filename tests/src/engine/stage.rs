//! What a scenario plays on: it asks, checks what came of it, and everything that was carried meanwhile is kept.

use std::time::Duration;

use super::Target;
use super::capture;
use super::kdc_relay::Asked;
use super::own::Lab;
use super::yours::Yours;
use crate::apache;
use crate::curl::Answer;
use crate::error::HarnessError;
use crate::report::model::{Credential, Direction, Holding, Leg, Record, Step};
use crate::report::remedies;
use crate::scripted_server::Incoming;
use crate::wait::{Clock, Deadline, POLL};

mod ask;
mod diagnosis;
mod expect;
mod holdings;

pub use ask::{Ask, Exchange, Seen};
pub use expect::Expect;

use diagnosis::Diagnosis;
use expect::Verdict;
use holdings::{Holdings, Turn};

/// Why a scenario ends before its end.
pub enum Stop {
    /// It cannot be seen here.
    NotSeen {
        /// What stands in the way, in one line.
        why: String,
        /// What would let it be seen, in one line.
        remedy: String,
    },
    /// Something that it needs failed.
    Broken(HarnessError),
}

impl Stop {
    /// It cannot be seen here.
    pub fn not_seen(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::NotSeen {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<HarnessError> for Stop {
    fn from(error: HarnessError) -> Self {
        Self::Broken(error)
    }
}

/// How far each record was read.
#[derive(Clone, Copy, Default)]
struct Marks {
    kdc: usize,
    brokers: [usize; 2],
    upstream: usize,
}

/// The stage of one scenario.
pub struct Stage<'a> {
    target: &'a mut Target,
    clock: Clock,
    marks: Marks,
    steps: Vec<Step>,
    holdings: Holdings,
    /// What was carried since the last step.
    legs: Vec<Record>,
}

/// What was expected, what was seen, and whether the two agree.
type Judged<'a> = (&'a str, &'a str, bool);

/// What was carried between two looks.
#[derive(Default)]
struct Carried {
    exchanges: Vec<Exchange>,
    kdc: Vec<Asked>,
    /// What the echo service received last.
    received: Option<Incoming>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(target: &'a mut Target) -> Self {
        let mut stage = Self {
            target,
            clock: Clock::start(),
            marks: Marks::default(),
            steps: Vec::new(),
            holdings: Holdings::default(),
            legs: Vec::new(),
        };
        // What was carried before belongs to others.
        stage.carried();
        stage.legs.clear();
        stage
    }

    pub(super) fn end(self) -> (Vec<Step>, Vec<Holding>, u64) {
        (self.steps, self.holdings.into_vec(), self.clock.ms())
    }

    /// The lab's own parts.
    ///
    /// # Errors
    ///
    /// [`Stop::NotSeen`] in front of somebody's own.
    pub fn lab(&mut self) -> Result<&mut Lab, Stop> {
        match self.target {
            Target::Own(lab) => Ok(lab),
            Target::Yours(_) => Err(Stop::not_seen(
                "it changes parts, and in a set-up of yours nothing is changed",
                "run it on the lab's own parts: kerbridge-lab run",
            )),
        }
    }

    /// Somebody's own, where it is that.
    #[must_use]
    pub fn yours(&self) -> Option<&Yours> {
        match &*self.target {
            Target::Own(_) => None,
            Target::Yours(yours) => Some(yours),
        }
    }

    /// A path that a ticket of alice's opens, or of yours.
    #[must_use]
    pub fn path(&self) -> String {
        self.yours()
            .map_or_else(|| "/orders/1".to_owned(), |yours| yours.path.clone())
    }

    /// A user's name with the realm: in a set-up of yours there is one, whoever is asked for.
    #[must_use]
    pub fn principal(&self, user: &str) -> String {
        match &*self.target {
            Target::Own(lab) => lab.principal(user),
            Target::Yours(yours) => yours.principal.clone().unwrap_or_default(),
        }
    }

    /// Makes a request and keeps what every leg carried.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`](crate::curl::Curl::send).
    pub fn ask(&mut self, ask: &Ask) -> Result<Seen, Stop> {
        // What came before is of this step, too: somebody logged in.
        self.carried();
        let sent = self.clock.ms();
        let answer = ask.curl.send()?;
        let got = self.clock.ms();
        if answer.status == 0
            && let Some(yours) = self.yours()
        {
            return Err(Stop::not_seen(
                format!(
                    "nothing answers at {}: {}",
                    yours.origin,
                    capture::without_runs(&answer.complaint)
                ),
                "look at --envoy, and at --ca where the certificate is not trusted",
            ));
        }
        self.legs.extend(capture::client(&ask.curl, &answer, (sent, got)));
        let mut carried = self.carried();
        let body = answer.json();
        let is_echo = self.yours().is_some() || body.get("remote_user").is_some();
        if is_echo && let Some(echoed) = apache::received(&body) {
            self.legs.push(capture::upstream(&echoed, got));
            carried.received = Some(echoed);
        }
        let seen = self.seen(answer, carried);
        let who = &ask.who;
        self.holdings.note(Turn { who, sent, got }, &seen, self.clock);
        Ok(seen)
    }

    fn seen(&self, answer: Answer, carried: Carried) -> Seen {
        let Carried {
            exchanges,
            kdc,
            received,
        } = carried;
        Seen {
            reason: self.reason(&answer),
            answer,
            exchanges,
            kdc,
            received,
        }
    }

    fn reason(&self, answer: &Answer) -> Option<String> {
        if answer.status < 400 {
            return None;
        }
        match &*self.target {
            Target::Own(lab) => lab.world().reason(answer).ok().map(|(_, reason)| reason),
            Target::Yours(_) => answer.json().get("error")?.as_str().map(str::to_owned),
        }
    }

    /// Takes what was carried since it was asked last.
    fn carried(&mut self) -> Carried {
        let now = self.clock.ms();
        let relay = match &*self.target {
            Target::Own(lab) => Some(lab.kdc_relay()),
            Target::Yours(yours) => yours.relay.as_ref(),
        };
        let kdc = relay.map(|relay| relay.asked(self.marks.kdc)).unwrap_or_default();
        self.marks.kdc = self.marks.kdc.saturating_add(kdc.len());
        self.legs
            .extend(kdc.iter().flat_map(|asked| capture::kdc(asked, self.clock)));
        let Target::Own(lab) = &*self.target else {
            return Carried {
                kdc,
                ..Carried::default()
            };
        };
        let calls = lab.recorded(&self.marks.brokers);
        let requests = lab.world().upstream().requests();
        let arrived: Vec<Incoming> = requests.iter().skip(self.marks.upstream).cloned().collect();
        for (mark, calls) in self.marks.brokers.iter_mut().zip(&calls) {
            *mark = mark.saturating_add(calls.len());
        }
        self.marks.upstream = requests.len();
        let calls = calls.into_iter().enumerate();
        let exchanges =
            calls.flat_map(|(broker, calls)| calls.into_iter().map(move |recorded| Exchange { broker, recorded }));
        let exchanges: Vec<Exchange> = exchanges.filter(|exchange| exchange.recorded.is_exchange()).collect();
        let of_brokers = exchanges
            .iter()
            .flat_map(|exchange| capture::broker(&exchange.recorded, self.clock));
        self.legs.extend(of_brokers);
        for request in &arrived {
            let at = request.at.map_or(now, |at| self.clock.ms_at(at));
            self.legs.push(capture::upstream(request, at));
        }
        Carried {
            exchanges,
            kdc,
            received: arrived.into_iter().next_back(),
        }
    }

    /// Makes a request, and notes as a step what came of it.
    ///
    /// # Errors
    ///
    /// As [`Stage::ask`].
    pub fn step(&mut self, title: &str, ask: &Ask, expected: Expect<'_>, remedy: &str) -> Result<Seen, Stop> {
        let seen = self.ask(ask)?;
        let Verdict { expected, found, held } = expected.judge(&seen, self.yours().is_none());
        // What was refused by a name has the remedy of that name before that of the scenario.
        let reason = seen.reason.as_deref().filter(|reason| *reason != "ok");
        let remedy = match reason.and_then(remedies::of) {
            Some(named) => format!("{named}; {remedy}"),
            None => remedy.to_owned(),
        };
        let diagnosis = if held { None } else { self.diagnose(ask, &seen)? };
        self.note(title, (&expected, &found, held), &remedy, diagnosis);
        Ok(seen)
    }

    /// Notes a step: what was expected, what was seen, and all that was carried since the last one.
    pub fn fact(&mut self, title: &str, expected: &str, seen: &str, held: bool, remedy: &str) {
        self.note(title, (expected, seen, held), remedy, None);
    }

    /// Whether there is a step already.
    pub(super) fn has_begun(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Notes that the scenario did not come to its end.
    pub(super) fn broke(&mut self, told: &str, remedy: &str) {
        self.fact(
            "the scenario goes on",
            "everything that it needs is there",
            told,
            false,
            remedy,
        );
    }

    fn note(&mut self, title: &str, (expected, seen, held): Judged<'_>, remedy: &str, known: Option<Diagnosis>) {
        self.carried();
        let mut legs = std::mem::take(&mut self.legs);
        legs.sort_by_key(|record| (record.at_ms, order(record)));
        let at_ms = legs.first().map_or_else(|| self.clock.ms(), |first| first.at_ms);
        let known = known.or_else(|| diagnosis::unknown_to_the_kdc(&legs)).filter(|_| !held);
        let (cause, remedy) = match known {
            Some(Diagnosis { cause, remedy }) => (Some(capture::without_runs(&cause)), capture::without_runs(&remedy)),
            None => (None, remedy.to_owned()),
        };
        self.steps.push(Step {
            at_ms,
            title: title.to_owned(),
            expected: expected.to_owned(),
            seen: capture::without_runs(seen),
            held,
            cause,
            remedy: (!held).then_some(remedy),
            legs,
        });
    }

    /// Asks again and again until that status comes or the time is over, and returns how long that took. None of it is kept.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`](crate::curl::Curl::send).
    pub fn until(&mut self, ask: &Ask, status: u16, within: Duration) -> Result<Duration, Stop> {
        let clock = Deadline::after(self.patience(within));
        while ask.status()? != status && !clock.passed() {
            std::thread::sleep(POLL);
        }
        self.forget();
        Ok(clock.elapsed())
    }

    /// How long something is waited for that has to come, where it is waited for so long.
    #[must_use]
    pub fn patience(&self, within: Duration) -> Duration {
        match &*self.target {
            Target::Own(lab) => lab.patience(within),
            Target::Yours(_) => within,
        }
    }

    /// Keeps nothing of what was carried since the last request or step: it was tried many times.
    pub fn forget(&mut self) {
        let kept = self.legs.len();
        self.carried();
        self.legs.truncate(kept);
    }

    /// Makes a request of which nothing is kept.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`](crate::curl::Curl::send).
    pub fn try_out(&mut self, ask: &Ask) -> Result<Seen, Stop> {
        let answer = ask.curl.send()?;
        self.forget();
        Ok(self.seen(answer, Carried::default()))
    }

    /// Asks until that status came so often in a row that each of two brokers was asked, or the time is over. None of it is kept.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`](crate::curl::Curl::send).
    pub fn until_everywhere(&mut self, ask: &Ask, status: u16, within: Duration) -> Result<(), Stop> {
        let wanted = match &*self.target {
            Target::Own(lab) => lab.choice().in_a_row(),
            Target::Yours(_) => 1,
        };
        let clock = Deadline::after(self.patience(within));
        let mut row = 0_u32;
        while row < wanted && !clock.passed() {
            row = if ask.status()? == status {
                row.saturating_add(1)
            } else {
                0
            };
        }
        self.forget();
        Ok(())
    }

    /// What the client holds is worth nothing from now on.
    pub fn lose(&mut self, user: &str, credential: Credential, note: &str) {
        self.holdings.lose(&self.who(user), credential, self.clock.ms(), note);
    }
}

/// Within a millisecond: questions go from the client inwards, answers come out again.
fn order(record: &Record) -> u8 {
    let depth = match record.leg {
        Leg::Client => 0,
        Leg::Broker => 1,
        Leg::Kdc => 2,
        Leg::Upstream => 3,
    };
    match record.direction {
        Direction::Request => depth,
        Direction::Response => 10_u8.saturating_sub(depth),
    }
}
