//! Runs the named [scenarios](crate::scenarios) of the lab on its own parts or in front of somebody's own, and records what each
//! leg carried.
//!
//! A scenario starts from parts that run and leaves them as it found them, so that their order does not matter. What one leaves
//! behind that failed half-way is mended before the next.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

pub mod capture;
pub mod kdc_relay;
pub mod kerberos;
pub mod own;
pub mod stage;
mod versions;
pub mod yours;

use crate::error::HarnessError;
use crate::report::model::{self, Outcome, Run, Setup};
use crate::scenarios::{ALL, Definition, Reach};
use crate::wait::Clock;
use own::Lab;
use stage::{Stage, Stop};
use yours::Yours;

/// In front of what the scenarios are played.
pub enum Target {
    /// The lab's own parts.
    Own(Box<Lab>),
    /// Somebody's own, in which nothing is changed.
    Yours(Box<Yours>),
}

impl Target {
    fn setup(&mut self) -> Setup {
        match self {
            Self::Own(lab) => lab.setup(),
            Self::Yours(yours) => yours.setup(),
        }
    }

    /// Before the next scenario: what the last one may have left.
    fn mend(&mut self) -> Result<(), HarnessError> {
        match self {
            Self::Own(lab) => lab.mend(),
            Self::Yours(_) => Ok(()),
        }
    }
}

/// The scenarios of these names in their order; all of them where none is named.
///
/// # Errors
///
/// The first name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Definition>, String> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let mut seen = BTreeSet::new();
    let names = names.iter().filter(|name| seen.insert(name.as_str()));
    names
        .map(|name| ALL.iter().find(|one| one.name == name).ok_or_else(|| name.clone()))
        .collect()
}

/// Plays the scenarios one after the other, and tells of each when it has ended.
pub fn run(
    target: &mut Target,
    definitions: &[&'static Definition],
    mut notices: Vec<String>,
    mut ended: impl FnMut(&model::Scenario),
) -> Run {
    let clock = Clock::start();
    let started = UNIX_EPOCH.elapsed().map(|elapsed| elapsed.as_secs()).unwrap_or(0);
    let setup = target.setup();
    let mut scenarios = Vec::new();
    for definition in definitions {
        let scenario = play(target, definition);
        ended(&scenario);
        scenarios.push(scenario);
        if let Err(error) = target.mend() {
            notices.push(format!(
                "After {} the lab could not be made whole again: {}",
                definition.name,
                capture::without_runs(&error.to_string())
            ));
        }
    }
    Run {
        title: match (setup.yours, &setup.broken) {
            (true, _) => "kerbridge, in front of a set-up of yours",
            (false, Some(_)) => "kerbridge, in a lab that is broken on purpose",
            (false, None) => "kerbridge, in the lab",
        }
        .to_owned(),
        started,
        duration_ms: clock.ms(),
        setup,
        scenarios,
        notices,
    }
}

fn play(target: &mut Target, definition: &Definition) -> model::Scenario {
    let mut scenario = model::Scenario {
        name: definition.name.to_owned(),
        title: definition.title.to_owned(),
        purpose: definition.purpose.to_owned(),
        outcome: Outcome::Passed,
        duration_ms: 0,
        holdings: Vec::new(),
        steps: Vec::new(),
    };
    if let (Reach::Own(change), Target::Yours(_)) = (&definition.reach, &*target) {
        scenario.outcome = Outcome::NotSeen {
            why: format!("it {change}, and in a set-up of yours nothing is changed"),
            remedy: format!("kerbridge-lab run --only {}  (on the lab's own parts)", definition.name),
        };
        return scenario;
    }
    let is_own = matches!(target, Target::Own(_));
    let mut stage = Stage::new(target);
    let stopped = (definition.play)(&mut stage).err();
    let mut unseen = None;
    match stopped {
        // On the lab's own parts what was begun can be seen to its end: where it is not, something is wrong with them.
        Some(Stop::NotSeen { why, remedy }) if is_own && stage.has_begun() => stage.broke(&why, &remedy),
        Some(Stop::NotSeen { why, remedy }) => unseen = Some(Outcome::NotSeen { why, remedy }),
        Some(Stop::Broken(error)) => {
            let remedy =
                "what was seen says who failed; kerbridge-lab run --only with this scenario's name runs it alone";
            stage.broke(&error.to_string(), remedy);
        }
        None => {}
    }
    (scenario.steps, scenario.holdings, scenario.duration_ms) = stage.end();
    scenario.outcome = unseen.unwrap_or_else(|| model::Scenario::outcome_of(&scenario.steps));
    // A scenario that saw something that does not hold has failed, whatever else it could not see.
    if scenario.steps.iter().any(|step| !step.held) {
        scenario.outcome = Outcome::Failed;
    }
    scenario
}
