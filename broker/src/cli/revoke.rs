//! Revokes tokens, sessions and subjects, and gives them back: by the broker that runs, or in its store where none does.

use std::path::Path;
use std::time::Duration;

use clap::{ArgGroup, Args};
use prometheus_client::metrics::histogram::Histogram;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{ConfigFile, Failure, Output, output};
use crate::admin::client::{self, ClientError};
use crate::admin::{AdminError, LIFT_PATH, LiftRequest, Outcome, REVOKE_PATH, RevokeRequest};
use crate::audit::{self, AuditRules};
use crate::config::{Draft, Surroundings};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::problem::{Problem, Problems};
use crate::revocation::{By, Revocations};
use crate::state_lock::StateLock;
use crate::store::{FILE, KeptStore, Kind, StoreError, not_lost};
use crate::time::moment::{Moment, Rfc3339};
use crate::time::{Clock, UnixTime};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["jti", "sid", "subject"])))]
pub(super) struct Revoke {
    #[command(flatten)]
    file: ConfigFile,
    /// One token, by its jti.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    jti: Option<String>,
    /// All tokens of one service ticket, by their sid; without --before the ticket gets no other.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    sid: Option<String>,
    /// All tokens of somebody, by their sub; without --before they get no other.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    subject: Option<String>,
    /// Only tokens issued at or before this: now, 2026-01-31T12:00:00Z, Unix time, or 8h for eight hours ago. Later ones are
    /// good.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["jti", "until", "lift"])]
    before: Option<Moment>,
    /// Until then and no longer, as --before; 8h is in eight hours.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["jti", "lift"])]
    until: Option<Moment>,
    /// Take a revocation back: tokens that live still are good again.
    #[arg(long)]
    lift: bool,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What there is to do.
enum Wanted {
    Revoke(RevokeRequest),
    Lift(LiftRequest),
}

/// Who did it.
#[derive(Clone, Copy)]
enum Done {
    Broker,
    Store,
    Database,
}

pub(super) fn run(revoke: &Revoke) -> Result<(), Failure> {
    let now = Clock::System.now();
    let wanted = revoke.wanted(now)?;
    let path = &revoke.file.config;
    let draft = Draft::read(path, &Surroundings::of_process());
    let asked = match draft.admin_socket() {
        Some(socket) => match ask(socket, &wanted) {
            Err(ClientError::Nobody) => None,
            answered => Some(answered.map_err(|error| output::refused(&error, socket, revoke.output))),
        },
        None => None,
    };
    let (outcome, done) = match asked {
        Some(answered) => (answered?, Done::Broker),
        None => {
            let is_shared = matches!(draft.database(), Some(Some(_)));
            let done = if is_shared { Done::Database } else { Done::Store };
            (revoke.offline(&draft, &wanted)?, done)
        }
    };
    revoke.print(&outcome, done)
}

impl Revoke {
    fn wanted(&self, now: UnixTime) -> Result<Wanted, Failure> {
        let (kind, value) = match (&self.jti, &self.sid, &self.subject) {
            (Some(jti), _, _) => (Kind::Token, jti),
            (_, Some(sid), _) => (Kind::Session, sid),
            (_, _, Some(subject)) => (Kind::Subject, subject),
            // The group sees to it.
            (None, None, None) => return Err(Failure::Usage),
        };
        let value = value.clone();
        if self.lift {
            let lift = LiftRequest { kind, value };
            lift.target().map_err(|error| usage(&error, self.output))?;
            return Ok(Wanted::Lift(lift));
        }
        let request = RevokeRequest {
            kind,
            value,
            before: self.before.map(|moment| moment.past(now).seconds()),
            until: self.until.map(|moment| moment.future(now).seconds()),
        };
        request.order(now).map_err(|error| usage(&error, self.output))?;
        Ok(Wanted::Revoke(request))
    }

    fn print(&self, outcome: &Outcome, done: Done) -> Result<(), Failure> {
        let text = match self.output {
            Output::Json => {
                let mut value = serde_json::to_value(outcome).map_err(|_| Failure::Running)?;
                if let Some(members) = value.as_object_mut() {
                    members.insert("lifted".into(), self.lift.into());
                    members.insert("by".into(), done.as_str().into());
                }
                format!("{value:#}\n")
            }
            Output::Text => self.text(outcome, done),
        };
        output::print(&text)
    }

    fn text(&self, outcome: &Outcome, done: Done) -> String {
        let Outcome {
            kind,
            value,
            before,
            needed_until,
            more_than_asked,
            epoch: _,
            version,
        } = outcome;
        let time = |seconds: u64| Rfc3339(UnixTime::from_seconds(seconds));
        let verb = if self.lift { "lifted" } else { "revoked" };
        let which = before.map_or_else(String::new, |before| {
            format!(", tokens issued at or before {}", time(before))
        });
        let how_long = match needed_until {
            _ if self.lift => String::new(),
            Some(until) => format!(", kept until {}", time(*until)),
            None => ", for ever (--lift takes it back)".into(),
        };
        let mut text = format!("{verb}: {kind} {value}{which}{how_long}; version {version}\n");
        if *more_than_asked {
            text.push_str(
                "This is more than was asked: an earlier revocation of it stands, and both are one now. To have just what was asked, take \
                 it back (--lift), then ask again: tokens that live pass in between.\n"
            );
        }
        text.push_str(match done {
            Done::Broker => "Every filter has it with its next poll.\n",
            Done::Database => {
                "No broker runs here: it stands in the database, whose other brokers have it within a second.\n"
            }
            Done::Store => "No broker runs: it stands in the store, and filters have it once one serves again.\n",
        });
        text
    }

    /// In the store itself: a file that nobody else may have open, or the database that brokers share.
    fn offline(&self, draft: &Draft, wanted: &Wanted) -> Result<Outcome, Failure> {
        let problems = |problems: Problems| output::problems(&self.file.config, &problems, self.output);
        let (Some(state_dir), Some(issuer), Some(database)) = (draft.state_dir(), draft.issuer(), draft.database())
        else {
            if self.output == Output::Text && draft.problems().of_the_file().is_none() {
                output::complain(
                    "no broker was found by listen.admin, and its store cannot be found: run this as the broker's user, with \
                 its configuration",
                );
            }
            return Err(problems(draft.problems().clone()));
        };
        let (store, lock) = match database {
            Some(database) => (KeptStore::in_made_database(database, DEADLINE), None),
            None => {
                let lock = self.alone(draft, state_dir)?;
                let store = KeptStore::in_file(state_dir, 16, DEADLINE, Histogram::new([1.0]));
                (store, Some(lock))
            }
        };
        let longest_life = draft.policy().map_or(0, Policy::longest_ttl_seconds);
        let revocations = Revocations::new(
            std::sync::Arc::new(store.map_err(|problem| problems(problem.into()))?),
            issuer,
            longest_life,
            Metrics::new().revocations(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| output::wrong(error, "try again", self.output, Failure::Running))?;
        // The event that a broker would have where its own go. Standard output is for what came of it.
        let lines =
            audit_lines(&draft.audit().cloned().unwrap_or_default()).map_err(|problem| problems(problem.into()))?;
        lines.subscriber(LevelFilter::INFO).init();
        let outcome = runtime.block_on(write_down(&revocations, wanted, self.output));
        drop(lines);
        drop(revocations);
        drop(lock);
        outcome
    }

    /// The state folder with a store in it, which is ours until the lock is dropped.
    fn alone(&self, draft: &Draft, state_dir: &Path) -> Result<StateLock, Failure> {
        let problems = |problem: Problem| output::problems(&self.file.config, &problem.into(), self.output);
        not_lost(state_dir).map_err(problems)?;
        match StateLock::look(state_dir) {
            Ok(()) if state_dir.join(FILE).exists() => StateLock::take(state_dir).map_err(problems),
            Ok(()) => Err(output::wrong(
                format_args!(
                    "{} holds no store: no broker has run, so that there is no token to revoke",
                    state_dir.display()
                ),
                "start the broker first, or name the configuration of another with --config",
                self.output,
                Failure::Configuration,
            )),
            Err(problem) => Err(output::wrong(
                format_args!(
                    "{}, and does not listen on the socket of [listen.admin]",
                    problem.problem
                ),
                match draft.admin_socket() {
                    Some(socket) => format!("restart it, so that it listens on {}", socket.display()),
                    None => "add [listen.admin] with unix = \"/run/kerbridge/admin.sock\" and restart it".into(),
                },
                self.output,
                Failure::Configuration,
            )),
        }
    }
}

impl Done {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Store => "store",
            Self::Database => "database",
        }
    }
}

fn ask(socket: &Path, wanted: &Wanted) -> Result<Outcome, ClientError> {
    match wanted {
        Wanted::Revoke(request) => client::post(socket, REVOKE_PATH, request),
        Wanted::Lift(request) => client::post(socket, LIFT_PATH, request),
    }
}

fn usage(error: &AdminError, form: Output) -> Failure {
    output::undone(error, form, Failure::Usage)
}

/// Where the event of a change goes; where it cannot go there, to standard error: what must be done in an emergency is done all
/// the same.
pub(super) fn audit_lines(rules: &AuditRules) -> Result<audit::Lines, Problem> {
    audit::Lines::of_command(rules).or_else(|problem| {
        output::complain(format_args!("warning: the audit event is printed: {problem}"));
        audit::Lines::of_command(&AuditRules::default())
    })
}

/// A disk may be slow where nobody waits but a person.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

async fn write_down(revocations: &Revocations, wanted: &Wanted, form: Output) -> Result<Outcome, Failure> {
    let by = By::Offline {
        uid: rustix::process::geteuid().as_raw(),
    };
    let failed = |error: StoreError| output::undone(&AdminError::from(&error), form, Failure::Running);
    match wanted {
        Wanted::Revoke(request) => {
            let order = request
                .order(Clock::System.now())
                .map_err(|error| usage(&error, form))?;
            let revoked = revocations.revoke(order, &by, Clock::System).await.map_err(failed)?;
            Ok(Outcome::revoked(&revoked, request))
        }
        Wanted::Lift(request) => {
            let target = request.target().map_err(|error| usage(&error, form))?;
            match revocations.lift(&target, &by, Clock::System).await.map_err(failed)? {
                Some(position) => Ok(Outcome::lifted(&target, position)),
                None => Err(output::undone(&AdminError::not_revoked(&target), form, Failure::No)),
            }
        }
    }
}
