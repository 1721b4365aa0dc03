//! Configures the gate of one VM, keeps it fresh on a tick, and looks after the requests that wait or outlive their token.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use kerbridge_gate::outcome::FILTER_STATE;
use kerbridge_gate::{Config, Role, Snapshot, UnixTime};
use kerbridge_wire::Spn;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::attempt::Attempt;
use crate::native::Native;
use crate::polling::Polling;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::{handover, host};

/// The root context of one VM.
pub(crate) struct Root {
    shared: Rc<Shared>,
    /// `None` before a configuration is there, and behind a bad one.
    polling: Option<Polling>,
    /// The service of the cluster whose filter this is; `None` where it is a listener's.
    spn: Option<Rc<Spn>>,
    /// The second for which open requests were last looked at.
    looked: UnixTime,
}

/// A number that nobody outside knows: the standard library keys its hash tables by such, too.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        Self {
            shared: Rc::new(Shared::new(context)),
            polling: None,
            spn: None,
            looked: UnixTime::default(),
        }
    }

    fn configure(&mut self) -> Result<(), String> {
        let bytes = host::plugin_configuration().map_err(|host::HostError| "the host gives none".to_owned())?;
        match Role::parse(&bytes).map_err(|errors| errors.to_string())? {
            Role::Gate(config) => self.polling = Some(self.configure_gate(&bytes, Rc::from(config))?),
            Role::Upstream(spn) => self.spn = Some(Rc::new(spn)),
        }
        Ok(())
    }

    fn configure_gate(&self, bytes: &[u8], config: Rc<Config>) -> Result<Polling, String> {
        let now = host::now().ok_or("the host has no clock")?;
        let native = Native::probe();
        log::info!("signatures checked natively algorithms={}", native.names());
        self.shared.native.replace(native);
        if config.filter_state() {
            for name in FILTER_STATE {
                host::declare_filter_state(name, false)
                    .map_err(|host::HostError| format!("filter_state: the host does not declare {name}"))?;
            }
        }
        if config.has_kerberos() {
            handover::declare()?;
        }
        let dry_runs = config.dry_runs();
        self.shared.metrics.dry_run_rules(dry_runs);
        if dry_runs > 0 {
            log::warn!("routes only log and count their verdict routes={dry_runs}");
        }
        let snapshot = Rc::new(Snapshot::new(Rc::clone(&config), now));
        self.shared.gate.borrow_mut().replace(snapshot);
        let mut polling = Polling::new(bytes, config, random(), Rc::clone(&self.shared.metrics));
        // A VM that was reloaded starts from what the others have.
        polling.take_over(&mut self.shared.gate.borrow_mut());
        self.shared.hurry();
        Ok(polling)
    }

    /// What is due after something changed, or time passed.
    fn look_after(&mut self, now: UnixTime, news: bool) {
        self.shared.resume_waiting(now, news);
        // Tokens end on a second; ticks may come faster.
        if news || self.looked != now {
            self.looked = now;
            self.shared.end_those_over(now);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, callout: u32, headers: usize, _body: usize, _trailers: usize) {
        if self.shared.answer(callout, headers) {
            return;
        }
        let (Some(polling), Some(now)) = (&mut self.polling, host::now()) else {
            return;
        };
        let (gate, native) = (&self.shared.gate, self.shared.native.borrow());
        let news = polling.answered(callout, headers > 0, now, &mut gate.borrow_mut(), &native);
        drop(native);
        self.look_after(now, news);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.spn = None;
        match self.configure() {
            Ok(()) => true,
            Err(problems) => {
                // The closed gate answers 503 to everything, should the host go on in spite of the refusal.
                self.polling = None;
                self.shared.gate.borrow_mut().replace(Rc::new(Snapshot::closed()));
                log::error!("configuration refused: {problems}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let (Some(polling), Some(now)) = (&mut self.polling, host::now()) else {
            return;
        };
        if self.shared.serves() {
            polling.serve();
        }
        let (gate, native) = (&self.shared.gate, self.shared.native.borrow());
        let news = polling.tick(now, &mut gate.borrow_mut(), &native);
        drop(native);
        if polling.is_loading(now) {
            self.shared.hurry();
        } else {
            self.shared.calm_down();
        }
        self.look_after(now, news);
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.spn {
            Some(spn) => Box::new(Attempt::new(Rc::clone(spn), Rc::clone(&self.shared.metrics))),
            None => Box::new(Stream::new(context, Rc::clone(&self.shared))),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
