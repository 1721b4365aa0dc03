//! What a scenario plays on: it asks, checks what came of it, and everything that was carried meanwhile is kept.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::Target;
use super::capture;
use super::own::Lab;
use super::yours::Yours;
use crate::apache;
use crate::curl::{Answer, Curl};
use crate::error::HarnessError;
use crate::kdc::Ccache;
use crate::relay::Recorded;
use crate::report::model::{Credential, Direction, Holder, Holding, Leg, Record, Step};
use crate::report::remedies;
use crate::scripted_server::Incoming;
use crate::token::{self, Decoded};
use crate::wait::{Clock, Deadline, POLL};

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

/// So many answers in a row come from each of two brokers.
pub(crate) const IN_A_ROW: u32 = 8;

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
    holdings: Vec<Holding>,
    /// What was carried since the last step.
    legs: Vec<Record>,
}

/// A request that somebody is to make.
#[derive(Clone, Debug)]
pub struct Ask {
    curl: Curl,
    who: String,
}

impl Ask {
    /// With one more header line.
    #[must_use]
    pub fn header(mut self, line: &str) -> Self {
        self.curl = self.curl.header(line);
        self
    }

    /// By another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.curl = self.curl.method(method);
        self
    }

    /// Makes it without keeping what was carried: for what is tried many times.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn status(&self) -> Result<u16, HarnessError> {
        self.curl.send().map(|answer| answer.status)
    }
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the client got.
    pub answer: Answer,
    /// The exchanges at the brokers meanwhile.
    pub exchanges: Vec<Recorded>,
    /// What the service behind Envoy received, where that is seen.
    pub received: Option<Incoming>,
    /// The word for the reason: the filter's own, or in a set-up of yours the client's.
    pub reason: Option<String>,
}

impl Seen {
    /// The token that came, in its header or its cookie.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        let header = self.answer.header("x-kerbridge-token").map(str::to_owned);
        header.or_else(|| Some(self.cookie()?.split_once('=')?.1.to_owned()))
    }

    /// That token, read.
    #[must_use]
    pub fn decoded(&self) -> Option<Decoded> {
        token::decode(&self.token()?)
    }

    /// The cookie with a token that came, `NAME=TOKEN`.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        let lines = self.answer.all("set-cookie").into_iter();
        let pairs = lines.filter_map(|line| line.split(';').next());
        pairs
            .filter(|pair| {
                pair.split_once('=')
                    .is_some_and(|(_, value)| token::decode(value).is_some())
            })
            .map(str::to_owned)
            .next()
    }

    /// All values of a header that the service received.
    #[must_use]
    pub fn received(&self, name: &str) -> Vec<String> {
        let values = self.received.iter().flat_map(|received| received.all(name));
        values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Whom Apache saw.
    #[must_use]
    pub fn remote_user(&self) -> Option<String> {
        apache::remote_user(&self.answer.json()).map(str::to_owned)
    }

    fn told(&self) -> String {
        if self.answer.status == 0 {
            return capture::without_runs(&format!("no answer: {}", self.answer.complaint));
        }
        let reason = self.reason.as_ref().map(|reason| format!(" {reason}"));
        format!("{}{}", self.answer.status, reason.unwrap_or_default())
    }
}

/// What has to come of a request.
#[derive(Clone, Copy, Debug)]
pub enum Expect<'a> {
    /// It passes, and the service is told this principal.
    PassesAs(&'a str),
    /// It passes.
    Passes,
    /// It is refused so, and nothing reaches the service.
    Refused(u16, &'a str),
}

impl<'a> Stage<'a> {
    pub(super) fn new(target: &'a mut Target) -> Self {
        let mut stage = Self {
            target,
            clock: Clock::start(),
            marks: Marks::default(),
            steps: Vec::new(),
            holdings: Vec::new(),
            legs: Vec::new(),
        };
        // What was carried before belongs to others.
        drop(stage.carried());
        stage.legs.clear();
        stage
    }

    pub(super) fn end(self) -> (Vec<Step>, Vec<Holding>, u64) {
        (self.steps, self.holdings, self.clock.ms())
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

    /// A request without credentials.
    #[must_use]
    pub fn bare(&self, path: &str) -> Ask {
        let curl = match &*self.target {
            Target::Own(lab) => lab.world().curl(path),
            Target::Yours(yours) => yours.curl(path),
        };
        Ask {
            curl,
            who: "nobody".to_owned(),
        }
    }

    /// A request with a user's ticket.
    ///
    /// # Errors
    ///
    /// [`Stop::NotSeen`] where there is no ticket.
    pub fn with_ticket(&self, user: &str, path: &str) -> Result<Ask, Stop> {
        let curl = match &*self.target {
            Target::Own(lab) => lab.world().curl_as(user, path),
            Target::Yours(yours) => match &yours.no_ticket {
                Some((why, remedy)) => return Err(Stop::not_seen(why, remedy)),
                None => yours.curl_with_ticket(path),
            },
        };
        let who = self.who(user);
        Ok(Ask { curl, who })
    }

    /// A request with tickets of another cache than the user's own.
    ///
    /// # Errors
    ///
    /// [`Stop::NotSeen`] in front of somebody's own.
    pub fn with_cache(&mut self, user: &str, cache: &Ccache, path: &str) -> Result<Ask, Stop> {
        let world = self.lab()?.world();
        let config = world.kdc().krb5_config().as_os_str().to_owned();
        let environment = [
            ("KRB5_CONFIG", config),
            ("KRB5CCNAME", cache.path().as_os_str().to_owned()),
        ];
        let curl = world.curl(path).negotiate(environment);
        let who = self.who(user);
        Ok(Ask { curl, who })
    }

    /// A request with a token.
    #[must_use]
    pub fn with_token(&self, user: &str, token: &str, path: &str) -> Ask {
        let bare = self.bare(path);
        Ask {
            curl: bare.curl.bearer(token),
            who: self.who(user),
        }
    }

    /// A request with a cookie.
    #[must_use]
    pub fn with_cookie(&self, user: &str, cookie: &str, path: &str) -> Ask {
        let bare = self.bare(path);
        Ask {
            curl: bare.curl.header(&format!("cookie: {cookie}")),
            who: self.who(user),
        }
    }

    fn who(&self, user: &str) -> String {
        if self.yours().is_some() {
            "you".to_owned()
        } else {
            user.to_owned()
        }
    }

    /// Makes a request and keeps what every leg carried.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn ask(&mut self, ask: &Ask) -> Result<Seen, Stop> {
        // What came before is of this step, too: somebody logged in.
        drop(self.carried());
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
        let (exchanges, mut received) = self.carried();
        let body = answer.json();
        let is_echo = self.yours().is_some() || body.get("remote_user").is_some();
        if is_echo && let Some(echoed) = apache::received(&body) {
            self.legs.push(capture::upstream(&echoed, got));
            received = Some(echoed);
        }
        let seen = Seen {
            reason: self.reason(&answer),
            answer,
            exchanges,
            received,
        };
        self.hold(ask, &seen, (sent, got));
        Ok(seen)
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

    /// Takes what was carried since it was asked last; the exchanges of it, and what the echo service received.
    fn carried(&mut self) -> (Vec<Recorded>, Option<Incoming>) {
        let now = self.clock.ms();
        let lab = match &*self.target {
            Target::Own(lab) => lab,
            Target::Yours(yours) => {
                let asked = yours
                    .relay
                    .as_ref()
                    .map(|relay| relay.asked(self.marks.kdc))
                    .unwrap_or_default();
                self.marks.kdc = self.marks.kdc.saturating_add(asked.len());
                self.legs
                    .extend(asked.iter().flat_map(|asked| capture::kdc(asked, self.clock)));
                return (Vec::new(), None);
            }
        };
        let asked = lab.kdc_relay().asked(self.marks.kdc);
        let calls = lab.recorded(&self.marks.brokers);
        let requests = lab.world().upstream().requests();
        let arrived: Vec<Incoming> = requests.iter().skip(self.marks.upstream).cloned().collect();
        self.marks.kdc = self.marks.kdc.saturating_add(asked.len());
        for (mark, calls) in self.marks.brokers.iter_mut().zip(&calls) {
            *mark = mark.saturating_add(calls.len());
        }
        self.marks.upstream = requests.len();
        // Envoy asks for keys and revocations all the time, whatever the scenario.
        let is_exchange = |recorded: &Recorded| recorded.call.line.starts_with("POST ");
        let exchanges: Vec<Recorded> = calls.into_iter().flatten().filter(is_exchange).collect();
        self.legs
            .extend(asked.iter().flat_map(|asked| capture::kdc(asked, self.clock)));
        self.legs.extend(
            exchanges
                .iter()
                .flat_map(|recorded| capture::broker(recorded, self.clock)),
        );
        for request in &arrived {
            let at = request.at.map_or(now, |at| self.clock.ms_at(at));
            self.legs.push(capture::upstream(request, at));
        }
        (exchanges, arrived.into_iter().next_back())
    }

    /// Checks what came of a request.
    pub fn check(&mut self, title: &str, seen: &Seen, expected: Expect<'_>, remedy: &str) {
        let status = seen.answer.status;
        let (expected, found, held) = match expected {
            Expect::Passes => ("200".to_owned(), seen.told(), (200..400).contains(&status)),
            Expect::PassesAs(principal) => {
                let (told, how) = self.told_principal(seen);
                let found = match &told {
                    Some(told) => format!("{}, and {how} {told}", seen.told()),
                    None => format!("{}, and {how} nobody", seen.told()),
                };
                let held = (200..400).contains(&status) && told.as_deref() == Some(principal);
                (format!("200, and {how} {principal}"), found, held)
            }
            Expect::Refused(wanted, reason) => {
                let own = self.yours().is_none();
                let arrived = seen.received.as_ref().map_or("", |_| ", and it reached the service");
                let is_reason = !own || seen.reason.as_deref() == Some(reason);
                let held = status == wanted && is_reason && arrived.is_empty();
                let word = if own { format!(" {reason}") } else { String::new() };
                (
                    format!("{wanted}{word}, and nothing reaches the service"),
                    format!("{}{arrived}", seen.told()),
                    held,
                )
            }
        };
        // What was refused by a name has the remedy of that name before that of the scenario.
        let named = seen
            .reason
            .as_deref()
            .filter(|reason| *reason != "ok")
            .and_then(remedies::of);
        let remedy = named.map_or_else(|| remedy.to_owned(), |named| format!("{named}; {remedy}"));
        self.fact(title, &expected, &found, held, &remedy);
    }

    /// Whom the service was told, or where that is not seen, whom the token names.
    fn told_principal(&self, seen: &Seen) -> (Option<String>, &'static str) {
        if let Some(user) = seen.remote_user() {
            return (Some(user), "Apache sees");
        }
        if self.yours().is_none() || seen.received.is_some() {
            let told = seen.received("x-kerbridge-subject");
            return ((!told.is_empty()).then(|| told.join(", ")), "the service is told");
        }
        let token = seen.decoded();
        let subject = token.and_then(|token| token.claims.get("sub")?.as_str().map(str::to_owned));
        (subject, "the token names")
    }

    /// Notes a step: what was expected, what was seen, and all that was carried since the last one.
    pub fn fact(&mut self, title: &str, expected: &str, seen: &str, held: bool, remedy: &str) {
        drop(self.carried());
        let mut legs = std::mem::take(&mut self.legs);
        legs.sort_by_key(|record| (record.at_ms, order(record)));
        let at_ms = legs.first().map_or_else(|| self.clock.ms(), |first| first.at_ms);
        self.steps.push(Step {
            at_ms,
            title: title.to_owned(),
            expected: expected.to_owned(),
            seen: capture::without_runs(seen),
            held,
            remedy: (!held).then(|| remedy.to_owned()),
            legs,
        });
    }

    /// Asks again and again until that status comes or the time is over, and returns how long that took. None of it is kept.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn until(&mut self, ask: &Ask, status: u16, within: Duration) -> Result<Duration, Stop> {
        let clock = Deadline::after(within);
        while ask.status()? != status && !clock.passed() {
            std::thread::sleep(POLL);
        }
        self.forget();
        Ok(clock.elapsed())
    }

    /// Keeps nothing of what was carried since the last request or step: it was tried many times.
    pub fn forget(&mut self) {
        let kept = self.legs.len();
        drop(self.carried());
        self.legs.truncate(kept);
    }

    /// Makes a request of which nothing is kept.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn try_out(&mut self, ask: &Ask) -> Result<Seen, Stop> {
        let answer = ask.curl.send()?;
        self.forget();
        Ok(Seen {
            reason: self.reason(&answer),
            answer,
            exchanges: Vec::new(),
            received: None,
        })
    }

    /// The same until that status came so often in a row that each of two brokers was asked.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn until_everywhere(&mut self, ask: &Ask, status: u16, within: Duration) -> Result<(), Stop> {
        let brokers = match &*self.target {
            Target::Own(lab) => lab.choice().brokers,
            Target::Yours(_) => 1,
        };
        let wanted = if brokers > 1 { IN_A_ROW } else { 1 };
        let clock = Deadline::after(within);
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

    /// Notes who held which credential meanwhile.
    fn hold(&mut self, ask: &Ask, seen: &Seen, (sent, got): (u64, u64)) {
        let who = &ask.who;
        let head = seen.answer.sent.last().map(String::as_str).unwrap_or_default();
        let sends = |start: &str| head.lines().any(|line| line.to_ascii_lowercase().starts_with(start));
        if sends("authorization: negotiate") {
            self.keep(
                Holder::Client,
                Credential::Ticket,
                format!("{who}'s ticket"),
                sent,
                None,
                "for Envoy's service",
            );
            self.keep(
                Holder::Filter,
                Credential::ApReq,
                format!("{who}'s ticket, shown"),
                sent,
                Some(got),
                "good once",
            );
        }
        if sends("authorization: bearer") {
            self.keep(
                Holder::Client,
                Credential::Token,
                format!("{who}'s token"),
                sent,
                None,
                "",
            );
            self.keep(
                Holder::Filter,
                Credential::Token,
                format!("{who}'s token, shown"),
                sent,
                Some(got),
                "",
            );
        }
        if sends("cookie: __host-kerbridge") {
            self.keep(
                Holder::Client,
                Credential::Cookie,
                format!("{who}'s cookie"),
                sent,
                None,
                "",
            );
            self.keep(
                Holder::Filter,
                Credential::Cookie,
                format!("{who}'s cookie, shown"),
                sent,
                Some(got),
                "",
            );
        }
        for recorded in &seen.exchanges {
            let from = recorded.call.at.map_or(sent, |at| self.clock.ms_at(at));
            let until = self.clock.ms_at(recorded.answered_at);
            let body = String::from_utf8_lossy(&recorded.call.body);
            let is_given = recorded.answer.as_ref().is_some_and(|answer| answer.status == 200);
            if !body.contains("requested_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate") {
                self.keep(
                    Holder::Broker,
                    Credential::ApReq,
                    format!("{who}'s ticket, shown"),
                    from,
                    Some(until),
                    "checked with the keytab",
                );
            } else {
                self.keep(
                    Holder::Broker,
                    Credential::Token,
                    format!("{who}'s token, to become a ticket"),
                    from,
                    Some(until),
                    "",
                );
                if is_given {
                    self.keep(
                        Holder::Broker,
                        Credential::ServiceTicket,
                        format!("a ticket in {who}'s name"),
                        from,
                        None,
                        "for the service behind Envoy",
                    );
                    self.keep(
                        Holder::Filter,
                        Credential::ApReq,
                        format!("shown in {who}'s name"),
                        until,
                        Some(got),
                        "good once",
                    );
                }
            }
        }
        if seen
            .received("authorization")
            .iter()
            .any(|value| value.starts_with("Negotiate "))
        {
            self.keep(
                Holder::Upstream,
                Credential::ApReq,
                format!("shown in {who}'s name"),
                got,
                Some(got),
                "good once",
            );
        }
        if let Some(decoded) = seen.decoded() {
            let (what, label) = match seen.cookie() {
                Some(_) => (Credential::Cookie, format!("{who}'s cookie")),
                None => (Credential::Token, format!("{who}'s token")),
            };
            let until = life(&decoded.claims).map(|life| got.saturating_add(life));
            self.keep(Holder::Client, what, label, got, until, &described(&decoded));
        }
    }

    /// Notes that somebody holds a credential; one that is held already goes on being held.
    pub fn keep(
        &mut self,
        who: Holder,
        credential: Credential,
        label: String,
        from: u64,
        until: Option<u64>,
        note: &str,
    ) {
        let is_moment = who != Holder::Client && until.is_some();
        let held = self
            .holdings
            .iter_mut()
            .find(|held| !is_moment && (held.who, held.credential) == (who, credential) && held.label == label);
        match held {
            Some(held) => {
                held.until_ms = held
                    .until_ms
                    .zip(until)
                    .map(|(one, other)| one.max(other))
                    .or(held.until_ms)
                    .or(until)
            }
            None => self.holdings.push(Holding {
                who,
                credential,
                label,
                from_ms: from,
                until_ms: until,
                note: capture::without_runs(note),
            }),
        }
    }

    /// What the client holds under this label is worth nothing from now on.
    pub fn lose(&mut self, user: &str, credential: Credential, note: &str) {
        let (now, who) = (self.clock.ms(), self.who(user));
        let of_user = |held: &&mut Holding| {
            held.who == Holder::Client && held.credential == credential && held.label.starts_with(&format!("{who}'s "))
        };
        if let Some(held) = self.holdings.iter_mut().rev().find(of_user) {
            held.until_ms = Some(now);
            if !held.note.is_empty() {
                held.note.push_str("; ");
            }
            held.note.push_str(note);
        }
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

/// How long after its issue a token ends, in milliseconds.
fn life(claims: &Value) -> Option<u64> {
    let moment = |name: &str| claims.get(name)?.as_u64();
    moment("exp")?.checked_sub(moment("iat")?)?.checked_mul(1000)
}

/// What a token says, without what would let anybody use it.
fn described(token: &Decoded) -> String {
    let mut text = String::new();
    for name in ["sub", "aud", "scope", "groups"] {
        if let Some(value) = token.claims.get(name) {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(text, "{}{name} {shown}", if text.is_empty() { "" } else { ", " }).unwrap_or(());
        }
    }
    text
}
