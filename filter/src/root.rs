//! Configures the gate of one VM and keeps its keys fresh, on a tick.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use kerbridge_gate::config::KeySource;
use kerbridge_gate::{Config, Gate, Snapshot, UnixTime};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, MapType};

use crate::host;
use crate::metrics::Metrics;
use crate::stream::Stream;

/// Milliseconds between two ticks; an issuer without keys is asked at each one.
const TICK: u32 = 500;
/// Longest wait for a key set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the streams of one VM share.
pub(crate) struct Shared {
    pub(crate) gate: RefCell<Gate>,
    pub(crate) metrics: Metrics,
}

/// The root context of one VM.
pub(crate) struct Root {
    shared: Rc<Shared>,
    /// Fetches under way, by callout: which issuer's keys they bring.
    fetches: HashMap<u32, usize>,
    /// When each issuer's keys were last asked for.
    asked: Vec<Option<UnixTime>>,
    /// Issuers whose last fetch failed, so that a broker that is away is logged once and not each second.
    failing: Vec<bool>,
}

impl Root {
    pub(crate) fn new() -> Self {
        let gate = RefCell::new(Gate::new(Rc::new(Snapshot::closed())));
        let shared = Rc::new(Shared {
            gate,
            metrics: Metrics::default(),
        });
        Self {
            shared,
            fetches: HashMap::new(),
            asked: Vec::new(),
            failing: Vec::new(),
        }
    }

    fn snapshot(&self) -> Rc<Snapshot> {
        Rc::clone(self.shared.gate.borrow().snapshot())
    }

    fn configure(&self) -> Result<Rc<Config>, String> {
        let bytes = host::plugin_configuration().map_err(|host::HostError| "the host gives none".to_owned())?;
        let config = Config::parse(&bytes)
            .map(Rc::new)
            .map_err(|errors| errors.to_string())?;
        let now = host::now().ok_or("the host has no clock")?;
        host::set_tick_period(TICK).map_err(|host::HostError| "the host gives no ticks".to_owned())?;
        self.shared
            .gate
            .borrow_mut()
            .replace(Rc::new(Snapshot::new(Rc::clone(&config), now)));
        Ok(config)
    }

    /// Asks for the keys of an issuer if it is time: every `poll` seconds, at each tick while there are none.
    fn fetch(&mut self, issuer: usize, source: &KeySource, now: UnixTime) {
        let waiting = self.fetches.values().any(|other| *other == issuer);
        let age = self.asked.get(issuer).copied().flatten().map(|asked| now.since(asked));
        let has_keys = self.snapshot().key_age(issuer, now).is_some();
        let due = age.is_none_or(|age| !has_keys || age >= u64::from(source.poll));
        if waiting || !due {
            return;
        }
        if let Some(asked) = self.asked.get_mut(issuer) {
            *asked = Some(now);
        }
        match host::call(
            &source.cluster,
            "GET",
            &source.authority,
            &source.path,
            None,
            FETCH_TIMEOUT,
        ) {
            Ok(callout) => {
                self.fetches.insert(callout, issuer);
            }
            Err(host::HostError) => self.note(issuer, &source.cluster, Err("the cluster cannot be called")),
        }
    }

    fn take_answer(&mut self, issuer: usize, now: UnixTime, answered: bool) -> Result<(), &'static str> {
        if !answered {
            return Err("no answer");
        }
        let head = host::header_map(MapType::HttpCallResponseHeaders).map_err(|host::HostError| "no answer")?;
        if head.first(b":status") != Some(b"200") {
            return Err("the answer is not 200");
        }
        // One byte over the limit shows a set that is too large; more of it is not copied.
        let limit = kerbridge_gate::jwk::SET_LIMIT.saturating_add(1);
        let body = host::callout_body(limit).map_err(|host::HostError| "no answer")?;
        let next = self
            .snapshot()
            .with_keys(issuer, &body, now)
            .map_err(|_| "the answer is no key set")?;
        self.shared.gate.borrow_mut().replace(Rc::new(next));
        Ok(())
    }

    /// Logs a change between good and bad, and nothing in between.
    fn note(&mut self, issuer: usize, name: &str, outcome: Result<(), &'static str>) {
        let Some(failing) = self.failing.get_mut(issuer) else {
            return;
        };
        match (outcome, *failing) {
            (Ok(()), true) => log::info!("keys fetched again issuer={name}"),
            (Err(problem), false) => {
                log::warn!("keys not fetched, the last good ones stay problem=\"{problem}\" issuer={name}")
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
        *failing = outcome.is_err();
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, callout: u32, headers: usize, _body: usize, _trailers: usize) {
        let (Some(issuer), Some(now)) = (self.fetches.remove(&callout), host::now()) else {
            return;
        };
        let outcome = self.take_answer(issuer, now, headers > 0);
        let name = self
            .snapshot()
            .config()
            .and_then(|c| c.issuers().get(issuer).map(|i| i.keys.cluster.to_string()));
        self.note(issuer, &name.unwrap_or_default(), outcome);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match self.configure() {
            Ok(config) => {
                self.fetches.clear();
                self.asked = vec![None; config.issuers().len()];
                self.failing = vec![false; config.issuers().len()];
                true
            }
            Err(problems) => {
                // The closed gate answers 503 to everything, should the host go on in spite of the refusal.
                self.shared.gate.borrow_mut().replace(Rc::new(Snapshot::closed()));
                log::error!("configuration refused: {problems}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(now) = host::now() else { return };
        let snapshot = self.snapshot();
        let Some(config) = snapshot.config() else { return };
        let mut oldest = None;
        for (at, issuer) in config.issuers().iter().enumerate() {
            self.fetch(at, &issuer.keys, now);
            oldest = oldest.max(snapshot.key_age(at, now));
        }
        if let Some(age) = oldest {
            self.shared.metrics.key_age(age);
        }
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(Rc::clone(&self.shared))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
