//! Looks at the broker's store, writes what it holds to a text, and makes a store of such a text; while no broker runs.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, Output, output};
use crate::config::{Draft, Surroundings, prepare_state_dir};
use crate::problem::{Problem, Problems};
use crate::state_lock::StateLock;
use crate::store::{Checked, Exported, FILE, Position, check_file, export_file, import_file};
use crate::time::moment::Rfc3339;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Read all of the store, and say what it holds or what is wrong with it.
    Check(Check),
    /// Write what the store holds to standard output: what is revoked, and which tickets were used. No secrets.
    Export(Export),
    /// Make the store of an export, where there is none. It begins a new epoch, so that every filter reads it anew.
    Import(Import),
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

pub(super) fn run(command: &StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Check(check) => check.run(),
        StoreCommand::Export(export) => export.run(),
        StoreCommand::Import(import) => import.run(),
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let checked = self.from.with_file(check_file)?;
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
        let exported = self.from.with_file(export_file)?;
        match exported.write(BufWriter::new(io::stdout().lock())) {
            Ok(()) => Ok(()),
            Err(error) => {
                output::complain(format_args!("the export is not whole: {error}"));
                Err(Failure::Running)
            }
        }
    }
}

impl From {
    /// Does something with the file that is meant, which nobody else may have open.
    fn with_file<T>(&self, work: impl FnOnce(&Path) -> Result<T, Problem>) -> Result<T, Failure> {
        let problems = |problem: Problem| output::complain_all(&self.file.config, &Problems::from(problem));
        if let Some(path) = &self.other {
            return work(path).map_err(problems);
        }
        let (state_dir, lock) = alone(&self.file.config)?;
        let path = state_dir.join(FILE);
        if !path.exists() {
            output::complain(format_args!("{} is not there: no broker has run yet", path.display()));
            return Err(Failure::Configuration);
        }
        let done = work(&path).map_err(problems);
        drop(lock);
        done
    }
}

impl Import {
    fn run(&self) -> Result<(), Failure> {
        let name = self.from.display();
        let read = if self.from == Path::new("-") {
            Exported::read(io::stdin().lock())
        } else {
            let file = File::open(&self.from).map_err(|error| {
                output::complain(format_args!("{name}: {error}"));
                Failure::Usage
            })?;
            Exported::read(BufReader::new(file))
        };
        let exported = read.map_err(|error| {
            output::complain(format_args!("{name} is no whole export: {error}; nothing was changed"));
            Failure::Usage
        })?;
        let (state_dir, lock) = alone(&self.file.config)?;
        let problems = |problem: Problem| output::complain_all(&self.file.config, &Problems::from(problem));
        let position = import_file(&state_dir, &exported).map_err(problems)?;
        drop(lock);
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

/// The state folder, which is ours until the lock is dropped.
fn alone(config: &Path) -> Result<(PathBuf, StateLock), Failure> {
    let problems = |problems: Problems| output::complain_all(config, &problems);
    let draft = Draft::read(config, &Surroundings::of_process());
    let Some(state_dir) = draft.state_dir().map(Path::to_owned) else {
        return Err(problems(draft.problems().clone()));
    };
    prepare_state_dir(&state_dir).map_err(|problem| problems(problem.into()))?;
    let lock = StateLock::take(&state_dir).map_err(|problem| problems(problem.into()))?;
    Ok((state_dir, lock))
}
