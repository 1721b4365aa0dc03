//! Keeps the binding to the certificate that the broker itself shows, and for a while to the one before: a connection
//! outlives it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use kerbridge_gss::ChannelBindings;
use rustls::pki_types::CertificateDer;

use super::end_point::{self, NoEndPoint};
use crate::time::UnixTime;

type Shown = dyn Fn() -> CertificateDer<'static> + Send + Sync;

/// The certificate of the broker's own TLS listener, which may be replaced while it serves.
pub struct OwnCertificate {
    shown: Box<Shown>,
    /// How long an earlier one still counts, in seconds.
    overlap: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    certificate: CertificateDer<'static>,
    /// Absent where nobody can bind to it.
    current: Option<ChannelBindings>,
    earlier: Option<(ChannelBindings, UnixTime)>,
}

impl OwnCertificate {
    /// Asks which certificate is shown, and refuses one that nobody can bind to. A replaced one counts for `overlap` seconds
    /// longer.
    pub fn open(
        shown: impl Fn() -> CertificateDer<'static> + Send + Sync + 'static,
        overlap: u64,
    ) -> Result<Self, NoEndPoint> {
        let certificate = shown();
        let current = Some(end_point::bindings_of(&certificate)?);
        Ok(Self {
            shown: Box::new(shown),
            overlap,
            seen: Mutex::new(Seen {
                certificate,
                current,
                earlier: None,
            }),
        })
    }

    /// The bindings to what is shown now, and to the one before it that still counts.
    pub(super) fn bindings(&self, now: UnixTime, into: &mut Vec<ChannelBindings>) {
        let certificate = (self.shown)();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if certificate != seen.certificate {
            let current = end_point::bindings_of(&certificate);
            if let Err(error) = &current {
                tracing::warn!(%error, "nobody can bind to the new certificate of public");
            }
            seen.certificate = certificate;
            let before = std::mem::replace(&mut seen.current, current.ok());
            seen.earlier = before.map(|before| (before, now.plus(self.overlap)));
        }
        seen.earlier = seen.earlier.take().filter(|(_, until)| now < *until);
        into.extend(seen.current.clone());
        into.extend(seen.earlier.iter().map(|(before, _)| before.clone()));
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate")
            .field("overlap", &self.overlap)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let made = CertificateParams::new(["api.test".to_owned()]).unwrap();
        let made = made.self_signed(&KeyPair::generate().unwrap()).unwrap();
        made.der().clone()
    }

    #[test]
    fn a_replaced_certificate_of_our_own_counts_until_the_overlap_has_passed() {
        let (first, second) = (certificate(), certificate());
        let shown = Arc::new(Mutex::new(first.clone()));
        let asked = Arc::clone(&shown);
        let own = OwnCertificate::open(move || asked.lock().unwrap().clone(), 60).unwrap();
        let bindings = |now| {
            let mut found = Vec::new();
            own.bindings(UnixTime::from_seconds(now), &mut found);
            found
        };
        let [of_first, of_second] = [&first, &second].map(|one| end_point::bindings_of(one).unwrap());
        assert_eq!(bindings(1000), std::slice::from_ref(&of_first));
        *shown.lock().unwrap() = second;
        assert_eq!(bindings(1100), [of_second.clone(), of_first.clone()]);
        assert_eq!(bindings(1159), [of_second.clone(), of_first]);
        assert_eq!(bindings(1160), [of_second]);
    }
}
