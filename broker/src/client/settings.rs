//! Decides which token is wanted, and how it is had: what the command line says counts before the environment, that before what
//! the last log-in was for, then the user's file, then the machine's.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use kerbridge_gss::{Principal, ServicePrincipal};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::discovery::Issuer;
use super::ticket::{Service, Source};
use super::trouble::{Kind, Trouble};
use crate::problem::Problems;
use crate::strict_toml;

/// The machine's file.
const OF_THE_MACHINE: &str = "/etc/kerbridge/client.toml";

/// What one place says; every line may be left out. As a file it is `client.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    /// The address of the service, which says itself where its tokens come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// The broker, where the service does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The service's name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
    /// Scopes; all that are granted where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
    /// The file of the authorities to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The broker's principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// Whether tickets are bound to the TLS connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel_binding: Option<bool>,
    /// Whose tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    /// Their keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keytab: Option<PathBuf>,
    /// The cache of their tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ccache: Option<String>,
}

/// For what a token is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// For whatever is at this address.
    At(Address),
    /// For a service by its name at a broker.
    Named { issuer: Issuer, audience: String },
}

/// How a token is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) wanted: Wanted,
    pub(crate) scopes: Vec<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) service: Service,
    pub(crate) channel_binding: bool,
    pub(crate) source: Source,
}

/// What the environment of this process says.
pub(crate) fn of_environment() -> Said {
    let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    Said {
        url: text("KERBRIDGE_URL"),
        issuer: text("KERBRIDGE_ISSUER"),
        audience: text("KERBRIDGE_AUDIENCE"),
        ca: text("KERBRIDGE_CACERT").map(PathBuf::from),
        service: text("KERBRIDGE_SERVICE"),
        ..Said::default()
    }
}

/// The files of settings: the one that is named, otherwise the user's and the machine's where they are there.
pub(crate) fn of_files(named: Option<&Path>) -> Result<Vec<Said>, Trouble> {
    if let Some(path) = named {
        let said = read(path)?;
        let missing = || {
            Trouble::new(
                Kind::FileUnusable,
                format!("{} is not there", path.display()),
                "name a client.toml with --config, or leave it out",
            )
        };
        return Ok(vec![said.ok_or_else(missing)?]);
    }
    let home = folder("XDG_CONFIG_HOME", ".config");
    let of_user = home.map(|home| home.join("kerbridge/client.toml"));
    let paths = of_user.into_iter().chain([PathBuf::from(OF_THE_MACHINE)]);
    let mut all = Vec::new();
    for path in paths {
        all.extend(read(&path)?);
    }
    Ok(all)
}

/// Where tokens are kept where nothing else is said: with the session, otherwise with the user.
pub(crate) fn cache() -> Result<PathBuf, Trouble> {
    let of_session = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let found = of_session.or_else(|| folder("XDG_CACHE_HOME", ".cache"));
    found.map(|found| found.join("kerbridge")).ok_or_else(|| {
        Trouble::new(
            Kind::CacheUnusable,
            "there is no folder for tokens: neither XDG_RUNTIME_DIR nor HOME is set",
            "name one with --cache",
        )
    })
}

fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    let below = || Some(PathBuf::from(env::var_os("HOME")?).join(below_home));
    named.or_else(below).filter(|path| path.is_absolute())
}

fn read(path: &Path) -> Result<Option<Said>, Trouble> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let problem = format!("{} cannot be read: {error}", path.display());
            return Err(Trouble::new(
                Kind::FileUnusable,
                problem,
                "have it readable, or remove it",
            ));
        }
    };
    let mut problems = Problems::default();
    let said = strict_toml::read::<Said>(&text, &mut problems);
    let first = problems.iter().next();
    match (first, said) {
        (None, Some(said)) => Ok(Some(said)),
        (Some(problem), _) => Err(Trouble::new(
            Kind::SettingsWrong,
            format!("{}: {}: {}", path.display(), problem.field, problem.problem),
            problem.remedy.clone(),
        )),
        (None, None) => Err(Trouble::new(
            Kind::SettingsWrong,
            format!("{} cannot be understood", path.display()),
            "correct it",
        )),
    }
}

impl Settings {
    /// What the places say together, the first of them before the others.
    pub(crate) fn of(places: &[Said]) -> Result<Self, Trouble> {
        let first = places.iter().find(|said| said.url.is_some() || said.audience.is_some());
        let target = first.ok_or_else(|| {
            Trouble::new(
                Kind::NoTarget,
                "it is not said for what a token is wanted",
                "name the address that you want to use, as in kerbridge token print https://api.example.com/orders, or set url in \
                 ~/.config/kerbridge/client.toml",
            )
        })?;
        let wanted = match (&target.url, &target.audience) {
            (Some(_), Some(_)) => {
                return Err(Trouble::new(
                    Kind::NoTarget,
                    "an address and an audience are named at once",
                    "name one of the two",
                ));
            }
            (Some(url), None) => {
                let address = Address::parse(url);
                Wanted::At(address.map_err(|error| not_meant(&format!("{url}: {error}"), "an https address"))?)
            }
            (None, audience) => {
                let issuer = places.iter().find_map(|said| said.issuer.as_ref());
                let issuer = issuer.ok_or_else(|| {
                    Trouble::new(
                        Kind::NoTarget,
                        "an audience is named, and no broker that knows it",
                        "name the broker with --issuer URL",
                    )
                })?;
                let read = Issuer::parse(issuer);
                Wanted::Named {
                    issuer: read
                        .map_err(|error| not_meant(&format!("{issuer}: {error}"), "the broker's https address"))?,
                    audience: audience.clone().unwrap_or_default(),
                }
            }
        };
        // Which principal the broker has is said of the broker that stands beside it, and not of any other.
        let service = places
            .iter()
            .take_while(|said| !std::ptr::eq(*said, target))
            .chain([target])
            .find_map(|said| said.service.as_ref());
        let service = match service {
            None => Service::OfHost,
            Some(name) => {
                let read = ServicePrincipal::parse(name);
                Service::Named(read.map_err(|error| not_meant(&format!("{name}: {error}"), "HTTP/HOST@REALM"))?)
            }
        };
        let scopes = places.iter().map(|said| &said.scopes).find(|scopes| !scopes.is_empty());
        Ok(Self {
            wanted,
            scopes: scopes.cloned().unwrap_or_default(),
            ca: places.iter().find_map(|said| said.ca.clone()),
            service,
            channel_binding: places.iter().find_map(|said| said.channel_binding).unwrap_or(true),
            source: source(places)?,
        })
    }
}

/// Whose tickets: those of the first place that names a keytab or a cache.
fn source(places: &[Said]) -> Result<Source, Trouble> {
    let principal = places.iter().find_map(|said| said.principal.as_ref());
    let read =
        |name: &String| Principal::parse(name).map_err(|error| not_meant(&format!("{name}: {error}"), "NAME@REALM"));
    let principal = principal.map(read).transpose()?;
    let first = places
        .iter()
        .find(|said| said.keytab.is_some() || said.ccache.is_some());
    match (first.and_then(|said| said.keytab.clone()), principal) {
        (Some(file), Some(principal)) => Ok(Source::Keytab { file, principal }),
        (Some(_), None) => Err(Trouble::new(
            Kind::NoTarget,
            "a keytab is named, and not whose keys of it are meant",
            "name the principal with --principal NAME@REALM",
        )),
        (None, principal) => Ok(Source::Cache {
            name: first.and_then(|said| said.ccache.clone()),
            principal,
        }),
    }
}

fn not_meant(what: &str, wanted: &str) -> Trouble {
    Trouble::new(Kind::NoTarget, what, format!("name {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        toml::from_str(text).unwrap()
    }

    fn settings(places: &[&str]) -> Result<Settings, Trouble> {
        Settings::of(&places.iter().map(|text| said(text)).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_place_that_names_a_service_counts_and_what_belongs_to_another_does_not() {
        let machine = "issuer = 'https://b'\naudience = 'orders'\nservice = 'HTTP/b@R'\nca = '/ca'\nscopes = ['x']";
        let of_machine = settings(&["", machine]).unwrap();
        assert!(matches!(&of_machine.wanted, Wanted::Named { audience, .. } if audience == "orders"));
        assert!(matches!(&of_machine.service, Service::Named(name) if name.as_str() == "HTTP/b@R"));
        assert!(of_machine.channel_binding);
        let of_url = settings(&["url = 'https://a/x'", machine]).unwrap();
        assert!(matches!(&of_url.wanted, Wanted::At(address) if address.to_string() == "https://a/x"));
        assert_eq!(of_url.service, Service::OfHost);
        assert_eq!(of_url.ca.as_deref(), Some(Path::new("/ca")));
        let other = settings(&["audience = 'billing'\nchannel_binding = false", machine]).unwrap();
        assert!(matches!(&other.wanted, Wanted::Named { audience, issuer }
            if audience == "billing" && issuer.as_str() == "https://b"));
        assert!(!other.channel_binding);
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_what_to_say_instead() {
        for (places, words) in [
            (&[][..], "for what a token is wanted"),
            (&["url = 'http://a'"], "https://"),
            (&["url = 'https://a'\naudience = 'b'"], "at once"),
            (&["audience = 'b'"], "--issuer"),
            (&["audience = 'b'\nissuer = 'b'"], "https"),
            (&["url = 'https://a'\nservice = 'b'"], "HTTP/HOST@REALM"),
            (&["url = 'https://a'\nprincipal = 'b'"], "NAME@REALM"),
            (&["url = 'https://a'\nkeytab = 'b'"], "--principal"),
        ] {
            let trouble = settings(places).unwrap_err();
            assert_eq!(trouble.kind, Kind::NoTarget, "{trouble}");
            assert!(trouble.to_string().contains(words), "{words}: {trouble}");
        }
    }

    #[test]
    fn a_file_with_a_mistake_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.toml");
        assert_eq!(of_files(Some(&file)).unwrap_err().kind, Kind::FileUnusable);
        for (text, words) in [("urls = 'x'", "urls"), ("url = 3", "url"), ("url =", "line 1")] {
            fs::write(&file, text).unwrap();
            let trouble = of_files(Some(&file)).unwrap_err();
            assert_eq!(trouble.kind, Kind::SettingsWrong);
            assert!(trouble.problem.contains(words), "{trouble}");
        }
        fs::write(&file, "url = 'https://a'").unwrap();
        assert_eq!(of_files(Some(&file)).unwrap(), [said("url = 'https://a'")]);
    }
}
