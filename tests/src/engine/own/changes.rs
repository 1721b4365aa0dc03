//! What a scenario does to the lab's parts: takes them away, gives them back, changes their clock and their keys.

use super::{Broken, Lab};
use crate::broker::Broker;
use crate::delegation::{ACCEPTOR, BRIDGE, LEGACY};
use crate::error::HarnessError;
use crate::shifted_clock;

impl Lab {
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

    /// Has them run from now on through commands that become them; none is as usual again. They are not waited for.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn run_brokers_through(&mut self, command: &[&str]) -> Result<(), HarnessError> {
        self.away.changed = !command.is_empty();
        // What the command says of the clock counts, where it does.
        let usual = self.choice.broken.and_then(Broken::offset).map(shifted_clock::by);
        let usual = usual.iter().flatten().map(String::as_str);
        let command: Vec<&str> = usual.chain(command.iter().copied()).collect();
        for broker in self.brokers() {
            broker.stop()?;
            broker.start_through(&command);
            broker.start()?;
        }
        Ok(())
    }

    /// Has their clock be off by so much from now on: `+30s`.
    ///
    /// # Errors
    ///
    /// As [`Lab::run_brokers_through`].
    pub fn shift_clock(&mut self, offset: &str) -> Result<(), HarnessError> {
        let command = shifted_clock::by(offset);
        self.run_brokers_through(&command.each_ref().map(String::as_str))
    }

    /// Ends the KDC.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::stop`](crate::delegation::DelegationRealm::stop).
    pub fn stop_kdc(&mut self) -> Result<(), HarnessError> {
        self.away.kdc = true;
        self.realm.stop()
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// As [`DelegationRealm::start_again`](crate::delegation::DelegationRealm::start_again).
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

    /// Gives back what a scenario took away, where it did not do so itself.
    pub(in crate::engine) fn mend(&mut self) -> Result<(), HarnessError> {
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
}
