//! Decides whether realms, principals and keytabs fit together.

use std::path::{Path, PathBuf};

use kerbridge_gss::{Enctype, Keytab, KeytabEntry, Principal, ServicePrincipal};

use super::raw;
use super::secret_file::{self, Reach};
use crate::principal;
use crate::problem::Problems;

/// Kerberos' usual bound, in seconds.
const DEFAULT_CLOCK_SKEW: u32 = 300;

/// What the broker accepts tickets for, and from whom.
#[derive(Clone, Debug)]
pub struct KerberosConfig {
    /// Realms whose principals are taken; the first is krb5's default.
    pub realms: Vec<String>,
    /// How far clocks may differ, 1 to 3600 s.
    pub clock_skew_seconds: u32,
    /// Weak encryption types that are taken all the same.
    pub weak_enctypes: Vec<Enctype>,
    /// One for each service principal.
    pub acceptors: Vec<AcceptorConfig>,
}

impl KerberosConfig {
    /// One realm and the defaults, for a command that needs no configuration file; nothing where it is no realm.
    pub fn of_one_realm(realm: &str) -> Option<Self> {
        is_realm(realm).then(|| Self {
            realms: vec![realm.to_owned()],
            clock_skew_seconds: DEFAULT_CLOCK_SKEW,
            weak_enctypes: Vec::new(),
            acceptors: Vec::new(),
        })
    }

    /// Whether this key of this principal is used.
    pub fn takes(&self, entry: &KeytabEntry, principal: &Principal) -> bool {
        takes(&self.weak_enctypes, entry, principal)
    }
}

fn takes(weak: &[Enctype], entry: &KeytabEntry, principal: &Principal) -> bool {
    entry.principal() == principal && (!entry.enctype().is_weak() || weak.contains(&entry.enctype()))
}

/// A service principal whose tickets are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptorConfig {
    /// The service principal.
    pub principal: ServicePrincipal,
    /// The keytab with its keys.
    pub keytab: PathBuf,
}

pub(super) fn check(kerberos: raw::Kerberos, folder: &Path, problems: &mut Problems) -> Option<KerberosConfig> {
    let (acceptor, rest) = check_rest(kerberos, problems);
    if acceptor.is_empty() {
        problems.missing(
            "kerberos.acceptor",
            "add a [[kerberos.acceptor]] with principal and keytab",
        );
    }
    let mut acceptors: Vec<AcceptorConfig> = Vec::new();
    for (index, one) in acceptor.into_iter().enumerate() {
        let prefix = format!("kerberos.acceptor[{index}]");
        let Some(one) = check_acceptor(one, &prefix, folder, &rest, problems) else {
            continue;
        };
        if acceptors.iter().any(|other| other.principal == one.principal) {
            problems.note(
                format!("{prefix}.principal"),
                format!("{} stands here twice", one.principal),
                "remove one",
            );
        }
        acceptors.push(one);
    }
    Some(KerberosConfig {
        realms: rest.realms,
        clock_skew_seconds: rest.clock_skew_seconds?,
        weak_enctypes: rest.weak_enctypes,
        acceptors,
    })
}

/// What is wrong with everything but the acceptors, for who needs none.
pub(super) fn check_without_acceptors(kerberos: raw::Kerberos, problems: &mut Problems) -> Option<KerberosConfig> {
    let (_, rest) = check_rest(kerberos, problems);
    Some(KerberosConfig {
        realms: rest.realms,
        clock_skew_seconds: rest.clock_skew_seconds?,
        weak_enctypes: rest.weak_enctypes,
        acceptors: Vec::new(),
    })
}

/// Everything but the acceptors, as far as it could be read.
struct Rest {
    realms: Vec<String>,
    clock_skew_seconds: Option<u32>,
    weak_enctypes: Vec<Enctype>,
}

fn check_rest(kerberos: raw::Kerberos, problems: &mut Problems) -> (Vec<raw::Acceptor>, Rest) {
    let raw::Kerberos {
        realms,
        clock_skew_seconds,
        weak_enctypes,
        acceptor,
        // Read beside this, since it concerns a listener too.
        channel_bindings: _,
    } = kerberos;
    check_realms(&realms, problems);
    let clock_skew_seconds = match clock_skew_seconds {
        None => Some(DEFAULT_CLOCK_SKEW),
        Some(seconds) => u32::try_from(seconds)
            .ok()
            .filter(|seconds| (1..=3600).contains(seconds)),
    };
    if clock_skew_seconds.is_none() {
        problems.note(
            "kerberos.clock_skew_seconds",
            "is not 1 to 3600",
            "write 300, Kerberos' usual bound",
        );
    }
    let rest = Rest {
        realms,
        clock_skew_seconds,
        weak_enctypes: check_weak(&weak_enctypes, problems),
    };
    (acceptor, rest)
}

/// Triple DES and RC4: single DES is no longer in MIT krb5.
const WEAK: [i32; 2] = [16, 23];

fn check_weak(names: &[String], problems: &mut Problems) -> Vec<Enctype> {
    let known = WEAK.map(|number| (Enctype::from(number), Enctype::from(number).to_string()));
    let mut taken = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match known.iter().find(|(_, known)| known == name) {
            Some((enctype, _)) if taken.contains(enctype) => {}
            Some((enctype, _)) => taken.push(*enctype),
            None => {
                let [(_, first), (_, second)] = &known;
                problems.note(
                    format!("kerberos.weak_enctypes[{index}]"),
                    format!("{name:?} is no weak encryption type that could be taken"),
                    format!("write \"{first}\" or \"{second}\", or leave it out: AES is always taken"),
                );
            }
        }
    }
    taken
}

fn check_realms(realms: &[String], problems: &mut Problems) {
    if realms.is_empty() {
        problems.missing(
            "kerberos.realms",
            "list the realms whose principals are taken, such as [\"EXAMPLE.COM\"]",
        );
    }
    for (index, realm) in realms.iter().enumerate() {
        if !is_realm(realm) {
            problems.note(
                format!("kerberos.realms[{index}]"),
                format!("{realm:?} is no realm"),
                "write it as the KDC does",
            );
        }
    }
}

/// It is written into krb5.conf, so nothing but the letters of a realm.
fn is_realm(realm: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=255).contains(&realm.len()) && realm.bytes().all(good)
}

fn check_acceptor(
    acceptor: raw::Acceptor,
    prefix: &str,
    folder: &Path,
    rest: &Rest,
    problems: &mut Problems,
) -> Option<AcceptorConfig> {
    let raw::Acceptor { principal, keytab } = acceptor;
    let field = format!("{prefix}.principal");
    let principal = match principal {
        None => {
            problems.missing(
                &field,
                "name the service principal, such as \"HTTP/api.example.com@EXAMPLE.COM\"",
            );
            None
        }
        Some(text) => {
            let read = principal::canonical(&text).and_then(ServicePrincipal::try_from);
            if let Err(error) = &read {
                problems.note(
                    &field,
                    format!("{text:?}: {error}"),
                    "write service, host and realm, such as \"HTTP/api.example.com@EXAMPLE.COM\"",
                );
            }
            read.ok()
        }
    };
    if let Some(principal) = &principal
        && !rest.realms.iter().any(|realm| realm == principal.realm())
    {
        problems.note(
            &field,
            format!("realm {:?} is not in kerberos.realms", principal.realm()),
            "add the realm there, or correct the principal",
        );
    }
    let field = format!("{prefix}.keytab");
    let Some(path) = keytab.map(|path| folder.join(path)) else {
        problems.missing(&field, "name the keytab with the principal's keys");
        return None;
    };
    let keytab = check_keytab_file(&path, &field, problems)?;
    let principal = principal?;
    check_principal_held(
        &keytab,
        &path,
        principal.as_principal(),
        &rest.weak_enctypes,
        prefix,
        problems,
    );
    Some(AcceptorConfig {
        principal,
        keytab: path,
    })
}

/// Reads a keytab whose owner and mode are good, or notes what is wrong with it.
pub fn check_keytab_file(path: &Path, field: &str, problems: &mut Problems) -> Option<Keytab> {
    let bytes = match secret_file::read_bytes(path, Reach::GroupReads) {
        Ok(bytes) => bytes,
        Err((problem, remedy)) => {
            problems.note(field, problem, remedy);
            return None;
        }
    };
    match Keytab::parse(&bytes) {
        Ok(keytab) => Some(keytab),
        Err(error) => {
            problems.note(
                field,
                format!("{}: {error}", path.display()),
                "write it anew with kadmin's ktadd, ktutil or ktpass",
            );
            None
        }
    }
}

/// Notes where a keytab holds no key of a principal that is used; the fields are `principal` and `keytab` of `prefix`.
pub(super) fn check_principal_held(
    keytab: &Keytab,
    path: &Path,
    principal: &Principal,
    weak: &[Enctype],
    prefix: &str,
    problems: &mut Problems,
) {
    let mut own = keytab
        .entries()
        .iter()
        .filter(|entry| entry.principal() == principal)
        .peekable();
    if own.peek().is_none() {
        let held: Vec<String> = keytab.principals().iter().map(ToString::to_string).collect();
        problems.note(
            format!("{prefix}.principal"),
            format!(
                "{} has no key of {principal}; it holds {}",
                path.display(),
                held.join(", ")
            ),
            "name one of those, or add the key to the keytab",
        );
        return;
    }
    if !own.any(|entry| takes(weak, entry, principal)) {
        problems.note(
            format!("{prefix}.keytab"),
            format!(
                "{} holds only DES or RC4 keys of {principal}, which are refused",
                path.display()
            ),
            "let the KDC make AES keys and write the keytab anew; until then kerberos.weak_enctypes may name RC4",
        );
    }
}
