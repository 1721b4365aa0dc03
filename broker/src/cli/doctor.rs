//! Looks at keytab, KDC, names, state folder and Envoy, and says what is wrong and which command mends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

mod delegation;

use clap::{Args, Subcommand};
use kerbridge_gss::environment::use_krb5_config;
use kerbridge_wire::Span;

use super::{Check, Failure, Output, output};
use crate::config::{Config, KerberosConfig, PolicyConfig, Surroundings};
use crate::doctor::deadline::Deadline;
use crate::doctor::{self, Finding, Places, Verdict};
use crate::krb5_conf;
use crate::time::Clock;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Doctor {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    check: Check,
    /// Tickets of a user (a file, fresh from kinit; it is not changed), for a KDC that does not let a service log in by its name, such as Active Directory.
    #[arg(long, value_name = "FILE")]
    ccache: Option<PathBuf>,
    /// An account to look up in the directory of [groups.ldap]: its principal, or its objectSid where find_by is "sid".
    #[arg(long, value_name = "NAME")]
    look_up: Option<String>,
    /// Envoy's admin address; its configuration is looked at.
    #[arg(long, value_name = "HOST:PORT")]
    envoy_admin: Option<String>,
    /// Envoy's TLS listener; its certificates are compared with those that clients bind to.
    #[arg(long, value_name = "HOST:PORT")]
    envoy_listener: Option<String>,
    /// How long to wait for KDCs, all questions to them together: 10s, 1m.
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    deadline: Span,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only whether the KDC lets the broker act for users, by trying; which right is missing, and which command gives it.
    Delegation(delegation::Delegation),
}

pub(super) fn run(doctor: &Doctor) -> Result<(), Failure> {
    let Doctor {
        part,
        check,
        ccache,
        look_up,
        envoy_admin,
        envoy_listener,
        deadline,
    } = doctor;
    if let Some(Part::Delegation(delegation)) = part {
        return delegation::run(delegation);
    }
    let path = &check.file.config;
    let config = Config::load(path, &Surroundings::of_process());
    let policy = PolicyConfig::load(path);
    let (config, policy) = match (config, policy) {
        (Ok(config), Ok(policy)) => (config, policy),
        (Err(problems), _) | (_, Err(problems)) => return output::checked(path, Err(problems), check.output),
    };
    // libkrb5 reads it as long as this lives; the state folder may not be ours to write.
    let own = use_own_krb5_conf(config.kerberos()).map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    let places = Places {
        ccache: ccache.clone(),
        account: look_up.clone(),
        envoy_admin: envoy_admin.clone(),
        envoy_listener: envoy_listener.clone(),
    };
    let deadline = Deadline::after(*deadline);
    let findings = doctor::examine(
        &Arc::new(config),
        policy.policy_file(),
        &places,
        Clock::System,
        deadline,
    );
    drop(own);
    report(&findings, check.output)
}

/// Prints the findings, and fails where one of them is bad.
fn report(findings: &[Finding], output: Output) -> Result<(), Failure> {
    output::print_as(output, findings, || text(findings))?;
    if findings.iter().any(|finding| finding.verdict == Verdict::Bad) {
        Err(Failure::Ill)
    } else {
        Ok(())
    }
}

fn use_own_krb5_conf(kerberos: &KerberosConfig) -> Result<krb5_conf::Unnamed, Box<dyn std::error::Error>> {
    let own = krb5_conf::Unnamed::write(&krb5_conf::text(kerberos))?;
    let files = krb5_conf::files(own.path());
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    use_krb5_config(&files)?;
    Ok(own)
}

/// One line for each finding, its remedies below it, and the count at the end.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding {
            check,
            subject,
            verdict,
            reason,
            found,
            remedies,
        } = finding;
        let reason = reason.map(|reason| format!(" [{reason}]")).unwrap_or_default();
        text.push_str(&format!("{:<7} {check} {subject}: {found}{reason}\n", word(*verdict)));
        for remedy in remedies {
            text.push_str(&format!("        {}: {}\n", remedy.system, remedy.command));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    text.push_str(&format!(
        "{} bad, {} warnings, {} skipped, {} good\n",
        count(Verdict::Bad),
        count(Verdict::Warning),
        count(Verdict::Skipped),
        count(Verdict::Good)
    ));
    text
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Skipped => "skipped",
        Verdict::Warning => "warning",
        Verdict::Bad => "BAD",
    }
}
