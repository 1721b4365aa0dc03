//! Decides which clients of `public` may say who they are by a signature, and by which keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kerbridge_gate::jwk::KeySet;
use kerbridge_wire::filter_config::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::{raw, unfit_client};
use crate::problem::Problems;

/// As many as the gate reads issuers.
const MOST: usize = 100;

/// A client that has keys (`private_key_jwt`, RFC 7523).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Its name: `client_id` of what it gets, and what lines of the policy call it.
    pub name: String,
    /// The file with its public keys (RFC 7517 §5), looked at while the broker runs.
    pub keys: PathBuf,
    /// What its keys may be for.
    pub algorithms: Vec<Algorithm>,
}

pub(super) fn check(list: Vec<raw::Client>, folder: &Path, problems: &mut Problems) -> Vec<ClientConfig> {
    if list.len() > MOST {
        problems.note(
            "client",
            format!("more than {MOST}"),
            "let clients authenticate by certificates (listen.public.client_ca)",
        );
    }
    let mut clients: Vec<ClientConfig> = Vec::new();
    for (index, client) in list.into_iter().enumerate().take(MOST) {
        let field = format!("client[{index}]");
        let Some(client) = check_one(client, &field, folder, problems) else {
            continue;
        };
        if clients.iter().any(|earlier| earlier.name == client.name) {
            problems.note(
                format!("{field}.name"),
                format!("{:?} stands here twice", client.name),
                "keep one: a client may have several keys in its file",
            );
        }
        clients.push(client);
    }
    clients
}

fn check_one(client: raw::Client, field: &str, folder: &Path, problems: &mut Problems) -> Option<ClientConfig> {
    let raw::Client { name, keys, algorithms } = client;
    match &name {
        None => problems.missing(
            &format!("{field}.name"),
            "name the client, as lines of the policy do, such as \"orders.example.com\"",
        ),
        Some(name) => {
            if let Some(why) = unfit_client(name) {
                problems.note(
                    format!("{field}.name"),
                    format!("{name:?} {why}"),
                    "choose another name: 1 to 128 visible ASCII characters",
                );
            }
        }
    }
    let algorithms = algorithms.unwrap_or_else(|| vec![Algorithm::Es256]);
    if algorithms.is_empty() {
        problems.note(
            format!("{field}.algorithms"),
            "names none",
            "write what the client's keys are for, such as [\"ES256\"]",
        );
    }
    let Some(keys) = keys.map(|path| folder.join(path)) else {
        problems.missing(
            &format!("{field}.keys"),
            "name the file with the client's public keys (a JSON Web Key Set)",
        );
        return None;
    };
    let text = match fs::read(&keys) {
        Ok(text) => text,
        Err(error) => {
            problems.note(
                format!("{field}.keys"),
                format!("{}: {error}", keys.display()),
                "name a file that the broker's user can read",
            );
            return None;
        }
    };
    if !KeySet::parse(&text, &algorithms).is_ok_and(|keys| !keys.is_empty()) {
        problems.note(
            format!("{field}.keys"),
            format!("{} holds no public key for these algorithms", keys.display()),
            "write a JSON Web Key Set whose keys have a kid and no private part (RFC 7517 §5)",
        );
    }
    if let Some(kid) = kid_that_stands_twice(&text) {
        problems.note(
            format!("{field}.keys"),
            format!(
                "{} holds two keys that are called {kid:?}, and only one of them would count",
                keys.display()
            ),
            "give each key a kid of its own (RFC 7517 §4.5)",
        );
    }
    Some(ClientConfig {
        name: name?,
        keys,
        algorithms,
    })
}

/// The first name that more than one key of a set has, usable or not: the client names its key by it.
pub(crate) fn kid_that_stands_twice(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(text).ok()?;
    let mut known = BTreeSet::new();
    let mut kids = set.keys.iter().filter_map(|key| key.get("kid")?.as_str());
    kids.find(|kid| !known.insert(*kid)).map(str::to_owned)
}
