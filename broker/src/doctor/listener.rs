//! Compares the certificates that clients bind their tickets to with those that Envoy really shows.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use kerbridge_wire::Reason;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::address;
use super::finding::{Finding, Remedy};
use crate::channel_bindings::{BindingMode, Channel, ChannelBindingRules, bindings_of};
use crate::config::ListenerName;
use crate::time::UnixTime;

const CHECK: &str = "channel_bindings";
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at every name of the configuration, at Envoy's listener.
pub fn look(rules: &ChannelBindingRules, listener: Option<&str>) -> Vec<Finding> {
    let mode = match rules.mode() {
        BindingMode::Off => {
            let off = Finding::good(
                CHECK,
                "mode",
                "off: a stolen ticket can be used over another TLS connection",
            );
            let unasked = "--envoy-listener compares certificates, and kerberos.channel_bindings.mode is \"off\"";
            let unasked = listener.map(|listener| Finding::skipped(CHECK, listener, unasked));
            return std::iter::once(off).chain(unasked).collect();
        }
        BindingMode::Allow => "allow",
        BindingMode::Require => "require",
    };
    let Some(listener) = listener else {
        return vec![Finding::skipped(
            CHECK,
            "mode",
            format!("{mode}; name Envoy's TLS listener with --envoy-listener HOST:PORT to compare its certificates"),
        )];
    };
    if let Some(finding) = address::misread(CHECK, "--envoy-listener", listener) {
        return vec![finding];
    }
    rules
        .server_names()
        .map(|name| match name.as_host() {
            Some(host) => compare(rules, host, listener),
            None => Finding::skipped(
                CHECK,
                name.to_string(),
                "a name with a star is shown to nobody as it stands",
            ),
        })
        .collect()
}

fn compare(rules: &ChannelBindingRules, host: &str, listener: &str) -> Finding {
    let shown = match certificate_shown(host, listener) {
        Ok(shown) => shown,
        Err(error) => {
            return Finding::gap(
                CHECK,
                host,
                format!("{listener} cannot be asked for its certificate: {error}"),
            )
            .mended_by([Remedy::any(format!(
                "openssl s_client -connect {listener} -servername {host} </dev/null: --envoy-listener is where Envoy's TLS \
                 listener is reached"
            ))]);
        }
    };
    let expected = rules.expected(&Channel {
        listener: ListenerName::Mesh,
        server_name: Some(host.to_owned()),
        // Long after any overlap, so that only what is in the files now counts.
        at: UnixTime::from_seconds(u64::MAX),
    });
    match bindings_of(&shown) {
        Ok(bindings) if expected.any_of.contains(&bindings) => {
            Finding::good(CHECK, host, "Envoy shows the certificate that clients are expected to bind to")
        }
        Ok(_) => Finding::bad(
            CHECK,
            host,
            Reason::ChannelBindingMismatch,
            "Envoy shows another certificate than the file of the configuration has",
        )
        .mended_by([
            Remedy::any(format!("openssl s_client -connect {listener} -servername {host} </dev/null | openssl x509 -noout -fingerprint -sha256")),
            Remedy::any("name the file that Envoy reads in [[kerberos.channel_bindings.certificate]], or copy it anew"),
        ]),
        Err(error) => Finding::bad(
            CHECK,
            host,
            Reason::ChannelBindingMismatch,
            format!("no client can bind to the certificate that Envoy shows: {error}"),
        ),
    }
}

fn certificate_shown(host: &str, listener: &str) -> io::Result<Vec<u8>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whatever(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let address = listener
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let certificates = connection.peer_certificates().unwrap_or_default();
    certificates
        .first()
        .map(|leaf| leaf.to_vec())
        .ok_or_else(|| io::Error::other("it shows none"))
}

/// Takes any certificate: it is looked at, and nothing is ever sent over its connection.
#[derive(Debug)]
struct Whatever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whatever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: TlsTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
