//! Says what a broker is told, and writes it as its configuration.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Broker;
use crate::error::HarnessError;

/// What a broker is told.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The realms whose users are taken.
    pub realms: Vec<String>,
    /// The service principals, with realm; none for a broker that acts for users alone, and has no keys of its own.
    pub acceptors: Vec<String>,
    /// Their keys.
    pub keytab: PathBuf,
    /// The policy file's text.
    pub policy: String,
    /// More lines at the end of `kerbridge.toml`, tables of their own.
    pub more: String,
}

impl BrokerSettings {
    /// The text of `kerbridge.toml`.
    pub(super) fn configuration(&self, of: &Broker) -> String {
        let quote = |text: &str| format!("{text:?}");
        let mut toml = format!(
            "issuer = {issuer}\nstate_dir = {state}\npolicy_file = \"policy.toml\"\n\n\
             [listen.mesh]\nunix = {socket}\n\n\
             [listen.admin]\nunix = \"admin.sock\"\n\n\
             [kerberos]\nrealms = {realms:?}\n",
            issuer = quote(&self.issuer),
            state = quote(&of.folder.join("state").to_string_lossy()),
            socket = quote(&of.socket().to_string_lossy()),
            realms = self.realms,
        );
        for acceptor in &self.acceptors {
            toml.push_str(&format!(
                "\n[[kerberos.acceptor]]\nprincipal = {}\nkeytab = {}\n",
                quote(acceptor),
                quote(&self.keytab.to_string_lossy())
            ));
        }
        // Who accepts no tickets makes no tokens.
        if !self.acceptors.is_empty() {
            let kek = quote(&of.folder.join("kek").to_string_lossy());
            toml.push_str(&format!("\n[keys]\nkey_encryption_key_file = {kek}\n"));
        }
        toml.push_str(&format!("\n{}", self.more));
        toml
    }
}

/// A new one, as the file has it.
pub(super) fn key_encryption_key() -> Result<String, HarnessError> {
    let mut key = [0_u8; 32];
    SystemRandom::new().fill(&mut key).map_err(|_unspecified| {
        HarnessError::io("make a key-encryption key", std::io::Error::other("no randomness"))
    })?;
    Ok(format!("{}\n", STANDARD.encode(key)))
}
