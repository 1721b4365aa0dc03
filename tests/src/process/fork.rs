//! Forks all children from one thread that lives as long as this process.

use std::process::{Child, Command};
use std::sync::{LazyLock, mpsc};

type ForkRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that forks: its end, and so every child's, is the end of this process.
static FORKER: LazyLock<mpsc::Sender<ForkRequest>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<ForkRequest>();
    std::thread::spawn(move || {
        for (mut command, reply) in requests {
            if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                // Nobody took the child, so nobody would end it; a failure to kill means that it ended by itself.
                drop(orphan.kill());
                drop(orphan.wait());
            }
        }
    });
    sender
});

/// Starts the child.
pub(super) fn fork(command: Command) -> std::io::Result<Child> {
    let gone = || std::io::Error::other("the forking thread is gone");
    let (reply, answer) = mpsc::channel();
    FORKER.send((command, reply)).map_err(|_closed| gone())?;
    answer.recv().map_err(|_closed| gone())?
}
