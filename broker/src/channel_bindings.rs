//! Decides which TLS channels a client's ticket may be bound to, and whether it must be (RFC 5929, RFC 4121 §4.1.1).
//!
//! The type is `tls-server-end-point`, the hash of the server's certificate: the only one that can be known behind the proxy
//! that ends TLS (RFC 9266's `tls-exporter` belongs to the connection itself).

mod certificate_file;
mod end_point;
mod own_certificate;
mod server_name;

use std::path::PathBuf;

use kerbridge_gss::ChannelBindings;

pub use certificate_file::CertificateFile;
pub(crate) use end_point::end_point_hash;
pub use end_point::{NoEndPoint, bindings_of};
pub use own_certificate::OwnCertificate;
pub use server_name::ServerNamePattern;

use crate::config::ListenerName;
use crate::time::UnixTime;

/// How much is asked of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingMode {
    /// Bindings are not looked at.
    Off,
    /// A client that binds must be right; one that does not is taken.
    Allow,
    /// Every client must bind, and be right.
    Require,
}

impl BindingMode {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Allow => "allow",
            Self::Require => "require",
        }
    }
}

/// The TLS channel that a request came over, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Where the request came in.
    pub listener: ListenerName,
    /// The client's server name indication: what the mesh says of the client's connection, or that of `public` itself.
    pub server_name: Option<String>,
    /// When the request came.
    pub at: UnixTime,
}

/// What a ticket may be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether it must be bound.
    pub required: bool,
    /// Any of these; where there is none, bindings are not looked at.
    pub any_of: Vec<ChannelBindings>,
}

/// The certificates of the TLS listeners in front, by server name.
#[derive(Debug)]
pub struct ChannelBindingRules {
    mode: BindingMode,
    certificates: Vec<ListenerCertificate>,
    /// To the broker's own certificate, where it ends TLS on `public`.
    public: Option<OwnCertificate>,
}

/// One certificate file and the server names that it is shown to.
#[derive(Debug)]
pub struct ListenerCertificate {
    names: Vec<ServerNamePattern>,
    file: CertificateFile,
}

impl ListenerCertificate {
    /// Reads the leaf certificate of a PEM file, or says what is wrong with it. A replaced one counts for `overlap` seconds
    /// longer.
    pub fn open(names: Vec<ServerNamePattern>, file: PathBuf, overlap: u64) -> Result<Self, String> {
        CertificateFile::open(file, overlap).map(|file| Self { names, file })
    }

    fn fits(&self, server_name: Option<&str>) -> Option<usize> {
        self.names.iter().filter_map(|name| name.fits(server_name)).max()
    }
}

impl ChannelBindingRules {
    /// Rules that look at no bindings.
    pub const fn off() -> Self {
        Self::new(BindingMode::Off, Vec::new(), None)
    }

    /// Rules with these certificates; `public` is the broker's own, where it ends TLS itself.
    pub const fn new(
        mode: BindingMode,
        certificates: Vec<ListenerCertificate>,
        public: Option<OwnCertificate>,
    ) -> Self {
        Self {
            mode,
            certificates,
            public,
        }
    }

    /// The names that certificates are shown to, each as often as it is written.
    pub fn server_names(&self) -> impl Iterator<Item = &ServerNamePattern> {
        self.certificates.iter().flat_map(|certificate| &certificate.names)
    }

    /// How much is asked of a client.
    pub const fn mode(&self) -> BindingMode {
        self.mode
    }

    /// What a ticket that came over this channel may be bound to. The files of its certificates are looked at first, so that
    /// what Envoy has read from them is known. Blocks as a file system does.
    pub fn expected(&self, channel: &Channel) -> Expected {
        let Channel {
            listener,
            server_name,
            at,
        } = channel;
        let mut any_of = Vec::new();
        let required = match self.mode {
            BindingMode::Off => {
                return Expected {
                    required: false,
                    any_of,
                };
            }
            BindingMode::Allow => false,
            BindingMode::Require => true,
        };
        if let (ListenerName::Public, Some(own)) = (*listener, &self.public) {
            own.bindings(*at, &mut any_of);
        }
        let fitting = |certificate: &ListenerCertificate| certificate.fits(server_name.as_deref());
        let closest = self.certificates.iter().filter_map(fitting).max();
        for certificate in &self.certificates {
            if closest.is_some() && fitting(certificate) == closest {
                certificate.file.bindings(*at, &mut any_of);
            }
        }
        Expected { required, any_of }
    }

    /// Looks at all certificate files, and says how many are bad: for those the last good content stays in force.
    pub fn look(&self, now: UnixTime) -> usize {
        match self.mode {
            BindingMode::Off => 0,
            BindingMode::Allow | BindingMode::Require => {
                let looked = self.certificates.iter().filter(|one| !one.file.look(now));
                looked.count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn certificate(folder: &Path, name: &str, server_names: &[&str]) -> (ListenerCertificate, ChannelBindings) {
        let made = CertificateParams::new([name.to_owned()]).unwrap();
        let made = made.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, made.pem()).unwrap();
        let names = server_names.iter().map(|name| ServerNamePattern::parse(name).unwrap());
        let opened = ListenerCertificate::open(names.collect(), path, 0).unwrap();
        (opened, bindings_of(made.der()).unwrap())
    }

    fn own(folder: &Path, name: &str) -> OwnCertificate {
        let shown = CertificateDer::from_pem_file(folder.join(name)).unwrap();
        OwnCertificate::open(move || shown.clone(), 0).unwrap()
    }

    fn channel(listener: ListenerName, server_name: Option<&str>) -> Channel {
        Channel {
            listener,
            server_name: server_name.map(str::to_owned),
            at: UnixTime::from_seconds(1000),
        }
    }

    #[test]
    fn the_closest_name_chooses_and_two_of_the_same_both_count() {
        let folder = tempfile::tempdir().unwrap();
        let (exact, of_exact) = certificate(folder.path(), "exact", &["other.test", "api.example.com"]);
        let (again, of_again) = certificate(folder.path(), "again", &["API.example.com"]);
        let (wild, of_wild) = certificate(folder.path(), "wild", &["*.example.com"]);
        let rules = ChannelBindingRules::new(BindingMode::Require, vec![wild, exact, again], None);
        for (name, expected) in [
            (Some("api.example.com"), vec![of_exact, of_again]),
            (Some("b.example.com"), vec![of_wild]),
            (Some("example.org"), Vec::new()),
            (None, Vec::new()),
        ] {
            let found = rules.expected(&channel(ListenerName::Mesh, name));
            assert!(found.required);
            assert_eq!(found.any_of, expected, "{name:?}");
        }
    }

    #[test]
    fn the_brokers_own_certificate_counts_where_it_ends_tls_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (front, of_front) = certificate(folder.path(), "front", &["*"]);
        let (_, of_own) = certificate(folder.path(), "own", &["*"]);
        let public = own(folder.path(), "own");
        let rules = ChannelBindingRules::new(BindingMode::Allow, vec![front], Some(public));
        let expected = |listener| rules.expected(&channel(listener, None));
        assert_eq!(expected(ListenerName::Mesh).any_of, std::slice::from_ref(&of_front));
        assert_eq!(expected(ListenerName::Public).any_of, [of_own, of_front]);
        assert!(!expected(ListenerName::Public).required);
    }

    #[test]
    fn where_it_is_off_no_file_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let (one, _) = certificate(folder.path(), "one", &["*"]);
        let public = own(folder.path(), "one");
        let rules = ChannelBindingRules::new(BindingMode::Off, vec![one], Some(public));
        drop(folder);
        let nothing = Expected {
            required: false,
            any_of: Vec::new(),
        };
        assert_eq!(rules.expected(&channel(ListenerName::Public, None)), nothing);
        assert_eq!(rules.look(UnixTime::from_seconds(1000)), 0);
    }
}
