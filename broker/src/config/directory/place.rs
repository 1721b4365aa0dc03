//! Decides where a directory is, and that neither the password nor the answer goes in the clear.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::super::tls::certificates_of;
use crate::ldap::{Place, Security};
use crate::problem::Problems;

const URL_REMEDY: &str = "write \"ldaps://dc.example.com\", \"ldap://dc.example.com\" with starttls = true, or \
                          \"ldapi://%2Frun%2Fslapd%2Fldapi\"";
/// Longest path of a socket, in bytes (unix(7)).
const LONGEST_PATH: usize = 107;

/// Most servers that are asked one after the other.
const MOST_PLACES: usize = 8;

/// What the file says of the way to the directory.
pub(super) struct Wishes {
    pub(super) url: Option<String>,
    pub(super) fallback_urls: Vec<String>,
    pub(super) starttls: bool,
    pub(super) clear_text: bool,
    pub(super) ca: Option<PathBuf>,
}

enum Url {
    Tcp { tls: bool, host: String, port: u16 },
    Unix(PathBuf),
}

/// Every place, in the order in which they are asked.
pub(super) fn check(wishes: &Wishes, problems: &mut Problems) -> Option<Vec<Place>> {
    let Some(url) = &wishes.url else {
        problems.missing("groups.ldap.url", URL_REMEDY);
        return None;
    };
    if wishes.fallback_urls.len() >= MOST_PLACES {
        problems.note(
            "groups.ldap.fallback_urls",
            format!("more than {} servers", MOST_PLACES.saturating_sub(1)),
            "name those that are near: each is asked only where those before it cannot be",
        );
        return None;
    }
    let mut places = vec![check_url("groups.ldap.url", url, wishes, problems)];
    for (at, url) in wishes.fallback_urls.iter().enumerate() {
        let field = format!("groups.ldap.fallback_urls[{at}]");
        places.push(check_url(&field, url, wishes, problems));
    }
    places.into_iter().collect()
}

fn check_url(field: &str, url: &str, wishes: &Wishes, problems: &mut Problems) -> Option<Place> {
    match read_url(url) {
        Some(Url::Tcp { tls, host, port }) => {
            let security = check_security(field, tls, &host, wishes, problems)?;
            Some(Place::Tcp { host, port, security })
        }
        Some(Url::Unix(path)) => check_alone(wishes, problems).then_some(Place::Unix(path)),
        None => {
            problems.note(field, format!("{url:?} is no place of a directory"), URL_REMEDY);
            None
        }
    }
}

/// Scheme, host and port, and nothing behind them but a slash.
fn read_url(url: &str) -> Option<Url> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let tls = match scheme {
        "ldaps" => true,
        "ldap" => false,
        "ldapi" => return read_path(rest).map(Url::Unix),
        _ => return None,
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if tls => 636,
        None => 389,
    };
    // What is no name of a server is no host.
    ServerName::try_from(host).ok()?;
    Some(Url::Tcp {
        tls,
        host: host.to_owned(),
        port,
    })
}

/// An absolute path, its slashes percent-encoded, as OpenLDAP writes it.
fn read_path(text: &str) -> Option<PathBuf> {
    let mut path = String::new();
    let mut parts = text.split('%');
    path.push_str(parts.next()?);
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(code, 16).ok().filter(u8::is_ascii_graphic)?;
        path.push(char::from(byte));
        path.push_str(rest);
    }
    let good = path.starts_with('/') && path.len() <= LONGEST_PATH && !text.contains(['/', '?', '+']);
    good.then(|| path.into())
}

/// A socket of this machine needs nothing of all that.
fn check_alone(wishes: &Wishes, problems: &mut Problems) -> bool {
    let given = [
        ("starttls", wishes.starttls),
        ("clear_text", wishes.clear_text),
        ("ca", wishes.ca.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given).peekable();
    let alone = given.peek().is_none();
    for (field, _) in given {
        problems.note(
            format!("groups.ldap.{field}"),
            "has no use with ldapi://",
            "remove it: nobody can read along on a socket of this machine",
        );
    }
    alone
}

fn check_security(field: &str, tls: bool, host: &str, wishes: &Wishes, problems: &mut Problems) -> Option<Security> {
    let Wishes {
        url: _,
        fallback_urls: _,
        starttls,
        clear_text,
        ca,
    } = wishes;
    match (tls, *starttls, *clear_text) {
        (true, false, false) => {
            let (config, name) = client(host, ca.as_deref(), problems)?;
            Some(Security::Tls(config, name))
        }
        (false, true, false) => {
            let (config, name) = client(host, ca.as_deref(), problems)?;
            Some(Security::StartTls(config, name))
        }
        (false, false, true) if ca.is_some() => {
            problems.note("groups.ldap.ca", "has no use without TLS", "remove it, or clear_text");
            None
        }
        (false, false, true) if host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => {
            Some(Security::Clear)
        }
        (false, false, true) => {
            problems.note(
                "groups.ldap.clear_text",
                format!("{host} is no loopback address: the password would go over the network"),
                "use ldaps://, or starttls = true",
            );
            None
        }
        (false, false, false) => {
            problems.note(
                field,
                "would be asked in clear text",
                "use ldaps://, or add starttls = true",
            );
            None
        }
        (true, true, _) | (true, false, true) | (false, true, true) => {
            problems.note(
                "groups.ldap",
                "says more than one of ldaps://, starttls and clear_text",
                "keep one of them",
            );
            None
        }
    }
}

fn client(host: &str, ca: Option<&Path>, problems: &mut Problems) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
    let Some(path) = ca else {
        problems.missing(
            "groups.ldap.ca",
            "name the PEM file with the authority of the directory's certificate",
        );
        return None;
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates_of(path, "groups.ldap.ca", problems)?);
    let built = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions();
    match (built, ServerName::try_from(host.to_owned())) {
        (Ok(builder), Ok(name)) if added > 0 && ignored == 0 => {
            let config = builder.with_root_certificates(roots).with_no_client_auth();
            Some((Arc::new(config), name))
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            problems.note(
                "groups.ldap.ca",
                format!("{} holds no usable authority", path.display()),
                "name its certificate in PEM",
            );
            None
        }
    }
}
