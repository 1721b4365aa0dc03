//! Keeps what a TLS listener shows in step with its files: good ones are taken while it serves, bad ones change nothing.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::digest;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::{Tls, build};
use crate::config::secret_file::{self, Reach};
use crate::config::{ClientNames, ListenerName};
use crate::problem::Problems;

/// The server's side of TLS of one listener, as its files last had it in good order.
#[derive(Debug)]
pub struct TlsServer {
    listener: ListenerName,
    files: Tls,
    current: RwLock<Identity>,
    seen: Mutex<Seen>,
}

/// What one state of the files makes.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) server: Arc<ServerConfig>,
    pub(super) certificate: CertificateDer<'static>,
}

#[derive(Debug)]
struct Seen {
    /// Of what the files held; nothing where one could not be read.
    content: Option<Vec<u8>>,
    complaint: Option<String>,
}

impl TlsServer {
    /// Reads the files, or notes what is wrong.
    pub(super) fn open(listener: ListenerName, files: Tls, problems: &mut Problems) -> Option<Self> {
        // First, so that a change in between is one that the next look sees.
        let content = files.content();
        let current = build(listener, &files, problems)?;
        Some(Self {
            listener,
            files,
            current: RwLock::new(current),
            seen: Mutex::new(Seen {
                content,
                complaint: None,
            }),
        })
    }

    /// What a new connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.identity().server)
    }

    /// The certificate that a new connection sees.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.identity().certificate.clone()
    }

    /// Whether it takes certificates of clients.
    pub fn takes_client_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Whose client certificates are taken.
    pub fn client_names(&self) -> &ClientNames {
        &self.files.client_names
    }

    fn identity(&self) -> std::sync::RwLockReadGuard<'_, Identity> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the files have changed, and takes them where certificate, key and authority are good and belong
    /// together. `false` where they do not, so that those before are in use. Blocks as a file system does.
    pub fn look(&self) -> bool {
        let content = self.files.content();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What is bad is looked at again: its mode or owner may have been the reason.
        if content.is_some() && content == seen.content && seen.complaint.is_none() {
            return true;
        }
        let listener = self.listener.as_str();
        let mut problems = Problems::default();
        let complaint = match build(self.listener, &self.files, &mut problems) {
            Some(identity) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
                tracing::info!(listener, "certificate, key and client_ca were read again");
                None
            }
            None => Some(problems.to_string()),
        };
        if let Some(problem) = &complaint
            && seen.complaint != complaint
        {
            tracing::warn!(listener, problem, "the last good certificate stays in use");
        }
        let is_good = complaint.is_none();
        *seen = Seen { content, complaint };
        is_good
    }

    #[cfg(test)]
    pub(crate) fn for_test(
        server: ServerConfig,
        certificate: CertificateDer<'static>,
        client_names: ClientNames,
    ) -> Self {
        Self {
            listener: ListenerName::Mesh,
            files: Tls {
                certificate: None,
                private_key: None,
                client_ca: None,
                client_names,
            },
            current: RwLock::new(Identity {
                server: Arc::new(server),
                certificate,
            }),
            seen: Mutex::new(Seen {
                content: None,
                complaint: None,
            }),
        }
    }
}

impl Tls {
    /// A digest of what the files hold. It tells what their times may not: some file systems keep whole seconds.
    fn content(&self) -> Option<Vec<u8>> {
        let Self {
            certificate,
            private_key,
            client_ca,
            client_names: _,
        } = self;
        let mut content = digest::Context::new(&digest::SHA256);
        for path in [certificate, private_key, client_ca].into_iter().flatten() {
            let bytes = secret_file::read_bytes(path, Reach::Unchecked).ok()?;
            content.update(digest::digest(&digest::SHA256, &bytes).as_ref());
        }
        Some(content.finish().as_ref().to_vec())
    }
}
