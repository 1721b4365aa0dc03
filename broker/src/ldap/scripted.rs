//! A directory that says exactly what a test wants it to, and counts its connections.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::connection::read;
pub(crate) use super::message::said;
use super::{Bind, Place, Security, Server};
use crate::negotiate::der::{Der, INTEGER, SEQUENCE};

/// A request, as the script sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Which request on its connection, from 0: the bind.
    pub(crate) request: usize,
    /// Its number, which the answer must have.
    pub(crate) number: u32,
}

/// What the server does.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// It says this and waits for more.
    Say(Vec<u8>),
    /// It says this and closes.
    End(Vec<u8>),
}

/// A server that runs as long as the test.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    /// Takes the bind of each connection and answers all else by the script.
    pub(crate) async fn after_the_bind(script: impl Fn(Asked) -> Then + Send + Sync + 'static) -> Self {
        Self::serve(move |asked| match asked.request {
            0 => Then::Say(said::bound(asked.number, 0)),
            _ => script(asked),
        })
        .await
    }

    pub(crate) async fn serve(script: impl Fn(Asked) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let scripted = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::clone(&connections),
        };
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, Arc::clone(&script)));
            }
        });
        scripted
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The way to it, in clear text.
    pub(crate) fn server(&self) -> Server {
        server(self.port)
    }
}

/// A port of loopback, in clear text.
pub(crate) fn place(port: u16) -> Place {
    Place::Tcp {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port,
        security: Security::Clear,
    }
}

/// The way to a directory on loopback.
pub(crate) fn server(port: u16) -> Server {
    Server {
        places: vec![place(port)],
        bind: Bind::Simple {
            name: "CN=reader".to_owned(),
            password: Arc::new(Zeroizing::new("Correct-horse-7".to_owned())),
        },
    }
}

async fn converse(mut stream: TcpStream, script: Arc<impl Fn(Asked) -> Then>) {
    let mut request = 0_usize;
    while let Ok(bytes) = read(&mut stream).await {
        let asked = Asked {
            request,
            number: number(&bytes),
        };
        let (bytes, ends) = match script(asked) {
            Then::Say(bytes) => (bytes, false),
            Then::End(bytes) => (bytes, true),
        };
        if stream.write_all(&bytes).await.is_err() || ends {
            return;
        }
        request = request.saturating_add(1);
    }
}

fn number(message: &[u8]) -> u32 {
    let content = Der::new(message).only(SEQUENCE).unwrap();
    let octets = Der::new(content).expect(INTEGER).unwrap();
    octets.iter().fold(0, |number, &octet| (number << 8) | u32::from(octet))
}
