//! Speaks HTTP/1.1 in bytes, so that a test can send what no library would and see what really came back.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::canary;

/// The largest head or body that is read, in bytes.
const LIMIT: usize = 64 * 1024 * 1024;

/// How long one read or write of [`Connection::tcp`] may take.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// The exchange failed, or the peer broke HTTP.
#[derive(Debug)]
pub enum HttpError {
    /// The connection failed.
    Io(io::Error),
    /// The peer closed before a whole response was there; holds what had come.
    Closed(Vec<u8>),
    /// The peer sent something that is not HTTP/1.1; holds a word on where.
    Malformed(&'static str),
    /// The peer sent more than 64 MiB.
    TooLarge,
    /// A page of statistics or a refusal of the broker's holds a credential; where in it.
    Leaked(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(source) => write!(f, "connection failed: {source}"),
            Self::Closed(so_far) => write!(f, "peer closed after {} bytes of a response", so_far.len()),
            Self::Malformed(place) => write!(f, "malformed {place}"),
            Self::TooLarge => f.write_str("response over 64 MiB"),
            Self::Leaked(place) => write!(f, "the answer holds a credential {place}"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<io::Error> for HttpError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// A request as bytes; nothing is checked, and only what was given is sent.
#[derive(Clone, Debug)]
pub struct Request {
    line: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request line with `Host: localhost` unless [`Request::without_host`] is used.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let line = format!("{method} {target} HTTP/1.1").into_bytes();
        Self {
            line,
            headers: vec![(b"host".to_vec(), b"localhost".to_vec())],
            body: Vec::new(),
        }
    }

    /// `GET target`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with a body and its `Content-Length`.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        let mut request = Self::new("POST", target).header("content-length", length);
        request.body = body;
        request
    }

    /// Adds a header line; the same name twice gives two lines.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Replaces the `Host` header.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self = self.without_host();
        self.headers.insert(0, (b"host".to_vec(), host.as_bytes().to_vec()));
        self
    }

    /// Drops the `Host` header.
    #[must_use]
    pub fn without_host(mut self) -> Self {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(b"host"));
        self
    }

    /// The bytes that go on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.line.clone();
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// A response as bytes.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines in the order of the wire, names as sent.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, after chunking was undone.
    pub body: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Response {
    /// The value of the first header line of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all header lines of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let wanted = name.as_bytes().to_vec();
        let matching = self
            .headers
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(&wanted));
        matching.map(|(_, value)| value.as_slice())
    }

    /// The value of the first header line of this name, as text with replacement characters.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.header(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn note_credentials(&self) {
        for (name, value) in &self.headers {
            canary::note_header(name, value);
        }
        // What the broker hands out. An echo of the upstream's has what was noted when it was sent.
        if self.header("content-type") == Some(b"application/json") {
            canary::note_message(&self.body);
        }
    }

    /// The body as text with replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection; requests on it follow each other.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl Connection<TcpStream> {
    /// Connects to a port of 127.0.0.1; one read or write may take 30 s.
    ///
    /// # Errors
    ///
    /// [`HttpError::Io`].
    pub fn tcp(port: u16) -> Result<Self, HttpError> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Speaks over any stream, a Unix socket or TLS for instance.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The stream itself, to set a time-out or to shut one side.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// [`HttpError::Io`].
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        canary::note_message(bytes);
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        Ok(())
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    ///
    /// Every [`HttpError`].
    pub fn exchange(&mut self, request: &Request) -> Result<Response, HttpError> {
        self.send_raw(&request.encode())?;
        let response = self.read_response_to(request.line.starts_with(b"HEAD "))?;
        let is_statistics = request.line.starts_with(b"GET /metrics ");
        let is_refusal = response.status >= 400 && request.line.starts_with(b"POST /oauth2/");
        let found = match (is_statistics, is_refusal) {
            (true, _) => canary::find(&response.body),
            (false, true) => canary::find_in_refusal(&response.body),
            (false, false) => None,
        };
        match found {
            Some(place) => Err(HttpError::Leaked(place)),
            None => Ok(response),
        }
    }

    /// Reads the next final response to anything but HEAD; 1xx ones before it are dropped, but 101 is final.
    ///
    /// # Errors
    ///
    /// Every [`HttpError`].
    pub fn read_response(&mut self) -> Result<Response, HttpError> {
        self.read_response_to(false)
    }

    fn read_response_to(&mut self, head: bool) -> Result<Response, HttpError> {
        loop {
            let (status, headers) = self.read_head()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut response = Response {
                status,
                headers,
                body: Vec::new(),
                trailers: Vec::new(),
            };
            if head || matches!(status, 101 | 204 | 304) {
                return Ok(response);
            }
            let chunked = response
                .header("transfer-encoding")
                .is_some_and(|v| v.eq_ignore_ascii_case(b"chunked"));
            let length = match response.header("content-length") {
                None => None,
                Some(value) => Some(parse(value, 10).ok_or(HttpError::Malformed("content-length"))?),
            };
            if chunked {
                (response.body, response.trailers) = self.read_chunks()?;
            } else if let Some(length) = length {
                response.body = self.take(length)?;
            } else {
                while self.fill()? {}
                response.body = std::mem::take(&mut self.buffer);
            }
            response.note_credentials();
            return Ok(response);
        }
    }

    fn read_head(&mut self) -> Result<(u16, Vec<Field>), HttpError> {
        let line = self.line()?;
        let status = line
            .strip_prefix(b"HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|digits| parse(digits, 10))
            .and_then(|status| u16::try_from(status).ok())
            .ok_or(HttpError::Malformed("status line"))?;
        Ok((status, self.fields()?))
    }

    pub(crate) fn fields(&mut self) -> Result<Vec<Field>, HttpError> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let mut parts = line.splitn(2, |byte| *byte == b':');
            match (parts.next(), parts.next()) {
                (Some(name), Some(value)) => fields.push((name.to_vec(), value.trim_ascii().to_vec())),
                _ => return Err(HttpError::Malformed("header line")),
            }
        }
    }

    pub(crate) fn read_chunks(&mut self) -> Result<(Vec<u8>, Vec<Field>), HttpError> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = parse(digits, 16).ok_or(HttpError::Malformed("chunk size"))?;
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            body.extend_from_slice(&self.take(size)?);
            if body.len() > LIMIT {
                return Err(HttpError::TooLarge);
            }
            if !self.line()?.is_empty() {
                return Err(HttpError::Malformed("chunk end"));
            }
        }
    }

    pub(crate) fn line(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut searched = 0_usize;
        loop {
            let found = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n');
            if let Some(position) = found {
                let mut line: Vec<u8> = self.buffer.drain(..=searched.saturating_add(position)).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.buffer.len();
            self.fill_some()?;
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<Vec<u8>, HttpError> {
        if length > LIMIT {
            return Err(HttpError::TooLarge);
        }
        while self.buffer.len() < length {
            self.fill_some()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill_some(&mut self) -> Result<(), HttpError> {
        if self.fill()? {
            Ok(())
        } else {
            Err(HttpError::Closed(std::mem::take(&mut self.buffer)))
        }
    }

    /// Reads once; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, HttpError> {
        let mut chunk = [0_u8; 16 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if self.buffer.len() > LIMIT {
            Err(HttpError::TooLarge)
        } else {
            Ok(count > 0)
        }
    }
}

pub(crate) type Field = (Vec<u8>, Vec<u8>);

pub(crate) fn parse(digits: &[u8], radix: u32) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), radix).ok()
}

/// One request on a new connection to a port of 127.0.0.1.
///
/// # Errors
///
/// Every [`HttpError`].
pub fn send(port: u16, request: &Request) -> Result<Response, HttpError> {
    Connection::tcp(port)?.exchange(request)
}

/// `GET target` on a new connection to a port of 127.0.0.1.
///
/// # Errors
///
/// Every [`HttpError`].
pub fn get(port: u16, target: &str) -> Result<Response, HttpError> {
    send(port, &Request::get(target))
}

#[cfg(test)]
mod tests;
