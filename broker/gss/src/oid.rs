//! Names mechanisms: object identifiers, as GSSAPI compares them, and the closed list of those that we know.

#![expect(unsafe_code, reason = "reads object identifiers that belong to the C library")]

use std::fmt;

use crate::sys;

/// An object identifier: the content octets of its DER encoding (X.690 §8.19), at most 255 of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Oid(Box<[u8]>);

impl Oid {
    const LONGEST: usize = 255;

    /// From DER content octets (no tag, no length). `None` when there are none, or more than 255.
    pub fn from_der_content(content: &[u8]) -> Option<Self> {
        if content.is_empty() || content.len() > Self::LONGEST {
            None
        } else {
            Some(Self(content.into()))
        }
    }

    /// The DER content octets.
    pub fn der_content(&self) -> &[u8] {
        &self.0
    }

    /// Copies what the library points to; `None` for a null pointer.
    ///
    /// # Safety
    /// `oid` is null or points to a valid descriptor.
    pub(crate) unsafe fn copy_from(oid: sys::gss_OID) -> Option<Self> {
        if oid.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for the descriptor, and its elements are `length` readable bytes.
        let content = unsafe {
            let oid = &*oid;
            if oid.elements.is_null() {
                return None;
            }
            std::slice::from_raw_parts(
                oid.elements.cast::<u8>().cast_const(),
                usize::try_from(oid.length).ok()?,
            )
        };
        Self::from_der_content(content)
    }
}

impl fmt::Display for Oid {
    /// Dotted decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arc: u64 = 0;
        let mut first = true;
        for byte in &self.0 {
            arc = (arc << 7) | u64::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                continue;
            }
            if first {
                let root = (arc / 40).min(2);
                write!(f, "{root}.{}", arc.saturating_sub(root.saturating_mul(40)))?;
                first = false;
            } else {
                write!(f, ".{arc}")?;
            }
            arc = 0;
        }
        Ok(())
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

/// A GSSAPI mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Kerberos 5, 1.2.840.113554.1.2.2 (RFC 4121 §1).
    Krb5,
    /// Kerberos 5 under Microsoft's mistaken identifier, 1.2.840.48018.1.2.2 (MS-SPNG §3.1.5.2).
    KrbMicrosoft,
    /// SPNEGO, 1.3.6.1.5.5.2 (RFC 4178 §3.2).
    Spnego,
    /// Kerberos through the acceptor as a proxy, 1.3.6.1.5.2.5.
    Iakerb,
    /// Anything else.
    Other(Oid),
}

impl Mechanism {
    const KRB5: &'static [u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
    const KRB_MICROSOFT: &'static [u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
    const SPNEGO: &'static [u8] = b"\x2b\x06\x01\x05\x05\x02";
    const IAKERB: &'static [u8] = b"\x2b\x06\x01\x05\x02\x05";

    /// The mechanism that an object identifier names.
    pub fn from_oid(oid: Oid) -> Self {
        match oid.der_content() {
            Self::KRB5 => Self::Krb5,
            Self::KRB_MICROSOFT => Self::KrbMicrosoft,
            Self::SPNEGO => Self::Spnego,
            Self::IAKERB => Self::Iakerb,
            _ => Self::Other(oid),
        }
    }

    /// The DER content octets of its object identifier.
    pub fn der_content(&self) -> &[u8] {
        match self {
            Self::Krb5 => Self::KRB5,
            Self::KrbMicrosoft => Self::KRB_MICROSOFT,
            Self::Spnego => Self::SPNEGO,
            Self::Iakerb => Self::IAKERB,
            Self::Other(oid) => oid.der_content(),
        }
    }

    /// Whether this is Kerberos between the two of us, under either identifier.
    pub const fn is_kerberos(&self) -> bool {
        match self {
            Self::Krb5 | Self::KrbMicrosoft => true,
            Self::Spnego | Self::Iakerb | Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Krb5 => f.write_str("krb5"),
            Self::KrbMicrosoft => f.write_str("krb5-microsoft"),
            Self::Spnego => f.write_str("spnego"),
            Self::Iakerb => f.write_str("iakerb"),
            Self::Other(oid) => oid.fmt(f),
        }
    }
}

/// Name form "a full Kerberos principal", 1.2.840.113554.1.2.2.1 (RFC 1964 §2.1.1).
pub(crate) const NT_KRB5_PRINCIPAL: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
/// Name form "an enterprise name" (RFC 6806 §5), 1.2.840.113554.1.2.2.6: MIT's `GSS_KRB5_NT_ENTERPRISE_NAME`.
pub(crate) const NT_KRB5_ENTERPRISE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x06";

/// Name form "a service on a host" (RFC 2744 Appendix A), 1.2.840.113554.1.2.1.4: `service@host`, whose realm krb5.conf or the KDC says.
pub(crate) const NT_HOSTBASED_SERVICE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";

/// Describes `content` to a C call that only reads it. The description must not outlive `content`, which is at most 255
/// bytes (this module hands out nothing longer).
pub(crate) const fn borrowed(content: &[u8]) -> sys::gss_OID_desc {
    #[expect(clippy::as_conversions, reason = "an identifier has at most 255 octets")]
    sys::gss_OID_desc {
        length: content.len() as u32,
        elements: content.as_ptr().cast_mut().cast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_read_as_dotted_decimal() {
        let known = [
            (Mechanism::Krb5, "1.2.840.113554.1.2.2"),
            (Mechanism::KrbMicrosoft, "1.2.840.48018.1.2.2"),
            (Mechanism::Spnego, "1.3.6.1.5.5.2"),
            (Mechanism::Iakerb, "1.3.6.1.5.2.5"),
        ];
        for (mechanism, dotted) in known {
            let oid = Oid::from_der_content(mechanism.der_content()).unwrap();
            assert_eq!(oid.to_string(), dotted);
            assert_eq!(Mechanism::from_oid(oid), mechanism);
        }
        assert_eq!(
            Oid::from_der_content(NT_KRB5_PRINCIPAL).unwrap().to_string(),
            "1.2.840.113554.1.2.2.1"
        );
        assert_eq!(
            Oid::from_der_content(NT_KRB5_ENTERPRISE).unwrap().to_string(),
            "1.2.840.113554.1.2.2.6"
        );
        assert_eq!(
            Oid::from_der_content(NT_HOSTBASED_SERVICE).unwrap().to_string(),
            "1.2.840.113554.1.2.1.4"
        );
        assert_eq!(Oid::from_der_content(&[0x88, 0x37]).unwrap().to_string(), "2.999");
    }

    #[test]
    fn an_unknown_identifier_stays_itself() {
        let ntlm = Oid::from_der_content(b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a").unwrap();
        assert_eq!(Mechanism::from_oid(ntlm.clone()), Mechanism::Other(ntlm.clone()));
        assert_eq!(Mechanism::Other(ntlm).to_string(), "1.3.6.1.4.1.311.2.2.10");
    }
}
