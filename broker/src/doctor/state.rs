//! Says whether the state folder can take what the broker notes in it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kerbridge_wire::Reason;
use rustix::fs::{Access, access, statvfs};

use super::finding::{Finding, Remedy};

const CHECK: &str = "state_dir";
/// Room below which a busy broker may run out within hours, in bytes.
const LITTLE: u64 = 256 * 1024 * 1024;
/// Room below which nothing can be relied on, in bytes.
const NONE: u64 = 4 * 1024 * 1024;

/// Looks at the folder; one that is not there yet is made at the first start.
pub fn look(path: &Path) -> Vec<Finding> {
    let subject = path.display().to_string();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::skipped(
                CHECK,
                subject,
                "it is not there yet; the broker makes it when it starts",
            )];
        }
        Err(error) => return vec![unusable(&subject, path, &error.to_string())],
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return vec![
            Finding::bad(
                CHECK,
                &subject,
                Reason::StoreUnavailable,
                "others can reach into it, and the broker does not start",
            )
            .mended_by([Remedy::any(format!("chmod 700 {subject}"))]),
        ];
    }
    if let Err(error) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
        return vec![unusable(&subject, path, &io::Error::from(error).to_string())];
    }
    match statvfs(path) {
        Ok(room) => vec![judge(&subject, room.f_bavail.saturating_mul(room.f_frsize))],
        Err(error) => vec![unusable(&subject, path, &io::Error::from(error).to_string())],
    }
}

fn judge(subject: &str, free: u64) -> Finding {
    let found = format!("{} MiB are free", free >> 20);
    let mend = Remedy::any(format!("make room: df -h {subject}"));
    if free < NONE {
        Finding::bad(CHECK, subject, Reason::StoreUnavailable, found).mended_by([mend])
    } else if free < LITTLE {
        Finding::warning(CHECK, subject, found).mended_by([mend])
    } else {
        Finding::good(CHECK, subject, found)
    }
}

fn unusable(subject: &str, path: &Path, problem: &str) -> Finding {
    Finding::bad(CHECK, subject, Reason::StoreUnavailable, problem).mended_by([Remedy::any(format!(
        "run this as the broker's user, or: chown BROKER {}",
        path.display()
    ))])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn room_is_judged_before_it_has_run_out() {
        for (free, verdict) in [
            (NONE - 1, Verdict::Bad),
            (NONE, Verdict::Warning),
            (LITTLE - 1, Verdict::Warning),
            (LITTLE, Verdict::Good),
        ] {
            assert_eq!(judge("s", free).verdict, verdict, "{free}");
        }
    }

    #[test]
    fn a_folder_that_others_can_reach_is_named_with_its_command() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(
            look(folder.path())
                .iter()
                .all(|finding| finding.verdict != Verdict::Bad)
        );
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let found = look(folder.path());
        assert_eq!(found[0].verdict, Verdict::Bad);
        assert!(found[0].remedies[0].command.starts_with("chmod 700 "));
        assert_eq!(look(&folder.path().join("none"))[0].verdict, Verdict::Skipped);
    }
}
