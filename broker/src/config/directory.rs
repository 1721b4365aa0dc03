//! Decides which directory is asked for groups, by whom, and that neither the password nor the answer goes in the clear.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kerbridge_wire::Span;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::raw;
use super::secret_file::{self, Reach};
use super::tls::certificates_of;
use crate::groups::directory::{DirectoryConfig, FindBy, Nested};
use crate::ldap::{Security, Server};
use crate::problem::Problems;

/// How long an answer is kept unless the file says otherwise.
const KEEP: Duration = Duration::from_secs(60);
/// The longest: who leaves a group is in it for so long, and for the life of a token.
const LONGEST_KEEP: u32 = 600;
const URL_REMEDY: &str = "write \"ldaps://dc.example.com\", or \"ldap://dc.example.com\" with starttls = true";

pub(super) fn check(ldap: raw::Ldap, folder: &Path, problems: &mut Problems) -> Option<DirectoryConfig> {
    let raw::Ldap {
        url,
        starttls,
        ca,
        clear_text,
        bind_dn,
        password_file,
        base,
        find_by,
        principal_attribute,
        nested,
        name_attribute,
        cache,
    } = ldap;
    let place = check_url(url.as_deref(), problems).and_then(|place| {
        let wishes = Wishes {
            starttls: starttls.unwrap_or(false),
            clear_text: clear_text.unwrap_or(false),
            ca: ca.map(|path| folder.join(path)),
        };
        let security = check_security(&place, &wishes, problems)?;
        Some((place, security))
    });
    let bind_name = required(
        bind_dn,
        "bind_dn",
        "name the account that asks, such as \"CN=kerbridge,CN=Users,DC=example,DC=com\"",
        problems,
    );
    let password = check_password(password_file, folder, problems);
    let base = required(
        base,
        "base",
        "name the entry below which accounts and groups are, such as \"DC=example,DC=com\"",
        problems,
    );
    let find_by = check_find_by(find_by.as_deref(), principal_attribute, problems);
    let nested = match (nested.as_deref(), &find_by) {
        (None, Some(FindBy::Sid)) | (Some("token_groups"), _) => Some(Nested::TokenGroups),
        (None, Some(FindBy::Principal { .. }) | None) | (Some("direct"), _) => Some(Nested::Direct),
        (Some("chain"), _) => Some(Nested::Chain),
        (Some(other), _) => {
            problems.note(
                "groups.ldap.nested",
                format!("{other:?} is no way to look for groups"),
                "write token_groups, chain or direct",
            );
            None
        }
    };
    let name_attribute = check_attribute(
        name_attribute.unwrap_or_else(|| "sAMAccountName".to_owned()),
        "name_attribute",
        problems,
    );
    let keep = check_cache(cache.as_deref(), problems);
    let (place, security) = place?;
    Some(DirectoryConfig {
        server: Server {
            host: place.host,
            port: place.port,
            security,
            bind_name: bind_name?,
            password: password?,
        },
        base: base?,
        find_by: find_by?,
        nested: nested?,
        name_attribute: name_attribute?,
        keep: keep?,
    })
}

struct Place {
    tls: bool,
    host: String,
    port: u16,
}

struct Wishes {
    starttls: bool,
    clear_text: bool,
    ca: Option<PathBuf>,
}

fn required(value: Option<String>, field: &str, remedy: &str, problems: &mut Problems) -> Option<String> {
    match value {
        Some(value) if !value.is_empty() => Some(value),
        Some(_) => {
            problems.note(format!("groups.ldap.{field}"), "is empty", remedy);
            None
        }
        None => {
            problems.missing(&format!("groups.ldap.{field}"), remedy);
            None
        }
    }
}

fn check_url(url: Option<&str>, problems: &mut Problems) -> Option<Place> {
    let Some(url) = url else {
        problems.missing("groups.ldap.url", URL_REMEDY);
        return None;
    };
    let place = read_url(url);
    if place.is_none() {
        problems.note(
            "groups.ldap.url",
            format!("{url:?} is no place of a directory"),
            URL_REMEDY,
        );
    }
    place
}

/// Scheme, host and port, and nothing behind them but a slash.
fn read_url(url: &str) -> Option<Place> {
    let (tls, rest) = match url.split_once("://")? {
        ("ldaps", rest) => (true, rest),
        ("ldap", rest) => (false, rest),
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
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
    Some(Place {
        tls,
        host: host.to_owned(),
        port,
    })
}

fn check_security(place: &Place, wishes: &Wishes, problems: &mut Problems) -> Option<Security> {
    let Wishes {
        starttls,
        clear_text,
        ca,
    } = wishes;
    match (place.tls, *starttls, *clear_text) {
        (true, false, false) => {
            let (config, name) = client(place, ca.as_deref(), problems)?;
            Some(Security::Tls(config, name))
        }
        (false, true, false) => {
            let (config, name) = client(place, ca.as_deref(), problems)?;
            Some(Security::StartTls(config, name))
        }
        (false, false, true) if ca.is_some() => {
            problems.note("groups.ldap.ca", "has no use without TLS", "remove it, or clear_text");
            None
        }
        (false, false, true) if place.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => {
            Some(Security::Clear)
        }
        (false, false, true) => {
            problems.note(
                "groups.ldap.clear_text",
                format!(
                    "{} is no loopback address: the password would go over the network",
                    place.host
                ),
                "use ldaps://, or starttls = true",
            );
            None
        }
        (false, false, false) => {
            problems.note(
                "groups.ldap.url",
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

fn client(
    place: &Place,
    ca: Option<&Path>,
    problems: &mut Problems,
) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
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
    match (built, ServerName::try_from(place.host.clone())) {
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

/// A password that is empty would make the bind nobody's, and every answer empty (RFC 4513 §5.1.2).
fn check_password(file: Option<PathBuf>, folder: &Path, problems: &mut Problems) -> Option<Arc<Zeroizing<String>>> {
    const FIELD: &str = "groups.ldap.password_file";
    let Some(file) = file else {
        problems.missing(FIELD, "name a file, mode 0600, with the password of bind_dn");
        return None;
    };
    let path = folder.join(file);
    match secret_file::read(&path, Reach::Owner) {
        Ok(text) => {
            let password = text.strip_suffix('\n').unwrap_or(&text);
            if password.is_empty() {
                problems.note(
                    FIELD,
                    format!("{} is empty", path.display()),
                    "write the password into it",
                );
                return None;
            }
            Some(Arc::new(Zeroizing::new(password.to_owned())))
        }
        Err((problem, remedy)) => {
            problems.note(FIELD, problem, remedy);
            None
        }
    }
}

fn check_find_by(find_by: Option<&str>, attribute: Option<String>, problems: &mut Problems) -> Option<FindBy> {
    match (find_by, attribute) {
        (None | Some("sid"), None) => Some(FindBy::Sid),
        (None | Some("sid"), Some(_)) => {
            problems.note(
                "groups.ldap.principal_attribute",
                "has no use where find_by is \"sid\"",
                "remove it, or write find_by = \"principal\"",
            );
            None
        }
        (Some("principal"), Some(attribute)) => {
            let attribute = check_attribute(attribute, "principal_attribute", problems)?;
            Some(FindBy::Principal { attribute })
        }
        (Some("principal"), None) => {
            problems.missing(
                "groups.ldap.principal_attribute",
                "name the attribute that holds the full principal, such as \"krbPrincipalName\" or \"userPrincipalName\"",
            );
            None
        }
        (Some(other), _) => {
            problems.note(
                "groups.ldap.find_by",
                format!("{other:?} is neither \"sid\" nor \"principal\""),
                "write \"sid\" for Active Directory and Samba, \"principal\" for others",
            );
            None
        }
    }
}

/// The letters of an attribute's name (RFC 4512 §2.5); options, such as `;binary`, have no use here.
fn check_attribute(name: String, field: &str, problems: &mut Problems) -> Option<String> {
    let good =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good {
        return Some(name);
    }
    problems.note(
        format!("groups.ldap.{field}"),
        format!("{name:?} is no attribute"),
        "write its name alone",
    );
    None
}

fn check_cache(cache: Option<&str>, problems: &mut Problems) -> Option<Duration> {
    match cache {
        None => Some(KEEP),
        Some("none") => Some(Duration::ZERO),
        Some(text) => {
            let span = text.parse::<Span>().ok().map(Span::seconds);
            let good = span.filter(|seconds| *seconds <= LONGEST_KEEP);
            if good.is_none() {
                problems.note(
                    "groups.ldap.cache",
                    format!("{text:?} is not 1s to {LONGEST_KEEP}s"),
                    "write a span such as \"60s\", or \"none\"",
                );
            }
            good.map(|seconds| Duration::from_secs(seconds.into()))
        }
    }
}
