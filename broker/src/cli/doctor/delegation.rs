//! Finds out whether the KDC lets the broker act for users, and which right is missing where not.

use std::path::PathBuf;

use clap::Args;
use kerbridge_gss::{DelegationTarget, Principal, ServicePrincipal};
use kerbridge_wire::Span;

use super::{report, use_own_krb5_conf};
use crate::cli::{Check, Failure, output};
use crate::config::{Config, KerberosConfig, Surroundings};
use crate::doctor::Finding;
use crate::doctor::deadline::{Deadline, End};
use crate::doctor::delegation::{Trial, look, look_at_all, unanswered};
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
    /// How long to wait for the KDC, all questions together: 10s, 1m.
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    deadline: Span,
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
        deadline,
    } = delegation;
    let (Some(account), Some(keytab)) = (account, keytab) else {
        return as_configured(check, user, *deadline);
    };
    let Some(kerberos) = KerberosConfig::of_one_realm(account.realm()) else {
        output::complain(format_args!(
            "{:?} is no realm: write it as the KDC does",
            account.realm()
        ));
        return Err(Failure::Usage);
    };
    let (users, targets) = (user.clone(), target.clone());
    let (keytab, own_account) = (keytab.clone(), account.clone());
    attempt(&kerberos, check, account, *deadline, move |found| {
        let trial = Trial {
            account: &own_account,
            own: vec![(own_account.clone(), keytab.clone())],
            keytab: &keytab,
            users,
            witnesses: Vec::new(),
            targets: targets.iter().map(|target| (target, None)).collect(),
        };
        look(&trial, Clock::System, found);
    })
}

/// The account and the targets of the configuration.
fn as_configured(check: &Check, users: &[Principal], deadline: Span) -> Result<(), Failure> {
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
    let (account, users) = (delegation.principal.clone(), users.to_vec());
    let kerberos = config.kerberos().clone();
    attempt(&kerberos, check, &account, deadline, move |found| {
        if let Some(delegation) = config.delegation() {
            let trial = Trial::of(delegation, &config, users, Clock::System.now());
            look_at_all(delegation, &config, &trial, Clock::System, found);
        }
    })
}

fn attempt(
    kerberos: &KerberosConfig,
    check: &Check,
    account: &Principal,
    within: Span,
    look: impl FnOnce(&mut dyn FnMut(Finding)) + Send + 'static,
) -> Result<(), Failure> {
    // libkrb5 reads it as long as this lives.
    let own = use_own_krb5_conf(kerberos).map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    let (mut findings, end) = Deadline::after(within).look(look);
    drop(own);
    match end {
        End::Done => {}
        End::Late | End::NotBegun => findings.push(unanswered(account, within, &findings)),
        End::Failed => return Err(Failure::Running),
    }
    report(&findings, check.output)
}
