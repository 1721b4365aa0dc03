//! Runs the lab for a person: the demonstration, or a lab that stays up until it is taken down.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use kerbridge_tests::initiator::{self, Destination, Legs};
use kerbridge_tests::{HarnessError, report, shipped};

mod demo;
mod lab;
mod run;
mod scratch;
mod screen;

/// The kerbridge lab: a real KDC, broker, Envoy and service on this machine, for as long as you want them.
#[derive(Parser)]
#[command(name = "kerbridge-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tells the whole story step by step, checks every step, and stops everything again.
    Demo {
        /// Where the captured exchange is written; demo in the target folder unless given, or in ~/.local/state/kerbridge-lab where the lab is installed.
        #[arg(long, value_name = "FOLDER")]
        capture: Option<PathBuf>,
    },
    /// Writes the report of a run again, from its `run.json`.
    Report {
        /// Where that is; lab-report in the target folder unless given, or in ~/.local/state/kerbridge-lab where the lab is installed.
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Takes the documents' pictures of a report, with Chromium.
    #[command(hide = true)]
    Pictures {
        /// The folder of the report.
        report: PathBuf,
        /// The scenario that is shown.
        scenario: String,
        /// Where the pictures go.
        folder: PathBuf,
    },
    /// Runs the named scenarios, shows each as it ends, and writes a report.
    Run(Box<run::RunArguments>),
    /// Starts the lab in the background and says how to use it.
    Up(Held),
    /// Stops the lab that runs in the background, if one does.
    Down(Place),
    /// Writes the manual pages into a folder, for packages.
    #[command(hide = true)]
    Manual {
        /// The folder.
        folder: PathBuf,
        /// The date that they have.
        #[arg(long, default_value = "")]
        date: String,
    },
    /// Is the lab in the background; `up` starts it.
    #[command(hide = true)]
    Hold(Held),
    /// Is a Kerberos client in a process of its own: prints a token, or sends it and checks the reply.
    #[command(hide = true)]
    Initiate {
        /// The credential cache.
        #[arg(long)]
        ccache: PathBuf,
        /// The service principal.
        #[arg(long)]
        service: String,
        /// The hash of the server's certificate, in base64, to bind the tokens to.
        #[arg(long, conflicts_with = "port")]
        bound_to: Option<String>,
        /// The https port on 127.0.0.1; without it the token is printed.
        #[arg(long, requires_all = ["authority", "target"])]
        port: Option<u16>,
        /// The certificate authority to trust.
        #[arg(long)]
        authority: Option<PathBuf>,
        /// The request target.
        #[arg(long)]
        target: Option<String>,
        /// How many tokens are printed, one in each line.
        #[arg(long, default_value_t = 1)]
        count: usize,
        /// Sends its ticket in a second leg, once it was asked for.
        #[arg(long, requires = "port")]
        when_asked: bool,
        /// Prints a Kerberos token without SPNEGO, and a MIC over this message (base64).
        #[arg(long, conflicts_with = "port")]
        mic_over: Option<String>,
    },
}

/// Where a lab in the background is kept.
#[derive(Args)]
struct Place {
    /// Where its state and log are; lab in the target folder unless given, or in ~/.local/state/kerbridge-lab where the lab is installed.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// A lab in the background, and what it is made of.
#[derive(Args)]
struct Held {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    parts: run::Parts,
}

impl Place {
    fn lab(self) -> lab::Lab {
        lab::Lab::at(self.state.unwrap_or_else(|| shipped::left_behind("lab")))
    }
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do where even this cannot be said.
            writeln!(std::io::stderr(), "kerbridge-lab: {error}").unwrap_or(());
            ExitCode::FAILURE
        }
    }
}

/// A page for the lab, and one for each of its commands that are for people.
fn manual(folder: &Path, date: &str) -> Result<ExitCode, HarnessError> {
    let failed = |source| HarnessError::io(format!("write manual pages into {}", folder.display()), source);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut lab = Arguments::command().disable_help_subcommand(true);
    lab.build();
    let below = lab.get_subcommands().filter(|one| !one.is_hide_set());
    for command in std::iter::once(&lab).chain(below) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let page = clap_mangen::Man::new(command.clone())
            .title(name.to_uppercase())
            .date(date)
            .source(concat!("kerbridge ", env!("CARGO_PKG_VERSION")))
            .manual("kerbridge manual");
        let mut text = Vec::new();
        page.render(&mut text).map_err(failed)?;
        std::fs::write(folder.join(format!("{name}.1")), text).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn perform(command: Command) -> Result<ExitCode, HarnessError> {
    match command {
        Command::Demo { capture } => demo::run(&capture.unwrap_or_else(|| shipped::left_behind("demo"))),
        Command::Report { folder } => {
            let folder = folder.unwrap_or_else(|| shipped::left_behind("lab-report"));
            let written = report::write(&report::read(&folder)?, &folder)?;
            say(&format!("{}\n{}", written.page.display(), written.junit.display()))
        }
        Command::Pictures {
            report: from,
            scenario,
            folder,
        } => {
            let written = report::write(&report::read(&from)?, &from)?;
            let taken = report::pictures::take(&written.page, &scenario, &folder)?;
            let taken: Vec<String> = taken.iter().map(|path| path.display().to_string()).collect();
            say(&taken.join("\n"))
        }
        Command::Run(arguments) => Ok(run::run(&arguments)),
        Command::Up(held) => held.place.lab().up(&held.parts),
        Command::Down(place) => place.lab().down(),
        Command::Manual { folder, date } => manual(&folder, &date),
        Command::Hold(held) => held.place.lab().hold(held.parts.choice()),
        Command::Initiate {
            ccache,
            service,
            port: Some(port),
            authority: Some(authority),
            target: Some(target),
            when_asked,
            ..
        } => {
            let to = Destination {
                port,
                authority: &authority,
                target: &target,
                legs: if when_asked { Legs::Two } else { Legs::One },
            };
            say(&initiator::complete(&ccache, &service, to)?.to_string())
        }
        Command::Initiate {
            ccache,
            service,
            mic_over: Some(message),
            ..
        } => {
            let message = STANDARD.decode(&message).unwrap_or_default();
            say(&initiator::bare_token(&ccache, &service, &message)?.to_string())
        }
        Command::Initiate {
            ccache,
            service,
            count,
            bound_to,
            ..
        } => say(&initiator::first_tokens(&ccache, &service, count, bound_to.as_deref())?.join("\n")),
    }
}

/// One line on standard output.
fn say(line: &str) -> Result<ExitCode, HarnessError> {
    writeln!(std::io::stdout(), "{line}")
        .map(|()| ExitCode::SUCCESS)
        .map_err(|source| HarnessError::io("write to standard output", source))
}
