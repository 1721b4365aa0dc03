//! Finds out whether the KDC lets the broker act for users, and which right is missing where not.

use std::path::PathBuf;

use clap::Args;
use kerbridge_gss::{DelegationTarget, Principal, ServicePrincipal};

use super::{report, use_own_krb5_conf};
use crate::cli::{Check, Failure, output};
use crate::config::{Config, KerberosConfig, Surroundings};
use crate::doctor::Finding;
use crate::doctor::delegation::{Trial, look, look_as_configured};
use crate::time::Clock;

#[derive(Debug, Args)]
pub(super) struct Delegation {
    #[command(flatten)]
    check: Check,
    /// Somebody to act for, such as alice@EXAMPLE.COM; no ticket leaves this command. May be repeated.
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    user: Vec<Principal>,
    /// The account that acts, before there is a configuration.
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal, requires_all = ["keytab", "target"])]
    account: Option<Principal>,
    /// Its keytab.
    #[arg(long, value_name = "FILE", requires = "account")]
    keytab: Option<PathBuf>,
    /// A service to act towards, such as HTTP/legacy.example.com@EXAMPLE.COM; may be repeated.
    #[arg(long, value_name = "PRINCIPAL", value_parser = target, requires = "account")]
    target: Vec<DelegationTarget>,
}

fn principal(text: &str) -> Result<Principal, String> {
    Principal::parse(text).map_err(|error| error.to_string())
}

fn target(text: &str) -> Result<DelegationTarget, String> {
    let service = ServicePrincipal::parse(text).map_err(|error| error.to_string())?;
    DelegationTarget::new(service).map_err(|error| error.to_string())
}

pub(super) fn run(delegation: &Delegation) -> Result<(), Failure> {
    let Delegation {
        check,
        user,
        account,
        keytab,
        target,
    } = delegation;
    let (Some(account), Some(keytab)) = (account, keytab) else {
        return as_configured(check, user);
    };
    let Some(kerberos) = KerberosConfig::of_one_realm(account.realm()) else {
        output::complain(format_args!(
            "{:?} is no realm: write it as the KDC does",
            account.realm()
        ));
        return Err(Failure::Usage);
    };
    let trial = Trial {
        account,
        keytab,
        users: user.clone(),
        targets: target.iter().map(|target| (target, None)).collect(),
    };
    attempt(&kerberos, check, || look(&trial, Clock::System))
}

/// The account and the targets of the configuration.
fn as_configured(check: &Check, users: &[Principal]) -> Result<(), Failure> {
    let path = &check.file.config;
    let config = match Config::load(path, &Surroundings::of_process()) {
        Ok(config) => config,
        Err(problems) => return output::checked(path, Err(problems), check.output),
    };
    let Some(delegation) = config.delegation() else {
        output::complain(format_args!(
            "{} has no [delegation]; without it name --account, --keytab and --target",
            path.display()
        ));
        return Err(Failure::Usage);
    };
    let trial = Trial::of(delegation, &config, users.to_vec(), Clock::System.now());
    attempt(config.kerberos(), check, || {
        look_as_configured(delegation, &config, &trial, Clock::System)
    })
}

fn attempt(kerberos: &KerberosConfig, check: &Check, look: impl FnOnce() -> Vec<Finding>) -> Result<(), Failure> {
    // libkrb5 reads it as long as this lives.
    let own = use_own_krb5_conf(kerberos).map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    let findings = look();
    drop(own);
    report(&findings, check.output)
}
