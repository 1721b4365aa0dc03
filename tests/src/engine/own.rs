//! Starts the lab's own parts as chosen, and waits until they are whole.

use std::time::Duration;

use super::kdc_relay::KdcRelay;
use crate::broker::Broker;
use crate::delegation::{DelegationRealm, Kind};
use crate::error::HarnessError;
use crate::kdc::Ccache;
use crate::postgres::Postgres;
use crate::relay::{Recorded, Relay};
use crate::report::unix;
use crate::wait::wait_until;
use crate::world::World;

mod broken;
mod changes;
mod parts;
mod setup;

pub use broken::{Broken, MISSPELT};

use parts::{BINDINGS, Second, crowd, groups, in_between, second, table, world};

/// A feed's poll, a worker's second, and an ejected broker's time, on a machine that has much to do.
pub const EFFECT: Duration = Duration::from_secs(20);
/// A user of a domain who is in many groups.
pub const MANY: &str = "many";
/// In how many.
pub const GROUPS: usize = 500;
/// The one of them that the policy names.
pub const CLERKS: &str = "order-clerks";
/// As long as that where nobody gets in anyway.
const NO_EFFECT: Duration = Duration::from_secs(2);
/// And where somebody does and nobody should.
const SOME_EFFECT: Duration = Duration::from_secs(8);
/// So many requests in a row, on connections of their own, reach each of two brokers.
pub const IN_A_ROW: u32 = 8;

/// Where brokers keep what they must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file; for one broker.
    Redb,
    /// A database.
    Postgres,
}

/// What the lab is made of.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Whose tickets.
    pub kdc: Kind,
    /// 1 or 2.
    pub brokers: u32,
    /// Of the brokers.
    pub store: Store,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
}

impl Choice {
    /// So many requests in a row reach each broker.
    #[must_use]
    pub const fn in_a_row(self) -> u32 {
        if self.brokers > 1 { IN_A_ROW } else { 1 }
    }
}

/// Everything, running.
pub struct Lab {
    // Dropped in this order: those who call before those who are called.
    world: World,
    second: Option<Second>,
    database: Option<Postgres>,
    relay: KdcRelay,
    realm: DelegationRealm,
    choice: Choice,
    away: Away,
}

/// What was taken away and is not back yet.
#[derive(Clone, Copy, Debug, Default)]
struct Away {
    kdc: bool,
    database: bool,
    right: bool,
    /// The brokers run otherwise than they should.
    changed: bool,
}

impl Lab {
    /// Starts all of it, and waits until a ticket is taken.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start(choice: Choice) -> Result<Self, HarnessError> {
        Self::start_at(choice, 0)
    }

    /// The same with Envoy at this port of 127.0.0.1; 0 is a free one.
    ///
    /// # Errors
    ///
    /// As [`Lab::start`].
    pub fn start_at(choice: Choice, port: u16) -> Result<Self, HarnessError> {
        let realm = DelegationRealm::start_with(choice.kdc, crowd)?;
        if choice.broken == Some(Broken::WrongSpn) {
            realm.rename_acceptor(MISSPELT)?;
        }
        let relay = KdcRelay::start(realm.address()?)?;
        in_between(realm.clients().krb5_config(), &realm.address()?.to_string(), &relay)?;
        let database = match choice.store {
            Store::Redb => None,
            Store::Postgres => Some(Postgres::start()?),
        };
        let mut tables = groups(&realm);
        tables.push_str(BINDINGS);
        if let Some(server) = &database {
            tables.push_str(&table(server)?);
        }
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-second-")
            .tempdir()
            .map_err(|source| HarnessError::io("create the second broker's folder", source))?;
        let between = folder.path().join("relay.sock");
        let second_socket = (choice.brokers > 1).then_some(between.as_path());
        let mut world = world(&realm, &tables, (port, second_socket), choice.broken)?;
        let second = match choice.brokers {
            0 | 1 => None,
            _ => Some(second(&mut world, &realm, &tables, folder, choice.broken)?),
        };
        let mut lab = Self {
            world,
            second,
            database,
            relay,
            realm,
            choice,
            away: Away::default(),
        };
        if choice.broken.and_then(Broken::offset).is_some() {
            lab.run_brokers_through(&[])?;
        }
        lab.wait_until_whole()?;
        Ok(lab)
    }

    /// How long something is waited for that has to come, where a scenario waits so long.
    #[must_use]
    pub fn patience(&self, within: Duration) -> Duration {
        match self.choice.broken {
            Some(broken) if broken.keeps_everybody_out() => within.min(NO_EFFECT),
            Some(_) => within.min(SOME_EFFECT),
            None => within,
        }
    }

    /// Envoy, the first broker, the services and the users.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The same, to look at its broker and Envoy.
    pub const fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// The realm.
    #[must_use]
    pub const fn realm(&self) -> &DelegationRealm {
        &self.realm
    }

    /// What it is made of.
    #[must_use]
    pub const fn choice(&self) -> Choice {
        self.choice
    }

    /// What stands between the KDC and all who ask it.
    #[must_use]
    pub const fn kdc_relay(&self) -> &KdcRelay {
        &self.relay
    }

    /// The name with the realm.
    #[must_use]
    pub fn principal(&self, user: &str) -> String {
        self.realm.principal(user)
    }

    /// What each relay before a broker has recorded from these numbers on.
    pub(super) fn recorded(&self, from: &[usize; 2]) -> [Vec<Recorded>; 2] {
        let first = self.world.relay().map(Relay::recorded).unwrap_or_default();
        let second = self.second.as_ref().map(|second| second.relay.recorded());
        let [one, two] = *from;
        [
            first.into_iter().skip(one).collect(),
            second.unwrap_or_default().into_iter().skip(two).collect(),
        ]
    }

    /// The brokers, the first one first.
    pub fn brokers(&mut self) -> Vec<&mut Broker> {
        let second = self.second.as_mut().map(|second| &mut second.broker);
        std::iter::once(self.world.broker()).chain(second).collect()
    }

    /// Does something at the first broker, as its administrator.
    pub fn broker(&mut self) -> &mut Broker {
        self.world.broker()
    }

    /// The policy of the brokers.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn policy(&mut self) -> Result<String, HarnessError> {
        let path = self.world.broker().folder().join("policy.toml");
        std::fs::read_to_string(&path).map_err(|source| HarnessError::io(format!("read {}", path.display()), source))
    }

    /// By how many seconds the clock of a broker is ahead of this machine's, as the last line of its log with this word tells.
    pub(super) fn ahead(&mut self, broker: usize, word: &str) -> Option<i64> {
        let log = self.brokers().into_iter().nth(broker)?.logged(word);
        let line = log.lines().rev().find(|line| line.contains(word))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let theirs = unix(line.get("timestamp")?.as_str()?)?;
        i64::try_from(theirs).ok()?.checked_sub_unsigned(crate::token::now())
    }

    /// A user's new tickets, beside those that the user has.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what `kinit` said.
    pub fn kinit(&self, user: &str, options: &[&str]) -> Result<Ccache, HarnessError> {
        self.realm.clients().kinit_with(user, options)
    }

    /// Waits until tickets are taken, at each broker and by either way; not in a set-up that was broken so that none is.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`].
    pub fn wait_until_whole(&self) -> Result<(), HarnessError> {
        // A path at which a ticket is asked for, whatever is open.
        let path = match self.choice.broken {
            Some(broken) if broken.keeps_everybody_out() => return Ok(()),
            Some(_) => "/reports/ready",
            None => "/orders/ready",
        };
        let is_taken = |path: &str| {
            let answer = self.world.curl_as("alice", path).send();
            answer.is_ok_and(|answer| answer.status == 200)
        };
        // Envoy leaves out for a while a broker that did not answer well: that tickets are taken does not say that both take
        // them, and that one was asked some time ago does not say that it is asked now.
        let is_asked = |calls: &Vec<Recorded>| calls.iter().any(Recorded::is_exchange);
        wait_until("a ticket that is taken at each broker", EFFECT, || {
            let mut marks = [0; 2];
            for (mark, calls) in marks.iter_mut().zip(self.recorded(&[0; 2])) {
                *mark = calls.len();
            }
            let are_taken = (0..self.choice.in_a_row()).all(|_| is_taken(path));
            let [first, second] = self.recorded(&marks);
            are_taken && is_asked(&first) && (self.second.is_none() || is_asked(&second))
        })?;
        wait_until("a ticket to the service that takes Kerberos only", EFFECT, || {
            is_taken("/legacy/ready")
        })
    }
}
