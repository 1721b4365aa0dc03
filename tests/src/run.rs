//! Runs the named scenarios: on the lab's own parts, or in front of somebody's own, and leaves a report.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, ValueEnum};
use kerbridge_tests::delegation::Kind;
use kerbridge_tests::engine::own::{Broken, Choice, Lab, Store};
use kerbridge_tests::engine::yours::{Place, Yours};
use kerbridge_tests::engine::{self, Target};
use kerbridge_tests::report::model::{Outcome, Run, Scenario, Tally};
use kerbridge_tests::report::{self, Written, duration};
use kerbridge_tests::scenarios::{ALL, Definition, Reach};
use kerbridge_tests::wait::Clock;
use kerbridge_tests::{HarnessError, shipped};

use crate::scratch::Scratch;

/// It failed while running (docs/exit-codes.md).
const SOFTWARE: u8 = 70;

/// What to run, on what.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 everything that was tried held; 1 something did not, or nothing was seen; 2 the command line is wrong; 70 the run itself failed.

On the lab's own parts:
  kerbridge-lab run
  kerbridge-lab run --kdc samba                                      (as root: a domain controller listens on port 88)
  kerbridge-lab run --brokers 2 --store postgres --only replay store-down
  kerbridge-lab run --break wrong-spn                                (what a report says of a set-up that is wrong)

In front of a set-up of yours, which is asked as any client asks and not changed; log in first:
  kinit alice
  kerbridge-lab run --envoy https://api.example.com --path /orders/1 --audience orders \\
    --other-path /reports/1 --kdc kdc.example.com --ca /etc/ssl/example-ca.pem
What would change something there is told as not seen, with what it does. Without --kdc the KDC's leg is not captured; of the \
legs behind Envoy nothing is seen but what the service answers.")]
pub(crate) struct RunArguments {
    /// The KDC: mit or samba; with --envoy `HOST` or `HOST:PORT` of yours, to capture what it is asked.
    #[arg(long, value_name = "KDC")]
    kdc: Option<String>,
    /// How many brokers stand behind Envoy: 1 or 2. Two share a database.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2), conflicts_with = "envoy")]
    brokers: Option<u32>,
    /// Where they keep what they must not forget; redb unless given, postgres for two.
    #[arg(long, value_enum, conflicts_with = "envoy")]
    store: Option<StoreName>,
    /// Breaks the set-up on purpose, to see what the report says of it: wrong-spn, skewed-clock or open-rule.
    #[arg(long = "break", value_parser = Broken::named, value_name = "WHAT", conflicts_with = "envoy")]
    broken: Option<Broken>,
    /// Only these scenarios, in this order.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Names the scenarios, and runs none.
    #[arg(long)]
    list: bool,
    /// Where the report is written; lab-report in the target folder unless given, or in ~/.local/state/kerbridge-lab where the lab is installed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What is printed when all is done; progress goes to standard error then.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    yours: YoursArguments,
}

/// What a lab in the background is made of.
#[derive(Args)]
pub(crate) struct Parts {
    /// The KDC: mit or samba; mit unless given.
    #[arg(long, value_name = "KDC")]
    kdc: Option<String>,
    /// How many brokers stand behind Envoy: 1 or 2. Two share a database.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2))]
    brokers: Option<u32>,
    /// Where they keep what they must not forget; redb unless given, postgres for two.
    #[arg(long, value_enum)]
    store: Option<StoreName>,
}

impl Parts {
    /// What they are together.
    pub(crate) fn choice(&self) -> Choice {
        chosen(self.kdc.as_deref(), self.brokers, self.store)
    }

    /// The same as arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Choice {
            kdc, brokers, store, ..
        } = self.choice();
        let kdc = match kdc {
            Kind::Mit => "mit",
            Kind::Samba => "samba",
        };
        let store = match store {
            Store::Redb => "redb",
            Store::Postgres => "postgres",
        };
        ["--kdc", kdc, "--brokers", &brokers.to_string(), "--store", store]
            .map(str::to_owned)
            .into()
    }
}

/// Somebody's own set-up.
#[derive(Args)]
struct YoursArguments {
    /// Envoy of a set-up of yours, `https://HOST` or `https://HOST:PORT`; nothing is changed there.
    #[arg(long, value_name = "URL")]
    envoy: Option<String>,
    /// A path there that your ticket opens.
    #[arg(long, value_name = "PATH", requires = "envoy", default_value = "/")]
    path: String,
    /// A path of another audience, which a token for --path must not open.
    #[arg(long, value_name = "PATH", requires = "envoy")]
    other_path: Option<String>,
    /// The audience that a token for --path must be for.
    #[arg(long, value_name = "NAME", requires = "envoy")]
    audience: Option<String>,
    /// The authority of Envoy's certificate, in PEM; what the system trusts unless given.
    #[arg(long, value_name = "FILE", requires = "envoy")]
    ca: Option<PathBuf>,
    /// The realm that your ticket must be of; the ticket's own unless given.
    #[arg(long, value_name = "REALM", requires = "envoy")]
    realm: Option<String>,
    /// The service principal that clients ask a ticket for; HTTP/ and the host of --envoy unless given.
    #[arg(long, value_name = "SPN", requires = "envoy")]
    spn: Option<String>,
    /// The mesh listener of your broker, unix:PATH or http://HOST:PORT: whether it is ready is told.
    #[arg(long, value_name = "PLACE", requires = "envoy")]
    broker: Option<String>,
}

/// Where brokers keep what they must not forget.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreName {
    /// A file of the broker's.
    Redb,
    /// A database of their own.
    Postgres,
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each scenario.
    Text,
    /// The run as in run.json.
    Json,
}

/// Runs, and says by the exit code whether everything held.
pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    if arguments.list {
        return list(arguments.output);
    }
    let definitions = match engine::chosen(&arguments.only) {
        Ok(definitions) => definitions,
        Err(name) => usage(&format!("there is no scenario {name:?}; --list names them")),
    };
    match go(arguments, &definitions) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            tell(&format!("kerbridge-lab: {error}"));
            ExitCode::from(SOFTWARE)
        }
    }
}

/// The command line is wrong: clap's words, and its exit code.
fn usage(what: &str) -> ! {
    crate::Arguments::command()
        .error(ErrorKind::ValueValidation, what)
        .exit()
}

fn go(arguments: &RunArguments, definitions: &[&'static Definition]) -> Result<bool, HarnessError> {
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| shipped::left_behind("lab-report"));
    let out = std::path::absolute(&out).map_err(|source| HarnessError::io("find the report's folder", source))?;
    report::prepare(&out)?;
    let choice = arguments.yours.envoy.is_none().then(|| choice(arguments));
    let scratch = Scratch::new()?;
    let print = |line: &str| match arguments.output {
        Output::Text => say(line),
        Output::Json => tell(line),
    };
    let clock = Clock::start();
    let (mut target, notices) = match choice {
        Some(choice) => {
            print(&format!("Starting {}.", in_words(choice)));
            if let Some(broken) = choice.broken {
                print(&format!("Broken on purpose: {}", broken.told()));
            }
            (Target::Own(Box::new(Lab::start(choice)?)), Vec::new())
        }
        None => {
            let (yours, notices) = Yours::find(&place(arguments), scratch.path())?;
            print(&format!("In front of {}; nothing is changed there.", yours.origin));
            (Target::Yours(Box::new(yours)), notices)
        }
    };
    for notice in &notices {
        print(&format!("  note: {notice}"));
    }
    print(&format!(
        "Ready after {}; {} scenarios.",
        duration(clock.ms()),
        definitions.len()
    ));
    let mut told = BTreeSet::new();
    let run = engine::run(&mut target, definitions, notices, |scenario| {
        tell_of(scenario, &mut told, &print);
    });
    // The parts end before their end is told, and so that a credential in what they print fails the run.
    drop(target);
    drop(scratch);
    let written = report::write(&run, &out)?;
    conclude(&run, &written, clock, &print);
    if arguments.output == Output::Json {
        say(&report::json(&run)?);
    }
    Ok(run.held())
}

fn choice(arguments: &RunArguments) -> Choice {
    Choice {
        broken: arguments.broken,
        ..chosen(arguments.kdc.as_deref(), arguments.brokers, arguments.store)
    }
}

/// What the lab is made of, as the command line says; one that cannot be ends the program.
fn chosen(kdc: Option<&str>, brokers: Option<u32>, store: Option<StoreName>) -> Choice {
    let kdc = match kdc {
        None | Some("mit") => Kind::Mit,
        Some("samba") => Kind::Samba,
        Some(other) => usage(&format!(
            "--kdc {other:?} is neither mit nor samba; a KDC of yours goes with --envoy"
        )),
    };
    let brokers = brokers.unwrap_or(1);
    let store = match (store, brokers) {
        (Some(StoreName::Redb), 2) => usage("two brokers share a database: --store postgres, or one broker"),
        (Some(StoreName::Postgres), _) | (None, 2) => Store::Postgres,
        (Some(StoreName::Redb) | None, _) => Store::Redb,
    };
    Choice {
        kdc,
        brokers,
        store,
        broken: None,
    }
}

fn place(arguments: &RunArguments) -> Place {
    let yours = &arguments.yours;
    Place {
        origin: yours.envoy.clone().unwrap_or_default(),
        path: yours.path.clone(),
        other_path: yours.other_path.clone(),
        audience: yours.audience.clone(),
        authority: yours.ca.clone(),
        realm: yours.realm.clone(),
        service: yours.spn.clone(),
        kdc: arguments.kdc.clone(),
        broker: yours.broker.clone(),
    }
}

fn in_words(choice: Choice) -> String {
    let kdc = match choice.kdc {
        Kind::Mit => "an MIT KDC",
        Kind::Samba => "a Samba domain controller",
    };
    let brokers = if choice.brokers > 1 { "two brokers" } else { "a broker" };
    let store = match choice.store {
        Store::Redb => "their file",
        Store::Postgres => "PostgreSQL",
    };
    format!("{kdc}, {brokers} on {store}, Envoy, and two services").replace("a broker on their", "a broker on its")
}

fn list(output: Output) -> ExitCode {
    let reach = |definition: &Definition| match definition.reach {
        Reach::Anywhere => "anywhere",
        Reach::Own(_) => "own",
    };
    let all = ALL.iter();
    match output {
        Output::Json => {
            let all = all.map(|one| {
                serde_json::json!({"name": one.name, "title": one.title, "purpose": one.purpose, "reach": reach(one)})
            });
            say(&serde_json::Value::Array(all.collect()).to_string());
        }
        Output::Text => all.for_each(|one| say(&format!("{:<20} {}", one.name, one.purpose))),
    }
    ExitCode::SUCCESS
}

/// A line for a scenario, and what did not hold; of a cause that was told before not its remedy again.
fn tell_of(scenario: &Scenario, told: &mut BTreeSet<String>, print: &dyn Fn(&str)) {
    let word = match &scenario.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::NotSeen { .. } => "not seen",
    };
    let took = duration(scenario.duration_ms);
    print(&format!(
        "  {word:<9}{took:>7}  {:<20} {}",
        scenario.name, scenario.title
    ));
    let more = |text: &str| print(&format!("{:20}{text}", ""));
    if let Outcome::NotSeen { why, remedy } = &scenario.outcome {
        more(why);
        more(&format!("to see it: {remedy}"));
    }
    for step in scenario.steps.iter().filter(|step| !step.held) {
        more(&format!("step: {}", step.title));
        more(&format!("expected: {}", step.expected));
        more(&format!("seen: {}", step.seen));
        if let Some(cause) = &step.cause {
            more(&format!("cause: {cause}"));
            if !told.insert(cause.clone()) {
                continue;
            }
        }
        step.remedy.iter().for_each(|remedy| more(&format!("remedy: {remedy}")));
    }
}

fn conclude(run: &Run, written: &Written, clock: Clock, print: &dyn Fn(&str)) {
    let Tally { held, failed, unseen } = run.tally();
    run.notices
        .iter()
        .for_each(|notice| print(&format!("  note: {notice}")));
    print(&format!(
        "{held} held, {failed} did not, {unseen} not seen, in {}; everything is stopped again.",
        duration(clock.ms())
    ));
    print(&format!("report: {}", written.page.display()));
    print(&format!("beside it: {}", written.junit.display()));
}

/// One line on standard output. A closed pipe is no reason to leave a lab running half-way.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap_or(());
}

/// One line on standard error.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap_or(());
}
