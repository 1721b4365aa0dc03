//! Fits the repository's `envoy/envoy.yaml` to one world: its paths, ports and names, and what a test varies.
//!
//! The file is edited as text, so that what runs is what ships. Each edit names the text that it replaces; where the
//! file no longer holds it exactly once, the edit fails and says so.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::error::HarnessError;

const YAML: &str = "envoy/envoy.yaml";
const POLICY: &str = "envoy/policy.toml";

/// The host that the shipped files protect.
pub const HOST: &str = "api.example.com";
/// The realm of the shipped policy.
pub const REALM: &str = "EXAMPLE.COM";
/// The Kerberos service of the shipped files.
pub const LEGACY: &str = "HTTP/legacy.example.com@EXAMPLE.COM";
/// The issuer of the shipped configuration; the lab keeps it.
pub const ISSUER: &str = "https://kerbridge.example.com";
/// The cluster of the shipped broker.
pub const BROKERS: &str = "kerbridge_broker";
/// The header of a response for which the host of [`module_that_traps`] fails, see `filter/src/trap.rs`.
pub const FAILURE_HEADER: &str = "x-host-fails-for-tests";
/// The header with which a request makes [`module_that_traps`] panic.
pub const TRAP_HEADER: &str = "x-trap-for-tests";

/// This crate's folder, save in a release, which is the same wherever it is built.
const BUILT_IN: &str = match option_env!("REPRODUCIBLE") {
    Some(_) => "",
    None => env!("CARGO_MANIFEST_DIR"),
};

/// Where a package has put this program and what it needs: the folder above its `bin`.
static INSTALLED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let program = std::env::current_exe().ok()?;
    let prefix = program.parent()?.parent()?;
    prefix.join(FILES).join(YAML).is_file().then(|| prefix.to_owned())
});
/// What a package has of the repository, laid out as there.
const FILES: &str = "share/kerbridge-lab";

/// The repository's top folder, or what a package has of it.
#[must_use]
pub fn repository() -> PathBuf {
    if let Some(prefix) = INSTALLED.as_ref() {
        return prefix.join(FILES);
    }
    let tests = Path::new(BUILT_IN);
    tests.parent().unwrap_or(tests).to_owned()
}

/// What the broker's package has at this place; without a package, what `make build` leaves at the other, in the target folder.
pub(crate) fn built(in_package: &str, in_target: &str) -> PathBuf {
    match INSTALLED.as_ref() {
        Some(prefix) => prefix.join(in_package),
        None => repository().join("target").join(in_target),
    }
}

/// Where the lab writes what nobody said a place for: below the target folder, or where its user keeps what programs leave.
#[must_use]
pub fn left_behind(name: &str) -> PathBuf {
    if INSTALLED.is_none() {
        return repository().join("target").join(name);
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state
        .unwrap_or_else(std::env::temp_dir)
        .join("kerbridge-lab")
        .join(name)
}

fn read(file: &'static str) -> Result<String, HarnessError> {
    std::fs::read_to_string(repository().join(file)).map_err(|source| HarnessError::io(format!("read {file}"), source))
}

/// The shipped policy, for another host and realm.
///
/// # Errors
///
/// [`HarnessError::Io`].
pub fn policy(host: &str, realm: &str) -> Result<String, HarnessError> {
    Ok(read(POLICY)?
        .replace(LEGACY, &legacy(realm))
        .replace(HOST, host)
        .replace(REALM, realm))
}

/// The same for a broker that has no tickets made: the policy says that another one is asked for them, behind the same cluster.
///
/// # Errors
///
/// [`HarnessError::Io`], [`HarnessError::Drifted`].
pub fn policy_of_a_minter(host: &str, realm: &str) -> Result<String, HarnessError> {
    const SETTINGS: &str = "[filter]\n";
    let policy = policy(host, realm)?;
    if policy.matches(SETTINGS).count() != 1 {
        return Err(ShippedYaml::drifted(SETTINGS));
    }
    let another = format!("{SETTINGS}delegation = {{ cluster = \"{BROKERS}\" }}\n");
    Ok(policy.replacen(SETTINGS, &another, 1))
}

/// The Kerberos service of the lab, in this realm.
#[must_use]
pub fn legacy(realm: &str) -> String {
    if realm == REALM {
        LEGACY.to_owned()
    } else {
        format!("{}@{realm}", crate::delegation::LEGACY)
    }
}

/// The module that the filter is: `KERBRIDGE_MODULE`, or what `make build` leaves in the target folder.
///
/// # Errors
///
/// [`HarnessError::FileMissing`].
pub fn module() -> Result<PathBuf, HarnessError> {
    let path = std::env::var_os("KERBRIDGE_MODULE").map_or_else(
        || {
            built(
                "lib/kerbridge/kerbridge_filter.wasm",
                "wasm32-wasip1/release/kerbridge_filter.wasm",
            )
        },
        PathBuf::from,
    );
    if path.is_file() {
        Ok(path)
    } else {
        let remedy = "run `make build`, or name the module in KERBRIDGE_MODULE";
        Err(HarnessError::FileMissing { path, remedy })
    }
}

/// The filter's sources as the module that a request can make panic.
///
/// # Errors
///
/// [`HarnessError::FileMissing`].
pub fn module_that_traps() -> Result<PathBuf, HarnessError> {
    let path = repository().join("target/wasm32-wasip1/release/kerbridge_filter_trap.wasm");
    if path.is_file() {
        Ok(path)
    } else {
        let remedy = "run `make compile-trap`";
        Err(HarnessError::FileMissing { path, remedy })
    }
}

/// The shipped Envoy configuration, being fitted.
#[derive(Clone, Debug)]
pub struct ShippedYaml {
    text: String,
}

impl ShippedYaml {
    /// The file as it stands in the repository.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn read() -> Result<Self, HarnessError> {
        Ok(Self { text: read(YAML)? })
    }

    /// A configuration of the same shape from elsewhere.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self { text }
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces a text that is there exactly once.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn replace(&mut self, from: &str, to: &str) -> Result<(), HarnessError> {
        if self.text.matches(from).count() != 1 {
            return Err(Self::drifted(from));
        }
        self.text = self.text.replacen(from, to, 1);
        Ok(())
    }

    /// Names another Kerberos service wherever the shipped one is named.
    pub fn name_legacy(&mut self, spn: &str) {
        self.text = self.text.replace(LEGACY, spn);
    }

    /// Loads another module wherever the filter's is loaded.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`] where it is loaded nowhere.
    pub fn set_module(&mut self, path: &Path) -> Result<(), HarnessError> {
        let is_module = |line: &str| line.trim_start().starts_with("filename: \"") && line.ends_with(".wasm\"");
        if !self.text.lines().any(is_module) {
            return Err(Self::drifted("filename: \"….wasm\""));
        }
        let fit = |line: String| {
            let indent = " ".repeat(depth(&line));
            if is_module(&line) {
                format!("{indent}filename: \"{}\"", path.display())
            } else {
                line
            }
        };
        let all: Vec<String> = self.lines().into_iter().map(fit).collect();
        self.set_lines(&all);
        Ok(())
    }

    /// Removes the first line that begins with `anchor` below the one that begins with `section`, and what is nested in it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn remove_block_below(&mut self, section: &str, anchor: &str) -> Result<(), HarnessError> {
        let (begin, _) = self.line(section)?;
        let all = self.lines();
        let found = all.iter().enumerate().skip(begin);
        let (position, _) = found
            .into_iter()
            .find(|(_, line)| line.trim_start().starts_with(anchor))
            .ok_or_else(|| Self::drifted(anchor))?;
        self.remove_at(position);
        Ok(())
    }

    /// Adds lines below the one that begins with `anchor`, as deep as that one.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn insert_below(&mut self, anchor: &str, lines: &[&str]) -> Result<(), HarnessError> {
        let (position, indent) = self.line(anchor)?;
        let mut all = self.lines();
        let added = lines.iter().map(|line| format!("{}{line}", " ".repeat(indent)));
        all.splice(position.saturating_add(1)..position.saturating_add(1), added);
        self.set_lines(&all);
        Ok(())
    }

    /// Removes the line that begins with `anchor` and what is nested in it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn remove_block(&mut self, anchor: &str) -> Result<(), HarnessError> {
        let (position, _) = self.line(anchor)?;
        self.remove_at(position);
        Ok(())
    }

    /// Replaces the first line that is `anchor`, and what is nested in it, by these lines, which become as deep.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn replace_first_block(&mut self, anchor: &str, lines: &str) -> Result<(), HarnessError> {
        let all = self.lines();
        let position = all.iter().position(|line| line.trim() == anchor);
        let position = position.ok_or_else(|| Self::drifted(anchor))?;
        let indent = " ".repeat(all.get(position).map_or(0, |line| depth(line)));
        self.remove_at(position);
        let mut all = self.lines();
        all.splice(position..position, lines.lines().map(|line| format!("{indent}{line}")));
        self.set_lines(&all);
        Ok(())
    }

    fn remove_at(&mut self, position: usize) {
        let mut all = self.lines();
        let first = all.get(position).cloned().unwrap_or_default();
        let indent = depth(&first);
        let is_item = first.trim_start().starts_with("- ");
        let nested = all
            .iter()
            .skip(position.saturating_add(1))
            .take_while(|line| {
                let depth = depth(line);
                // A list may stand as deep as its key.
                line.trim().is_empty()
                    || depth > indent
                    || (depth == indent && !is_item && line.trim_start().starts_with("- "))
            })
            .count();
        all.drain(position..=position.saturating_add(nested));
        self.set_lines(&all);
    }

    /// The filter's configuration: the JSON of the block below `value: |`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn filter_configuration(&self) -> Result<String, HarnessError> {
        let (position, indent) = self.line("value: |")?;
        let block: Vec<String> = self
            .lines()
            .into_iter()
            .skip(position.saturating_add(1))
            .take_while(|line| !line.trim().is_empty() && depth(line) > indent)
            .map(|line| line.get(indent.saturating_add(2)..).unwrap_or_default().to_owned())
            .collect();
        Ok(block.join("\n"))
    }

    /// Replaces the filter's configuration; the text is not looked at.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`].
    pub fn set_filter_configuration(&mut self, json: &str) -> Result<(), HarnessError> {
        let (position, indent) = self.line("value: |")?;
        let mut all = self.lines();
        let first = position.saturating_add(1);
        let old = all
            .iter()
            .skip(first)
            .take_while(|line| !line.trim().is_empty() && depth(line) > indent);
        let end = first.saturating_add(old.count());
        let indent = " ".repeat(indent.saturating_add(2));
        all.splice(first..end, json.lines().map(|line| format!("{indent}{line}")));
        self.set_lines(&all);
        Ok(())
    }

    /// Changes the filter's configuration as JSON.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Drifted`] where it is none.
    pub fn edit_filter_configuration(&mut self, edit: impl FnOnce(&mut Value)) -> Result<(), HarnessError> {
        let text = self.filter_configuration()?;
        let mut json: Value = serde_json::from_str(&text).map_err(|_not_json| Self::drifted(&text))?;
        edit(&mut json);
        self.set_filter_configuration(&json.to_string())
    }

    fn lines(&self) -> Vec<String> {
        self.text.lines().map(str::to_owned).collect()
    }

    fn set_lines(&mut self, lines: &[String]) {
        self.text = lines.join("\n");
        self.text.push('\n');
    }

    fn line(&self, anchor: &str) -> Result<(usize, usize), HarnessError> {
        let mut found = self
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with(anchor));
        match (found.next(), found.next()) {
            (Some((position, line)), None) => Ok((position, depth(line))),
            _ => Err(Self::drifted(anchor)),
        }
    }

    fn drifted(expected: &str) -> HarnessError {
        HarnessError::Drifted {
            file: YAML,
            expected: expected.to_owned(),
        }
    }
}

fn depth(line: &str) -> usize {
    line.len().saturating_sub(line.trim_start().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ShippedYaml {
        ShippedYaml::from_text("a:\n  one:\n  - x: 1\n    y: 2\n  value: |\n    {\"p\":\n    1}\n\nb: 3\n".to_owned())
    }

    #[test]
    fn an_edit_that_finds_nothing_or_too_much_fails() {
        let mut yaml = small();
        assert!(yaml.replace("z: 9", "").is_err());
        assert!(yaml.replace("1", "2").is_err());
        assert!(yaml.insert_below("nothing", &["q: 1"]).is_err());
        assert_eq!(yaml.text(), small().text());
    }

    #[test]
    fn lines_are_inserted_as_deep_as_their_anchor() {
        let mut yaml = small();
        yaml.insert_below("value: |", &[]).unwrap();
        yaml.insert_below("b: 3", &["c: 4"]).unwrap();
        assert!(yaml.text().ends_with("b: 3\nc: 4\n"));
    }

    #[test]
    fn a_block_goes_with_the_list_below_it() {
        let mut yaml = small();
        yaml.remove_block("one:").unwrap();
        assert!(yaml.text().starts_with("a:\n  value: |\n"));
        let mut list = ShippedYaml::from_text("- one: 1\n  x: 1\n- two: 2\n".to_owned());
        list.remove_block("- one").unwrap();
        assert_eq!(list.text(), "- two: 2\n");
    }

    #[test]
    fn the_filter_configuration_is_read_and_replaced() {
        let mut yaml = small();
        assert_eq!(yaml.filter_configuration().unwrap(), "{\"p\":\n1}");
        yaml.set_filter_configuration("{}").unwrap();
        assert_eq!(yaml.filter_configuration().unwrap(), "{}");
        assert!(yaml.text().ends_with("    {}\n\nb: 3\n"));
    }
}
