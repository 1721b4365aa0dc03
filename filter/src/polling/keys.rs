//! Takes over the keys that another VM published, and puts out those that this one fetched.

use std::rc::Rc;

use kerbridge_gate::poll::{self, Keys, Refetch};
use kerbridge_gate::{Gate, UnixTime, jwk};

use super::Polling;
use crate::host;

impl Polling {
    /// Replaces an issuer's keys by a set that it did not have before.
    fn set_keys(&mut self, issuer: usize, text: &[u8], keys: Keys, gate: &mut Gate) -> Result<(), jwk::NotAKeySet> {
        let next = gate.snapshot().with_keys(issuer, text, keys.as_of)?;
        gate.replace(Rc::new(next));
        if let Some(taken) = self.taken.get_mut(issuer) {
            taken.keys = Some(keys);
        }
        if let Some(issuer) = self.config.issuers().get(issuer) {
            self.metrics.key_set_taken(&issuer.name);
        }
        Ok(())
    }

    fn confirm_keys(&mut self, issuer: usize, keys: Keys, gate: &mut Gate) {
        let next = gate.snapshot().with_keys_confirmed(issuer, keys.as_of);
        gate.replace(Rc::new(next));
        if let Some(taken) = self.taken.get_mut(issuer) {
            taken.keys = Some(keys);
        }
    }

    fn has_keys(&self, issuer: usize) -> Option<Keys> {
        self.taken.get(issuer).and_then(|taken| taken.keys)
    }

    pub(super) fn take_keys(&mut self, issuer: usize, keys: Keys, gate: &mut Gate) -> bool {
        match self.has_keys(issuer) {
            Some(own) if own == keys || !poll::supersedes(keys.as_of, own.as_of) => false,
            Some(own) if own.digest == keys.digest => {
                self.confirm_keys(issuer, keys, gate);
                false
            }
            Some(_) | None => {
                let text = match host::shared_data(&self.names.keys(issuer)) {
                    // Another set is being written at this moment: its line on the board comes next.
                    Ok(Some((text, _))) if poll::digest(&text) == keys.digest => text,
                    Ok(_) | Err(host::HostError) => return false,
                };
                self.set_keys(issuer, &text, keys, gate).is_ok()
            }
        }
    }

    pub(super) fn take_refetch(&mut self, issuer: usize, refetch: Refetch, gate: &mut Gate) -> bool {
        let Some(taken) = self.taken.get_mut(issuer).map(|taken| &mut taken.refetch) else {
            return false;
        };
        if taken.replace(refetch) == Some(refetch) {
            return false;
        }
        gate.demand().began(issuer, refetch.began);
        match refetch.ended {
            Some(brought) => {
                gate.demand().ended(issuer, refetch.began, brought);
                true
            }
            None => false,
        }
    }

    /// Takes a set that was fetched, and puts it where the others find it.
    pub(super) fn publish_keys(
        &mut self,
        issuer: usize,
        began: UnixTime,
        text: &[u8],
        gate: &mut Gate,
    ) -> Result<poll::Digest, &'static str> {
        let keys = Keys {
            digest: poll::digest(text),
            as_of: began,
        };
        if self.has_keys(issuer).is_some_and(|own| own.digest == keys.digest) {
            self.confirm_keys(issuer, keys, gate);
        } else {
            self.set_keys(issuer, text, keys, gate)
                .map_err(|jwk::NotAKeySet| "the answer is no key set")?;
            if host::set_shared_data(&self.names.keys(issuer), text, 0).is_err() {
                log::warn!("keys are not published, the other workers fetch them themselves");
            }
        }
        Ok(keys.digest)
    }
}
