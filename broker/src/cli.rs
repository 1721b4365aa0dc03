//! Reads the command line, runs one command, and says by the exit code whose fault a failure is (sysexits.h).

mod client;
mod completion;
mod config_check;
mod doctor;
#[cfg(test)]
mod documented;
mod exit;
mod init;
mod keys;
mod login;
mod logout;
mod manual;
mod output;
mod policy_check;
mod policy_decision;
mod policy_explain;
mod policy_render;
mod policy_test;
mod principal_map;
mod revoke;
mod serve;
mod status;
mod store;
mod token;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use exit::Failure;

/// Turns Kerberos tickets into short-lived tokens for services behind Envoy.
#[derive(Debug, Parser)]
#[command(name = "kerbridge", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// Write a configuration that runs as it is, from a keytab.
    Init(init::Init),
    /// Look at the configuration.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Look at the policy, and make the filter's configuration from it.
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// Look at names.
    #[command(subcommand, arg_required_else_help = true)]
    Principal(PrincipalCommand),
    /// Look at keytab, KDC, names, state folder and Envoy; say what is wrong and which command mends it. Changes nothing.
    Doctor(doctor::Doctor),
    /// Take tokens back before their end: one, those of a service ticket, or those of somebody.
    Revoke(revoke::Revoke),
    /// Show where the running broker stands: whether it wants requests, keys, revocations, answers by reason.
    Status(status::StatusCommand),
    /// Look at the signing keys, and replace them.
    #[command(subcommand, arg_required_else_help = true)]
    Keys(keys::KeysCommand),
    /// Look at the broker's store, export and import it; while no broker runs.
    #[command(subcommand, arg_required_else_help = true)]
    Store(store::StoreCommand),
    /// Get a token with your ticket, and keep it for the commands below.
    Login(login::Login),
    /// Use tokens.
    #[command(subcommand, arg_required_else_help = true)]
    Token(token::TokenCommand),
    /// Have the kept tokens taken back, and forget them.
    Logout(logout::Logout),
    /// Print a completion script for a shell.
    Completion(completion::Completion),
    /// Write the manual pages into a folder, for `man` and for packages.
    Manual(manual::Manual),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Report all that is wrong with configuration, policy, keytabs, certificates and keys; change nothing.
    Check(Check),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Report all that is wrong with the policy; needs neither keytab nor keys.
    Check(policy_check::PolicyCheck),
    /// Say what somebody gets for an audience, which grants give it, and why the others do not.
    Explain(policy_explain::Explain),
    /// Hold the policy to a table of cases: who asks for what, and what is to come of it.
    Test(policy_test::Test),
    /// Print the filter's configuration.
    Render(policy_render::Render),
}

#[derive(Debug, Subcommand)]
enum PrincipalCommand {
    /// Show what tokens call principals and what decides that; needs neither keytab nor keys.
    Map(principal_map::Map),
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The broker's configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/kerbridge/kerbridge.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: lines on standard output; problems of a configuration, each with its remedy, on standard error.
    Text,
    /// For scripts: one JSON value on standard output; problems of a configuration are an array of field, problem and remedy.
    Json,
}

/// Runs the command line. To be called from `main` before any thread exists.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = exit::command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Where not even this can be written there is nobody to tell.
            drop(error.print());
            let wanted = matches!(
                error.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
            );
            return if wanted {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(Failure::Usage.code())
            };
        }
    };
    let done = match cli.command {
        Command::Serve(file) => serve::run(&file.config),
        Command::Init(init) => init::run(&init),
        Command::Config(ConfigCommand::Check(check)) => config_check::run(&check),
        Command::Policy(PolicyCommand::Check(check)) => policy_check::run(&check),
        Command::Policy(PolicyCommand::Explain(explain)) => policy_explain::run(&explain),
        Command::Policy(PolicyCommand::Test(test)) => policy_test::run(&test),
        Command::Policy(PolicyCommand::Render(render)) => policy_render::run(&render),
        Command::Principal(PrincipalCommand::Map(map)) => principal_map::run(&map),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Revoke(revoke) => revoke::run(&revoke),
        Command::Status(command) => status::run(&command),
        Command::Keys(command) => keys::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Login(login) => login::run(&login),
        Command::Token(command) => token::run(&command),
        Command::Logout(logout) => logout::run(&logout),
        Command::Completion(completion) => completion::run(&completion),
        Command::Manual(manual) => manual::run(&manual),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.code()),
    }
}
