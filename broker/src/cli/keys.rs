//! Shows and replaces signing keys: by the broker that runs, or in its key file where none does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use prometheus_client::metrics::histogram::Histogram;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::revoke::{DEADLINE, audit_lines};
use super::{ConfigFile, Failure, Output, output};
use crate::admin::AdminError;
use crate::admin::client::{self, ClientError};
use crate::admin::keys::{
    KEYS_PATH, Key, Keys, RETIRE_PATH, REWRAP_PATH, ROTATE_PATH, RetireRequest, RewrapRequest, RotateRequest,
};
use crate::config::{Config, Draft, Surroundings, read_kek};
use crate::keyring::{By, ChangeError, KeyRing, RotateError};
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::revocation::Revocations;
use crate::state_lock::StateLock;
use crate::store::KeptStore;
use crate::time::moment::Rfc3339;
use crate::time::{Clock, UnixTime};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Show the signing keys, and when the next begins to sign.
    List(About),
    /// Publish a new key, which signs once every filter has had time to fetch it.
    Rotate(Rotate),
    /// In an emergency: take a key out of the published set at once, and with it all tokens that it signed.
    Retire(Retire),
    /// Replace the key-encryption key: first let the new one open the key file too, then, with --only, it alone.
    Rewrap(Rewrap),
}

#[derive(Debug, Args)]
pub(super) struct About {
    #[command(flatten)]
    file: ConfigFile,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    about: About,
    /// Let it sign at once. Filters that do not know it yet fetch it when they see its first token.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, Args)]
pub(super) struct Retire {
    #[command(flatten)]
    about: About,
    /// Which key: its identifier as `keys list` shows it.
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: String,
}

#[derive(Debug, Args)]
pub(super) struct Rewrap {
    #[command(flatten)]
    about: About,
    /// The file with the key-encryption key. Absent, the one of the configuration.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// From now on it alone opens the key file.
    #[arg(long)]
    only: bool,
}

/// What there is to do.
enum Wanted {
    List,
    Rotate(RotateRequest),
    Retire(RetireRequest),
    Rewrap(RewrapRequest),
}

pub(super) fn run(command: &KeysCommand) -> Result<(), Failure> {
    let about = command.about();
    let path = &about.file.config;
    let draft = Draft::read(path, &Surroundings::of_process());
    let wanted = command.wanted(&draft)?;
    let asked = match draft.admin_socket() {
        Some(socket) => match ask(socket, &wanted) {
            Err(ClientError::Nobody) => None,
            answered => Some(answered.map_err(|error| output::refused(&error, socket, about.output))),
        },
        None => None,
    };
    let keys = match asked {
        Some(answered) => answered?,
        None => offline(about, draft, &wanted)?,
    };
    output::print_as(about.output, &keys, || text(&keys))
}

impl KeysCommand {
    const fn about(&self) -> &About {
        match self {
            Self::List(about) => about,
            Self::Rotate(Rotate { about, .. })
            | Self::Retire(Retire { about, .. })
            | Self::Rewrap(Rewrap { about, .. }) => about,
        }
    }

    fn wanted(&self, draft: &Draft) -> Result<Wanted, Failure> {
        Ok(match self {
            Self::List(_) => Wanted::List,
            Self::Rotate(Rotate { now, .. }) => Wanted::Rotate(RotateRequest { now: *now }),
            Self::Retire(Retire { kid, .. }) => Wanted::Retire(RetireRequest { kid: kid.clone() }),
            Self::Rewrap(Rewrap { to, only, .. }) => {
                let Some(file) = to.as_deref().or(draft.key_encryption_file()) else {
                    let About { file, output } = self.about();
                    // What is wrong with the configuration says why it names none.
                    if !draft.problems().is_empty() {
                        return Err(output::problems(&file.config, draft.problems(), *output));
                    }
                    return Err(output::wrong(
                        "--to is missing, and the configuration names no key-encryption key that can be read",
                        "name the file of the new one with --to",
                        *output,
                        Failure::Usage,
                    ));
                };
                // The broker has another working directory.
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                Wanted::Rewrap(RewrapRequest { file, only: *only })
            }
        })
    }
}

fn ask(socket: &Path, wanted: &Wanted) -> Result<Keys, ClientError> {
    match wanted {
        Wanted::List => {
            let answer = client::get(socket, KEYS_PATH)?;
            serde_json::from_slice(&answer).map_err(|error| ClientError::Failed(error.to_string()))
        }
        Wanted::Rotate(request) => client::post(socket, ROTATE_PATH, request),
        Wanted::Retire(request) => client::post(socket, RETIRE_PATH, request),
        Wanted::Rewrap(request) => client::post(socket, REWRAP_PATH, request),
    }
}

/// In the key file itself, which nobody else may change, or in the database.
fn offline(about: &About, draft: Draft, wanted: &Wanted) -> Result<Keys, Failure> {
    let problems = |problems: Problems| output::problems(&about.file.config, &problems, about.output);
    let config = draft.finish().map_err(problems)?;
    let (Some(keys), state_dir) = (config.keys(), config.state_dir()) else {
        return Err(output::wrong(
            "this broker makes no tokens, and has no keys",
            "name with --config the configuration of a broker that makes tokens",
            about.output,
            Failure::Configuration,
        ));
    };
    let now = Clock::System.now();
    // Looking needs no lock: the file is replaced whole.
    let lock_and_lines = match wanted {
        Wanted::List => None,
        Wanted::Rotate(_) | Wanted::Retire(_) | Wanted::Rewrap(_) => {
            // In a database a change is refused that another broker's came before.
            let lock = match config.database() {
                Some(_) => None,
                None => Some(StateLock::take(state_dir).map_err(|problem| problems(problem.into()))?),
            };
            // The event that a broker would have where its own go.
            let lines = audit_lines(config.audit()).map_err(|problem| problems(problem.into()))?;
            lines.subscriber(LevelFilter::INFO).init();
            Some((lock, lines))
        }
    };
    let ring = KeyRing::open(config.keyring_place(), &keys.key_encryption_key, &keys.rotation, now)
        .map_err(|error| problems(error.problem().into()))?;
    let by = By::Offline {
        uid: rustix::process::geteuid().as_raw(),
    };
    let done = match wanted {
        Wanted::List => Ok(()),
        Wanted::Rotate(RotateRequest { now: false }) => ring.publish(now, by).map(drop),
        Wanted::Rotate(RotateRequest { now: true }) => {
            let kept_until = tokens_end(&config, now, about)?;
            ring.switch_now(now, kept_until, by).map(drop)
        }
        Wanted::Retire(RetireRequest { kid }) => ring.retire(kid, now, by).map(drop),
        Wanted::Rewrap(RewrapRequest { file, only }) => {
            let key = read_kek(file).map_err(|problem| {
                let Problem { field, problem, remedy } = problem;
                output::wrong(format_args!("{field}: {problem}"), remedy, about.output, Failure::Usage)
            })?;
            if *only {
                ring.only_kek(&key, by)
            } else {
                ring.add_kek(&key, by)
            }
        }
    };
    done.map_err(|error| unchanged(&error, about.output))?;
    drop(lock_and_lines);
    Ok(Keys::of(&ring))
}

pub(super) fn unchanged(error: &ChangeError, form: Output) -> Failure {
    let failure = match error {
        ChangeError::Refused(RotateError::Unknown) => Failure::No,
        ChangeError::Refused(_) => Failure::Usage,
        ChangeError::Failed(_) => Failure::Running,
    };
    output::undone(&AdminError::unchanged(error), form, failure)
}

/// Until when any token may be valid that was minted so far: the store knows.
fn tokens_end(config: &Config, now: UnixTime, about: &About) -> Result<UnixTime, Failure> {
    let commits = Histogram::new([1.0]);
    let store = match config.database() {
        Some(database) => KeptStore::in_made_database(database, DEADLINE),
        None => KeptStore::in_file(config.state_dir(), 16, DEADLINE, commits),
    };
    let store = store.map_err(|problem| output::problems(&about.file.config, &problem.into(), about.output))?;
    let life = config.policy().longest_ttl_seconds();
    let revocations = Revocations::new(Arc::new(store), config.issuer(), life, Metrics::new().revocations());
    let failed = |error: &dyn std::fmt::Display| {
        let remedy = "see whether the store's disk has room and works, or its database answers";
        output::wrong(error, remedy, about.output, Failure::Running)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime
        .block_on(revocations.tokens_end(now))
        .map_err(|error| failed(&error))
}

/// One line for each key.
pub(super) fn text(keys: &Keys) -> String {
    let Keys {
        keys,
        next_switch,
        sealed_under,
    } = keys;
    let time = |seconds: u64| Rfc3339(UnixTime::from_seconds(seconds));
    let mut text = String::new();
    for key in keys {
        let Key {
            kid,
            algorithm,
            stage,
            published,
            signing_since,
            stopped,
            kept_until,
            in_hardware,
        } = key;
        let when = match (signing_since, stopped, kept_until) {
            (Some(since), _, _) => format!("since {}", time(*since)),
            (None, Some(stopped), Some(kept)) => format!("until {}, published until {}", time(*stopped), time(*kept)),
            (None, _, _) => format!("published {}", time(*published)),
        };
        let place = if *in_hardware { ", in the PKCS#11 token" } else { "" };
        text.push_str(&format!("{kid}  {algorithm:<5}  {stage:<7}  {when}{place}\n"));
    }
    match next_switch {
        Some(at) => text.push_str(&format!("The next key begins to sign at {}.\n", time(*at))),
        None => text.push_str("No other key will sign unless kerbridge keys rotate says so.\n"),
    }
    if sealed_under.len() > 1 {
        let names: Vec<&str> = sealed_under.iter().map(|kek| kek.as_str()).collect();
        text.push_str(&format!(
            "{} key-encryption keys open the key file ({}); kerbridge keys rewrap --only ends that.\n",
            names.len(),
            names.join(", ")
        ));
    }
    text
}
