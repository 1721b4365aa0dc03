//! Decides where the store is: in a file of the state directory, or in a database that several brokers share.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::raw;
use super::secret_file::{self, Reach};
use super::tls::certificates_of;
use crate::problem::Problems;
use crate::store::{PostgresConfig, PostgresHost};

const HOSTS: &str = "store.postgres.hosts";
const HOSTS_REMEDY: &str =
    "write [\"db1.example.com\", \"db2.example.com:5433\"], or [\"/run/postgresql\"] for a socket";
const CA: &str = "store.postgres.ca";
/// As libpq.
const PORT: u16 = 5432;
/// Most servers that are asked one after the other.
const MOST_HOSTS: usize = 8;

/// The database, where the file names one.
pub(super) fn check(store: raw::Store, folder: &Path, problems: &mut Problems) -> Option<Option<PostgresConfig>> {
    let Some(postgres) = store.postgres else {
        return Some(None);
    };
    let raw::Postgres {
        hosts,
        database,
        user,
        password_file,
        ca,
        clear_text,
    } = postgres;
    let ca = ca.map(|path| folder.join(path));
    let hosts = check_hosts(&hosts, clear_text.unwrap_or(false), ca.as_deref(), problems);
    let password = match password_file {
        Some(path) => {
            let path = folder.join(path);
            secret_file::password(&path, Reach::GroupReads, "store.postgres.password_file", problems).map(Some)
        }
        None => Some(None),
    };
    let mut name = |value: Option<String>, field: &str| {
        let value = value.unwrap_or_else(|| "kerbridge".into());
        let good = !value.is_empty() && value.len() <= 63 && !value.chars().any(char::is_control);
        if !good {
            problems.note(
                format!("store.postgres.{field}"),
                "is not 1 to 63 bytes without control characters",
                "write its name in the server, such as \"kerbridge\"",
            );
        }
        good.then_some(value)
    };
    let (database, user) = (name(database, "database"), name(user, "user"));
    Some(Some(PostgresConfig {
        hosts: hosts?,
        database: database?,
        user: user?,
        password: password?,
    }))
}

fn check_hosts(
    hosts: &[String],
    clear_text: bool,
    ca: Option<&Path>,
    problems: &mut Problems,
) -> Option<Vec<PostgresHost>> {
    if hosts.is_empty() || hosts.len() > MOST_HOSTS {
        problems.note(
            HOSTS,
            format!("are {}, and not 1 to {MOST_HOSTS}", hosts.len()),
            HOSTS_REMEDY,
        );
        return None;
    }
    let authority = match ca {
        Some(path) => Some(authority(path, problems)?),
        None => None,
    };
    let mut checked = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        checked.push(check_host(
            &format!("{HOSTS}[{at}]"),
            host,
            clear_text,
            authority.as_ref(),
            problems,
        ));
    }
    let checked: Vec<PostgresHost> = checked.into_iter().collect::<Option<_>>()?;
    let is = |test: fn(&PostgresHost) -> bool| checked.iter().any(test);
    for (field, given, used) in [
        ("ca", ca.is_some(), is(|host| matches!(host, PostgresHost::Tls { .. }))),
        (
            "clear_text",
            clear_text,
            is(|host| matches!(host, PostgresHost::Clear { .. })),
        ),
    ] {
        if given && !used {
            problems.note(
                format!("store.postgres.{field}"),
                "has no use with these hosts",
                "remove it",
            );
        }
    }
    Some(checked)
}

/// A folder with a socket, or a name or address, and a port behind it or none.
fn check_host(
    field: &str,
    host: &str,
    clear_text: bool,
    authority: Option<&Arc<ClientConfig>>,
    problems: &mut Problems,
) -> Option<PostgresHost> {
    let Some((name, port)) = split(host) else {
        problems.note(field, format!("{host:?} is no place of a database"), HOSTS_REMEDY);
        return None;
    };
    if name.starts_with('/') {
        return Some(PostgresHost::Unix {
            folder: name.into(),
            port,
        });
    }
    let Ok(server) = ServerName::try_from(name.to_owned()) else {
        problems.note(field, format!("{host:?} is no place of a database"), HOSTS_REMEDY);
        return None;
    };
    let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match authority {
        _ if clear_text && is_loopback => Some(PostgresHost::Clear {
            host: name.to_owned(),
            port,
        }),
        _ if clear_text => {
            problems.note(
                "store.postgres.clear_text",
                format!("{name} is no loopback address: keys and revocations would go over the network"),
                "remove it, and name the server's authority in ca",
            );
            None
        }
        Some(authority) => Some(PostgresHost::Tls {
            host: name.to_owned(),
            port,
            name: server,
            config: Arc::clone(authority),
        }),
        None => {
            problems.missing(CA, "name the PEM file with the authority of the server's certificate");
            None
        }
    }
}

fn split(host: &str) -> Option<(&str, u16)> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port.strip_prefix(':')?)),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    (!name.is_empty()).then_some((name, port))
}

fn authority(path: &Path, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates_of(path, CA, problems)?);
    let built = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions();
    match built {
        Ok(builder) if added > 0 && ignored == 0 => {
            Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
        }
        Ok(_) | Err(_) => {
            problems.note(
                CA,
                format!("{} holds no usable authority", path.display()),
                "name its certificate in PEM",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(hosts: &[&str], clear_text: bool) -> Result<Vec<String>, String> {
        let mut problems = Problems::default();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        match check_hosts(&hosts, clear_text, None, &mut problems) {
            Some(hosts) if problems.is_empty() => Ok(hosts.iter().map(ToString::to_string).collect()),
            Some(_) | None => Err(problems.to_string()),
        }
    }

    #[test]
    fn a_socket_and_clear_text_on_loopback_need_no_authority_and_nothing_else_goes_without() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        assert_eq!(
            checked(&["/run/postgresql", &format!("{folder}:5433")], false).unwrap(),
            [
                "/run/postgresql/.s.PGSQL.5432".to_owned(),
                format!("{folder}/.s.PGSQL.5433")
            ]
        );
        assert_eq!(
            checked(&["127.0.0.1", "[::1]:7"], true).unwrap(),
            ["127.0.0.1:5432", "::1:7"]
        );
        for (hosts, clear_text, field) in [
            (&["db.example.com"][..], false, "store.postgres.ca"),
            (&["127.0.0.1"], false, "store.postgres.ca"),
            (&["db.example.com"], true, "store.postgres.clear_text"),
            (&["localhost"], true, "store.postgres.clear_text"),
            (&["/run/postgresql"], true, "store.postgres.clear_text"),
            (&[], false, "store.postgres.hosts"),
            (&["db.example.com:0"], false, "store.postgres.hosts[0]"),
            (&["/a", "not a host"], false, "store.postgres.hosts[1]"),
            (&["[::1"], false, "store.postgres.hosts[0]"),
        ] {
            let problems = checked(hosts, clear_text).unwrap_err();
            assert!(problems.contains(&format!("{field}: ")), "{hosts:?}: {problems}");
        }
    }
}
