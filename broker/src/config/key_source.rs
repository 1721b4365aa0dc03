//! Decides where the public keys of issuers come from, and their signed revocations, for a broker that verifies their tokens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_wire::Span;
use kerbridge_wire::exchange::{FEED_PATH, JWKS_PATH};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::raw;
use super::tls::certificates_of;
use crate::problem::Problems;
use crate::subject_token::KeyTerms;

const MAX_STALENESS: Span = Span::FIVE_MINUTES;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// Keys.
    Keys,
    /// Revocations. There are none in a file: pages of a feed are asked for.
    Feeds,
}

impl Published {
    const fn of_whom(self) -> &'static str {
        match self {
            Self::Keys => "name the issuer whose keys they are",
            Self::Feeds => "name the issuer whose revocations they are",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Keys => "name one of file, unix and url",
            Self::Feeds => "name one of unix and url",
        }
    }

    /// Of a broker.
    const fn path(self) -> &'static str {
        match self {
            Self::Keys => JWKS_PATH,
            Self::Feeds => FEED_PATH,
        }
    }

    const fn poll(self) -> Span {
        match self {
            Self::Keys => Span::FIVE_SECONDS,
            Self::Feeds => Span::TWO_SECONDS,
        }
    }
}

/// Where the keys or the revocations of one issuer come from.
#[derive(Clone, Debug)]
pub struct KeySource {
    /// Whose they are, how often they are looked at and how old they may be.
    pub terms: KeyTerms,
    /// Where they are.
    pub place: KeyPlace,
}

/// Where a key set is (RFC 7517 §5).
#[derive(Clone, Debug)]
pub enum KeyPlace {
    /// A file that somebody replaces.
    File(PathBuf),
    /// A Unix socket that answers HTTP: a broker's mesh listener.
    Unix {
        /// The socket.
        socket: PathBuf,
        /// The path of the request.
        path: String,
    },
    /// HTTP in the clear, on loopback.
    Clear {
        /// Address and port.
        address: SocketAddr,
        /// The path of the request.
        path: String,
    },
    /// HTTP over TLS.
    Tls {
        /// Host and port, to connect to and for `Host`.
        authority: String,
        /// Whose certificate it must be.
        name: ServerName<'static>,
        /// By which authority.
        client: Arc<ClientConfig>,
        /// The path of the request.
        path: String,
    },
}

impl KeyPlace {
    /// Its file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Unix { .. } | Self::Clear { .. } | Self::Tls { .. } => None,
        }
    }

    /// The command that asks there by hand; none for a file.
    pub fn curl(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Unix { socket, path } => {
                let socket = socket.display();
                Some(format!(
                    "curl -fsS --unix-socket {socket} http://kerbridge{path} -o /dev/null"
                ))
            }
            Self::Clear { .. } | Self::Tls { .. } => Some(format!("curl -fsS {self} -o /dev/null")),
        }
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Unix { socket, path } => write!(f, "{}{path}", socket.display()),
            Self::Clear { address, path } => write!(f, "http://{address}{path}"),
            Self::Tls { authority, path, .. } => write!(f, "https://{authority}{path}"),
        }
    }
}

/// The sources that stand in `section`, or notes what is wrong with them.
pub(super) fn check(
    published: Published,
    list: Vec<raw::KeySource>,
    section: &str,
    folder: &Path,
    problems: &mut Problems,
) -> Vec<KeySource> {
    let mut sources: Vec<KeySource> = Vec::new();
    for (index, source) in list.into_iter().enumerate() {
        let field = format!("{section}[{index}]");
        let Some(source) = check_one(published, source, &field, folder, problems) else {
            continue;
        };
        if sources.iter().any(|other| other.terms.issuer == source.terms.issuer) {
            problems.note(
                format!("{field}.issuer"),
                format!("has an earlier [[{section}]] already"),
                "keep one of the two",
            );
        }
        sources.push(source);
    }
    sources
}

fn check_one(
    published: Published,
    source: raw::KeySource,
    field: &str,
    folder: &Path,
    problems: &mut Problems,
) -> Option<KeySource> {
    let remedy = published.remedy();
    let raw::KeySource {
        issuer,
        file,
        unix,
        url,
        ca,
        poll,
        max_staleness,
    } = source;
    if issuer.is_none() {
        problems.missing(&format!("{field}.issuer"), published.of_whom());
    }
    if ca.is_some() && url.is_none() {
        problems.note(format!("{field}.ca"), "is for an https url only", "remove it");
    }
    let place = match (file, unix, url) {
        (Some(_), None, None) if published == Published::Feeds => {
            problems.note(format!("{field}.file"), "is no place of a feed", remedy);
            None
        }
        (Some(file), None, None) => Some(KeyPlace::File(folder.join(file))),
        (None, Some(socket), None) => Some(KeyPlace::Unix {
            socket: folder.join(socket),
            path: published.path().to_owned(),
        }),
        (None, None, Some(url)) => {
            let ca = ca.map(|path| folder.join(path));
            let fields = UrlFields {
                url: format!("{field}.url"),
                ca: format!("{field}.ca"),
                remedy: "write \"https://login.example.com/keys\" with ca, or \"http://127.0.0.1:8080/keys\" on loopback",
                in_the_clear: "is not on loopback: keys that anybody on the way can change are none",
            };
            check_url(&url, ca.as_deref(), &fields, problems)
        }
        (None, None, None) => {
            problems.missing(field, remedy);
            None
        }
        (_, _, _) => {
            problems.note(field, "has more than one place", remedy);
            None
        }
    };
    let (poll, max_staleness) = (poll.unwrap_or(published.poll()), max_staleness.unwrap_or(MAX_STALENESS));
    if poll >= max_staleness {
        problems.note(
            format!("{field}.max_staleness"),
            "is not longer than poll, so that what is known grows stale between two looks",
            "write a longer one",
        );
    }
    Some(KeySource {
        terms: KeyTerms {
            issuer: issuer?,
            poll,
            max_staleness,
        },
        place: place?,
    })
}

/// How the fields of an address are called, and what is said where it is none.
pub(super) struct UrlFields {
    pub(super) url: String,
    pub(super) ca: String,
    pub(super) remedy: &'static str,
    pub(super) in_the_clear: &'static str,
}

/// Where an address leads: over TLS with the authority that is named, or in the clear on loopback.
pub(super) fn check_url(url: &str, ca: Option<&Path>, fields: &UrlFields, problems: &mut Problems) -> Option<KeyPlace> {
    let mut refuse = |what: &str| {
        problems.note(fields.url.as_str(), format!("{url:?} {what}"), fields.remedy);
        None
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse("is no URL");
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || !is_plain(rest) || rest.contains(['#', '@']) || url.len() > 1024 {
        return refuse("is no URL");
    }
    let path = path.to_owned();
    match scheme {
        "http" => match authority.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() && ca.is_none() => Some(KeyPlace::Clear { address, path }),
            Ok(_) | Err(_) => refuse(fields.in_the_clear),
        },
        "https" => {
            let Some((host, port)) = host_and_port(authority) else {
                return refuse("names no host");
            };
            let Ok(name) = ServerName::try_from(host.clone()) else {
                return refuse("names no host");
            };
            let Some(ca) = ca else {
                problems.missing(
                    &fields.ca,
                    "name the PEM file with the authority of the server's certificate",
                );
                return None;
            };
            let client = client(ca, &fields.ca, problems)?;
            let authority = match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
                Ok(IpAddr::V4(_)) | Err(_) => format!("{host}:{port}"),
            };
            Some(KeyPlace::Tls {
                authority,
                name,
                client,
                path,
            })
        }
        _ => refuse("is neither http nor https"),
    }
}

fn host_and_port(authority: &str) -> Option<(String, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = match port {
            "" => 443,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        return Some((host.to_owned(), port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), 443)),
    }
}

/// A client that trusts the authorities of a file and no others.
fn client(ca: &Path, field: &str, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(ca, field, problems)? {
        if roots.add(certificate).is_err() {
            problems.note(
                field,
                format!("{} holds a certificate that is no authority's", ca.display()),
                "name the PEM file with the authority alone",
            );
            return None;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = built.ok()?.with_root_certificates(roots).with_no_client_auth();
    Some(Arc::new(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<KeyPlace, String> {
        source_of(Published::Keys, text).map(|source| source.place)
    }

    fn source_of(published: Published, text: &str) -> Result<KeySource, String> {
        let section = match published {
            Published::Keys => "delegation.keys",
            Published::Feeds => "delegation.feeds",
        };
        let mut problems = Problems::default();
        let raw: raw::KeySource =
            crate::strict_toml::read(&format!("issuer = \"https://idp.test\"\n{text}"), &mut problems).unwrap();
        let source = check(
            published,
            vec![raw],
            section,
            Path::new("/etc/kerbridge"),
            &mut problems,
        )
        .pop();
        match source {
            Some(source) if problems.is_empty() => Ok(source),
            Some(_) | None => Err(problems.to_string()),
        }
    }

    #[test]
    fn keys_are_in_a_file_behind_a_socket_or_at_a_url_on_loopback() {
        assert!(
            matches!(source("file = \"idp.json\""), Ok(KeyPlace::File(path)) if path == Path::new("/etc/kerbridge/idp.json"))
        );
        assert!(matches!(source("unix = \"/run/mesh.sock\""), Ok(KeyPlace::Unix { path, .. }) if path == JWKS_PATH));
        assert!(matches!(
            source("url = \"http://127.0.0.1:80/keys?x=1\""),
            Ok(KeyPlace::Clear { path, .. }) if path == "/keys?x=1"
        ));
        assert!(matches!(source("url = \"http://[::1]:80\""), Ok(KeyPlace::Clear { path, .. }) if path == "/"));
    }

    #[test]
    fn keys_that_somebody_on_the_way_could_change_are_not_fetched() {
        let ca = "ca = \"/nowhere/ca.pem\"";
        for (text, start) in [
            ("", "delegation.keys[0]: is missing"),
            (
                "file = \"a\"\nunix = \"b\"",
                "delegation.keys[0]: has more than one place",
            ),
            (
                "url = \"idp.test/keys\"",
                "delegation.keys[0].url: \"idp.test/keys\" is no URL",
            ),
            (
                "url = \"http://idp.test:80/keys\"",
                "delegation.keys[0].url: \"http://idp.test:80/keys\" is not on loopback",
            ),
            ("url = \"http://192.0.2.1:80/keys\"", "delegation.keys[0].url: "),
            ("url = \"ftp://127.0.0.1:80/\"", "delegation.keys[0].url: "),
            ("url = \"https://a@idp.test/\"", "delegation.keys[0].url: "),
            ("url = \"https://idp.test/keys\"", "delegation.keys[0].ca: is missing"),
            (
                &format!("url = \"https://idp.test/keys\"\n{ca}"),
                "delegation.keys[0].ca: ",
            ),
            (
                &format!("file = \"a\"\n{ca}"),
                "delegation.keys[0].ca: is for an https url only",
            ),
            ("file = \"a\"\npoll = \"5m\"", "delegation.keys[0].max_staleness: "),
        ] {
            let found = source(text).unwrap_err();
            assert!(found.starts_with(start), "{text}: {found}");
        }
    }

    #[test]
    fn revocations_are_behind_the_socket_that_has_the_keys_and_in_no_file() {
        let source = source_of(Published::Feeds, "unix = \"/run/mesh.sock\"").unwrap();
        assert!(matches!(source.place, KeyPlace::Unix { path, .. } if path == FEED_PATH));
        assert_eq!(
            (source.terms.poll, source.terms.max_staleness),
            (Span::TWO_SECONDS, Span::FIVE_MINUTES)
        );
        let found = source_of(Published::Feeds, "file = \"feed\"").unwrap_err();
        assert!(found.starts_with("delegation.feeds[0].file: "), "{found}");
    }

    #[test]
    fn a_host_has_a_port_of_its_own_or_that_of_https() {
        for (authority, host, port) in [
            ("idp.test", "idp.test", 443),
            ("idp.test:8443", "idp.test", 8443),
            ("[::1]", "::1", 443),
            ("[::1]:444", "::1", 444),
        ] {
            assert_eq!(host_and_port(authority), Some((host.to_owned(), port)), "{authority}");
        }
        for odd in ["idp.test:", "idp.test:x", "idp.test:70000", "[::1", "[::1]x"] {
            assert_eq!(host_and_port(odd), None, "{odd}");
        }
    }
}
