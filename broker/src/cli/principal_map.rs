//! Shows what the rules make of principals: the name in a token, what decides it, and whether the realm is taken at all.

use std::error::Error;
use std::path::Path;

use clap::Args;
use kerbridge_gss::environment::use_krb5_config;
use kerbridge_gss::{Principal, local_name};
use kerbridge_wire::Reason;
use serde::Serialize;

use super::{Check, Failure, Output, output};
use crate::config::NamesConfig;
use crate::krb5_conf;
use crate::principal;
use crate::principal::mapping::{Mapped, NotMapped};

#[derive(Debug, Args)]
pub(super) struct Map {
    /// Full principals, such as alice/admin@EXAMPLE.COM.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    check: Check,
}

/// What becomes of one principal.
#[derive(Debug, Serialize)]
struct Line {
    principal: String,
    /// `sub` of its tokens, where it gets some.
    subject: Option<String>,
    /// The word of the closed list.
    reason: &'static str,
    /// The field that decided.
    decided_by: String,
    /// Whether `kerberos.realms` has its realm.
    realm_taken: bool,
    /// Why there is no name.
    detail: Option<String>,
}

pub(super) fn run(map: &Map) -> Result<(), Failure> {
    let path = &map.check.file.config;
    let principals = read(&map.names)?;
    let config = match NamesConfig::load(path) {
        Ok(config) => config,
        Err(problems) => return output::checked(path, Err(problems), map.check.output),
    };
    // Read by libkrb5 as long as it lives.
    let own = if config.rules().asks_local_names() {
        Some(use_own_krb5_conf(&config).map_err(|error| {
            output::complain(error);
            Failure::Running
        })?)
    } else {
        None
    };
    let lines = lines(&config, &principals);
    drop(own);
    print(&lines, map.check.output)
}

/// The rules of the broker, in a file of this process, since its state directory may not be ours to write.
fn use_own_krb5_conf(config: &NamesConfig) -> Result<krb5_conf::Unnamed, Box<dyn Error>> {
    let own = krb5_conf::Unnamed::write(&krb5_conf::text(config.kerberos()))?;
    let files = krb5_conf::files(own.path());
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    use_krb5_config(&files)?;
    Ok(own)
}

/// The principals, or a complaint about all that are none.
fn read(names: &[String]) -> Result<Vec<Principal>, Failure> {
    let mut principals = Vec::new();
    for name in names {
        match principal::canonical(name) {
            Ok(principal) => principals.push(principal),
            Err(error) => output::complain(format_args!("{name:?}: {error}")),
        }
    }
    if principals.len() == names.len() {
        Ok(principals)
    } else {
        Err(Failure::Usage)
    }
}

fn lines(config: &NamesConfig, principals: &[Principal]) -> Vec<Line> {
    let one = |principal: &Principal| {
        let local = if config.rules().asks_local_names() {
            local_name(principal)
        } else {
            None
        };
        let realm_taken = config.realms().iter().any(|realm| realm == principal.realm());
        let mapped = config.rules().map(principal, local.as_deref());
        let (subject, reason, decided_by, detail) = match mapped {
            _ if !realm_taken => (
                None,
                Reason::RealmNotAllowed,
                "kerberos.realms".to_owned(),
                Some(format!("kerberos.realms: {:?} is not on the list", principal.realm())),
            ),
            Ok(Mapped { subject, by }) => (Some(subject.to_string()), Reason::Ok, by.to_string(), None),
            Err(refused @ NotMapped { by, .. }) => (
                None,
                Reason::PrincipalNotMapped,
                by.to_string(),
                Some(refused.to_string()),
            ),
        };
        Line {
            principal: principal.to_string(),
            subject,
            reason: reason.as_str(),
            decided_by,
            realm_taken,
            detail,
        }
    };
    principals.iter().map(one).collect()
}

fn print(lines: &[Line], form: Output) -> Result<(), Failure> {
    output::print_as(form, lines, || lines.iter().map(shown).collect())?;
    if lines.iter().all(|line| line.subject.is_some()) {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

fn shown(line: &Line) -> String {
    let Line {
        principal,
        subject,
        reason,
        decided_by,
        realm_taken: _,
        detail,
    } = line;
    match subject {
        Some(subject) => format!("{principal}: {subject} ({decided_by})\n"),
        None => {
            let why = detail.as_ref().unwrap_or(decided_by);
            format!("{principal}: refused, {reason} ({why})\n")
        }
    }
}
