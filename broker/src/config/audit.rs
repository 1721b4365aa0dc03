//! Decides where audit events go, and what becomes of an exchange whose event cannot be written.

use std::path::{Path, PathBuf};

use super::raw;
use crate::audit::{AuditRules, AuditTo, Facility, FileRules, SyslogForm, SyslogRules};
use crate::problem::Problems;

const MEBIBYTE: u64 = 1024 * 1024;
/// 100 MiB, ten times: a year of a small broker, and no disk that fills up.
const LARGEST: i64 = 100;
const MOST_MEBIBYTES: i64 = 1024 * 1024;
const KEEP: i64 = 10;
const MOST_KEPT: i64 = 1000;
const SYSTEM_LOG: &str = "/dev/log";

pub(super) fn check(audit: raw::Audit, folder: &Path, problems: &mut Problems) -> Option<AuditRules> {
    let raw::Audit {
        to,
        on_failure,
        file,
        mebibytes,
        keep,
        socket,
        facility,
        format,
    } = audit;
    let refuse = match on_failure.as_deref() {
        None | Some("continue") => Some(false),
        Some("refuse") => Some(true),
        Some(other) => {
            problems.note(
                "audit.on_failure",
                format!("{other:?} is not known"),
                "write \"continue\", or \"refuse\" so that nothing is given whose event cannot be written",
            );
            None
        }
    };
    let of_files = [
        ("file", file.is_some()),
        ("mebibytes", mebibytes.is_some()),
        ("keep", keep.is_some()),
    ];
    let of_syslog = [
        ("socket", socket.is_some()),
        ("facility", facility.is_some()),
        ("format", format.is_some()),
    ];
    let mut not_for = |to: &str, fields: [(&str, bool); 3], home: &str| {
        for (field, _) in fields.into_iter().filter(|(_, is_there)| *is_there) {
            problems.note(
                format!("audit.{field}"),
                format!("is of no use where events go to {to}"),
                format!("write to = {home:?} under [audit], or remove it"),
            );
        }
    };
    let to = match to.as_deref() {
        None | Some("stdout") => {
            not_for("stdout", of_files, "file");
            not_for("stdout", of_syslog, "syslog");
            Some(AuditTo::Stdout)
        }
        Some("file") => {
            not_for("a file", of_syslog, "syslog");
            check_file(file, mebibytes, keep, folder, problems).map(AuditTo::File)
        }
        Some("syslog") => {
            not_for("syslog", of_files, "file");
            check_syslog(socket, facility.as_deref(), format.as_deref(), problems).map(AuditTo::Syslog)
        }
        Some(other) => {
            problems.note(
                "audit.to",
                format!("{other:?} is not known"),
                "write \"stdout\", \"file\" or \"syslog\"",
            );
            None
        }
    };
    Some(AuditRules {
        to: to?,
        refuse: refuse?,
    })
}

fn check_file(
    file: Option<PathBuf>,
    mebibytes: Option<i64>,
    keep: Option<i64>,
    folder: &Path,
    problems: &mut Problems,
) -> Option<FileRules> {
    let mut bounded = |field: &str, value: Option<i64>, default: i64, least: i64, most: i64, remedy: &str| {
        let value = value.unwrap_or(default);
        let good = u32::try_from(value).ok().filter(|_| (least..=most).contains(&value));
        if good.is_none() {
            let problem = format!("{value} is not {least} to {most}");
            problems.note(format!("audit.{field}"), problem, remedy);
        }
        good
    };
    let remedy = "write 0 where another program rotates it and sends SIGHUP";
    let largest = bounded("mebibytes", mebibytes, LARGEST, 0, MOST_MEBIBYTES, remedy);
    let keep = bounded("keep", keep, KEEP, 1, MOST_KEPT, "correct it");
    let path = file
        .map(|file| folder.join(file))
        .filter(|path| path.file_name().is_some());
    let Some(path) = path else {
        problems.missing("audit.file", "name a file, such as \"/var/log/kerbridge/audit.log\"");
        return None;
    };
    // Beside a configuration that was named without a folder.
    let is_here = path.parent().is_some_and(|folder| folder.as_os_str().is_empty());
    if !is_here && !path.parent().is_some_and(Path::is_dir) {
        problems.note(
            "audit.file",
            format!("{}: its folder does not exist", path.display()),
            "make it, and let the broker's user write it: install -d -m 0750 -o kerbridge",
        );
    }
    Some(FileRules {
        path,
        largest: Some(u64::from(largest?).saturating_mul(MEBIBYTE)).filter(|largest| *largest > 0),
        keep: keep?,
    })
}

fn check_syslog(
    socket: Option<PathBuf>,
    facility: Option<&str>,
    format: Option<&str>,
    problems: &mut Problems,
) -> Option<SyslogRules> {
    let facility = match facility.map(str::parse) {
        None => Some(Facility::AUTHPRIV),
        Some(Ok(facility)) => Some(facility),
        Some(Err(_)) => {
            let names: Vec<&str> = Facility::names().collect();
            problems.note(
                "audit.facility",
                format!("{:?} is no facility", facility.unwrap_or_default()),
                format!("write one of {}", names.join(", ")),
            );
            None
        }
    };
    let form = match format {
        None | Some("rfc5424") => Some(SyslogForm::Rfc5424),
        Some("local") => Some(SyslogForm::Local),
        Some(other) => {
            problems.note(
                "audit.format",
                format!("{other:?} is not known"),
                "write \"rfc5424\", or \"local\" for journald",
            );
            None
        }
    };
    let socket = socket.unwrap_or_else(|| SYSTEM_LOG.into());
    if !socket.is_absolute() {
        problems.note(
            "audit.socket",
            format!("{} is no absolute path", socket.display()),
            "write \"/dev/log\", or the path of the log's socket",
        );
    }
    Some(SyslogRules {
        socket,
        facility: facility?,
        form: form?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AuditRules, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        read_beside(folder.path(), text)
    }

    fn read_beside(folder: &Path, text: &str) -> Result<AuditRules, Vec<String>> {
        let mut problems = Problems::default();
        let raw: raw::Audit = crate::strict_toml::read(text, &mut problems).unwrap();
        let rules = check(raw, folder, &mut problems);
        match rules {
            Some(rules) if problems.is_empty() => Ok(rules),
            Some(_) | None => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn nothing_said_is_standard_output_and_goes_on() {
        assert_eq!(read(""), Ok(AuditRules::default()));
        assert_eq!(
            read("to = \"stdout\"\non_failure = \"continue\""),
            Ok(AuditRules::default())
        );
        assert!(read("on_failure = \"refuse\"").unwrap().refuse);
    }

    #[test]
    fn a_file_and_the_systems_log_have_bounds_and_defaults() {
        let AuditTo::File(file) = read("to = \"file\"\nfile = \"audit.log\"").unwrap().to else {
            panic!("no file");
        };
        assert_eq!((file.largest, file.keep), (Some(100 * MEBIBYTE), 10));
        let AuditTo::File(file) = read("to = \"file\"\nfile = \"a\"\nmebibytes = 0\nkeep = 1").unwrap().to else {
            panic!("no file");
        };
        assert_eq!((file.largest, file.keep), (None, 1));
        let AuditTo::Syslog(syslog) = read("to = \"syslog\"\nformat = \"local\"\nfacility = \"local3\"")
            .unwrap()
            .to
        else {
            panic!("no syslog");
        };
        assert_eq!(
            (syslog.socket.as_path(), syslog.form),
            (Path::new("/dev/log"), SyslogForm::Local)
        );
        assert_eq!(Ok(syslog.facility), "local3".parse());
    }

    #[test]
    fn a_file_beside_a_configuration_that_was_named_without_a_folder_is_here() {
        let rules = read_beside(Path::new(""), "to = \"file\"\nfile = \"audit.log\"");
        assert!(matches!(rules.unwrap().to, AuditTo::File(file) if file.path == Path::new("audit.log")));
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, start) in [
            ("to = \"udp\"", "audit.to: \"udp\" is not known"),
            ("on_failure = \"stop\"", "audit.on_failure: "),
            ("to = \"file\"", "audit.file: is missing"),
            ("to = \"file\"\nfile = \"absent/audit.log\"", "audit.file: "),
            (
                "to = \"file\"\nfile = \"a\"\nmebibytes = -1",
                "audit.mebibytes: -1 is not 0 to",
            ),
            (
                "to = \"file\"\nfile = \"a\"\nkeep = 0",
                "audit.keep: 0 is not 1 to 1000",
            ),
            (
                "to = \"file\"\nfile = \"a\"\nfacility = \"auth\"",
                "audit.facility: is of no use",
            ),
            ("file = \"a\"", "audit.file: is of no use where events go to stdout"),
            (
                "to = \"syslog\"\nkeep = 3",
                "audit.keep: is of no use where events go to syslog",
            ),
            (
                "to = \"syslog\"\nsocket = \"log\"",
                "audit.socket: log is no absolute path",
            ),
            (
                "to = \"syslog\"\nfacility = \"kern\"",
                "audit.facility: \"kern\" is no facility",
            ),
            ("to = \"syslog\"\nformat = \"json\"", "audit.format: "),
        ] {
            let found = read(text).unwrap_err();
            assert_eq!(found.len(), 1, "{text}: {found:#?}");
            assert!(found[0].starts_with(start), "{start}: {found:#?}");
        }
    }
}
