//! Loads a listener with wrk, each request with the next of some tokens, and reads what wrk counted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn, find_program};

/// How long wrk may take beyond its time.
const GRACE: Duration = Duration::from_secs(30);

/// Requests are built once, so that a token costs the load as much as no token. Each go begins with another token: a
/// short one does not reach them all. What is counted comes in one line.
const SCRIPT: &str = r#"
local requests, at = {}, 0
init = function(arguments)
  for token in io.lines(arguments[1]) do
    wrk.headers["authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format()
  end
  math.randomseed(os.time())
  at = math.random(#requests)
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency)
  local failed = summary.errors
  io.write(string.format("counted requests=%d microseconds=%d refused=%d broken=%d p50=%d p90=%d p99=%d p999=%d\n",
    summary.requests, summary.duration, failed.status, failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9)))
end
"#;

/// How a listener is loaded.
#[derive(Clone, Debug)]
pub struct Load {
    /// The core that wrk may use.
    pub core: u32,
    /// Connections that wrk keeps busy, each with one request at a time.
    pub connections: u32,
    /// Whole seconds, at least 1.
    pub seconds: u32,
    /// The `Host` of the requests.
    pub host: String,
    /// The path of the requests.
    pub path: String,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Requests that were answered.
    pub requests: u64,
    /// The time in which they were.
    pub microseconds: u64,
    /// From request to answer, in microseconds. wrk waits for each answer, so these are latencies at full load.
    pub latency: Latency,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// 99 of a hundred took no longer.
    pub p99: u64,
    /// 999 of a thousand took no longer.
    pub p999: u64,
}

/// wrk and its script, in a folder.
#[derive(Debug)]
pub struct Wrk {
    folder: PathBuf,
    script: PathBuf,
}

impl Wrk {
    /// Writes the script into this folder.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], naming `make bench`, or [`HarnessError::Io`].
    pub fn new(folder: &Path) -> Result<Self, HarnessError> {
        find_program("wrk").map_err(|_| HarnessError::ProgramMissing {
            program: "wrk".to_owned(),
            remedy: "`make bench` installs it",
        })?;
        let script = folder.join("load.lua");
        std::fs::write(&script, SCRIPT).map_err(|source| HarnessError::io("write wrk's script", source))?;
        Ok(Self {
            folder: folder.to_owned(),
            script,
        })
    }

    /// Loads `127.0.0.1:port`; `tokens` is a file with one token in each line.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`], or [`HarnessError::UnexpectedAnswer`] where any answer was not a 2xx: what refuses is
    /// not measured.
    pub fn load(&self, port: u16, tokens: &Path, load: &Load) -> Result<Counted, HarnessError> {
        let spawn = Spawn::new("taskset", &self.folder)
            .name("wrk")
            .args(["-c", &load.core.to_string(), "wrk", "--threads", "1", "--latency"])
            .args(["--connections", &load.connections.to_string()])
            .args(["--duration", &load.seconds.to_string()])
            .args(["--header", &format!("Host: {}", load.host)])
            .arg("--script")
            .arg(&self.script)
            .args([&format!("http://127.0.0.1:{port}{}", load.path), "--"])
            .arg(tokens);
        let mut wrk = OwnedProcess::start(spawn)?;
        let within = Duration::from_secs(u64::from(load.seconds)).saturating_add(GRACE);
        let status = wrk.wait_exit(within)?;
        if !status.success() {
            return Err(HarnessError::Exited {
                name: "wrk".to_owned(),
                status,
                log: wrk.log_tail(),
            });
        }
        counted(&wrk.log()).ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: format!("a load of port {port} to which every answer is 2xx"),
            answer: wrk.log_tail(),
        })
    }
}

/// Reads the script's line; nothing where there is none, or where a request was refused or lost.
#[must_use]
pub fn counted(output: &str) -> Option<Counted> {
    let line = output.lines().find_map(|line| line.strip_prefix("counted "))?;
    let number = |name: &str| -> Option<u64> {
        line.split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?
            .parse()
            .ok()
    };
    if number("refused")? > 0 || number("broken")? > 0 || number("requests")? == 0 || number("microseconds")? == 0 {
        return None;
    }
    Some(Counted {
        requests: number("requests")?,
        microseconds: number("microseconds")?,
        latency: Latency {
            p50: number("p50")?,
            p90: number("p90")?,
            p99: number("p99")?,
            p999: number("p999")?,
        },
    })
}

impl Counted {
    /// Requests a second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.microseconds as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "counted requests=3000 microseconds=1500000 refused=0 broken=0 p50=300 p90=400 p99=900 p999=1500";

    #[test]
    fn what_wrk_counted_is_read() {
        let read = counted(&format!("Running 1s test\n{LINE}\n")).unwrap();
        assert_eq!((read.requests, read.latency.p99), (3000, 900));
        assert_eq!(read.requests_per_second(), 2000.0);
    }

    #[test]
    fn a_load_with_one_refusal_is_no_measurement() {
        for (good, bad) in [
            ("refused=0", "refused=1"),
            ("broken=0", "broken=1"),
            ("requests=3000", "requests=0"),
        ] {
            assert_eq!(counted(&LINE.replace(good, bad)), None, "{bad}");
        }
        assert_eq!(counted("unable to connect"), None);
    }
}
