//! Chooses the krb5 configuration of this process, at the only moment when that is safe: before its second thread.

#![expect(
    unsafe_code,
    reason = "sets an environment variable while no other thread can read it"
)]

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

/// Why the configuration was not chosen.
#[derive(Debug)]
pub enum EnvironmentError {
    /// Other threads run already, this many in all; one of them may be reading the environment.
    ThreadsRunning(usize),
    /// The number of threads cannot be known.
    ThreadsUnknown(io::Error),
    /// No path was given, or one holds a `:`, which separates paths there, or a NUL byte.
    BadPath,
}

impl fmt::Display for EnvironmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadsRunning(count) => write!(f, "the krb5 configuration is chosen too late, {count} threads run"),
            Self::ThreadsUnknown(error) => write!(f, "cannot count this process's threads: {error}"),
            Self::BadPath => f.write_str("a krb5 configuration path is missing or holds a colon"),
        }
    }
}

impl std::error::Error for EnvironmentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ThreadsUnknown(error) => Some(error),
            Self::ThreadsRunning(_) | Self::BadPath => None,
        }
    }
}

/// Makes libkrb5 read these files, and no others, in this process and in those that it starts: sets `KRB5_CONFIG`. The
/// first file that defines a value wins.
///
/// To be called in `main` before anything starts a thread; afterwards it is an error.
///
/// ```standalone_crate
/// # use std::path::Path;
/// fn main() -> Result<(), kerbridge_gss::environment::EnvironmentError> {
///     let (ours, theirs) = (Path::new("/var/lib/kerbridge/krb5.conf"), Path::new("/etc/krb5.conf"));
///     kerbridge_gss::environment::use_krb5_config(&[ours, theirs])?;
/// #   let value = std::env::var("KRB5_CONFIG");
/// #   assert_eq!(value.as_deref(), Ok("/var/lib/kerbridge/krb5.conf:/etc/krb5.conf"));
///     Ok(())
/// }
/// ```
pub fn use_krb5_config(paths: &[&Path]) -> Result<(), EnvironmentError> {
    let unusable = |path: &&Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        bytes.is_empty() || bytes.contains(&b':') || bytes.contains(&0)
    };
    if paths.is_empty() || paths.iter().any(unusable) {
        return Err(EnvironmentError::BadPath);
    }
    let mut value = OsString::new();
    for path in paths {
        if !value.is_empty() {
            value.push(":");
        }
        value.push(path);
    }
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(EnvironmentError::ThreadsUnknown)?
        .count();
    if threads != 1 {
        return Err(EnvironmentError::ThreadsRunning(threads));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "no other thread exists, as just counted, and only this one could start any"
    )]
    // SAFETY: this is the only thread of the process, so nothing reads or writes the environment meanwhile.
    unsafe {
        std::env::set_var("KRB5_CONFIG", value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_chosen_beside_other_threads_is_refused() {
        let _other = std::thread::spawn(|| std::thread::park_timeout(std::time::Duration::from_secs(5)));
        let refused = use_krb5_config(&["/nonexistent/krb5.conf".as_ref()]);
        assert!(
            matches!(refused, Err(EnvironmentError::ThreadsRunning(count)) if count >= 2),
            "{refused:?}"
        );
    }

    #[test]
    fn a_path_that_would_be_read_as_two_is_refused() {
        for paths in [&["/a:b".as_ref()][..], &[], &["".as_ref()]] {
            assert!(matches!(use_krb5_config(paths), Err(EnvironmentError::BadPath)));
        }
    }
}
