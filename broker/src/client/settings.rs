//! Decides which token is wanted, and how it is had: what the command line says counts before the environment, that before what
//! the last log-in was for, then the user's file, then the machine's.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
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
/// Largest file of settings that is read, in bytes.
const LARGEST: u64 = 64 * 1024;

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
    let mut all = Vec::new();
    if let Some(path) = of_user {
        all.extend(read(&path)?);
    }
    let of_machine = Path::new(OF_THE_MACHINE);
    if !is_in_closed_folder(of_machine) {
        all.extend(read(of_machine)?);
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

/// Whether this user may not even look for it: an operator who closes the machine's folder, which has the broker's keys too, says
/// nothing to users.
fn is_in_closed_folder(path: &Path) -> bool {
    path.symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn read(path: &Path) -> Result<Option<Said>, Trouble> {
    let mut text = String::new();
    let most = LARGEST.saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    let why = match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= LARGEST) => None,
        Ok(_) => Some(format!("it is larger than {LARGEST} bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        return Err(Trouble::new(
            Kind::FileUnusable,
            format!("{} cannot be read: {why}", path.display()),
            "have it readable, or remove it",
        ));
    }
    let mut problems = Problems::default();
    let said = strict_toml::read::<Said>(&text, &mut problems);
    let first = problems.iter().next();
    match (first, said) {
        (None, Some(said)) => match said.mistake() {
            Some((field, Trouble { problem, remedy, .. })) => Err(Trouble::new(
                Kind::SettingsWrong,
                format!("{}: {field}: {problem}", path.display()),
                remedy,
            )),
            None => Ok(Some(said)),
        },
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

impl Said {
    /// The first field that cannot be what it stands for, whether or not it will count, and why.
    fn mistake(&self) -> Option<(&'static str, Trouble)> {
        let wrong = [
            ("url", self.url.as_deref().and_then(|text| address(text).err())),
            ("issuer", self.issuer.as_deref().and_then(|text| broker(text).err())),
            (
                "service",
                self.service.as_deref().and_then(|text| service_principal(text).err()),
            ),
            (
                "principal",
                self.principal.as_deref().and_then(|text| user_principal(text).err()),
            ),
        ];
        wrong
            .into_iter()
            .find_map(|(field, trouble)| trouble.map(|trouble| (field, trouble)))
    }
}

impl Wanted {
    /// What the places name together, the first of them before the others.
    pub(crate) fn of(places: &[Said]) -> Result<Self, Trouble> {
        Found::of(places).map(|found| found.wanted)
    }
}

impl Settings {
    /// What the places say together, the first of them before the others.
    pub(crate) fn of(places: &[Said]) -> Result<Self, Trouble> {
        let found = Found::of(places)?;
        let scopes = places
            .iter()
            .filter(|place| found.is_of_service(place))
            .map(|place| &place.scopes)
            .find(|scopes| !scopes.is_empty());
        let bound = places
            .iter()
            .filter(|place| found.is_of_broker(place))
            .find_map(|place| place.channel_binding);
        Ok(Self {
            scopes: scopes.cloned().unwrap_or_default(),
            ca: places.iter().find_map(|place| place.ca.clone()),
            service: found.service(places)?,
            channel_binding: bound.unwrap_or(true),
            source: source(places)?,
            wanted: found.wanted,
        })
    }
}

/// What is wanted, which decides what else is said of it, and not of others.
struct Found {
    wanted: Wanted,
    /// The number of the place by which the broker is known: it names it, or the address that says it.
    by: usize,
}

impl Found {
    fn of(places: &[Said]) -> Result<Self, Trouble> {
        let mut all = places.iter().enumerate();
        let first = all.find(|(_, place)| place.url.is_some() || place.audience.is_some());
        match first.map(|(by, place)| (by, &place.url, &place.audience)) {
            Some((by, Some(url), None)) => Ok(Self {
                wanted: Wanted::At(address(url)?),
                by,
            }),
            Some((_, None, Some(audience))) => {
                let mut all = places.iter().enumerate();
                let issuer = all.find_map(|(by, place)| Some((by, place.issuer.as_ref()?)));
                let (by, issuer) = issuer.ok_or_else(|| {
                    Trouble::new(
                        Kind::NoTarget,
                        "an audience is named, and no broker that knows it",
                        "name the broker with --issuer URL",
                    )
                })?;
                Ok(Self {
                    wanted: Wanted::Named {
                        issuer: broker(issuer)?,
                        audience: audience.clone(),
                    },
                    by,
                })
            }
            Some((_, Some(_), Some(_))) => Err(Trouble::new(
                Kind::NoTarget,
                "an address and an audience are named at once",
                "name one of the two",
            )),
            Some((_, None, None)) | None if places.iter().any(|place| place.issuer.is_some()) => Err(Trouble::new(
                Kind::NoTarget,
                "a broker is named, and no service",
                "name the service with --audience NAME",
            )),
            Some((_, None, None)) | None => Err(Trouble::new(
                Kind::NoTarget,
                "it is not said for what a token is wanted",
                "name the address that you want to use, as in kerbridge token print https://api.example.com/orders, or set url in \
                 ~/.config/kerbridge/client.toml",
            )),
        }
    }

    /// Whether a place speaks of the service that is wanted: it names that one, by its host or its name, or none at all.
    fn is_of_service(&self, place: &Said) -> bool {
        let Said {
            url, issuer, audience, ..
        } = place;
        match &self.wanted {
            Wanted::At(address) => match url {
                Some(url) => Address::parse(url).is_ok_and(|other| other.is_same_origin(address)),
                None => audience.is_none() && issuer.is_none(),
            },
            Wanted::Named {
                issuer: at,
                audience: name,
            } => {
                url.is_none()
                    && audience.as_ref().is_none_or(|audience| audience == name)
                    && issuer.as_ref().is_none_or(|issuer| issuer == at.as_str())
            }
        }
    }

    /// Whether a place speaks of that service's broker: it names the broker, or speaks of the service.
    fn is_of_broker(&self, place: &Said) -> bool {
        let names = |at: &Issuer| place.issuer.as_deref() == Some(at.as_str());
        let is_named = matches!(&self.wanted, Wanted::Named { issuer, .. } if names(issuer));
        is_named || self.is_of_service(place)
    }

    /// The broker's principal. Of which broker it is must be said with it or after it: a ticket for one broker is not shown to
    /// another, which could show it to the first.
    fn service(&self, places: &[Said]) -> Result<Service, Trouble> {
        let mut all = places.iter().enumerate();
        let said = all.find_map(|(at, place)| {
            let Said {
                url,
                issuer,
                audience,
                service,
                ..
            } = place;
            let is_with = url.is_some() || issuer.is_some() || audience.is_some();
            let counts = self.is_of_broker(place) && (is_with || at < self.by);
            service.as_ref().filter(|_| counts)
        });
        said.map_or(Ok(Service::OfHost), |name| service_principal(name).map(Service::Named))
    }
}

/// Whose tickets: those of the first place that names a keytab or a cache.
fn source(places: &[Said]) -> Result<Source, Trouble> {
    let principal = places.iter().find_map(|place| place.principal.as_ref());
    let principal = principal.map(|name| user_principal(name));
    let principal = principal.transpose()?;
    let first = places
        .iter()
        .find(|place| place.keytab.is_some() || place.ccache.is_some());
    match (first.and_then(|place| place.keytab.clone()), principal) {
        (Some(file), Some(principal)) => Ok(Source::Keytab { file, principal }),
        (Some(_), None) => Err(Trouble::new(
            Kind::NoTarget,
            "a keytab is named, and not whose keys of it are meant",
            "name the principal with --principal NAME@REALM",
        )),
        (None, principal) => Ok(Source::Cache {
            name: first.and_then(|place| place.ccache.clone()),
            principal,
        }),
    }
}

fn address(text: &str) -> Result<Address, Trouble> {
    meant(text, Address::parse(text), "an https address")
}

fn broker(text: &str) -> Result<Issuer, Trouble> {
    meant(text, Issuer::parse(text), "the broker's https address")
}

fn service_principal(text: &str) -> Result<ServicePrincipal, Trouble> {
    meant(text, ServicePrincipal::parse(text), "HTTP/HOST@REALM")
}

fn user_principal(text: &str) -> Result<Principal, Trouble> {
    meant(text, Principal::parse(text), "NAME@REALM")
}

/// What was read of a text that somebody wrote, or what to write in its place.
fn meant<T, E: fmt::Display>(text: &str, read: Result<T, E>, wanted: &str) -> Result<T, Trouble> {
    read.map_err(|error| Trouble::new(Kind::NoTarget, format!("{text}: {error}"), format!("name {wanted}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn said(text: &str) -> Said {
        toml::from_str(text).unwrap()
    }

    fn settings(places: &[&str]) -> Result<Settings, Trouble> {
        Settings::of(&places.iter().map(|text| said(text)).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_place_that_names_a_service_counts_and_what_belongs_to_another_does_not() {
        let machine = "issuer = 'https://b'\naudience = 'orders'\nservice = 'HTTP/b@R'\nca = '/ca'\nscopes = ['x']\nchannel_binding = false";
        let of_machine = settings(&["", machine]).unwrap();
        assert!(matches!(&of_machine.wanted, Wanted::Named { audience, .. } if audience == "orders"));
        assert!(matches!(&of_machine.service, Service::Named(name) if name.as_str() == "HTTP/b@R"));
        assert_eq!(of_machine.scopes, ["x"]);
        assert!(!of_machine.channel_binding);
        let of_url = settings(&["url = 'https://a/x'", machine]).unwrap();
        assert!(matches!(&of_url.wanted, Wanted::At(address) if address.to_string() == "https://a/x"));
        assert_eq!(of_url.service, Service::OfHost);
        assert_eq!(of_url.ca.as_deref(), Some(Path::new("/ca")));
        assert!(of_url.scopes.is_empty());
        assert!(of_url.channel_binding);
        // Another service of the same broker, and the same name at another broker.
        let other = settings(&["audience = 'billing'", machine]).unwrap();
        assert!(matches!(&other.wanted, Wanted::Named { audience, issuer }
            if audience == "billing" && issuer.as_str() == "https://b"));
        assert_eq!(other.service, of_machine.service);
        assert!(other.scopes.is_empty());
        assert!(!other.channel_binding);
        let elsewhere = settings(&["issuer = 'https://c'\naudience = 'orders'", machine]).unwrap();
        assert_eq!(elsewhere.service, Service::OfHost);
        assert!(elsewhere.scopes.is_empty());
        assert!(elsewhere.channel_binding);
    }

    #[test]
    fn a_login_counts_for_all_addresses_of_its_host_and_a_principal_for_the_broker_that_stands_with_it_or_after_it() {
        let login = "url = 'https://a/x'\nservice = 'HTTP/b@R'\nscopes = ['x']\nchannel_binding = false";
        let same = settings(&["url = 'https://A/y?z'", "", login]).unwrap();
        assert!(matches!(&same.service, Service::Named(name) if name.as_str() == "HTTP/b@R"));
        assert_eq!((&same.scopes[..], same.channel_binding), (&["x".to_owned()][..], false));
        let (url, service) = ("url = 'https://a'", "service = 'HTTP/b@R'\nscopes = ['x']");
        assert!(matches!(settings(&[service, url]).unwrap().service, Service::Named(_)));
        let before = settings(&[url, service]).unwrap();
        assert_eq!(before.service, Service::OfHost);
        assert_eq!(before.scopes, ["x"]);
        let (audience, issuer) = ("audience = 'orders'", "issuer = 'https://b'");
        let between = settings(&[audience, service, issuer]).unwrap();
        assert!(matches!(between.service, Service::Named(_)));
    }

    #[test]
    fn the_file_of_the_document_is_one_and_each_line_of_it_too() {
        let page = include_str!("../../../docs/login.md");
        let (_, begun) = page.split_once("```text\n# client.toml").unwrap();
        let (file, _) = begun.split_once("```").unwrap();
        let file = format!("#{file}");
        assert!(settings(&[file.as_str()]).is_ok(), "{file}");
        // Lines that stand for others begin as comments do.
        let lines = file.lines().map(|line| line.trim_start_matches('#'));
        let read = lines.filter(|line| line.contains(" = ")).map(said).count();
        assert!(read > 8, "{read} lines of {file}");
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_what_to_say_instead() {
        for (places, words) in [
            (&[][..], "for what a token is wanted"),
            (&["url = 'http://a'"], "https://"),
            (&["url = 'https://a'\naudience = 'b'"], "at once"),
            (&["audience = 'b'"], "--issuer"),
            (&["issuer = 'https://b'"], "--audience NAME"),
            (&["", "issuer = 'https://b'"], "--audience NAME"),
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
        for (text, words) in [
            ("urls = 'x'", "urls"),
            ("url = 3", "url"),
            ("url =", "line 1"),
            ("url = 'http://x'", "client.toml: url: http://x: "),
            ("issuer = 'b'", "client.toml: issuer: b: "),
            ("service = 'b'", "client.toml: service: b: "),
            ("principal = 'b'", "client.toml: principal: b: "),
        ] {
            fs::write(&file, text).unwrap();
            let trouble = of_files(Some(&file)).unwrap_err();
            assert_eq!(trouble.kind, Kind::SettingsWrong);
            assert!(trouble.problem.contains(words), "{trouble}");
        }
        fs::write(&file, "#".repeat(64 * 1024 + 1)).unwrap();
        assert_eq!(of_files(Some(&file)).unwrap_err().kind, Kind::FileUnusable);
        fs::write(&file, "url = 'https://a'").unwrap();
        assert_eq!(of_files(Some(&file)).unwrap(), [said("url = 'https://a'")]);
    }
}
