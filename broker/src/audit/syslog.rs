//! Sends audit events to the system's log, each in one datagram.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::str::FromStr;

use crate::log::{LONGEST_WRITE, Sink};
use crate::problem::Problem;
use crate::time::Clock;
use crate::time::moment::Rfc3339;

/// How the system's log is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogRules {
    /// Its socket.
    pub socket: PathBuf,
    /// Under which facility.
    pub facility: Facility,
    /// In which form.
    pub form: SyslogForm,
}

/// Which part of the system an event is about (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

/// No facility has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFacility;

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogForm {
    /// That of RFC 5424.
    Rfc5424,
    /// That of syslog(3), without a time: whoever receives it on this machine knows when that was.
    Local,
}

/// By their names in syslog.conf.
const FACILITIES: [(&str, u8); 13] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("audit", 13),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// "Informational".
const SEVERITY: u8 = 6;

impl Facility {
    /// Security and authorization, for few eyes.
    pub const AUTHPRIV: Self = Self(10);

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FACILITIES.iter().map(|(name, _)| *name)
    }

    const fn priority(self) -> u8 {
        // At most 23 * 8 + 6.
        self.0.saturating_mul(8).saturating_add(SEVERITY)
    }
}

impl FromStr for Facility {
    type Err = UnknownFacility;

    fn from_str(name: &str) -> Result<Self, UnknownFacility> {
        let found = FACILITIES.iter().find(|(known, _)| *known == name);
        found.map(|(_, number)| Self(*number)).ok_or(UnknownFacility)
    }
}

impl fmt::Display for UnknownFacility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no facility has this name")
    }
}

impl std::error::Error for UnknownFacility {}

/// The system's log, while it answers.
#[derive(Debug)]
pub(super) struct Syslog {
    rules: SyslogRules,
    socket: Option<UnixDatagram>,
    host: String,
    process: u32,
}

impl Syslog {
    /// Connects to it.
    pub(super) fn connect(rules: &SyslogRules) -> Result<Self, Problem> {
        let socket = connect(rules).map_err(|error| Problem {
            field: "audit.socket".into(),
            problem: format!("{}: {error}", rules.socket.display()),
            remedy: "name the socket of the system's log, which takes datagrams, or write to = \"file\"".into(),
        })?;
        Ok(Self {
            rules: rules.clone(),
            socket: Some(socket),
            host: host(),
            process: std::process::id(),
        })
    }

    fn message(&self, line: &[u8]) -> Vec<u8> {
        let priority = self.rules.facility.priority();
        let Self { host, process, .. } = self;
        let mut message = match self.rules.form {
            SyslogForm::Rfc5424 => {
                let time = Rfc3339(Clock::System.now());
                format!("<{priority}>1 {time} {host} kerbridge {process} audit - ").into_bytes()
            }
            SyslogForm::Local => format!("<{priority}>kerbridge[{process}]: ").into_bytes(),
        };
        message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        message
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let message = self.message(line);
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.rules)?,
        };
        // One that failed is not used again: a log that was restarted listens on another socket of the same name.
        socket.send(&message)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Sink for Syslog {
    fn write(&mut self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        for (index, line) in lines.iter().enumerate() {
            if let Err(error) = self.send(line) {
                return (index, Err(error));
            }
        }
        (lines.len(), Ok(()))
    }
}

fn connect(rules: &SyslogRules) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(&rules.socket)?;
    // It waits where the other end's queue is full. What was not taken by then is an error, and sent again.
    socket.set_write_timeout(Some(LONGEST_WRITE))?;
    Ok(socket)
}

/// The machine's name, as far as it may stand in a message (RFC 5424 §6.2.4).
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let good = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if good { name } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn rules(folder: &Path, form: SyslogForm) -> SyslogRules {
        SyslogRules {
            socket: folder.join("log"),
            facility: Facility::AUTHPRIV,
            form,
        }
    }

    fn listen(folder: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(folder.join("log")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_event_is_one_message_of_rfc_5424() {
        let folder = tempfile::tempdir().unwrap();
        let socket = listen(folder.path());
        let mut syslog = Syslog::connect(&rules(folder.path(), SyslogForm::Rfc5424)).unwrap();
        let (written, outcome) = syslog.write(&[b"{\"a\":1}\n".to_vec(), b"{\"b\":2}\n".to_vec()]);
        outcome.unwrap();
        assert_eq!(written, 2);
        for json in ["{\"a\":1}", "{\"b\":2}"] {
            let message = received(&socket);
            let parts: Vec<&str> = message.splitn(8, ' ').collect();
            let process = std::process::id().to_string();
            assert_eq!(parts[0], "<86>1");
            assert!(parts[1].parse::<crate::time::moment::Moment>().is_ok(), "{message}");
            assert_eq!(parts[3..], ["kerbridge", &process, "audit", "-", json]);
        }
    }

    #[test]
    fn the_form_of_this_machine_has_neither_time_nor_host() {
        let folder = tempfile::tempdir().unwrap();
        let socket = listen(folder.path());
        let mut syslog = Syslog::connect(&rules(folder.path(), SyslogForm::Local)).unwrap();
        syslog.write(&[b"{}\n".to_vec()]).1.unwrap();
        assert_eq!(
            received(&socket),
            format!("<86>kerbridge[{}]: {{}}", std::process::id())
        );
    }

    #[test]
    fn a_log_that_was_restarted_is_found_again_and_nothing_is_sent_twice() {
        let folder = tempfile::tempdir().unwrap();
        let socket = listen(folder.path());
        let mut syslog = Syslog::connect(&rules(folder.path(), SyslogForm::Local)).unwrap();
        drop(socket);
        std::fs::remove_file(folder.path().join("log")).unwrap();
        let lines = [b"0\n".to_vec(), b"1\n".to_vec()];
        assert_eq!(syslog.write(&lines).0, 0);
        let socket = listen(folder.path());
        let (written, outcome) = syslog.write(&lines);
        outcome.unwrap();
        assert_eq!(written, 2);
        assert!(received(&socket).ends_with(": 0"));
        assert!(received(&socket).ends_with(": 1"));
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0]).is_err());
    }

    #[test]
    fn a_log_that_stands_still_is_an_error_in_time_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = listen(folder.path());
        let mut syslog = Syslog::connect(&rules(folder.path(), SyslogForm::Local)).unwrap();
        let (done, outcome) = std::sync::mpsc::channel();
        // More than any queue of datagrams has room for.
        std::thread::spawn(move || done.send(syslog.write(&vec![b"{}\n".to_vec(); 100_000])));
        let (written, outcome) = outcome.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(written < 100_000);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(socket);
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let problem = Syslog::connect(&rules(folder.path(), SyslogForm::Local))
            .unwrap_err()
            .to_string();
        assert!(
            problem.starts_with("audit.socket: ") && problem.contains("No such file"),
            "{problem}"
        );
    }
}
