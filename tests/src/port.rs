//! Names a free loopback port for a process that cannot be told to choose one itself.
//!
//! The port is read from a socket that is closed again, so another process may take it before its user binds it.
//! A process that can bind port 0 and report the result (Envoy's listeners can) needs none of this. The others are
//! started in a loop: take a port, start, and when the log says that the address is in use, take another one. Three
//! rounds are enough, since the kernel hands out ephemeral ports at random from tens of thousands.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::error::HarnessError;

/// A TCP port that was free on 127.0.0.1 a moment ago.
///
/// # Errors
///
/// [`HarnessError::Io`] when the machine has none left.
pub fn free_tcp() -> Result<u16, HarnessError> {
    free_tcp_on(Ipv4Addr::LOCALHOST)
}

/// A TCP port that was free on this address of 127.0.0.0/8 a moment ago.
///
/// # Errors
///
/// [`HarnessError::Io`] when there is none left or the address is not ours.
pub fn free_tcp_on(address: Ipv4Addr) -> Result<u16, HarnessError> {
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .map(|bound| bound.port())
        .map_err(|source| HarnessError::io(format!("find a free TCP port on {address}"), source))
}

/// A UDP port that was free on 127.0.0.1 a moment ago.
///
/// # Errors
///
/// [`HarnessError::Io`] when the machine has none left.
pub fn free_udp() -> Result<u16, HarnessError> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map(|bound| bound.port())
        .map_err(|source| HarnessError::io("find a free UDP port", source))
}

/// A port that was free a moment ago on 127.0.0.1 for TCP and UDP both, as a KDC wants it.
///
/// # Errors
///
/// [`HarnessError::Io`] when twenty attempts found none.
pub fn free_tcp_and_udp() -> Result<u16, HarnessError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _attempt in 0..20 {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
        match held {
            Ok((_listener, address)) => {
                match UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))) {
                    Ok(_socket) => return Ok(address.port()),
                    Err(source) => last = source,
                }
            }
            Err(source) => last = source,
        }
    }
    Err(HarnessError::io("find a port that is free for TCP and UDP", last))
}
