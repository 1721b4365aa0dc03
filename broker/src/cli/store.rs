//! Looks at the broker's store, writes what it holds to a text, and makes a store of such a text; one in a file while no broker
//! runs.

mod begin;

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, Output, output};
use crate::config::{Draft, Surroundings, prepare_state_dir};
use crate::problem::{Problem, Problems};
use crate::state_lock::StateLock;
use crate::store::{
    Checked, Exported, FILE, Position, PostgresConfig, check_database, check_file, export_database, export_file,
    import_database, import_file, import_left, not_lost,
};
use crate::time::moment::Rfc3339;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Read all of the store, and say what it holds or what is wrong with it.
    Check(Check),
    /// Write what the store holds to standard output: what is revoked, and which tickets were used. No secrets.
    Export(Export),
    /// Make the store of an export, where there is none. It begins a new epoch, so that every filter reads it anew.
    Import(Import),
    /// Begin anew where the store is lost and the keys are there: retire every key, so that every token ends, and make a store that
    /// knows of nothing. Says what is forgotten.
    Begin(Begin),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    from: From,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
struct From {
    #[command(flatten)]
    file: ConfigFile,
    /// Another file than the state folder's, such as one from a backup. It may be mended or brought up to this release: give a copy.
    #[arg(long = "file", value_name = "FILE")]
    other: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    file: ConfigFile,
    /// The export; - is standard input.
    #[arg(value_name = "EXPORT")]
    from: PathBuf,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Begin {
    #[command(flatten)]
    file: ConfigFile,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(command: &StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Check(check) => check.run(),
        StoreCommand::Export(export) => export.run(),
        StoreCommand::Import(import) => import.run(),
        StoreCommand::Begin(begin) => begin.run(),
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let checked = match self.from.source(self.output)? {
            Source::File(path, _lock) => check_file(&path),
            Source::Database(database) => check_database(&database),
        };
        let checked = checked.map_err(|problem| self.from.problem(problem, self.output))?;
        let Checked {
            format,
            position,
            tokens_end,
            revoked,
            used,
        } = checked;
        let text = match self.output {
            Output::Json => {
                let value = serde_json::json!({
                    "format": format, "epoch": position.epoch, "version": position.version,
                    "tokens_end": tokens_end.seconds(), "revoked": revoked, "used": used,
                });
                format!("{value:#}\n")
            }
            Output::Text => format!(
                "good: format {format}, epoch {}, version {}; {revoked} revocations, {used} used tickets; tokens end by {}\n",
                position.epoch,
                position.version,
                Rfc3339(tokens_end)
            ),
        };
        output::print(&text)
    }
}

impl Export {
    fn run(&self) -> Result<(), Failure> {
        let exported = match self.from.source(Output::Text)? {
            Source::File(path, _lock) => export_file(&path),
            Source::Database(database) => export_database(&database),
        };
        let exported = exported.map_err(|problem| self.from.problem(problem, Output::Text))?;
        match exported.write(BufWriter::new(io::stdout().lock())) {
            Ok(()) => Ok(()),
            Err(error) => {
                output::complain(format_args!("the export is not whole: {error}"));
                Err(Failure::Running)
            }
        }
    }
}

/// The store that is meant.
enum Source {
    File(PathBuf, Option<StateLock>),
    Database(PostgresConfig),
}

impl From {
    /// What is meant: a file, which nobody else may have open, or the brokers' database.
    fn source(&self, output: Output) -> Result<Source, Failure> {
        if let Some(path) = &self.other {
            return Ok(Source::File(path.clone(), None));
        }
        match place(&self.file.config, output)? {
            Place::Database(database) => Ok(Source::Database(database)),
            Place::Folder(state_dir, lock) => {
                not_lost(&state_dir).map_err(|problem| self.problem(problem, output))?;
                let path = state_dir.join(FILE);
                if !path.exists() {
                    return Err(output::wrong(
                        format_args!("{} is not there: no broker has run yet", path.display()),
                        "start the broker, which makes it, or name another with --file",
                        output,
                        Failure::Configuration,
                    ));
                }
                Ok(Source::File(path, Some(lock)))
            }
        }
    }

    fn problem(&self, problem: Problem, output: Output) -> Failure {
        output::problems(&self.file.config, &Problems::from(problem), output)
    }
}

impl Import {
    fn run(&self) -> Result<(), Failure> {
        let name = self.from.display();
        let read = if self.from == Path::new("-") {
            Exported::read(io::stdin().lock())
        } else {
            let file = File::open(&self.from).map_err(|error| {
                output::wrong(
                    format_args!("{name}: {error}"),
                    "name a file that kerbridge store export wrote",
                    self.output,
                    Failure::Usage,
                )
            })?;
            Exported::read(BufReader::new(file))
        };
        let exported = read.map_err(|error| {
            output::wrong(
                format_args!("{name} is no whole export: {error}"),
                "nothing was changed: name a file that kerbridge store export wrote to its end",
                self.output,
                Failure::Usage,
            )
        })?;
        let imported = match place(&self.file.config, self.output)? {
            Place::Folder(state_dir, _lock) => {
                let left = import_left(&state_dir);
                let imported = import_file(&state_dir, &exported);
                if let (Some(left), Ok(_)) = (left, &imported) {
                    output::complain(format_args!(
                        "{} was there, of an import that did not come to its end; this one began from the export",
                        left.display()
                    ));
                }
                imported
            }
            Place::Database(database) => import_database(&database, &exported),
        };
        let problems = |problem: Problem| output::problems(&self.file.config, &Problems::from(problem), self.output);
        let position = imported.map_err(problems)?;
        let Position { epoch, version } = position;
        let (revoked, used, before) = (exported.revoked.len(), exported.used.len(), exported.position);
        output::print(&match self.output {
            Output::Json => {
                let value = serde_json::json!({
                    "epoch": epoch, "version": version, "revoked": revoked, "used": used, "before": before.epoch,
                });
                format!("{value:#}\n")
            }
            Output::Text => format!(
                "imported: {revoked} revocations, {used} used tickets; epoch {epoch} (before: {}), version {version}\n",
                before.epoch
            ),
        })
    }
}

/// Where a configuration has its store.
enum Place {
    /// The state folder, which is ours until the lock is dropped.
    Folder(PathBuf, StateLock),
    Database(PostgresConfig),
}

fn place(config: &Path, output: Output) -> Result<Place, Failure> {
    let problems = |problems: Problems| output::problems(config, &problems, output);
    let draft = Draft::read(config, &Surroundings::of_process());
    let (Some(state_dir), Some(database)) = (draft.state_dir(), draft.database()) else {
        return Err(problems(draft.problems().clone()));
    };
    if let Some(database) = database {
        return Ok(Place::Database(database.clone()));
    }
    prepare_state_dir(state_dir).map_err(|problem| problems(problem.into()))?;
    let lock = StateLock::take(state_dir).map_err(|problem| problems(problem.into()))?;
    Ok(Place::Folder(state_dir.to_owned(), lock))
}
