//! Is a service that takes Kerberos tickets over TLS, and only those that are bound to its channel: what Apache's module
//! cannot be, and some services of Microsoft's are ("extended protection").
//!
//! It accepts in the test's own process: that takes a keytab and a replay cache and no krb5.conf.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{AcceptErrorKind, AcceptOutcome, AcceptorCredential, ChannelBindings, ServicePrincipal};
use serde_json::json;
use tempfile::TempDir;

use crate::certificates::{Certificates, fingerprint};
use crate::error::HarnessError;
use crate::scripted_server::{Incoming, Reply, ScriptedServer};

/// The service and its replay cache.
pub struct BoundService {
    // Dropped in this order: the server, then its folder.
    server: ScriptedServer,
    _folder: TempDir,
}

impl BoundService {
    /// Serves https on a free port of 127.0.0.1 as `service`, with the listener's certificate of the lab's authority.
    ///
    /// A ticket that is bound to that certificate is 200 with `remote_user` in JSON, one that is not bound 403 `unbound`, one
    /// that is bound to something else 403 `other channel`, and none, or one that is not accepted, 401.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] with GSSAPI's words, or those of [`ScriptedServer::tls`].
    pub fn start(service: &str, keytab: &Path, certificates: &Certificates) -> Result<Self, HarnessError> {
        let refused = |error: &dyn std::fmt::Display| HarnessError::UnexpectedAnswer {
            what: format!("the keys of {service}"),
            answer: error.to_string(),
        };
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a service's folder", source))?;
        let principal = ServicePrincipal::parse(service).map_err(|error| refused(&error))?;
        let acceptor = AcceptorCredential::acquire(&principal, keytab, &folder.path().join("rcache"))
            .map_err(|error| refused(&error))?;
        let bindings = ChannelBindings::tls_server_end_point(&fingerprint(&certificates.certificate, "sha256")?);
        let acceptor = Mutex::new(acceptor);
        let server = ScriptedServer::tls(certificates, move |_number, request| {
            let acceptor = acceptor.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&acceptor, &bindings, request)
        })?;
        Ok(Self {
            server,
            _folder: folder,
        })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }
}

fn answer(acceptor: &AcceptorCredential, bindings: &ChannelBindings, request: &Incoming) -> Reply {
    let token = request
        .header("authorization")
        .and_then(|value| value.strip_prefix(b"Negotiate "))
        .and_then(|token| STANDARD.decode(token).ok());
    let Some(token) = token else {
        return challenge("no ticket");
    };
    match acceptor.accept(&token, Some(bindings)) {
        Ok(AcceptOutcome::Established(context)) if context.flags().channel_bound() => {
            Reply::ok(&json!({ "remote_user": context.initiator().as_str() }).to_string())
        }
        Ok(AcceptOutcome::Established(_)) => Reply::status(403, "unbound"),
        Ok(AcceptOutcome::ContinueNeeded { .. }) => challenge("another leg"),
        Err(error) if error.kind() == AcceptErrorKind::BindingsMismatch => Reply::status(403, "other channel"),
        Err(error) => challenge(&error.to_string()),
    }
}

fn challenge(why: &str) -> Reply {
    let head = format!(
        "HTTP/1.1 401 Scripted\r\nwww-authenticate: Negotiate\r\ncontent-length: {}\r\n\r\n",
        why.len()
    );
    Reply::Raw([head.as_bytes(), why.as_bytes()].concat())
}
