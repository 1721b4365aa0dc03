//! Decides where the key-encryption key comes from, and how signing keys are made and replaced.

use std::path::{Path, PathBuf};

use kerbridge_wire::Span;

use super::secret_file::{self, Reach};
use super::{PolicyOfFile, Surroundings, raw};
use crate::keyring::{HardwareConfig, KeyEncryptionKey, MOST_KEYS, Pin, Rotation, SigningAlgorithm};
use crate::problem::{Problem, Problems};
use crate::revocation::LIFE_MARGIN;

/// How long a key signs where nothing is said.
const THIRTY_DAYS: u32 = 30 * 86_400;
/// The word for keys that are replaced by a command alone.
const BY_COMMAND: &str = "never";

/// The keys of a broker that makes tokens.
#[derive(Debug)]
pub struct KeysConfig {
    /// The key under which stored keys are sealed.
    pub key_encryption_key: KeyEncryptionKey,
    /// The file or credential that holds it.
    pub key_encryption_file: PathBuf,
    /// How signing keys are made and replaced.
    pub rotation: Rotation,
}

pub(super) fn check(
    keys: raw::Keys,
    folder: &Path,
    around: &Surroundings,
    problems: &mut Problems,
) -> Option<KeysConfig> {
    let raw::Keys {
        key_encryption_key_file,
        key_encryption_credential,
        algorithm,
        rotate_every,
        publish_lead,
        pkcs11,
    } = keys;
    let place = kek_place(
        key_encryption_key_file,
        key_encryption_credential,
        folder,
        around,
        problems,
    );
    let kek = place.and_then(|(field, path, reach)| {
        let key = problems.sift(read(&path, reach, field).map_err(Problems::from))?;
        Some((key, path))
    });
    let algorithm = check_algorithm(algorithm.as_deref(), problems);
    let every = check_every(rotate_every.as_deref(), problems);
    let lead = publish_lead.unwrap_or(Span::FIFTEEN_MINUTES);
    if let Some(Some(every)) = every
        && lead >= every
    {
        problems.note(
            "keys.publish_lead",
            format!("{lead} is not less than rotate_every, {every}: keys would be published too late"),
            "make it shorter, or rotate_every longer",
        );
    }
    let hardware = match pkcs11 {
        Some(section) => Some(check_hardware(section, folder, algorithm, problems)?),
        None => None,
    };
    let (key_encryption_key, key_encryption_file) = kek?;
    Some(KeysConfig {
        key_encryption_key,
        key_encryption_file,
        rotation: Rotation {
            algorithm: algorithm?,
            every: every?,
            lead,
            hardware,
        },
    })
}

/// What only shows beside the policy: whether filters take what is signed, and whether they can read as many keys.
pub(super) fn check_beside(keys: &KeysConfig, policy: &PolicyOfFile, problems: &mut Problems) {
    let Rotation {
        algorithm, every, lead, ..
    } = keys.rotation;
    let poll = policy.file.filter.poll;
    // A poll may be late, and what it brought has to reach every worker.
    if lead.seconds() < poll.seconds().saturating_mul(2) {
        problems.note(
            "keys.publish_lead",
            format!(
                "{lead} is not enough for filters that fetch keys every {poll}: they would refuse tokens of a new key"
            ),
            "make it twice filter.poll of the policy at least, and longer than others who verify keep keys",
        );
    }
    if !policy.file.filter.algorithms.contains(&algorithm.wire()) {
        problems.note(
            "keys.algorithm",
            format!("no filter takes {algorithm}: filter.algorithms of the policy does not name it"),
            "name it there, render the filter's configuration again, and change this when every filter has it",
        );
    }
    let Some(every) = every else { return };
    let life = policy.policy.longest_ttl_seconds().saturating_add(LIFE_MARGIN);
    // Those that overlap, the one that signs, the next, and one that goes.
    let published = life.div_ceil(every.seconds().into()).saturating_add(3);
    if published > MOST_KEYS as u64 {
        problems.note(
            "keys.rotate_every",
            format!(
                "{published} keys would be published at once, for tokens that live so long; {MOST_KEYS} are the most"
            ),
            "make it longer, or the ttl of the audiences shorter",
        );
    }
}

/// Reads a key-encryption key that nobody but its owner may reach.
pub fn read_kek(path: &Path) -> Result<KeyEncryptionKey, Problem> {
    read(path, Reach::Owner, "--to")
}

fn read(path: &Path, reach: Reach, field: &str) -> Result<KeyEncryptionKey, Problem> {
    let problem = |problem, remedy: &str| Problem {
        field: field.into(),
        problem,
        remedy: remedy.into(),
    };
    let text = secret_file::read(path, reach).map_err(|(found, remedy)| problem(found, remedy))?;
    KeyEncryptionKey::from_base64(&text).map_err(|_| {
        problem(
            format!("{} does not hold 32 bytes in base64", path.display()),
            "make one: head -c 32 /dev/urandom | base64",
        )
    })
}

fn kek_place(
    file: Option<PathBuf>,
    credential: Option<String>,
    folder: &Path,
    around: &Surroundings,
    problems: &mut Problems,
) -> Option<(&'static str, PathBuf, Reach)> {
    match (file, credential) {
        (Some(path), None) => Some(("keys.key_encryption_key_file", folder.join(path), Reach::Owner)),
        (None, Some(name)) => {
            let field = "keys.key_encryption_credential";
            let Some(directory) = &around.credentials_directory else {
                problems.note(
                    field,
                    "CREDENTIALS_DIRECTORY is not set",
                    "start by systemd with LoadCredential=, or use key_encryption_key_file",
                );
                return None;
            };
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                problems.note(
                    field,
                    format!("{name:?} is no credential"),
                    "write the name given to LoadCredential=",
                );
                return None;
            }
            // systemd alone sets the modes there; with an access-control list the group bits mean something else.
            Some((field, directory.join(name), Reach::Unchecked))
        }
        (Some(_), Some(_)) => {
            problems.note("keys", "has both a file and a credential", "keep one of the two");
            None
        }
        (None, None) => {
            problems.missing(
                "keys.key_encryption_key_file",
                "make one: head -c 32 /dev/urandom | base64 > kek; chmod 600 kek",
            );
            None
        }
    }
}

fn check_algorithm(algorithm: Option<&str>, problems: &mut Problems) -> Option<SigningAlgorithm> {
    match algorithm.unwrap_or_default() {
        "" if algorithm.is_none() => Some(SigningAlgorithm::default()),
        text => match text.parse() {
            Ok(algorithm) => Some(algorithm),
            Err(_) => {
                problems.note(
                    "keys.algorithm",
                    format!("{text:?} is no algorithm that the broker signs with"),
                    "write ES256, RS256 or EdDSA",
                );
                None
            }
        },
    }
}

/// The inner `None` is by command alone.
fn check_every(every: Option<&str>, problems: &mut Problems) -> Option<Option<Span>> {
    match every {
        None => Some(Span::from_seconds(THIRTY_DAYS)),
        Some(BY_COMMAND) => Some(None),
        Some(text) => match text.parse() {
            Ok(span) => Some(Some(span)),
            Err(_) => {
                problems.note(
                    "keys.rotate_every",
                    format!("{text:?} is no span of time"),
                    "write one such as \"30d\", or \"never\" for keys that are replaced by kerbridge keys rotate alone",
                );
                None
            }
        },
    }
}

fn check_hardware(
    section: raw::Pkcs11,
    folder: &Path,
    algorithm: Option<SigningAlgorithm>,
    problems: &mut Problems,
) -> Option<HardwareConfig> {
    let raw::Pkcs11 {
        module,
        token,
        pin_file,
    } = section;
    if algorithm == Some(SigningAlgorithm::EdDsa) {
        problems.note(
            "keys.algorithm",
            "EdDSA is not to be had from a PKCS#11 token",
            "write ES256 or RS256, or remove [keys.pkcs11]",
        );
    }
    if module.is_none() {
        problems.missing(
            "keys.pkcs11.module",
            "name the library, such as \"/usr/lib/softhsm/libsofthsm2.so\"",
        );
    }
    if token.is_none() {
        problems.missing(
            "keys.pkcs11.token",
            "write the token's label: pkcs11-tool --list-slots shows it",
        );
    }
    let pin = match pin_file {
        Some(path) => match secret_file::read(&folder.join(path), Reach::Owner) {
            Ok(text) => Some(Pin::of(&text)),
            Err((problem, remedy)) => {
                problems.note("keys.pkcs11.pin_file", problem, remedy);
                None
            }
        },
        None => {
            problems.missing(
                "keys.pkcs11.pin_file",
                "name a file, mode 0600, with the PIN of the token's user",
            );
            None
        }
    };
    Some(HardwareConfig {
        module: folder.join(module?),
        token: token?,
        pin: pin?,
    })
}
