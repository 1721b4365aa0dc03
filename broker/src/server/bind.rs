//! Decides whether an address can be had, and takes it before the broker says that it listens.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Address, ListenerConfig, ListenerName, TlsServer};
use crate::problem::Problem;
use rustix::fs::{Access, access};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// An address that is taken. A Unix socket is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    pub(super) name: ListenerName,
    pub(super) client_name: String,
    pub(super) socket: Socket,
}

#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener, SocketFile),
    Tls(TcpListener, Arc<TlsServer>),
    Clear(TcpListener),
}

/// The file of a Unix socket, known by its inode: another broker may have put its own there since.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            // It may be gone meanwhile; there is nothing else to do about it at the end of the process.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Connections that may wait to be accepted; the system has a bound of its own.
const BACKLOG: i32 = 1024;

/// Looks whether the address of a listener can be had, and takes nothing.
pub fn look(config: &ListenerConfig) -> Result<(), Problem> {
    match &config.address {
        Address::Unix { path, .. } => look_unix(config.name, path).map(drop),
        Address::Tls { address, .. } | Address::Clear { address } => {
            look_tcp(*address).map_err(|error| tcp_problem(config.name, *address, &error))
        }
    }
}

/// Takes the address of a listener.
pub fn bind(config: &ListenerConfig) -> Result<Bound, Problem> {
    let socket = match &config.address {
        Address::Unix { path, mode } => bind_unix(config.name, path, *mode)?,
        Address::Tls { address, server } => Socket::Tls(bind_tcp(config.name, *address)?, Arc::clone(server)),
        Address::Clear { address } => Socket::Clear(bind_tcp(config.name, *address)?),
    };
    Ok(Bound {
        name: config.name,
        client_name: config.client_name.clone(),
        socket,
    })
}

fn bind_tcp(name: ListenerName, address: SocketAddr) -> Result<TcpListener, Problem> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| tcp_problem(name, address, &error))
}

/// Binds as [`TcpListener::bind`] does, and goes without having listened.
fn look_tcp(address: SocketAddr) -> io::Result<()> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(rustix::net::bind(&socket, &address)?)
}

fn tcp_problem(name: ListenerName, address: SocketAddr, error: &io::Error) -> Problem {
    let remedies = [
        (
            io::ErrorKind::AddrInUse,
            "stop what listens there, or choose another port",
        ),
        (io::ErrorKind::AddrNotAvailable, "choose an address of this machine"),
        (
            io::ErrorKind::PermissionDenied,
            "choose a port from 1024 on, or give CAP_NET_BIND_SERVICE",
        ),
    ];
    let known = remedies.iter().find(|(kind, _)| *kind == error.kind());
    let remedy = known.map_or("choose another address", |(_, remedy)| remedy);
    Problem {
        field: format!("listen.{name}.tcp"),
        problem: format!("{address}: {}", plain(error)),
        remedy: remedy.into(),
    }
}

fn unix_problem(name: ListenerName, path: &Path, problem: &str, remedy: &str) -> Problem {
    Problem {
        field: format!("listen.{name}.unix"),
        problem: format!("{}: {problem}", path.display()),
        remedy: remedy.into(),
    }
}

const FOLDER_REMEDY: &str = "let the broker's user write to its folder";

/// Looks whether the path is free, or holds a socket that a dead process left: then `true`.
fn look_unix(name: ListenerName, path: &Path) -> Result<bool, Problem> {
    let problem = |problem: &str, remedy: &str| unix_problem(name, path, problem, remedy);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| problem(&plain(&error.into()), FOLDER_REMEDY))?;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(false);
    };
    if !metadata.file_type().is_socket() {
        return Err(problem(
            "something else than a socket is there",
            "move it away, or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Ok(_) => Err(problem(
            "somebody answers there",
            "stop the other broker, or choose another path",
        )),
        Err(error) => Err(problem(&plain(&error), "see who listens there, or choose another path")),
    }
}

fn bind_unix(name: ListenerName, path: &Path, mode: u32) -> Result<Socket, Problem> {
    if look_unix(name, path)? {
        fs::remove_file(path).map_err(|error| {
            unix_problem(
                name,
                path,
                &format!("a left-over socket: {}", plain(&error)),
                "remove it",
            )
        })?;
    }
    let listener = listen_unix(path, mode).map_err(|error| unix_problem(name, path, &plain(&error), FOLDER_REMEDY))?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path),
    };
    Ok(Socket::Unix(listener, file))
}

/// Nobody can connect before `listen`, so nobody connects before the permission bits are set.
fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// The system's text without the number behind it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
