//! Writes the krb5 configuration that the broker runs under, so that MIT's rules and ours are the same.

mod followed;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gss::Enctype;
use rustix::fs::{MemfdFlags, memfd_create};

pub use self::followed::Followed;
use crate::config::KerberosConfig;
use crate::keyring::random;

/// Name of the file in the state directory.
pub const FILE: &str = "krb5.conf";
const SYSTEM: &str = "/etc/krb5.conf";
const MOST_FILES: usize = 16;

/// The text of the file; docs/krb5-conf.md says what each line is for, and what is left to the system. Realm names were
/// checked to hold nothing but letters, digits, `.`, `-`, `_`.
pub fn text(kerberos: &KerberosConfig) -> String {
    let KerberosConfig {
        realms,
        clock_skew_seconds,
        weak_enctypes,
        acceptors: _,
    } = kerberos;
    let realm = realms.first().map_or("", String::as_str);
    let mut weak = String::new();
    for enctype in weak_enctypes {
        weak.push_str(&format!(" {enctype}"));
    }
    // MIT krb5 1.21 and later want them switched on besides; earlier ones do not know these words.
    let switched_on = |number| weak_enctypes.contains(&Enctype::from(number));
    let (allow_des3, allow_rc4) = (switched_on(16), switched_on(23));
    format!(
        "# Written by kerbridge at every start; changes are lost. The system's own krb5.conf is read after these lines,\n\
         # and what stands here wins.\n\
         [libdefaults]\n\
         \x20   default_realm = {realm}\n\
         \x20   clockskew = {clock_skew_seconds}\n\
         \x20   dns_lookup_realm = false\n\
         \x20   dns_canonicalize_hostname = false\n\
         \x20   rdns = false\n\
         \x20   qualify_shortname = \"\"\n\
         \x20   ignore_acceptor_hostname = false\n\
         \x20   forwardable = true\n\
         \x20   allow_weak_crypto = false\n\
         \x20   permitted_enctypes = aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128 \
         aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96{weak}\n\
         \x20   allow_des3 = {allow_des3}\n\
         \x20   allow_rc4 = {allow_rc4}\n"
    )
}

/// Under a name of its own first, so that nobody else's half of a file is ever given the name.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let suffix = random::<8>().map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{}.tmp", URL_SAFE_NO_PAD.encode(suffix.as_ref())));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not have been made; the error that counts is the first one.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// A file with no name, which this process alone can read, as long as this lives.
#[derive(Debug)]
pub struct Unnamed {
    path: PathBuf,
    _file: OwnedFd,
}

impl Unnamed {
    /// Writes it, in memory.
    pub fn write(text: &str) -> io::Result<Self> {
        let mut file = fs::File::from(memfd_create(FILE, MemfdFlags::CLOEXEC)?);
        io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            _file: file.into(),
        })
    }

    /// Its path, in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The files that libkrb5 reads: ours first, then those that it would have read without us and that are there.
pub fn files(own: &Path) -> Vec<PathBuf> {
    std::iter::once(own.to_owned()).chain(others(own)).collect()
}

/// Those that libkrb5 would have read without us and that are there.
fn others(own: &Path) -> Vec<PathBuf> {
    let before: Vec<PathBuf> = match std::env::var_os("KRB5_CONFIG") {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => vec![PathBuf::from(SYSTEM)],
    };
    before
        .into_iter()
        .filter(|path| path != own && path.is_file())
        .take(MOST_FILES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_stand_in_the_file() {
        let mut kerberos = KerberosConfig {
            realms: vec!["A.TEST".into(), "B.TEST".into()],
            clock_skew_seconds: 120,
            weak_enctypes: Vec::new(),
            acceptors: Vec::new(),
        };
        let text = super::text(&kerberos);
        assert!(text.contains("    default_realm = A.TEST\n"), "{text}");
        assert!(text.contains("    clockskew = 120\n"), "{text}");
        // No name that the broker uses may come from DNS; where a KDC is stays the system's to say.
        for closed in [
            "dns_lookup_realm = false",
            "dns_canonicalize_hostname = false",
            "rdns = false",
            "qualify_shortname = \"\"",
            "ignore_acceptor_hostname = false",
            "allow_weak_crypto = false",
            // Without it no ticket of a user could be traded for one to a service.
            "forwardable = true",
        ] {
            assert!(text.contains(&format!("    {closed}\n")), "{closed} in {text}");
        }
        assert!(
            !text.contains("dns_lookup_kdc") && !text.contains("dns_uri_lookup"),
            "{text}"
        );
        assert!(!text.contains("arcfour") && !text.contains("des3-"), "{text}");
        assert!(text.contains("allow_rc4 = false\n"), "{text}");
        kerberos.weak_enctypes = vec![Enctype::from(23)];
        let text = super::text(&kerberos);
        assert!(text.contains("aes128-cts-hmac-sha1-96 arcfour-hmac\n"), "{text}");
        assert!(
            text.contains("allow_rc4 = true\n") && text.contains("allow_des3 = false\n"),
            "{text}"
        );
    }
}
