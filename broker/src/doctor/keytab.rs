//! Says what a keytab holds of a principal: keys of today, versions, and types that are refused.

use std::collections::BTreeMap;
use std::path::Path;

use kerbridge_gss::{Enctype, Keytab, KeytabEntry, ServicePrincipal};
use kerbridge_wire::Reason;

use super::finding::{Finding, Remedy};
use crate::config::{AcceptorConfig, KerberosConfig};

const CHECK: &str = "keytab";

/// Looks at the keys of one acceptor.
pub fn look(acceptor: &AcceptorConfig, kerberos: &KerberosConfig) -> Vec<Finding> {
    let AcceptorConfig { principal, keytab } = acceptor;
    match Keytab::open(keytab) {
        Ok(held) => judge(principal, keytab, held.entries(), kerberos),
        Err(error) => vec![
            Finding::bad(CHECK, principal.as_str(), Reason::SpnUnknown, error.to_string())
                .mended_by(extract(principal, keytab)),
        ],
    }
}

/// Judges the entries that a keytab holds.
fn judge(
    principal: &ServicePrincipal,
    path: &Path,
    entries: &[KeytabEntry],
    kerberos: &KerberosConfig,
) -> Vec<Finding> {
    let mut versions: BTreeMap<u32, Vec<Enctype>> = BTreeMap::new();
    for entry in entries {
        if entry.principal() == principal.as_principal() {
            versions.entry(entry.kvno()).or_default().push(entry.enctype());
        }
    }
    let Some((newest, enctypes)) = versions.last_key_value() else {
        return vec![
            Finding::bad(
                CHECK,
                principal.as_str(),
                Reason::SpnUnknown,
                format!("{} holds no key of it", path.display()),
            )
            .mended_by(extract(principal, path)),
        ];
    };
    let is_taken = |enctype: &Enctype| !enctype.is_weak() || kerberos.weak_enctypes.contains(enctype);
    let names = |enctypes: &[Enctype]| enctypes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !enctypes.iter().any(is_taken) {
        return vec![
            Finding::bad(
                CHECK,
                principal.as_str(),
                Reason::EtypeUnavailable,
                format!(
                    "its newest key, kvno {newest}, has only types that are refused: {}",
                    names(enctypes)
                ),
            )
            .mended_by(strengthen(principal, path)),
        ];
    }
    let older: Vec<String> = versions.keys().rev().skip(1).map(u32::to_string).collect();
    let older = if older.is_empty() {
        String::new()
    } else {
        format!("; also kvno {}", older.join(", "))
    };
    let mut findings = vec![Finding::good(
        CHECK,
        principal.as_str(),
        format!("kvno {newest}: {}{older}", names(enctypes)),
    )];
    if enctypes.iter().any(|enctype| enctype.is_weak()) {
        findings.push(
            Finding::warning(
                CHECK,
                principal.as_str(),
                "it has keys of types that can be broken: a KDC that still gives such tickets finds them taken or refused",
            )
            .mended_by(strengthen(principal, path)),
        );
    }
    findings
}

/// Commands that write the principal's present keys into a keytab.
pub(super) fn extract(principal: &ServicePrincipal, path: &Path) -> [Remedy; 3] {
    let (path, host) = (path.display(), principal.host());
    [
        Remedy::mit(format!("kadmin -q 'ktadd -k {path} {principal}'")),
        Remedy::ad(format!(
            "ktpass /princ {principal} /mapuser ACCOUNT /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out http.keytab"
        )),
        Remedy::freeipa(format!("ipa-getkeytab -p {}/{host} -k {path}", principal.service())),
    ]
}

/// Commands that give the principal keys of today.
fn strengthen(principal: &ServicePrincipal, path: &Path) -> [Remedy; 3] {
    let path = path.display();
    [
        Remedy::mit(format!(
            "kadmin -q 'ktadd -k {path} -e aes256-cts-hmac-sha1-96:normal,aes128-cts-hmac-sha1-96:normal {principal}'"
        )),
        Remedy::ad(
            "Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then reset its password and run ktpass anew",
        ),
        Remedy::freeipa(format!(
            "ipa-getkeytab -p {}/{} -k {path} -e aes256-cts,aes128-cts",
            principal.service(),
            principal.host()
        )),
    ]
}
