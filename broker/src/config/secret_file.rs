//! Decides whether a file with a secret is kept from others, and reads it if so.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

const LARGEST: u64 = 1024 * 1024;

/// What is wrong, and the remedy.
pub(super) type Complaint = (String, &'static str);

/// Reads a short text that nobody but its owner may read.
pub(super) fn read(path: &Path, check_mode: bool) -> Result<Zeroizing<String>, Complaint> {
    let complain = |error: std::io::Error| {
        (
            format!("{}: {error}", path.display()),
            "name a file that the broker's user can read",
        )
    };
    if check_mode {
        check(path, 0o077, "chmod it 0600")?;
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)
        .map_err(complain)?
        .take(4096)
        .read_to_string(&mut text)
        .map_err(complain)?;
    Ok(text)
}

/// Checks that it is a file, has none of the permission bits `forbidden`, and belongs to us or to root.
pub(super) fn check(path: &Path, forbidden: u32, remedy: &'static str) -> Result<(), Complaint> {
    let name = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        (
            format!("{name}: {error}"),
            "name a file that the broker's user can read",
        )
    })?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return Err((format!("{name} is no regular file"), "name a file"));
    }
    if metadata.len() > LARGEST {
        return Err((format!("{name} is larger than 1 MiB"), "name another file"));
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err((
            format!("{name} belongs to user {}, who could change it", metadata.uid()),
            "chown it to the broker's user or to root",
        ));
    }
    if mode & forbidden != 0 {
        return Err((
            format!("{name} has mode {mode:04o}, so that others can reach it"),
            remedy,
        ));
    }
    Ok(())
}
