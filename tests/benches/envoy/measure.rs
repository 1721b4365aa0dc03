//! Measures Envoys in turn: all of them run, one is loaded at a time, round after round.

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::machine::Machine;
use kerbridge_tests::bench::processor::{pin, resident_kib, used};
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::record::{Candidate, EnvoyCurve, EnvoyPoint, Measured, Round, Run, Setup};
use kerbridge_tests::bench::settings::Settings;
use kerbridge_tests::bench::wrk::{Load, Wrk};
use kerbridge_tests::envoy::{Envoy, EnvoyOptions};
use kerbridge_tests::http::Request;
use kerbridge_tests::shipped::{HOST, module};
use kerbridge_tests::wait::{Deadline, wait_until};

use crate::bootstrap::LISTENER;
use crate::plan::{Dimension, Plan, World};

/// The request of every load; the shipped configuration wants `orders:read` for it.
const PATH: &str = "/orders/42?page=7";
/// How often a cache sees every token before the first round.
const PASSES: u64 = 3;
/// Longest wait for the first good answer; a feed of a million revocations is read before it.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What measures.
pub(crate) struct Bench<'a> {
    settings: &'a Settings,
    wrk: Wrk,
    envoy: String,
}

/// One Envoy that is being measured.
struct Subject {
    plan: Plan,
    envoy: Envoy,
    pid: u32,
    port: u16,
    ready: u64,
    rounds: Vec<Round>,
}

impl<'a> Bench<'a> {
    /// Moves this process to the load's core.
    pub(crate) fn new(settings: &'a Settings, folder: &Path) -> Result<Self, HarnessError> {
        pin(std::process::id(), settings.cores.load)?;
        Ok(Self {
            settings,
            wrk: Wrk::new(folder)?,
            envoy: String::new(),
        })
    }

    /// All candidates.
    pub(crate) fn setups(&mut self, world: &World) -> Result<Vec<Setup>, HarnessError> {
        let wanted = Candidate::ALL.iter().filter(|one| self.settings.wants(one.name()));
        let wanted: Vec<Candidate> = wanted.copied().collect();
        let plans: Result<Vec<Plan>, HarnessError> = wanted.iter().map(|candidate| world.plan(*candidate)).collect();
        let measured = self.measure(plans?, self.settings.rounds)?;
        let setups = wanted.into_iter().zip(measured).map(|(candidate, measured)| Setup {
            candidate,
            title: candidate.title().to_owned(),
            measured,
        });
        Ok(setups.collect())
    }

    /// All sizes of kerbridge. They are compared among themselves, so a third of the rounds is enough.
    pub(crate) fn curves(&mut self, world: &World) -> Result<Vec<EnvoyCurve>, HarnessError> {
        let mut curves = Vec::new();
        for dimension in Dimension::ALL {
            if !self.settings.wants(dimension.name()) {
                continue;
            }
            let sizes = dimension.sizes();
            let plans: Result<Vec<Plan>, HarnessError> =
                sizes.iter().map(|size| world.grown(dimension, *size)).collect();
            let measured = self.measure(plans?, self.settings.rounds.div_ceil(3))?;
            let points = sizes.iter().zip(measured).map(|(size, measured)| EnvoyPoint {
                size: *size as u64,
                measured,
            });
            curves.push(EnvoyCurve {
                dimension: dimension.name().to_owned(),
                points: points.collect(),
            });
        }
        Ok(curves)
    }

    /// The record of the whole.
    pub(crate) fn run(self, setups: Vec<Setup>, curves: Vec<EnvoyCurve>) -> Result<Run, HarnessError> {
        let module = module()?;
        let size = std::fs::metadata(&module).map_err(|source| HarnessError::io("look at the module", source))?;
        Ok(Run {
            machine: Machine::here()?,
            envoy: self.envoy,
            module_bytes: size.len(),
            rounds: self.settings.rounds,
            seconds: self.settings.seconds,
            connections: self.settings.connections,
            setups,
            curves,
        })
    }

    fn measure(&mut self, plans: Vec<Plan>, rounds: u32) -> Result<Vec<Measured>, HarnessError> {
        let mut subjects = Vec::new();
        for plan in plans {
            let subject = self.start(plan)?;
            if self.envoy.is_empty() {
                self.envoy = subject.envoy.version()?;
            }
            subjects.push(subject);
        }
        for number in 1..=rounds {
            // Another one goes first each time, so that nobody always follows the same neighbour.
            let order = (0..subjects.len()).cycle().skip(number as usize).take(subjects.len());
            for at in order {
                let Some(subject) = subjects.get_mut(at) else { continue };
                let round = self.round(subject)?;
                say(&format!(
                    "round {number}/{rounds}  {:<36} {:7.1} µs  {:7.0} requests a second",
                    subject.plan.name,
                    round.cpu_microseconds,
                    round.counted.requests_per_second()
                ));
                subject.rounds.push(round);
            }
        }
        subjects.into_iter().map(Subject::finish).collect()
    }

    /// Starts an Envoy, shows that it lets through and refuses what it should, and fills its caches.
    fn start(&self, plan: Plan) -> Result<Subject, HarnessError> {
        say(&format!("starting {}", plan.name));
        let started = Deadline::after(READY_WITHIN);
        let options = EnvoyOptions {
            log_level: "warning".to_owned(),
            ..EnvoyOptions::default()
        };
        let mut envoy = Envoy::start(&plan.yaml, &options)?;
        let pid = envoy.process().pid();
        pin(pid, self.settings.cores.measured)?;
        let status = |token: &str| -> Result<u16, HarnessError> {
            let request = Request::get(PATH)
                .host(HOST)
                .header("authorization", format!("Bearer {token}"));
            Ok(envoy.send(LISTENER, &request)?.status)
        };
        let what = format!("an answer 200 of {} to a good token", plan.name);
        wait_until(&what, READY_WITHIN, || {
            status(&plan.good).is_ok_and(|status| status == 200)
        })?;
        let ready = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for refused in &plan.refused {
            let answer = status(&refused.token)?;
            if !refused.statuses.contains(&answer) {
                return Err(HarnessError::UnexpectedAnswer {
                    what: format!("a token that {} must refuse ({})", plan.name, refused.why),
                    answer: answer.to_string(),
                });
            }
        }
        let port = envoy.listener_port(LISTENER)?;
        let wanted = PASSES.saturating_mul(plan.count as u64);
        let mut seen = 0_u64;
        while seen < wanted {
            // wrk begins with the first token each time: a pass must fit into one go.
            let seconds = u32::try_from(plan.count / 5_000).unwrap_or(u32::MAX).saturating_add(1);
            let counted = self.wrk.load(port, &plan.tokens, &self.load(seconds))?;
            seen = seen.saturating_add(counted.requests);
        }
        Ok(Subject {
            plan,
            envoy,
            pid,
            port,
            ready,
            rounds: Vec::new(),
        })
    }

    fn round(&self, subject: &Subject) -> Result<Round, HarnessError> {
        let own = std::process::id();
        let (envoy, beside) = (used(subject.pid)?, used(own)?);
        let load = self.load(self.settings.seconds);
        let counted = self.wrk.load(subject.port, &subject.plan.tokens, &load)?;
        let requests = counted.requests as f64;
        Ok(Round {
            cpu_microseconds: (used(subject.pid)? - envoy) / requests,
            beside_microseconds: (used(own)? - beside) / requests,
            counted,
        })
    }

    fn load(&self, seconds: u32) -> Load {
        Load {
            core: self.settings.cores.load,
            connections: self.settings.connections,
            seconds,
            host: HOST.to_owned(),
            path: PATH.to_owned(),
        }
    }
}

impl Subject {
    fn finish(self) -> Result<Measured, HarnessError> {
        let resident = resident_kib(self.pid)?;
        Measured::new(self.rounds, resident, self.ready).ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: format!("rounds of {}", self.plan.name),
            answer: "none".to_owned(),
        })
    }
}
