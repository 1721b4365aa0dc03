//! Decides whether channel bindings are looked at, and whether the certificates that clients bind to are known.

use std::path::Path;
use std::sync::Arc;

use kerbridge_wire::Span;

use super::listen::ListenerConfig;
use super::{Address, raw};
use crate::channel_bindings::{
    BindingMode, ChannelBindingRules, ListenerCertificate, NoEndPoint, OwnCertificate, ServerNamePattern,
};
use crate::problem::Problems;

const FIELD: &str = "kerberos.channel_bindings";
/// How long a replaced certificate counts where nothing is said: an hour, in seconds.
const OVERLAP: u32 = 3600;
const LONGEST_OVERLAP: u32 = 30 * 86_400;
/// Certificate files, and files for one name: each may cost an attempt where several are in force.
const MOST_FILES: usize = 256;
const MOST_FOR_ONE_NAME: usize = 4;

pub(super) fn check(
    bindings: raw::ChannelBindings,
    folder: &Path,
    public: Option<&ListenerConfig>,
    problems: &mut Problems,
) -> Option<ChannelBindingRules> {
    let raw::ChannelBindings {
        mode,
        overlap,
        certificate,
    } = bindings;
    let mode = check_mode(mode.as_deref(), problems);
    let overlap = overlap.map_or(OVERLAP, Span::seconds);
    if overlap > LONGEST_OVERLAP {
        problems.note(
            format!("{FIELD}.overlap"),
            "is longer than 30 days",
            "write how long a client's connection may last, such as \"1h\"",
        );
    }
    if certificate.len() > MOST_FILES {
        problems.note(
            format!("{FIELD}.certificate"),
            format!("has more than {MOST_FILES} entries"),
            "let one certificate serve several names",
        );
        return None;
    }
    let mut certificates = Vec::new();
    let mut all_names: Vec<ServerNamePattern> = Vec::new();
    let empty = certificate.is_empty();
    for (index, one) in certificate.into_iter().enumerate() {
        let prefix = format!("{FIELD}.certificate[{index}]");
        let Some((names, certificate)) = check_certificate(one, &prefix, folder, overlap.into(), problems) else {
            continue;
        };
        all_names.extend(names);
        certificates.push(certificate);
    }
    for (index, name) in all_names.iter().enumerate() {
        let earlier = all_names.iter().take(index).filter(|other| *other == name).count();
        if earlier == MOST_FOR_ONE_NAME {
            problems.note(
                format!("{FIELD}.certificate"),
                format!("has {name} more than {MOST_FOR_ONE_NAME} times"),
                "keep the certificates that are in use",
            );
        }
    }
    let mode = mode?;
    let public = match mode {
        BindingMode::Off => None,
        BindingMode::Allow | BindingMode::Require => check_public(mode, public, overlap.into(), problems),
    };
    if mode != BindingMode::Off && empty && public.is_none() {
        problems.missing(
            &format!("{FIELD}.certificate"),
            "add a [[kerberos.channel_bindings.certificate]] with server_names and the file that Envoy shows its clients",
        );
    }
    Some(ChannelBindingRules::new(mode, certificates, public))
}

fn check_mode(mode: Option<&str>, problems: &mut Problems) -> Option<BindingMode> {
    match mode.unwrap_or("off") {
        "off" => Some(BindingMode::Off),
        "allow" => Some(BindingMode::Allow),
        "require" => Some(BindingMode::Require),
        other => {
            problems.note(
                format!("{FIELD}.mode"),
                format!("{other:?} is no mode"),
                "write off, allow or require",
            );
            None
        }
    }
}

fn check_certificate(
    certificate: raw::BindingCertificate,
    prefix: &str,
    folder: &Path,
    overlap: u64,
    problems: &mut Problems,
) -> Option<(Vec<ServerNamePattern>, ListenerCertificate)> {
    let raw::BindingCertificate { server_names, file } = certificate;
    if server_names.is_empty() {
        problems.missing(
            &format!("{prefix}.server_names"),
            "list the names that clients ask for, such as [\"api.example.com\"], or [\"*\"] for all",
        );
    }
    let mut names = Vec::new();
    for (index, name) in server_names.iter().enumerate() {
        match ServerNamePattern::parse(name) {
            Some(name) => names.push(name),
            None => problems.note(
                format!("{prefix}.server_names[{index}]"),
                format!("{name:?} is no server name"),
                "write api.example.com, *.example.com, or * for all others and for clients that name none",
            ),
        }
    }
    let field = format!("{prefix}.file");
    let Some(path) = file.map(|file| folder.join(file)) else {
        problems.missing(
            &field,
            "name the PEM file with the certificate that Envoy shows, leaf first",
        );
        return None;
    };
    match ListenerCertificate::open(names.clone(), path, overlap) {
        Ok(certificate) => Some((names, certificate)),
        Err(problem) => {
            problems.note(
                field,
                problem,
                "name a PEM file that the broker's user can read, with an RSA or ECDSA signature",
            );
            None
        }
    }
}

/// The broker's own certificate. Clients of `public` that come through another proxy bind to that one's.
fn check_public(
    mode: BindingMode,
    public: Option<&ListenerConfig>,
    overlap: u64,
    problems: &mut Problems,
) -> Option<OwnCertificate> {
    let server = match &public?.address {
        Address::Tls { server, .. } => Arc::clone(server),
        Address::Unix { .. } | Address::Clear { .. } => return None,
    };
    match OwnCertificate::open(move || server.certificate(), overlap) {
        Ok(certificate) => Some(certificate),
        // Nobody can bind to it, and nobody has to.
        Err(NoEndPoint::Undefined) if mode == BindingMode::Allow => None,
        Err(error) => {
            problems.note(
                "listen.public.certificate",
                format!("{error}, while {FIELD}.mode looks at bindings"),
                "use a certificate with an RSA or ECDSA signature",
            );
            None
        }
    }
}
