//! Counts decisions by reason, under names that Envoy's stats show as `wasmcustom.kerbridge.…`.

use std::cell::RefCell;
use std::collections::HashMap;

use kerbridge_gate::Reason;
use proxy_wasm::types::MetricType;

use crate::host;

/// The counters of one VM; Envoy adds up those of all VMs by name.
#[derive(Default)]
pub(crate) struct Metrics {
    decisions: RefCell<HashMap<Reason, u32>>,
    key_age: RefCell<Option<u32>>,
}

impl Metrics {
    /// Counts one decision: `kerbridge.requests.<reason>`. A counter that cannot be had is no reason to refuse anything.
    pub(crate) fn count(&self, reason: Reason) {
        let known = self.decisions.borrow().get(&reason).copied();
        let id = known.or_else(|| {
            let id = host::define_metric(MetricType::Counter, &format!("kerbridge.requests.{reason}")).ok()?;
            self.decisions.borrow_mut().insert(reason, id);
            Some(id)
        });
        if id.map(host::count) == Some(Err(host::HostError)) {
            log::debug!("counter refused by the host reason={reason}");
        }
    }

    /// Shows the age of the oldest issuer's keys in seconds: `kerbridge.keys_age_seconds`.
    pub(crate) fn key_age(&self, seconds: u64) {
        let mut slot = self.key_age.borrow_mut();
        if slot.is_none() {
            *slot = host::define_metric(MetricType::Gauge, "kerbridge.keys_age_seconds").ok();
        }
        if slot.map(|id| host::record(id, seconds)) == Some(Err(host::HostError)) {
            log::debug!("gauge refused by the host");
        }
    }
}
