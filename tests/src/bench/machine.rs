//! Names the machine and the day, without which a figure means nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};

/// The version of Apache, as it says itself; `?` where it is not here.
#[must_use]
pub fn apache_version() -> String {
    let said = output("apache2", &["-v"]).or_else(|_no_debian| output("httpd", &["-v"]));
    let said = said.unwrap_or_default();
    let version = said.lines().next().and_then(|line| line.split_once("Apache/"));
    let version = version.map_or("?", |(_, version)| version.split(' ').next().unwrap_or(version));
    version.to_owned()
}

/// The version of MIT krb5, as it says itself; `?` where it is not here.
#[must_use]
pub fn krb5_version() -> String {
    let said = output("krb5-config", &["--version"]).unwrap_or_default();
    said.split(' ').next_back().unwrap_or("?").to_owned()
}

/// Where and when something was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, with family and model where the name alone says little.
    pub processor: String,
    /// Cores that the system shows.
    pub cores: usize,
    /// The hypervisor's kind, where the processor says that there is one.
    pub virtual_machine: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The day, UTC, as `2026-01-31`.
    pub date: String,
}

impl Machine {
    /// This machine, today.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system does not say.
    pub fn here() -> Result<Self, HarnessError> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|source| HarnessError::io(format!("read {path}"), source))
        };
        let processors = read("/proc/cpuinfo")?;
        Ok(Self {
            processor: processor(&processors),
            // Not what this process may use: it may have been moved to one core.
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field(&processors, "flags")
                .is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: output("date", &["-u", "+%Y-%m-%d"])?,
        })
    }

    /// One sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let kind = if self.virtual_machine {
            ", a virtual machine"
        } else {
            ""
        };
        format!(
            "{}, {} cores{kind}, Linux {}, {}",
            self.processor, self.cores, self.kernel, self.date
        )
    }
}

/// What a program prints on one line.
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`] or [`HarnessError::Exited`].
pub fn output(program: &str, args: &[&str]) -> Result<String, HarnessError> {
    let folder =
        tempfile::tempdir().map_err(|source| HarnessError::io(format!("create a folder for {program}"), source))?;
    let mut process = OwnedProcess::start(Spawn::new(program, folder.path()).args(args))?;
    let status = process.wait_exit(Duration::from_secs(10))?;
    if status.success() {
        Ok(process.log().trim().to_owned())
    } else {
        Err(HarnessError::Exited {
            name: program.to_owned(),
            status,
            log: process.log_tail(),
        })
    }
}

/// The first value of a field of `/proc/cpuinfo`.
fn field<'a>(processors: &'a str, name: &str) -> Option<&'a str> {
    processors.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn processor(processors: &str) -> String {
    let name = field(processors, "model name").unwrap_or("unknown processor");
    // A virtual machine may hide the rest of the name, which family and model give away.
    match (field(processors, "cpu family"), field(processors, "model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        (None, _) | (_, None) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name() {
        let text =
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n";
        assert_eq!(processor(text), "AMD EPYC (family 25, model 17)");
        assert_eq!(processor(""), "unknown processor");
    }

    #[test]
    fn this_machine_is_named_with_the_day() {
        let here = Machine::here().unwrap();
        assert!(
            here.sentence().contains(&here.date) && here.date.len() == 10,
            "{here:?}"
        );
        assert!(here.cores > 0);
    }
}
