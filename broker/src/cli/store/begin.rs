//! Begins a store anew on purpose, after the one of before was lost.
//!
//! Nobody knows any more what was revoked. So first every key is retired, and with the keys every token ends, the revoked ones among
//! them; only then is there a store, without which no broker starts. Whatever stops this in between is made good by doing it again.

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Begin;
use crate::audit;
use crate::cli::keys::unchanged;
use crate::cli::revoke::audit_lines;
use crate::cli::{Failure, output};
use crate::config::{Draft, Surroundings};
use crate::keyring::{By, KeyRing};
use crate::log::KEPT;
use crate::problem::Problems;
use crate::state_lock::StateLock;
use crate::store::{Position, begin_file, place_without_store};
use crate::time::Clock;

/// What came of it.
#[derive(Debug, Serialize)]
struct Begun {
    epoch: String,
    version: u64,
    retired: Vec<String>,
    signing: String,
}

impl Begin {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let path = &self.file.config;
        let problems = |problems: Problems| output::problems(path, &problems, self.output);
        let config = Draft::read(path, &Surroundings::of_process())
            .finish()
            .map_err(problems)?;
        let state_dir = config.state_dir();
        let Some(keys) = config.keys() else {
            return Err(output::wrong(
                "this broker makes no tokens, and has no store",
                "name with --config the configuration of a broker that makes tokens",
                self.output,
                Failure::Configuration,
            ));
        };
        if config.database().is_some() {
            return Err(output::wrong(
                "the store is in a database, and the keys with it",
                "start a broker: where their tables are gone it makes both",
                self.output,
                Failure::Usage,
            ));
        }
        if !KeyRing::exists(config.keyring_place()).map_err(|error| problems(error.problem().into()))? {
            return Err(output::wrong(
                format_args!("{} holds no keys, so that no token is good", state_dir.display()),
                "start the broker: it makes what is missing",
                self.output,
                Failure::Usage,
            ));
        }
        let lock = StateLock::take(state_dir).map_err(|problem| problems(problem.into()))?;
        place_without_store(state_dir).map_err(|problem| problems(problem.into()))?;
        let lines = audit_lines(config.audit()).map_err(|problem| problems(problem.into()))?;
        lines.subscriber(LevelFilter::INFO).init();
        let now = Clock::System.now();
        let uid = rustix::process::geteuid().as_raw();
        let ring = KeyRing::open(config.keyring_place(), &keys.key_encryption_key, &keys.rotation, now)
            .map_err(|error| problems(error.problem().into()))?;
        let retired = ring
            .retire_all(now, By::Offline { uid })
            .map_err(|error| unchanged(&error, self.output))?;
        let Position { epoch, version } = begin_file(state_dir).map_err(|problem| problems(problem.into()))?;
        tracing::info!(
            name: KEPT,
            target: audit::TARGET,
            %epoch,
            by = "offline",
            uid,
            "store begun"
        );
        drop(lines);
        drop(lock);
        let begun = Begun {
            epoch: epoch.to_string(),
            version,
            retired,
            signing: ring.signing().id().to_owned(),
        };
        output::print_as(self.output, &begun, || text(&begun))
    }
}

fn text(begun: &Begun) -> String {
    let Begun {
        epoch,
        version,
        retired,
        signing,
    } = begun;
    format!(
        "begun: epoch {epoch}, version {version}; keys retired: {}, and every token of before ends; {signing} signs\n\
         forgotten: what was revoked (revoke again whoever must stay out), and which tickets and assertions were used\n",
        retired.len()
    )
}
