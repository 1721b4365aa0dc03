//! Tells the whole story on screen, checks each step of it, and leaves the captured exchange as a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kerbridge_tests::wait::Deadline;
use kerbridge_tests::{HarnessError, World, shipped};

use crate::scratch::Scratch;
use crate::screen::{Screen, Tone};

mod circle;
mod leg;
mod refusals;
mod story;

/// Longer than any demonstration takes; only its elapsed time is read.
const LONG: Duration = Duration::from_secs(3600);

/// Runs the demonstration; the capture goes into `folder`. The exit code says whether every step was as it should be.
pub(crate) fn run(folder: &Path) -> Result<ExitCode, HarnessError> {
    let clock = Deadline::after(LONG);
    let mut screen = Screen::new();
    screen.line(&[
        (Tone::Title, "kerbridge"),
        (
            Tone::Plain,
            "  a Kerberos ticket becomes a token, a token becomes a ticket, inside Envoy",
        ),
    ]);
    screen.gap();
    screen.line(&[(
        Tone::Faint,
        "Starting a KDC, the broker, Envoy and two services that show what they receive.",
    )]);
    let scratch = Scratch::new()?;
    let mut world = World::builder().delegating().record().start()?;
    introduce(&mut screen, &mut world, &clock)?;

    if let Err(error) = story::tell(&mut screen, &mut world) {
        screen.check("the step can be carried out", false, &error.to_string());
    }
    // The lab ends before its end is announced.
    drop(world);
    drop(scratch);
    conclude(&mut screen, folder, &clock)
}

fn introduce(screen: &mut Screen, world: &mut World, clock: &Deadline) -> Result<(), HarnessError> {
    screen.gap();
    screen.field("KDC", "MIT krb5 on OpenLDAP, realm LAB.TEST, users alice and bob");
    let envoy = format!(
        "{}, envoy/envoy.yaml, https://localhost:{}",
        world.envoy().version()?,
        world.port()
    );
    screen.field("Envoy", &envoy);
    let module = shipped::module()?;
    let size = module.metadata().map(|data| data.len()).unwrap_or_default();
    screen.field(
        "filter",
        &format!("{}, {} KiB", file_name(&module), size.div_ceil(1024)),
    );
    screen.field("broker", "on a Unix socket, service principal HTTP/localhost@LAB.TEST");
    screen.field(
        "service",
        &format!(
            "http://127.0.0.1:{}, knows nothing of Kerberos",
            world.upstream().port()
        ),
    );
    if let Some(apache) = world.apache() {
        screen.field(
            "Apache",
            &format!("{}, mod_auth_gssapi, takes Kerberos and nothing else", apache.https()),
        );
    }
    screen.field("policy", "envoy/policy.toml");
    screen.field(
        "curl lines",
        "CA, URL and APACHE are what make lab-up prints; TOKEN is the token of the step",
    );
    screen.field("ready after", &seconds(clock.elapsed()));
    Ok(())
}

fn conclude(screen: &mut Screen, folder: &Path, clock: &Deadline) -> Result<ExitCode, HarnessError> {
    let failures = screen.failures().to_vec();
    screen.gap();
    if failures.is_empty() {
        let verdict = format!("All {} checks hold.", screen.checks());
        let rest = format!(" {}; everything is stopped again.", seconds(clock.elapsed()));
        screen.line(&[(Tone::Good, &verdict), (Tone::Plain, &rest)]);
    } else {
        screen.line(&[(Tone::Bad, "Not as it should be:")]);
        for failure in &failures {
            screen.line(&[(Tone::Bad, &format!("  {failure}"))]);
        }
    }
    let capture = write_capture(screen, folder)?;
    screen.field("all of it", &format!("{}, secrets masked", capture.display()));
    screen.field("to play yourself", "make lab-up, then paste the curl lines");
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes what was shown and all that was left out for brevity.
fn write_capture(screen: &Screen, folder: &Path) -> Result<PathBuf, HarnessError> {
    let path = folder.join("capture.txt");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, screen.capture()))
        .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))?;
    let here = std::env::current_dir().unwrap_or_default();
    Ok(path.strip_prefix(here).map(Path::to_owned).unwrap_or(path))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn seconds(elapsed: Duration) -> String {
    format!("{}.{} s", elapsed.as_secs(), elapsed.subsec_millis() / 100)
}
