//! Asks a server one question over TLS, within bounds, and knows which certificate it showed. No redirect is followed, no proxy is
//! asked.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper_util::rt::TokioIo;
use kerbridge_wire::exchange::{FORM, JSON};
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::trouble::{Kind, Trouble};
use super::trust;

/// Longest wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes: a token has four KiB.
const LARGEST: usize = 128 * 1024;

/// Who connects.
pub(super) struct Https {
    runtime: Runtime,
    tls: TlsConnector,
}

/// A connection for one question.
pub(super) struct Connection<'h> {
    runtime: &'h Runtime,
    sender: SendRequest<Full<Bytes>>,
    to: Address,
    certificate: Vec<u8>,
}

/// What is asked.
pub(super) enum Question<'q> {
    /// Only whether it may be had, without a body.
    Head,
    Get,
    /// A form, and whoever asks says who they are by a token.
    Post {
        form: String,
        bearer: Option<&'q str>,
    },
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) challenges: Vec<String>,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Https {
    /// Who takes certificates of the authorities in a file, or of this machine.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, Trouble> {
        let tls = TlsConnector::from(trust::client(ca)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Trouble::new(
                Kind::Unreachable,
                format!("no connection can be made: {error}"),
                "raise the limits of this process",
            )
        })?;
        Ok(Self { runtime, tls })
    }

    /// Connects, and believes the server's certificate.
    pub(super) fn connect(&self, to: &Address) -> Result<Connection<'_>, Trouble> {
        let opened = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.open(to)).await });
        let (sender, certificate) = opened.unwrap_or_else(|_| Err(unreachable(to, "no answer in time")))?;
        Ok(Connection {
            runtime: &self.runtime,
            sender,
            to: to.clone(),
            certificate,
        })
    }

    async fn open(&self, to: &Address) -> Result<(SendRequest<Full<Bytes>>, Vec<u8>), Trouble> {
        let name = ServerName::try_from(to.host().to_owned()).map_err(|error| unreachable(to, &error.to_string()))?;
        let stream = TcpStream::connect((to.host(), to.port())).await;
        let stream = stream.map_err(|error| unreachable(to, &error.to_string()))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|error| not_trusted(to, &error))?;
        let (_, tls) = stream.get_ref();
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|leaf| leaf.to_vec()).unwrap_or_default();
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| unreachable(to, &error.to_string()))?;
        // It ends with the runtime, or when the answer is there.
        drop(tokio::spawn(connection));
        Ok((sender, certificate))
    }
}

impl Connection<'_> {
    /// The certificate that the server showed and TLS believed, in DER.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Asks at the path of the address.
    pub(super) fn ask(mut self, question: &Question<'_>) -> Result<Answer, Trouble> {
        let to = self.to.clone();
        let runtime = self.runtime;
        let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.answer(question)).await });
        asked.unwrap_or_else(|_| Err(unreachable(&to, "no answer in time")))
    }

    async fn answer(&mut self, question: &Question<'_>) -> Result<Answer, Trouble> {
        let to = &self.to;
        let request = Request::builder()
            .uri(to.path())
            .header(HOST, to.authority())
            .header(ACCEPT, JSON);
        let request = match question {
            Question::Head => request.method("HEAD").body(Full::default()),
            Question::Get => request.body(Full::default()),
            Question::Post { form, bearer } => {
                let request = request.method("POST").header(CONTENT_TYPE, FORM);
                let request = match bearer {
                    Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
                    None => request,
                };
                request.body(Full::from(form.clone()))
            }
        };
        let request = request.map_err(|error| unreachable(to, &error.to_string()))?;
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|error| unreachable(to, &error.to_string()))?;
        let texts = |name| {
            let values = response.headers().get_all(name).iter();
            values
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let (challenges, retry_after) = (texts(WWW_AUTHENTICATE), texts(RETRY_AFTER).into_iter().next());
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| unreachable(to, &format!("the answer cannot be read: {error}")))?;
        Ok(Answer {
            status,
            challenges,
            retry_after,
            body: body.to_bytes().to_vec(),
        })
    }
}

fn unreachable(to: &Address, why: &str) -> Trouble {
    Trouble::new(
        Kind::Unreachable,
        format!("https://{} cannot be reached: {why}", to.authority()),
        "check the address, and that it can be reached from here; no proxy is asked",
    )
}

fn not_trusted(to: &Address, error: &io::Error) -> Trouble {
    let refused = |why: &str, remedy: &str| {
        Trouble::new(
            Kind::CertificateRefused,
            format!("https://{} is not trusted: {why}", to.authority()),
            remedy,
        )
    };
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return match inner {
            Some(error) => refused(&error.to_string(), "check that the port speaks TLS"),
            None => unreachable(to, &error.to_string()),
        };
    };
    // Another authority of the same name is told by its signature alone.
    if matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        refused(
            "its certificate is of an authority that is not known here",
            "name the authority's file with --cacert",
        )
    } else if matches!(
        why,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        refused(
            "its certificate is for other names",
            "use a name that the certificate has, or give the server one for this name",
        )
    } else if matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        refused("its certificate has ended", "have the server's certificate renewed")
    } else {
        refused(&why.to_string(), "have the server's certificate mended")
    }
}

/// The value as it stands in a form (WHATWG URL §5.2, more escaped than need be).
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_each_byte_as_it_is() {
        let text = form(&[("a", "x y&=+%\u{e6}"), ("b", "")]);
        assert_eq!(text, "a=x%20y%26%3D%2B%25%C3%A6&b=");
    }

    #[test]
    fn each_fault_of_a_certificate_has_its_own_remedy() {
        let to = Address::parse("https://broker.example.com").unwrap();
        for (why, problem, remedy) in [
            (CertificateError::UnknownIssuer, "authority", "--cacert"),
            (CertificateError::NotValidForName, "other names", "use a name"),
            (CertificateError::Expired, "has ended", "renewed"),
            (CertificateError::Revoked, "Revoked", "mended"),
        ] {
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            let trouble = not_trusted(&to, &error);
            assert_eq!(trouble.kind, Kind::CertificateRefused);
            assert!(trouble.problem.contains(problem), "{trouble}");
            assert!(trouble.remedy.contains(remedy), "{trouble}");
        }
        let no_tls = io::Error::other(rustls::Error::DecryptError);
        assert!(not_trusted(&to, &no_tls).remedy.contains("speaks TLS"));
        assert_eq!(
            not_trusted(&to, &io::ErrorKind::UnexpectedEof.into()).kind,
            Kind::Unreachable
        );
    }
}
