//! Decides how each listener is protected: by the file system, by TLS, or by being on loopback and saying so.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client_names::{self, ClientNames};
use super::raw;
use super::tls::{self, Tls, TlsServer};
use crate::problem::Problems;

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerName {
    /// The filter's.
    Mesh,
    /// For people and command lines.
    Public,
    /// For probes and metrics.
    Observe,
    /// For whoever administers the broker, on its machine.
    Admin,
}

impl ListenerName {
    /// Each.
    pub const ALL: [Self; 4] = [Self::Mesh, Self::Public, Self::Observe, Self::Admin];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Public => "public",
            Self::Observe => "observe",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Which.
    pub name: ListenerName,
    /// Where, and how protected.
    pub address: Address,
    /// `client_id` of callers whom no certificate names.
    pub client_name: String,
}

/// Where a listener is, and what protects it.
#[derive(Clone)]
pub enum Address {
    /// A Unix socket with these permission bits.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permission bits, 0660 where not said.
        mode: u32,
    },
    /// TCP with TLS.
    Tls {
        /// Address and port.
        address: SocketAddr,
        /// Certificate, key, and on `mesh` whose client certificates are taken.
        server: Arc<TlsServer>,
    },
    /// TCP in the clear, on loopback only.
    Clear {
        /// Address and port.
        address: SocketAddr,
    },
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Tls { address, .. } => write!(f, "tls:{address}"),
            Self::Clear { address } => write!(f, "tcp:{address}"),
        }
    }
}

/// Longest path of a Unix socket (`sun_path` without its zero byte).
const LONGEST_SOCKET_PATH: usize = 107;

/// The listeners that could be read.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) mesh: Option<ListenerConfig>,
    pub(super) public: Option<ListenerConfig>,
    pub(super) observe: Option<ListenerConfig>,
    pub(super) admin: Option<ListenerConfig>,
}

impl Listeners {
    pub(super) fn iter(&self) -> impl Iterator<Item = &ListenerConfig> {
        [&self.mesh, &self.public, &self.observe, &self.admin]
            .into_iter()
            .flatten()
    }
}

pub(super) fn check(listen: raw::Listen, folder: &Path, problems: &mut Problems) -> Listeners {
    let raw::Listen {
        mesh,
        public,
        observe,
        admin,
    } = listen;
    if mesh.is_none() {
        problems.missing(
            "listen.mesh",
            "add [listen.mesh] with unix = \"/run/kerbridge/mesh.sock\"",
        );
    }
    let mut one = |name, listener: Option<raw::Listener>| {
        listener.and_then(|listener| check_one(name, listener, folder, problems))
    };
    let listeners = Listeners {
        mesh: one(ListenerName::Mesh, mesh),
        public: one(ListenerName::Public, public),
        observe: one(ListenerName::Observe, observe),
        admin: one(ListenerName::Admin, admin),
    };
    for (index, listener) in listeners.iter().enumerate() {
        if let Some(other) = listeners
            .iter()
            .take(index)
            .find(|other| same_place(&other.address, &listener.address))
        {
            problems.note(
                format!("listen.{}", listener.name),
                format!("is at the same address as listen.{}", other.name),
                "give each its own",
            );
        }
    }
    listeners
}

fn same_place(first: &Address, second: &Address) -> bool {
    let socket = |address: &Address| match address {
        Address::Unix { .. } => None,
        Address::Tls { address, .. } | Address::Clear { address } => (address.port() != 0).then_some(*address),
    };
    match (first, second) {
        (Address::Unix { path: first, .. }, Address::Unix { path: second, .. }) => first == second,
        (first, second) => socket(first).is_some() && socket(first) == socket(second),
    }
}

fn check_one(
    name: ListenerName,
    listener: raw::Listener,
    folder: &Path,
    problems: &mut Problems,
) -> Option<ListenerConfig> {
    let field = format!("listen.{name}");
    let raw::Listener {
        unix,
        mode,
        tcp,
        certificate,
        private_key,
        client_ca,
        clear_text,
        client_name,
        client_names,
    } = listener;
    if name == ListenerName::Admin && (unix.is_none() || tcp.is_some() || mode.is_some()) {
        problems.note(
            &field,
            "is a Unix socket of mode 0600 and nothing else: whoever may open it may do everything",
            "write unix = \"/run/kerbridge/admin.sock\" alone",
        );
        return None;
    }
    let client_name = check_client_name(name, client_name, problems);
    let over_tls = tcp.is_some() && clear_text != Some(true);
    let client_names = client_names::check(name, client_names, over_tls, problems);
    let tls = Tls {
        certificate: certificate.map(|path| folder.join(path)),
        private_key: private_key.map(|path| folder.join(path)),
        client_ca: client_ca.map(|path| folder.join(path)),
        // Where they are wrong nothing is served.
        client_names: client_names.unwrap_or(ClientNames::All),
    };
    let address = match (unix, tcp) {
        (Some(path), None) => {
            if tls.any() || clear_text.is_some() {
                problems.note(
                    &field,
                    "has fields of TCP beside unix",
                    "remove certificate, private_key, client_ca and clear_text",
                );
            }
            let mode = match name {
                ListenerName::Admin => Some("0600"),
                ListenerName::Mesh | ListenerName::Public | ListenerName::Observe => mode.as_deref(),
            };
            check_unix(&field, folder.join(path), mode, problems)
        }
        (None, Some(tcp)) => {
            if mode.is_some() {
                problems.note(format!("{field}.mode"), "is for a Unix socket only", "remove it");
            }
            check_tcp(name, &field, &tcp, tls, clear_text == Some(true), problems)
        }
        (Some(_), Some(_)) => {
            problems.note(&field, "has both unix and tcp", "keep one of the two");
            None
        }
        (None, None) => {
            problems.note(&field, "has neither unix nor tcp", "add one of the two");
            None
        }
    };
    Some(ListenerConfig {
        name,
        address: address?,
        client_name: client_name?,
    })
}

fn check_client_name(listener: ListenerName, given: Option<String>, problems: &mut Problems) -> Option<String> {
    match (given, listener) {
        (None, _) => Some(listener.as_str().to_owned()),
        (Some(name), ListenerName::Mesh) => match client_names::unfit_in_policy(&name) {
            None => Some(name),
            Some(why) => {
                problems.note(
                    "listen.mesh.client_name",
                    format!("{name:?} {why}"),
                    "choose another name: 1 to 128 visible ASCII characters",
                );
                None
            }
        },
        (Some(name), ListenerName::Public | ListenerName::Observe | ListenerName::Admin) => {
            problems.note(
                format!("listen.{listener}.client_name"),
                format!("{name:?} cannot be a client's name here"),
                "only listen.mesh has it",
            );
            None
        }
    }
}

/// Whether a name may stand as `client_id`: 1 to 128 visible ASCII characters.
pub(crate) fn is_client_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_unix(field: &str, path: PathBuf, mode: Option<&str>, problems: &mut Problems) -> Option<Address> {
    let mode = match mode {
        None => Some(0o660),
        Some(text) => {
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
            if mode.is_none() {
                problems.note(
                    format!("{field}.mode"),
                    format!("{text:?} is no mode for a socket"),
                    "write octal digits, such as \"0660\"",
                );
            }
            mode
        }
    };
    let field = format!("{field}.unix");
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        problems.note(
            field,
            format!("{} is longer than {LONGEST_SOCKET_PATH} bytes", path.display()),
            "choose a shorter path",
        );
        return None;
    }
    if !parent.is_dir() {
        problems.note(
            field,
            format!("{} is no folder", parent.display()),
            "make it, owned by the broker's user",
        );
        return None;
    }
    Some(Address::Unix { path, mode: mode? })
}

fn check_tcp(
    name: ListenerName,
    field: &str,
    tcp: &str,
    tls: Tls,
    clear_text: bool,
    problems: &mut Problems,
) -> Option<Address> {
    let address: Option<SocketAddr> = tcp.parse().ok();
    if address.is_none() {
        problems.note(
            format!("{field}.tcp"),
            format!("{tcp:?} is no address with a port"),
            "write an IP address and a port, such as \"127.0.0.1:8443\" or \"[::]:8443\"",
        );
    }
    if clear_text {
        if tls.any() {
            problems.note(field, "has clear_text beside certificates", "keep one of the two");
            return None;
        }
        return match address {
            Some(address) if address.ip().is_loopback() => Some(Address::Clear { address }),
            Some(address) => {
                problems.note(
                    format!("{field}.clear_text"),
                    format!("{address} is not loopback, and tickets and tokens would pass in the clear"),
                    "use certificate and private_key, or an address in 127.0.0.0/8 or ::1",
                );
                None
            }
            None => None,
        };
    }
    let server = tls::check(name, tls, problems);
    Some(Address::Tls {
        address: address?,
        server: Arc::new(server?),
    })
}
