//! Drives a real Chromium by WebDriver (W3C), with one user's tickets and the lab's authority, and nothing else of this machine's.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::HarnessError;
use crate::http::{Connection, Request};
use crate::process::{OwnedProcess, Spawn, find_program};
use crate::wait::wait_for;
use crate::world::World;

/// How long the driver and the browser may take to start.
const START_WITHIN: Duration = Duration::from_secs(60);
/// What the driver says once it listens.
const LISTENS: &str = "was started successfully on port ";
/// The member by which WebDriver names an element of a page (W3C WebDriver §12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Marks the page, so that the one that follows can be told from it.
const MARK_AS_OLD: &str = "window.isTheOldPage = true;";

/// The part of the page from one element to another.
const PLACE: &str = "
    const [first, last] = Array.from(arguments).map((selector) => document.querySelector(selector).getBoundingClientRect());
    const x = Math.max(0, Math.min(first.left, last.left) - 16), y = Math.max(0, first.top + scrollY - 16);
    const width = Math.max(first.right, last.right) + 16 - x;
    return { x, y, width, height: last.bottom + scrollY + 16 - y, scale: 1 };";

/// A running browser with one window. It ends with its owner.
pub struct Browser {
    driver: OwnedProcess,
    port: u16,
    session: String,
    tickets: PathBuf,
}

/// A cookie of the browser's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a user of dark or light screens prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Scheme {
    /// As CSS names it (Media Queries 5 §12.5).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Whether this machine has a browser and its driver; setup says so too, where apt has none.
#[must_use]
pub fn is_there() -> bool {
    find_program("chromium").is_ok() && find_program("chromedriver").is_ok()
}

impl Browser {
    /// A browser whose profile is fresh, of a user of this world.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start(world: &World, user: &str) -> Result<Self, HarnessError> {
        let folder = world.folder().join("browser");
        make(&folder)?;
        trust(world, &folder)?;
        let mut cache = OsString::from("FILE:");
        cache.push(tickets_of(&folder));
        let spawn = Spawn::new("chromedriver", &folder)
            .envs(world.client(user))
            .env("KRB5CCNAME", cache);
        let mut browser = Self::launch(&folder, spawn)?;
        browser.become_user(world, user)?;
        browser.open_window(&folder, &["--auth-server-allowlist=localhost"])?;
        Ok(browser)
    }

    /// A browser of nobody, which keeps its profile in this folder: for pages that are files.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn of_nobody(folder: &Path) -> Result<Self, HarnessError> {
        make(folder)?;
        let mut browser = Self::launch(folder, Spawn::new("chromedriver", folder))?;
        browser.open_window(folder, &[])?;
        Ok(browser)
    }

    /// The driver alone.
    fn launch(folder: &Path, spawn: Spawn) -> Result<Self, HarnessError> {
        let spawn = spawn.arg("--port=0").env("HOME", folder).env("NO_PROXY", "*");
        let mut driver = OwnedProcess::start(spawn)?;
        driver.wait_for_log(LISTENS, START_WITHIN)?;
        let log = driver.log();
        let port = log
            .split_once(LISTENS)
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .ok_or_else(|| unexpected("the driver's port", &log))?;
        Ok(Self {
            driver,
            port,
            session: String::new(),
            tickets: tickets_of(folder),
        })
    }

    /// The browser, with its one window.
    fn open_window(&mut self, folder: &Path, more: &[&str]) -> Result<(), HarnessError> {
        let args = [
            "--headless=new",
            // As root, as containers are, there is no other way; what is visited is ours.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--password-store=basic",
        ];
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let args: Vec<&str> = args
            .into_iter()
            .chain(more.iter().copied())
            .chain([profile.as_str()])
            .collect();
        let options = json!({"args": args, "binary": find_program("chromium")?});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options});
        let made = self.call(
            "POST",
            "/session",
            Some(&json!({"capabilities": {"alwaysMatch": wanted}})),
        )?;
        let session = made
            .get("sessionId")
            .and_then(Value::as_str)
            .ok_or_else(|| unexpected("a session", &made))?;
        self.session = format!("/session/{session}");
        Ok(())
    }

    /// Shows pages as on a screen of this size, in points, whose user prefers this colour scheme.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn show_as(&self, width: u32, height: u32, scheme: Scheme) -> Result<(), HarnessError> {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &screen)?;
        let preferred = json!({"name": "prefers-color-scheme", "value": scheme.word()});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [preferred]}))?;
        Ok(())
    }

    /// The elements from the first that one CSS selector finds to the last that the other does, with some room around them, as PNG.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`]; there must be such elements.
    pub fn picture(&self, from: &str, to: &str) -> Result<Vec<u8>, HarnessError> {
        let place = self.run(PLACE, &json!([from, to]))?;
        let clip = json!({"format": "png", "clip": place, "captureBeyondViewport": true});
        let shown = self.devtools("Page.captureScreenshot", &clip)?;
        shown
            .get("data")
            .and_then(Value::as_str)
            .and_then(|data| STANDARD.decode(data).ok())
            .ok_or_else(|| unexpected("a picture", &shown))
    }

    /// Shows pages as they are printed.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn show_as_printed(&self) -> Result<(), HarnessError> {
        self.devtools("Emulation.setEmulatedMedia", &json!({"media": "print"}))?;
        Ok(())
    }

    /// A command of Chromium's own protocol, which knows what WebDriver does not.
    fn devtools(&self, name: &str, parameters: &Value) -> Result<Value, HarnessError> {
        let command = json!({"cmd": name, "params": parameters});
        self.command("POST", "/goog/cdp/execute", Some(&command))
    }

    /// The tickets are another user's from now on, as after `kinit`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] for a stranger.
    pub fn become_user(&mut self, world: &World, user: &str) -> Result<(), HarnessError> {
        // In one step: whoever reads it meanwhile has the one or the other.
        let fresh = self.tickets.with_extension("new");
        fs::copy(world.ticket(user)?.path(), &fresh)
            .and_then(|_| fs::rename(&fresh, &self.tickets))
            .map_err(|source| HarnessError::io("change the browser's tickets", source))
    }

    /// Goes to an address, as a person who typed it, and waits until its page is loaded.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn visit(&self, url: &str) -> Result<String, HarnessError> {
        self.command("POST", "/url", Some(&json!({ "url": url })))?;
        self.text()
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn url(&self) -> Result<String, HarnessError> {
        let url = self.command("GET", "/url", None)?;
        url.as_str()
            .map(str::to_owned)
            .ok_or_else(|| unexpected("an address", &url))
    }

    /// The text of the page.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn text(&self) -> Result<String, HarnessError> {
        let text = self.run("return document.body ? document.body.innerText : '';", &json!([]))?;
        text.as_str()
            .map(str::to_owned)
            .ok_or_else(|| unexpected("a text", &text))
    }

    /// Clicks what this CSS selector finds, and waits until a page that it leads to is loaded.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`]; there must be such an element.
    pub fn click(&self, selector: &str) -> Result<String, HarnessError> {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.command("POST", "/element", Some(&wanted))?;
        let id = found
            .get(ELEMENT)
            .and_then(Value::as_str)
            .ok_or_else(|| unexpected(selector, &found))?;
        self.run(MARK_AS_OLD, &json!([]))?;
        self.command("POST", &format!("/element/{id}/click"), Some(&json!({})))?;
        self.another_page()
    }

    /// The text of the page that comes in place of one that was marked as old.
    fn another_page(&self) -> Result<String, HarnessError> {
        let is_another = "return !window.isTheOldPage && document.readyState === 'complete';";
        wait_for("another page in the browser", START_WITHIN, || {
            let is_another = self.run(is_another, &json!([])).ok()?;
            is_another.as_bool()?.then_some(())
        })?;
        self.text()
    }

    /// Runs a script in the page; its value. A script that is given `arguments[last]` calls that with its value.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] with what the driver says.
    pub fn run(&self, script: &str, args: &Value) -> Result<Value, HarnessError> {
        let waits = script.contains("arguments[arguments.length - 1]");
        let path = if waits { "/execute/async" } else { "/execute/sync" };
        self.command("POST", path, Some(&json!({"script": script, "args": args})))
    }

    /// Sends a form to an address from the page that it is on, as a button there would, and waits for the page that comes.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`], or when no other page comes in time.
    pub fn submit(&self, action: &str) -> Result<String, HarnessError> {
        let script = "const form = document.createElement('form'); form.method = 'post'; form.action = arguments[0]; \
                      document.body.appendChild(form); form.submit();";
        self.run(MARK_AS_OLD, &json!([]))?;
        self.run(script, &json!([action]))?;
        self.another_page()
    }

    /// The cookies of the page's host, those that no script sees too.
    ///
    /// # Errors
    ///
    /// As [`Browser::run`].
    pub fn cookies(&self) -> Result<Vec<Cookie>, HarnessError> {
        let found = self.command("GET", "/cookie", None)?;
        let text = |cookie: &Value, name: &str| cookie.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(found.as_array().map_or_else(Vec::new, |cookies| {
            cookies
                .iter()
                .map(|cookie| Cookie {
                    name: text(cookie, "name"),
                    value: text(cookie, "value"),
                })
                .collect()
        }))
    }

    fn command(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, HarnessError> {
        self.call(method, &format!("{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, HarnessError> {
        let request = match body {
            Some(body) => Request::post(path, body.to_string()).header("content-type", "application/json"),
            None => Request::new(method, path),
        };
        let mut driver = Connection::tcp(self.port).map_err(|error| unexpected("the browser's driver", &error))?;
        let answer = driver
            .exchange(&request)
            .map_err(|error| unexpected("the browser's driver", &error))?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 200 {
            Ok(said.get("value").cloned().unwrap_or_default())
        } else {
            let log = self.driver.log_tail();
            Err(unexpected(path, &format!("{} {said}\n{log}", answer.status)))
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // So that the browser ends before its driver; with a killed test the driver's whole group ends.
        drop(self.command("DELETE", "", None));
    }
}

fn make(folder: &Path) -> Result<(), HarnessError> {
    fs::create_dir_all(folder).map_err(|source| HarnessError::io("make the browser's folder", source))
}

fn tickets_of(folder: &Path) -> PathBuf {
    folder.join("tickets")
}

/// Where a browser of this user looks for authorities that its user trusts.
fn trust(world: &World, home: &Path) -> Result<(), HarnessError> {
    let folder = home.join(".pki/nssdb");
    fs::create_dir_all(&folder)
        .map_err(|source| HarnessError::io("make the browser's store of authorities", source))?;
    let store = format!("sql:{}", folder.display());
    let authority = world.certificates().authority.display().to_string();
    for args in [
        vec!["-N", "-d", &store, "--empty-password"],
        vec!["-A", "-d", &store, "-n", "lab", "-t", "C,,", "-i", &authority],
    ] {
        let mut certutil = OwnedProcess::start(Spawn::new("certutil", home).args(args))?;
        if !certutil.wait_exit(START_WITHIN)?.success() {
            return Err(unexpected("certutil", &certutil.log()));
        }
    }
    Ok(())
}

fn unexpected(what: &str, answer: &dyn std::fmt::Display) -> HarnessError {
    HarnessError::UnexpectedAnswer {
        what: what.to_owned(),
        answer: answer.to_string(),
    }
}
