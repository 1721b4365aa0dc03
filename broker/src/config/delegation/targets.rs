//! Decides towards which services the broker may act: of its own realm, never a broker, and with the certificates that tickets are bound
//! to.

use std::path::Path;
use std::sync::Arc;

use kerbridge_gss::Principal;

use super::TargetBinding;
use crate::channel_bindings::CertificateFile;
use crate::config::KerberosConfig;
use crate::policy::{Policy, may_be_one_account};
use crate::problem::Problems;

pub(super) fn check_targets(
    policy: &Policy,
    own: &Principal,
    kerberos: Option<&KerberosConfig>,
    refused: &[Principal],
    problems: &mut Problems,
) {
    let acceptors = kerberos.iter().flat_map(|kerberos| &kerberos.acceptors);
    let ours: Vec<&Principal> = acceptors
        .map(|acceptor| acceptor.principal.as_principal())
        .chain(std::iter::once(own))
        .collect();
    for (index, target, _) in policy.delegation_targets() {
        let field = format!("delegation[{index}].target");
        let service = target.service().as_principal();
        // As a domain may read them.
        let named = |known: &Principal| {
            if known == service {
                String::new()
            } else {
                format!(", by another name of {known}")
            }
        };
        if let Some(own) = ours.iter().find(|own| may_be_one_account(own, service)) {
            problems.note(
                &field,
                format!("{service} is this broker itself{}", named(own)),
                "name the service behind Envoy",
            );
        }
        if let Some(other) = refused.iter().find(|other| may_be_one_account(other, service)) {
            problems.note(
                &field,
                format!("{service} stands in delegation.refused_targets{}", named(other)),
                "name the service behind Envoy",
            );
        }
        if service.realm() != own.realm() {
            problems.note(
                field,
                format!("{service} is of another realm than {own}, from which no ticket leads there"),
                "name a service of the broker's own realm",
            );
        }
    }
}

pub(super) fn open_bindings(policy: &Policy, folder: &Path, problems: &mut Problems) -> Vec<TargetBinding> {
    let mut bindings: Vec<TargetBinding> = Vec::new();
    for (index, target, file) in policy.delegation_targets() {
        let (target, Some(file)) = (target.to_string(), file) else {
            continue;
        };
        if bindings.iter().any(|binding| binding.target == target) {
            continue;
        }
        match CertificateFile::open(folder.join(file), 0) {
            Ok(file) => bindings.push(TargetBinding {
                target,
                file: Arc::new(file),
            }),
            Err(problem) => problems.note(
                format!("delegation[{index}].channel_binding"),
                problem,
                "name the PEM file with the certificate that the service shows, first of its chain",
            ),
        }
    }
    bindings
}
