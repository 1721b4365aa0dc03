//! Starts the lab's own parts as chosen, breaks them where a scenario says so, and makes them whole again.

use std::time::Duration;

use super::kdc_relay::KdcRelay;
use crate::broker::Broker;
use crate::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, Kind, LEGACY};
use crate::error::HarnessError;
use crate::kdc::Ccache;
use crate::postgres::Postgres;
use crate::relay::{Recorded, Relay};
use crate::wait::{Deadline, POLL, wait_until};
use crate::world::World;

mod parts;
mod setup;

use parts::{Second, crowd, groups, in_between, second, table, world};

/// A feed's poll, a worker's second, and an ejected broker's time, on a machine that has much to do.
pub const EFFECT: Duration = Duration::from_secs(20);
/// A user of a domain who is in many groups.
pub const MANY: &str = "many";
/// In how many.
pub const GROUPS: usize = 500;
/// The one of them that the policy names.
pub const CLERKS: &str = "order-clerks";
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
        let relay = KdcRelay::start(realm.address()?)?;
        in_between(realm.clients().krb5_config(), &realm.address()?.to_string(), &relay)?;
        let database = match choice.store {
            Store::Redb => None,
            Store::Postgres => Some(Postgres::start()?),
        };
        let mut tables = groups(&realm);
        if let Some(server) = &database {
            tables.push_str(&table(server)?);
        }
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-second-")
            .tempdir()
            .map_err(|source| HarnessError::io("create the second broker's folder", source))?;
        let between = folder.path().join("relay.sock");
        let mut world = world(&realm, &tables, port, (choice.brokers > 1).then_some(between.as_path()))?;
        let second = match choice.brokers {
            0 | 1 => None,
            _ => Some(second(&mut world, &realm, &tables, folder)?),
        };
        let lab = Self {
            world,
            second,
            database,
            relay,
            realm,
            choice,
            away: Away::default(),
        };
        lab.wait_until_whole()?;
        Ok(lab)
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

    /// Ends all brokers politely.
    ///
    /// # Errors
    ///
    /// As [`Broker::stop`].
    pub fn stop_brokers(&mut self) -> Result<(), HarnessError> {
        self.brokers().into_iter().try_for_each(Broker::stop)
    }

    /// Starts those that do not run, and waits until a ticket is taken.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn start_brokers(&mut self) -> Result<(), HarnessError> {
        for broker in self.brokers() {
            if broker.pid().is_none() {
                broker.start()?;
            }
        }
        self.wait_until_whole()
    }

    /// Ends them and starts them again: what a broker keeps in memory is gone.
    ///
    /// # Errors
    ///
    /// As [`Lab::start_brokers`].
    pub fn restart_brokers(&mut self) -> Result<(), HarnessError> {
        self.stop_brokers()?;
        self.start_brokers()
    }

    /// Has them run through a command from now on: `faketime -f +30s`; none is as usual again. They are not waited for.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn run_brokers_through(&mut self, command: &[&str]) -> Result<(), HarnessError> {
        self.away.changed = !command.is_empty();
        for broker in self.brokers() {
            // faketime does not hand a polite signal on.
            broker.kill()?;
            broker.start_through(command);
            start_once_free(broker)?;
        }
        Ok(())
    }

    /// Ends the KDC.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::stop`].
    pub fn stop_kdc(&mut self) -> Result<(), HarnessError> {
        self.away.kdc = true;
        self.realm.stop()
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::start_again`].
    pub fn start_kdc(&mut self) -> Result<(), HarnessError> {
        self.realm.start_again()?;
        self.away.kdc = false;
        Ok(())
    }

    /// Ends the database, where there is one; else leaves the broker no room on its disk.
    ///
    /// # Errors
    ///
    /// What the operating system said.
    pub fn stop_store(&mut self) -> Result<(), HarnessError> {
        self.away.database = true;
        match &mut self.database {
            Some(server) => server.process().kill().map(drop),
            None => self.world.broker().limit_files(Some(0)),
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn start_store(&mut self) -> Result<(), HarnessError> {
        match &mut self.database {
            Some(server) => server.restart()?,
            None => self.world.broker().limit_files(None)?,
        }
        self.away.database = false;
        Ok(())
    }

    /// Takes the broker's right at the KDC to act for users, or gives it back.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn let_act(&mut self, allowed: bool) -> Result<(), HarnessError> {
        if allowed {
            self.realm.allow(BRIDGE, LEGACY)?;
        } else {
            self.realm.forbid(BRIDGE, LEGACY)?;
        }
        self.away.right = !allowed;
        Ok(())
    }

    /// Gives the acceptor's account a new key. Returns the keytab with it alone.
    ///
    /// # Errors
    ///
    /// What the KDC's tools said.
    pub fn rekey(&self) -> Result<Vec<u8>, HarnessError> {
        let path = self.realm.rekey_acceptor("new.keytab")?;
        let bytes = std::fs::read(&path).map_err(|source| HarnessError::io("read the new keytab", source))?;
        std::fs::remove_file(&path).map_err(|source| HarnessError::io("remove the new keytab", source))?;
        Ok(bytes)
    }

    /// Adds a keytab's entries to those of the brokers', whole, under its name.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn add_to_keytab(&self, more: &[u8]) -> Result<(), HarnessError> {
        let keytab = self.realm.keytab(ACCEPTOR);
        let failed = |source| HarnessError::io("add a key to the keytab", source);
        let old = std::fs::read(&keytab).map_err(failed)?;
        // Before the entries of either stands the version of the format, two bytes.
        let both = [old.as_slice(), more.get(2..).unwrap_or_default()].concat();
        let new = keytab.with_extension("new");
        std::fs::copy(&keytab, &new)
            .and_then(|_| std::fs::write(&new, both))
            .and_then(|()| std::fs::rename(&new, &keytab))
            .map_err(failed)
    }

    /// A user's new tickets, beside those that the user has.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what `kinit` said.
    pub fn kinit(&self, user: &str, options: &[&str]) -> Result<Ccache, HarnessError> {
        self.realm.clients().kinit_with(user, options)
    }

    /// Gives back what a scenario took away, where it did not do so itself.
    pub(super) fn mend(&mut self) -> Result<(), HarnessError> {
        let away = self.away;
        let is_stopped = self.brokers().iter().any(|broker| broker.pid().is_none());
        if away.kdc {
            self.start_kdc()?;
        }
        if away.right {
            self.let_act(true)?;
        }
        if away.database {
            self.start_store()?;
        }
        if away.changed {
            self.run_brokers_through(&[])?;
        }
        if is_stopped || away.kdc || away.right || away.database || away.changed {
            return self.start_brokers();
        }
        // A broker that answered 503 for want of a database or a KDC is left out by Envoy for some seconds, though all are back.
        if self.second.is_some() {
            self.wait_until_whole()?;
        }
        Ok(())
    }

    /// Waits until tickets are taken, at each broker and by either way.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`].
    pub fn wait_until_whole(&self) -> Result<(), HarnessError> {
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
            let are_taken = (0..self.choice.in_a_row()).all(|_| is_taken("/orders/ready"));
            let [first, second] = self.recorded(&marks);
            are_taken && is_asked(&first) && (self.second.is_none() || is_asked(&second))
        })?;
        wait_until("a ticket to the service that takes Kerberos only", EFFECT, || {
            is_taken("/legacy/ready")
        })
    }
}

/// Starts a broker. What ran through a command that is not itself the broker may outlive that command by a moment, and holds
/// the state until then.
fn start_once_free(broker: &mut Broker) -> Result<(), HarnessError> {
    let clock = Deadline::after(EFFECT);
    loop {
        match broker.start() {
            Err(HarnessError::Exited { log, .. }) if log.contains("another broker") && !clock.passed() => {
                std::thread::sleep(POLL);
            }
            Ok(()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
