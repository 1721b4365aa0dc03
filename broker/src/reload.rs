//! Looks once a second, off the path of requests, at files that may be replaced while the broker runs.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at something, and changes what is in use where it is to be changed.
pub type Look = Box<dyn Fn() + Send>;

/// Looks in the background until it is dropped: a file system that hangs must not hang a request.
#[derive(Debug)]
pub struct Reload {
    /// The thread ends when this is dropped; nothing is ever sent.
    _stop: Sender<Infallible>,
}

impl Reload {
    /// Looks at all of these every second.
    pub fn watch(looks: Vec<Look>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        // Nobody waits for its end: it uses nothing that the end of the process takes away.
        thread::Builder::new().name("reload".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                for look in &looks {
                    look();
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}
