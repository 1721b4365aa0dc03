//! Gives a world's users their tickets, and makes of them what their Kerberos clients would send.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use super::{SERVICE, World};
use crate::error::HarnessError;
use crate::initiator::{self, BareToken, Destination, Legs};
use crate::kdc::Ccache;

impl World {
    /// A user's tickets.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] for a stranger.
    pub fn ticket(&self, user: &str) -> Result<&Ccache, HarnessError> {
        self.tickets.get(user).ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "a user of the lab".to_owned(),
            answer: user.to_owned(),
        })
    }

    /// The environment of a user's Kerberos clients; a stranger has no tickets.
    #[must_use]
    pub fn client(&self, user: &str) -> Vec<(&'static str, OsString)> {
        let nobody = self.folder.path().join("no-tickets");
        let tickets = self.tickets.get(user).map_or(nobody.as_path(), Ccache::path);
        let mut cache = OsString::from("FILE:");
        cache.push(tickets);
        vec![
            ("KRB5_CONFIG", self.kdc.krb5_config().as_os_str().to_owned()),
            ("KRB5CCNAME", cache),
        ]
    }

    /// Trades the user's ticket for a token at this path.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] where none came.
    pub fn token(&self, user: &str, path: &str) -> Result<String, HarnessError> {
        let answer = self.curl_as(user, path).send()?;
        answer
            .header("x-kerbridge-token")
            .map(str::to_owned)
            .ok_or_else(|| HarnessError::UnexpectedAnswer {
                what: format!("a token for {user} at {path}"),
                answer: format!("{} {}", answer.status, answer.text()),
            })
    }

    /// A fresh Negotiate token (base64) of the user for this service.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn negotiate_token(&self, user: &str, service: &str) -> Result<String, HarnessError> {
        initiator::token_in_child(&lab_program()?, &self.kdc, self.ticket(user)?, service)
    }

    /// So many fresh Negotiate tokens (base64) of the user for [`SERVICE`].
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn negotiate_tokens(&self, user: &str, count: u32) -> Result<Vec<String>, HarnessError> {
        initiator::tokens_in_child(&lab_program()?, &self.kdc, self.ticket(user)?, SERVICE, count)
    }

    /// A fresh Negotiate token (base64) of the user for [`SERVICE`], bound to the TLS channels of a server whose certificate
    /// has this hash.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn bound_token(&self, user: &str, certificate_hash: &[u8]) -> Result<String, HarnessError> {
        let (program, ticket) = (lab_program()?, self.ticket(user)?);
        initiator::bound_token_in_child(&program, &self.kdc, ticket, SERVICE, certificate_hash)
    }

    /// A fresh Kerberos token of the user for this service, without SPNEGO around it, and a MIC over a message.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn bare_token(&self, user: &str, service: &str, message: &[u8]) -> Result<BareToken, HarnessError> {
        initiator::bare_token_in_child(&lab_program()?, &self.kdc, self.ticket(user)?, service, message)
    }

    /// Sends a ticket and lets GSSAPI check the reply, see [`initiator::complete`].
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn complete(&self, user: &str, target: &str) -> Result<Value, HarnessError> {
        self.complete_in(Legs::One, user, target)
    }

    /// The same in one leg or two.
    ///
    /// # Errors
    ///
    /// As [`World::complete`].
    pub fn complete_in(&self, legs: Legs, user: &str, target: &str) -> Result<Value, HarnessError> {
        let to = Destination {
            port: self.port,
            authority: &self.certificates.authority,
            target,
            legs,
        };
        initiator::complete_in_child(&lab_program()?, &self.kdc, self.ticket(user)?, SERVICE, to)
    }
}

/// The program `kerbridge-lab`: this one, or the one that cargo built beside a test.
///
/// # Errors
///
/// [`HarnessError::FileMissing`].
pub fn lab_program() -> Result<PathBuf, HarnessError> {
    let own = std::env::current_exe().map_err(|source| HarnessError::io("find this program", source))?;
    if own.file_name().is_some_and(|name| name == "kerbridge-lab") {
        return Ok(own);
    }
    let beside = own.ancestors().nth(2).map(|folder| folder.join("kerbridge-lab"));
    beside.filter(|path| path.is_file()).ok_or(HarnessError::FileMissing {
        path: own.with_file_name("kerbridge-lab"),
        remedy: "build it with `cargo build -p kerbridge-tests`",
    })
}
