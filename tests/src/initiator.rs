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
use crate::spnego;
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
    /// In how many legs.
    pub legs: Legs,
}

/// In how many legs a client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legs {
    /// With its ticket at once, as most do.
    One,
    /// With its ticket once Kerberos is agreed on (RFC 4178 §4.2.1: `mechToken` is optional).
    Two,
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

/// Makes a Kerberos token of its own, without SPNEGO and without a wish for an answer, and a MIC over `message`: all that a
/// second leg is made of. Runs in the realm's own process.
///
/// The result names `token` and `mic`, and `mutual`: another token, from a client that wants an answer. Each in base64.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] with GSSAPI's words.
pub fn bare_token(ccache: &Path, service: &str, message: &[u8]) -> Result<Value, HarnessError> {
    let (credential, request) = prepare(ccache, service)?;
    let request = InitiateRequest {
        mechanism: Mechanism::Krb5,
        mutual: false,
        ..request
    };
    let made = credential
        .initiate(&request)
        .and_then(|Initiation { token, context }| Ok((token, context.mic(message)?)));
    let (token, mic) = made.map_err(|error| refused(service, &error))?;
    let mutual = InitiateRequest {
        mutual: true,
        ..request
    };
    let mutual = credential.initiate(&mutual).map_err(|error| refused(service, &error))?;
    Ok(json!({
        "token": STANDARD.encode(token.as_bytes()),
        "mic": STANDARD.encode(mic),
        "mutual": STANDARD.encode(mutual.token.as_bytes()),
    }))
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
    let request = match to.legs {
        Legs::One => request,
        Legs::Two => InitiateRequest {
            mechanism: Mechanism::Krb5,
            ..request
        },
    };
    let Initiation { token, mut context } = credential
        .initiate(&request)
        .map_err(|error| refused(service, &error))?;
    let mut connection = tls::connect(to.port, to.authority)?;
    let mut send = |token: &[u8]| {
        let value = format!("Negotiate {}", STANDARD.encode(token));
        let request = Request::get(to.target).header("authorization", value);
        connection.exchange(&request).map_err(|source| HarnessError::Http {
            what: "a leg over tls".to_owned(),
            source,
        })
    };
    let (response, reply) = match to.legs {
        Legs::One => {
            let response = send(token.as_bytes())?;
            let reply = response
                .all("www-authenticate")
                .find_map(|value| STANDARD.decode(value.strip_prefix(b"Negotiate ")?).ok());
            (response, reply)
        }
        Legs::Two => {
            send(&spnego::init(&[spnego::KERBEROS], None))?;
            let response = send(&spnego::response(token.as_bytes(), None))?;
            let reply = response
                .all("www-authenticate")
                .find_map(|value| spnego::Answer::of(value)?.token);
            (response, reply)
        }
    };
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

/// Runs [`first_tokens`] for so many tokens in a child with the environment of this realm; `lab` is the lab's own program.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn tokens_in_child(
    lab: &Path,
    kdc: &Kdc,
    ccache: &Ccache,
    service: &str,
    count: u32,
) -> Result<Vec<String>, HarnessError> {
    let count = count.to_string();
    let printed = child(lab, kdc, ccache, service, &[OsStr::new("--count"), OsStr::new(&count)])?;
    Ok(printed.lines().map(str::to_owned).collect())
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
    let mut more = vec![
        OsStr::new("--port"),
        OsStr::new(&port),
        OsStr::new("--authority"),
        to.authority.as_os_str(),
        OsStr::new("--target"),
        OsStr::new(to.target),
    ];
    if to.legs == Legs::Two {
        more.push(OsStr::new("--when-asked"));
    }
    read(&child(lab, kdc, ccache, service, &more)?)
}

/// A Kerberos token without SPNEGO around it, and what a second leg may have beside it.
#[derive(Clone, Debug)]
pub struct BareToken {
    /// The token, of a client that wants no answer.
    pub token: Vec<u8>,
    /// Its client's MIC over the message that was given.
    pub mic: Vec<u8>,
    /// Another token, of a client that wants an answer and has no MIC before it.
    pub mutual: Vec<u8>,
}

/// Runs [`bare_token`] in a child with the environment of this realm; `lab` is the lab's own program.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn bare_token_in_child(
    lab: &Path,
    kdc: &Kdc,
    ccache: &Ccache,
    service: &str,
    message: &[u8],
) -> Result<BareToken, HarnessError> {
    let message = STANDARD.encode(message);
    let more = [OsStr::new("--mic-over"), OsStr::new(&message)];
    let made = read(&child(lab, kdc, ccache, service, &more)?)?;
    let part = |name: &str| STANDARD.decode(made.get(name)?.as_str()?).ok();
    let bare = || {
        Some(BareToken {
            token: part("token")?,
            mic: part("mic")?,
            mutual: part("mutual")?,
        })
    };
    bare().ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "kerbridge-lab initiate".to_owned(),
        answer: made.to_string(),
    })
}

fn read(printed: &str) -> Result<Value, HarnessError> {
    serde_json::from_str(printed).map_err(|error| HarnessError::UnexpectedAnswer {
        what: "kerbridge-lab initiate".to_owned(),
        answer: format!("{printed} ({error})"),
    })
}

/// Runs [`first_tokens`] for one token in a child whose clock is off, as faketime says it (`+10m`).
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the child said.
pub fn token_at(lab: &Path, kdc: &Kdc, ccache: &Ccache, service: &str, offset: &str) -> Result<String, HarnessError> {
    let through = ["-f", offset].map(OsStr::new);
    child_through(
        ("faketime".as_ref(), &[through.as_slice(), &[lab.as_os_str()]].concat()),
        kdc,
        ccache,
        service,
        &[],
    )
}

fn child(lab: &Path, kdc: &Kdc, ccache: &Ccache, service: &str, more: &[&OsStr]) -> Result<String, HarnessError> {
    child_through((lab, &[]), kdc, ccache, service, more)
}

fn child_through(
    (program, before): (&Path, &[&OsStr]),
    kdc: &Kdc,
    ccache: &Ccache,
    service: &str,
    more: &[&OsStr],
) -> Result<String, HarnessError> {
    let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for a client", source))?;
    let mut process = OwnedProcess::start(
        Spawn::new(program, folder.path())
            .name("initiate")
            .args(before)
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
