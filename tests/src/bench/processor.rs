//! Places processes on cores, and reads what they used of them.

use std::fs;
use std::time::Duration;

use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};

/// The two cores of a run: one for what is measured, one for everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The measured Envoy.
    pub measured: u32,
    /// The load, and whatever the measured Envoy asks.
    pub load: u32,
}

impl Cores {
    /// The cores that `list` names, as `0,1`, or else the first two that this process may use.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] where there are not two.
    pub fn choose(list: Option<&str>) -> Result<Self, HarnessError> {
        let allowed = match list {
            Some(list) => list.to_owned(),
            None => status_field("self", "Cpus_allowed_list")?,
        };
        match cores_of(&allowed).as_slice() {
            [measured, load, ..] => Ok(Self {
                measured: *measured,
                load: *load,
            }),
            [] | [_] => Err(HarnessError::UnexpectedAnswer {
                what: "two cores to measure on (BENCH_CORES=0,1 names them)".to_owned(),
                answer: allowed,
            }),
        }
    }
}

/// The numbers of a list such as `0-2,5`.
fn cores_of(list: &str) -> Vec<u32> {
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.trim().parse().ok()?..=to.trim().parse().ok()?)
        })
        .flatten()
        .collect()
}

/// Keeps a process, with all of its threads, on one core.
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`], or [`HarnessError::Exited`] where the kernel refuses.
pub fn pin(pid: u32, core: u32) -> Result<(), HarnessError> {
    let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for taskset", source))?;
    let spawn = Spawn::new("taskset", folder.path()).args(["-a", "-c", "-p", &core.to_string(), &pid.to_string()]);
    let mut taskset = OwnedProcess::start(spawn)?;
    let status = taskset.wait_exit(Duration::from_secs(10))?;
    if status.success() {
        Ok(())
    } else {
        Err(HarnessError::Exited {
            name: "taskset".to_owned(),
            status,
            log: taskset.log_tail(),
        })
    }
}

/// Processor time that a process has used so far, in user and kernel, all threads; in microseconds, as fine as the
/// kernel's tick (10 ms as a rule).
///
/// # Errors
///
/// [`HarnessError::Io`] or [`HarnessError::UnexpectedAnswer`].
pub fn used(pid: u32) -> Result<f64, HarnessError> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|source| HarnessError::io(format!("read {path}"), source))?;
    let ticks = ticks_of(&stat).ok_or(HarnessError::UnexpectedAnswer {
        what: path,
        answer: stat,
    })?;
    Ok(ticks as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
}

/// `utime` and `stime` of `proc_pid_stat(5)`: fields 14 and 15. The name, field 2, may hold anything, brackets included.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Memory that a process holds now, in KiB.
///
/// # Errors
///
/// [`HarnessError::Io`] or [`HarnessError::UnexpectedAnswer`].
pub fn resident_kib(pid: u32) -> Result<u64, HarnessError> {
    let value = status_field(&pid.to_string(), "VmRSS")?;
    value
        .trim_end_matches("kB")
        .trim()
        .parse()
        .map_err(|_not_a_number| HarnessError::UnexpectedAnswer {
            what: format!("VmRSS of process {pid}"),
            answer: value,
        })
}

/// A field of `proc_pid_status(5)`.
fn status_field(process: &str, field: &str) -> Result<String, HarnessError> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).map_err(|source| HarnessError::io(format!("read {path}"), source))?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    match value {
        Some(value) => Ok(value.trim().to_owned()),
        None => Err(HarnessError::UnexpectedAnswer {
            what: format!("{field} in {path}"),
            answer: status,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_read_with_its_ranges() {
        assert_eq!(cores_of("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(Cores::choose(Some("3,1")).unwrap(), Cores { measured: 3, load: 1 });
        let refused = Cores::choose(Some("0")).unwrap_err().to_string();
        assert!(refused.contains("BENCH_CORES"), "{refused}");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 99 0 0 0 120 34 5 6 20 0 9 0 1 2 3";
        assert_eq!(ticks_of(stat), Some(154));
        assert_eq!(ticks_of("7 (a) S 1"), None);
    }

    #[test]
    fn work_shows_as_processor_time_and_memory() {
        let own = std::process::id();
        let before = used(own).unwrap();
        let mut sum = 0_u64;
        while used(own).unwrap() < before + 30_000.0 {
            sum = (0..100_000_u64).fold(sum, |sum, next| std::hint::black_box(sum ^ next));
        }
        assert!(resident_kib(own).unwrap() > 100, "{sum}");
    }

    #[test]
    fn a_pinned_process_may_use_its_core_only() {
        let core = cores_of(&status_field("self", "Cpus_allowed_list").unwrap())[0];
        let folder = tempfile::tempdir().unwrap();
        let sleeper = OwnedProcess::start(Spawn::new("sleep", folder.path()).arg("60")).unwrap();
        pin(sleeper.pid(), core).unwrap();
        let allowed = status_field(&sleeper.pid().to_string(), "Cpus_allowed_list").unwrap();
        assert_eq!(cores_of(&allowed), [core]);
    }
}
