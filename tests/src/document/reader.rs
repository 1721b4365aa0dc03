//! Types what a document says, as a reader with one folder and one shell after the other would, with the lab's names in place of
//! the examples'.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Block, prints};
use crate::broker::{self, find_kerbridge};
use crate::envoy::find_envoy;
use crate::error::HarnessError;
use crate::http::Request;
use crate::process::{OwnedProcess, Spawn};
use crate::world::lab_program;

/// Longest that a block may take.
const WITHIN: Duration = Duration::from_secs(90);
/// Longest that a broker takes to start.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// The line that does not end: what follows it is typed while it runs.
const SERVE: &str = "kerbridge serve --config ";

/// Somebody who follows a document.
#[derive(Debug)]
pub struct Reader {
    // Dropped in this order: what was started, then where its files are.
    serving: Vec<OwnedProcess>,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
    names: Vec<(String, String)>,
    password: String,
    hidden: TempDir,
}

impl Reader {
    /// Somebody who works in this folder, with `kerbridge`, `kerbridge-lab` and `envoy` on the path.
    ///
    /// # Errors
    ///
    /// [`HarnessError::FileMissing`] without the programs, or [`HarnessError::Io`].
    pub fn new(folder: &Path) -> Result<Self, HarnessError> {
        let failed = |source| HarnessError::io("prepare a reader's folder", source);
        let hidden = tempfile::tempdir().map_err(failed)?;
        // Programs that become another user must be able to look into it.
        std::fs::set_permissions(hidden.path(), Permissions::from_mode(0o711)).map_err(failed)?;
        let programs = hidden.path().join("bin");
        std::fs::create_dir(&programs).map_err(failed)?;
        symlink(find_kerbridge()?, programs.join("kerbridge")).map_err(failed)?;
        symlink(lab_program()?, programs.join("kerbridge-lab")).map_err(failed)?;
        symlink(find_envoy()?, programs.join("envoy")).map_err(failed)?;
        let mut path = programs.into_os_string();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin:");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut reader = Self {
            serving: Vec::new(),
            folder: folder.to_owned(),
            environment: Vec::new(),
            names: Vec::new(),
            password: String::new(),
            hidden,
        };
        reader.set("PATH", path);
        reader.set("HOME", folder.as_os_str());
        reader.set("LC_ALL", "C");
        // The machine's proxies are not part of the document.
        reader.set("no_proxy", "*");
        Ok(reader)
    }

    /// Sets a variable of the environment anew.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let name = name.into();
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.into()));
    }

    /// The same for several.
    pub fn set_all<N: Into<OsString>, V: Into<OsString>>(&mut self, pairs: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in pairs {
            self.set(name, value);
        }
    }

    /// Reads another name wherever this one is written. Those that were said first are replaced first.
    pub fn read_as(&mut self, written: &str, there: impl Into<String>) {
        self.names.push((written.to_owned(), there.into()));
    }

    /// Types this where a program asks for a password.
    pub fn knows_the_password(&mut self, password: &str) {
        password.clone_into(&mut self.password);
    }

    /// A text with the lab's names.
    #[must_use]
    pub fn named(&self, text: &str) -> String {
        let replaced = |text: String, (written, there): &(String, String)| text.replace(written, there);
        self.names.iter().fold(text.to_owned(), replaced)
    }

    /// Where a file is that a document names.
    #[must_use]
    pub fn place(&self, written: &str) -> PathBuf {
        self.folder.join(self.named(written))
    }

    /// Types a block into a shell that stops at the first command that fails; what was printed. `kerbridge serve` is left running.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what was typed and printed, or as [`OwnedProcess::start`].
    pub fn types(&mut self, block: &Block) -> Result<String, HarnessError> {
        let text = self.named(&block.text);
        let (mut printed, mut script) = (String::new(), String::new());
        for line in text.lines() {
            match line.strip_prefix(SERVE) {
                Some(config) => {
                    printed.push_str(&self.shell(&script)?);
                    script.clear();
                    let config = self.folder.join(config.split(' ').next().unwrap_or_default());
                    self.serve(&config)?;
                }
                None => {
                    script.push_str(line);
                    script.push('\n');
                }
            }
        }
        printed.push_str(&self.shell(&script)?);
        Ok(printed)
    }

    fn spawn(&self, program: impl AsRef<std::ffi::OsStr>) -> Spawn {
        Spawn::new(program, self.hidden.path())
            .clear_env()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .cwd(&self.folder)
    }

    fn shell(&self, script: &str) -> Result<String, HarnessError> {
        if script.trim().is_empty() {
            return Ok(String::new());
        }
        let at = |name: &str| self.hidden.path().join(name);
        let (typed, out, err) = (at("typed"), at("out"), at("err"));
        std::fs::write(&typed, format!("{}\n", self.password).repeat(4))
            .map_err(|source| HarnessError::io("write a reader's keystrokes", source))?;
        let spawn = self
            .spawn("bash")
            .name("reader")
            .env("TYPED", &typed)
            .env("OUT", &out)
            .env("ERR", &err)
            .args(["-eu", "-o", "pipefail", "-c"])
            .arg(format!("exec <\"$TYPED\" >\"$OUT\" 2>\"$ERR\"\n{script}"));
        let status = OwnedProcess::start(spawn)?.wait_exit(WITHIN)?;
        let read = |path: &Path| {
            let bytes =
                std::fs::read(path).map_err(|source| HarnessError::io("read what a command printed", source))?;
            Ok::<_, HarnessError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (out, err) = (read(&out)?, read(&err)?);
        // kadmin ends with 0 whatever became of its query.
        if status.success() && !err.contains(" while ") {
            return Ok(out);
        }
        Err(HarnessError::Exited {
            name: "a step of a document".to_owned(),
            status,
            log: format!("{script}\n{out}{err}"),
        })
    }

    fn serve(&mut self, config: &Path) -> Result<(), HarnessError> {
        let spawn = self.spawn(find_kerbridge()?).name("kerbridge").watched();
        let mut process = OwnedProcess::start(spawn.arg("serve").arg("--config").arg(config))?;
        // Where `kerbridge init` puts it.
        let socket = config.with_file_name("mesh.sock");
        process.wait_alive_until("a ready broker", READY_WITHIN, |_| {
            broker::ask(&socket, &Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
        })?;
        self.serving.push(process);
        Ok(())
    }

    /// Writes the file that a block is: `kerbridge.toml` gets it at its end, any other one is this and no more.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn writes(&self, file: &Path, block: &Block) -> Result<(), HarnessError> {
        let failed = |source| HarnessError::io(format!("write {}", file.display()), source);
        let mut text = self.named(&block.text);
        if file.file_name().is_some_and(|name| name == "kerbridge.toml") {
            let before = std::fs::read_to_string(file).map_err(failed)?;
            text = format!("{before}\n{text}");
        }
        std::fs::write(file, text + "\n").map_err(failed)
    }
}

/// Follows a page: types its blocks for these labs in their order, writes the files that stand between them into `files`, and
/// compares what a page says to be printed. `before` may get the lab ready. Returns what each block printed.
///
/// # Errors
///
/// As [`Reader::types`]; [`HarnessError::UnexpectedAnswer`] where something else was printed.
pub fn walk(
    reader: &mut Reader,
    blocks: &[Block],
    labs: &[&str],
    files: &Path,
    mut before: impl FnMut(&mut Reader, &Block) -> Result<(), HarnessError>,
) -> Result<Vec<String>, HarnessError> {
    let mut printed: Vec<String> = Vec::new();
    // What is said to be printed is said of the block of commands before it.
    let mut is_ours = false;
    for block in blocks {
        if let Some(file) = block.file() {
            reader.writes(&files.join(file), block)?;
        } else if block.info == "text prints" {
            let expected = reader.named(&block.text);
            let last = printed.last().map(String::as_str).unwrap_or_default();
            if is_ours && !prints(last, &expected) {
                return Err(HarnessError::UnexpectedAnswer {
                    what: format!("what the document says is printed:\n{expected}"),
                    answer: last.to_owned(),
                });
            }
        } else if block.info.starts_with("sh") {
            is_ours = block.lab().is_some_and(|lab| labs.contains(&lab));
            if is_ours {
                before(reader, block)?;
                printed.push(reader.types(block)?);
            }
        }
    }
    Ok(printed)
}
