//! Asks a service as a Kerberos client that finishes the context: only then has the service proven itself.
//!
//! libkrb5 takes its configuration from the environment of the process, and a test runs many realms side by side: what
//! is here runs in a child, `kerbridge-lab initiate`, with the environment of one realm.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{ChannelBindings, InitiateRequest, Initiation, InitiatorCredential, Mechanism, ServicePrincipal};
use serde_json::{Value, json};

use crate::error::HarnessError;
use crate::http::Request;
use crate::kdc::{Ccache, Kdc};
use crate::process::{OwnedProcess, Spawn};
use crate::tls;

/// Where to go, beside the tickets.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The port of an https listener on 127.0.0.1.
    pub port: u16,
    /// The certificate authority to trust.
    pub authority: &'a Path,
    /// The request target.
    pub target: &'a str,
}

/// Makes first tokens of contexts towards `service`, in base64, each with an authenticator of its own; bound to the
/// channels of the server whose certificate has this hash (base64), if one is given. Runs in the realm's own process.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] with GSSAPI's words.
pub fn first_tokens(
    ccache: &Path,
    service: &str,
    count: usize,
    certificate_hash: Option<&str>,
) -> Result<Vec<String>, HarnessError> {
    let (credential, mut request) = prepare(ccache, service)?;
    if let Some(hash) = certificate_hash {
        let hash = STANDARD.decode(hash).map_err(|error| refused(service, &error))?;
        request.bindings = Some(ChannelBindings::tls_server_end_point(&hash));
    }
    let token = |_number| {
        let initiation = credential
            .initiate(&request)
            .map_err(|error| refused(service, &error))?;
        Ok(STANDARD.encode(initiation.token.as_bytes()))
    };
    (0..count).map(token).collect()
}

/// Sends one request with a ticket and completes the context with what came back. Runs in the realm's own process.
///
/// The result names `status`, `established` (whether the service proved itself), `complaint` (why it did not),
/// `token` (what came in `x-kerbridge-token`) and `body`.
///
/// # Errors
///
/// [`HarnessError::Tls`], [`HarnessError::Http`], or [`HarnessError::UnexpectedAnswer`] with GSSAPI's words.
pub fn complete(ccache: &Path, service: &str, to: Destination<'_>) -> Result<Value, HarnessError> {
    let (credential, request) = prepare(ccache, service)?;
    let Initiation { token, mut context } = credential
        .initiate(&request)
        .map_err(|error| refused(service, &error))?;
    let request = Request::get(to.target).header(
        "authorization",
        format!("Negotiate {}", STANDARD.encode(token.as_bytes())),
    );
    let response = tls::send(to.port, to.authority, &request)?;
    let reply = response
        .all("www-authenticate")
        .find_map(|value| STANDARD.decode(value.strip_prefix(b"Negotiate ")?).ok());
    let complaint = match reply {
        None => Some("no reply token came".to_owned()),
        Some(reply) => context.answer(&reply).err().map(|error| error.to_string()),
    };
    Ok(json!({
        "status": response.status,
        "established": complaint.is_none() && context.is_established(),
        "complaint": complaint,
        "token": response.header_text("x-kerbridge-token"),
        "body": response.text(),
    }))
}

fn prepare(ccache: &Path, service: &str) -> Result<(InitiatorCredential, InitiateRequest), HarnessError> {
    let target = ServicePrincipal::parse(service).map_err(|error| refused(service, &error))?;
    let credential = InitiatorCredential::from_ccache(ccache).map_err(|error| refused(service, &error))?;
    let request = InitiateRequest {
        target,
        mechanism: Mechanism::Spnego,
        mutual: true,
        bindings: None,
    };
    Ok((credential, request))
}

fn refused(service: &str, error: &impl std::fmt::Display) -> HarnessError {
    HarnessError::UnexpectedAnswer {
        what: format!("the wish for a ticket for {service}"),
        answer: error.to_string(),
    }
}

/// Runs [`first_tokens`] for one token in a child with the environment of this realm; `lab` is the lab's own program.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn token_in_child(lab: &Path, kdc: &Kdc, ccache: &Ccache, service: &str) -> Result<String, HarnessError> {
    child(lab, kdc, ccache, service, &[])
}

/// Runs [`first_tokens`] for one token, bound to the channels of the server whose certificate has this hash, in a child
/// with the environment of this realm.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn bound_token_in_child(
    lab: &Path,
    kdc: &Kdc,
    ccache: &Ccache,
    service: &str,
    certificate_hash: &[u8],
) -> Result<String, HarnessError> {
    let hash = STANDARD.encode(certificate_hash);
    child(
        lab,
        kdc,
        ccache,
        service,
        &[OsStr::new("--bound-to"), OsStr::new(&hash)],
    )
}

/// Runs [`complete`] in a child with the environment of this realm; `lab` is the lab's own program.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn complete_in_child(
    lab: &Path,
    kdc: &Kdc,
    ccache: &Ccache,
    service: &str,
    to: Destination<'_>,
) -> Result<Value, HarnessError> {
    let port = to.port.to_string();
    let more = [
        OsStr::new("--port"),
        OsStr::new(&port),
        OsStr::new("--authority"),
        to.authority.as_os_str(),
        OsStr::new("--target"),
        OsStr::new(to.target),
    ];
    let printed = child(lab, kdc, ccache, service, &more)?;
    serde_json::from_str(&printed).map_err(|error| HarnessError::UnexpectedAnswer {
        what: "kerbridge-lab initiate".to_owned(),
        answer: format!("{printed} ({error})"),
    })
}

fn child(lab: &Path, kdc: &Kdc, ccache: &Ccache, service: &str, more: &[&OsStr]) -> Result<String, HarnessError> {
    let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for a client", source))?;
    let mut process = OwnedProcess::start(
        Spawn::new(lab, folder.path())
            .name("initiate")
            .env("KRB5_CONFIG", kdc.krb5_config())
            .env("LC_ALL", "C")
            .arg("initiate")
            .arg("--ccache")
            .arg(ccache.path())
            .args(["--service", service])
            .args(more),
    )?;
    let status = process.wait_exit(Duration::from_secs(60))?;
    if status.success() {
        Ok(process.log().trim().to_owned())
    } else {
        Err(HarnessError::Exited {
            name: "kerbridge-lab initiate".to_owned(),
            status,
            log: process.log_tail(),
        })
    }
}
