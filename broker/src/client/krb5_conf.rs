//! Names the files of libkrb5's configuration to people, who otherwise hear that something is wrong in one of them.

use std::env;
use std::fs::File;
use std::path::PathBuf;

use kerbridge_gss::AcquireError;

use super::trouble::{Kind, Trouble};

/// Where it is where nothing else is said.
const OF_THE_SYSTEM: &str = "/etc/krb5.conf";

fn files() -> Vec<PathBuf> {
    let said = env::var_os("KRB5_CONFIG").filter(|value| !value.is_empty());
    said.map_or_else(
        || vec![PathBuf::from(OF_THE_SYSTEM)],
        |value| env::split_paths(&value).collect(),
    )
}

/// The files, and that they are not there where none of them is: libkrb5 says nothing of it.
pub(super) fn named() -> String {
    shown(&files())
}

fn shown(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let absent = if files.iter().any(|file| file.exists()) {
        ""
    } else {
        ", which is not there"
    };
    format!("{}{absent}", names.join(" or "))
}

/// Says which of them is not to be read, or what libkrb5 says of them.
pub(super) fn unusable(error: &AcquireError) -> Trouble {
    let mut closed = files()
        .into_iter()
        .filter_map(|file| Some((File::open(&file).err()?, file)));
    let problem = match closed.next() {
        Some((error, file)) => format!("{} cannot be read: {error}", file.display()),
        None => format!("{}: {error}", named()),
    };
    Trouble::new(Kind::FileUnusable, problem, "mend it, or name another with KRB5_CONFIG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_are_said_to_be_absent() {
        let folder = tempfile::tempdir().unwrap();
        let (there, absent) = (folder.path().join("there"), folder.path().join("absent"));
        std::fs::write(&there, "").unwrap();
        let (one, other) = (there.display().to_string(), absent.display().to_string());
        assert_eq!(shown(std::slice::from_ref(&there)), one);
        assert_eq!(
            shown(std::slice::from_ref(&absent)),
            format!("{other}, which is not there")
        );
        assert_eq!(shown(&[absent, there]), format!("{other} or {one}"));
    }
}
