//! Sends a request with the real curl, Kerberos included, and keeps what went over the wire.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::canary;
use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};

/// curl's own limit for one request, in seconds; the harness waits a little longer.
const MAX_TIME: u64 = 40;

/// One request to be sent.
#[derive(Clone, Debug)]
pub struct Curl {
    url: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// curl's exit code; 0 where an HTTP response came, whatever its status.
    pub exit: i32,
    /// The status of the last response, 0 where none came.
    pub status: u16,
    /// `1.1` or `2`, of the last response.
    pub http_version: String,
    /// Header lines of the last response, in order, values as text with replacement characters.
    pub headers: Vec<(String, String)>,
    /// How many responses there were, the last included; 1xx count.
    pub responses: usize,
    /// The body of the last response.
    pub body: Vec<u8>,
    /// The request heads that were sent.
    pub sent: Vec<String>,
    /// What curl said on standard error.
    pub complaint: String,
    /// Version and cipher suite of the last TLS connection, where there was one.
    pub tls: Option<String>,
}

impl Curl {
    /// `GET url`, or POST where there is a body.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            args: Vec::new(),
            env: Vec::new(),
            body: None,
        }
    }

    /// Trusts this certificate authority.
    #[must_use]
    pub fn trusting(self, authority: &Path) -> Self {
        self.arg("--cacert").arg(authority)
    }

    /// Shows a Kerberos ticket, `--negotiate -u :`, with the client's `KRB5_CONFIG` and `KRB5CCNAME`.
    #[must_use]
    pub fn negotiate<N: Into<OsString>, V: Into<OsString>>(mut self, client: impl IntoIterator<Item = (N, V)>) -> Self {
        let client = client.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.env.extend(client);
        self.arg("--negotiate").arg("--user").arg(":")
    }

    /// Shows a token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(&format!("Authorization: Bearer {token}"))
    }

    /// Adds a header line, `Name: value`; the same name twice gives two lines.
    #[must_use]
    pub fn header(self, line: &str) -> Self {
        self.arg("--header").arg(line)
    }

    /// Chooses the method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        self.arg("--request").arg(method)
    }

    /// Sends a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Speaks HTTP/2 by ALPN instead of HTTP/1.1.
    #[must_use]
    pub fn http2(self) -> Self {
        self.arg("--http2")
    }

    /// Adds any other argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The command line as a person would type it: without the harness's own output options, and of each credential
    /// the first characters only, which all of its kind share.
    #[must_use]
    pub fn command_line(&self) -> String {
        let mut words = vec!["curl".to_owned()];
        words.extend(
            self.args
                .iter()
                .map(|arg| quote(&without_secret(&arg.to_string_lossy()))),
        );
        words.push(quote(&self.url));
        words.join(" ")
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], [`HarnessError::TimedOut`] or [`HarnessError::Io`]. A failed transfer is no
    /// error but an exit code.
    pub fn send(&self) -> Result<Answer, HarnessError> {
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for curl", source))?;
        let files = Files::of(&folder);
        let mut spawn = Spawn::new("curl", folder.path())
            // The user's own .curlrc and proxies are not part of the test.
            .args(["--disable", "--noproxy", "*", "--silent", "--show-error"])
            .args(["--max-time", &MAX_TIME.to_string()])
            .args(["--write-out", "\n%{http_code} %{http_version}\n"])
            .arg("--dump-header")
            .arg(&files.head)
            .arg("--output")
            .arg(&files.body)
            .arg("--trace-ascii")
            .arg(&files.trace);
        if !self.args.iter().any(|arg| arg == "--http2") {
            spawn = spawn.arg("--http1.1");
        }
        if let Some(body) = &self.body {
            std::fs::write(&files.upload, body).map_err(|source| HarnessError::io("write curl's body", source))?;
            let mut from = OsString::from("@");
            from.push(&files.upload);
            spawn = spawn.arg("--data-binary").arg(from);
        }
        let spawn = spawn
            .args(&self.args)
            .arg(&self.url)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut process = OwnedProcess::start(spawn)?;
        let status = process.wait_exit(Duration::from_secs(MAX_TIME.saturating_add(5)))?;
        let answer = files.answer(status.code().unwrap_or(-1), &process.log());
        self.watch(&answer)?;
        Ok(answer)
    }

    /// Notes the credentials that went and came, and looks for them where a refusal is told.
    fn watch(&self, answer: &Answer) -> Result<(), HarnessError> {
        canary::note_message(self.url.as_bytes());
        for arg in &self.args {
            canary::note_message(arg.as_encoded_bytes());
        }
        for head in &answer.sent {
            canary::note_message(head.as_bytes());
        }
        if answer.status >= 400 {
            canary::search(&format!("the body of a {}", answer.status), &answer.body)?;
        }
        for (name, value) in &answer.headers {
            canary::note_header(name.as_bytes(), value.as_bytes());
        }
        Ok(())
    }
}

struct Files {
    head: PathBuf,
    body: PathBuf,
    trace: PathBuf,
    upload: PathBuf,
}

impl Files {
    fn of(folder: &TempDir) -> Self {
        let path = |name| folder.path().join(name);
        Self {
            head: path("head"),
            body: path("body"),
            trace: path("trace"),
            upload: path("upload"),
        }
    }

    fn answer(&self, exit: i32, output: &str) -> Answer {
        // A file that curl did not come to write is an empty one.
        let read = |path| std::fs::read(path).unwrap_or_default();
        let (complaint, last) = output.trim_end().rsplit_once('\n').unwrap_or(("", output));
        let (status, http_version) = last.trim().split_once(' ').unwrap_or_default();
        let head = String::from_utf8_lossy(&read(&self.head)).replace("\r\n", "\n");
        let blocks: Vec<&str> = head.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
        let trace = String::from_utf8_lossy(&read(&self.trace)).into_owned();
        let lines = blocks.last().copied().unwrap_or_default().lines().skip(1);
        Answer {
            exit,
            status: status.parse().unwrap_or(0),
            http_version: http_version.to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            responses: blocks.len(),
            body: read(&self.body),
            tls: tls(&trace),
            sent: sent_heads(&trace),
            complaint: complaint.trim().to_owned(),
        }
    }
}

impl Answer {
    /// The value of the first header line of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The values of all header lines of this name.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let matching = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text with replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The Negotiate tokens that curl sent, one for each leg.
    #[must_use]
    pub fn negotiate_tokens(&self) -> Vec<String> {
        let lines = self.sent.iter().flat_map(|head| head.lines());
        lines
            .filter_map(|line| {
                line.strip_prefix("Authorization: Negotiate ")
                    .or_else(|| line.strip_prefix("authorization: Negotiate "))
            })
            .map(|token| token.trim().to_owned())
            .collect()
    }
}

/// What a `--trace-ascii` says of the last TLS connection.
fn tls(trace: &str) -> Option<String> {
    let lines = trace.lines().rev();
    let line = lines
        .filter_map(|line| line.strip_prefix("== Info: SSL connection using "))
        .next()?;
    Some(line.trim().to_owned())
}

/// Puts the sent heads of a `--trace-ascii` together again: curl breaks lines after 64 bytes and counts them in hex.
fn sent_heads(trace: &str) -> Vec<String> {
    let mut heads: Vec<String> = Vec::new();
    let mut inside = false;
    let mut expected = None;
    for line in trace.lines() {
        let data = line
            .split_once(": ")
            .and_then(|(offset, text)| Some((usize::from_str_radix(offset, 16).ok()?, text)));
        match data {
            Some((offset, text)) if inside => {
                if let Some(head) = heads.last_mut() {
                    if expected.is_some_and(|end| offset != end) {
                        head.push('\n');
                    }
                    head.push_str(text);
                }
                expected = Some(offset.saturating_add(text.len()));
            }
            Some(_) => {}
            None => {
                inside = line.starts_with("=> Send header");
                expected = None;
                if inside {
                    heads.push(String::new());
                }
            }
        }
    }
    heads
}

fn without_secret(argument: &str) -> String {
    let secret = argument
        .strip_prefix("Authorization: ")
        .and_then(|value| value.split_once(' '));
    match secret {
        Some((scheme, secret)) => {
            let start: String = secret.chars().take(8).collect();
            format!("Authorization: {scheme} {start}…")
        }
        None => argument.to_owned(),
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    #[test]
    fn a_long_header_is_put_together_again() {
        let upstream = Upstream::start().unwrap();
        let long = "x".repeat(700);
        let answer = Curl::new(format!("http://localhost:{}/a", upstream.port()))
            .header(&format!("Authorization: Negotiate {long}"))
            .header("x-short: 1")
            .send()
            .unwrap();
        assert_eq!(
            (answer.exit, answer.status, answer.http_version.as_str()),
            (0, 200, "1.1")
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["target"], "/a");
        assert_eq!(answer.negotiate_tokens(), [long]);
        assert!(
            answer.sent[0].starts_with("GET /a HTTP/1.1\nHost: localhost:"),
            "{}",
            answer.sent[0]
        );
    }

    #[test]
    fn a_command_line_shows_no_credential() {
        for scheme in ["Bearer", "Negotiate"] {
            let line = Curl::new("https://localhost/")
                .header(&format!("Authorization: {scheme} abcdefghijklmnop"))
                .command_line();
            assert_eq!(
                line,
                format!("curl --header 'Authorization: {scheme} abcdefgh…' https://localhost/")
            );
        }
    }

    #[test]
    fn a_refused_connection_is_an_exit_code() {
        let port = crate::port::free_tcp().unwrap();
        let answer = Curl::new(format!("http://127.0.0.1:{port}/")).send().unwrap();
        assert_eq!((answer.exit, answer.status, answer.responses), (7, 0, 0));
        assert!(answer.complaint.contains("curl: (7)"), "{}", answer.complaint);
    }
}
