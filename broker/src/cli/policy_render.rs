//! Prints the filter's configuration, made from the policy file.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ring::digest;

use super::{ConfigFile, Failure, output};
use crate::config::{Config, PolicyConfig, Surroundings};
use crate::keyring::KeyRing;
use crate::problem::{Problem, Problems};
use crate::render::{self, Module};

/// Where the packages put the module.
pub(super) const DEPLOYED: &str = "/etc/envoy/kerbridge_filter.wasm";

#[derive(Debug, Args)]
pub(super) struct Render {
    #[command(flatten)]
    file: ConfigFile,
    /// What is printed.
    #[arg(long, value_enum, default_value_t = Format::Envoy)]
    format: Format,
    /// The module on this machine; its sha256 is noted beside its path.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    /// The module's path as Envoy sees it; that of --module where absent, or /etc/envoy/kerbridge_filter.wasm.
    #[arg(long, value_name = "PATH")]
    deployed_module: Option<String>,
    /// Puts the broker's present public keys in, so that an Envoy that starts while the broker is away can verify.
    #[arg(long)]
    inline_keys: bool,
    /// Writes to this file instead of standard output, and replaces it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A form of the filter's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An entry of http_filters, in YAML.
    Envoy,
    /// The filter's configuration alone, in JSON.
    Json,
}

pub(super) fn run(render: &Render) -> Result<(), Failure> {
    let path = &render.file.config;
    let problems = |problems: Problems| output::complain_all(path, &problems);
    let policy = PolicyConfig::load(path).map_err(problems)?;
    let keys = if render.inline_keys {
        Some(keys(path).map_err(problems)?)
    } else {
        None
    };
    let config = render::filter_config(policy.issuer(), policy.policy_file(), keys);
    let text = match render.format {
        Format::Json => render::json(&config).map(|text| format!("{text}\n")),
        Format::Envoy => render::envoy(&config, &module(render)?),
    };
    let text = text.map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    match &render.output {
        None => output::print(&text),
        Some(path) => fs::write(path, text).map_err(|error| {
            output::complain(format_args!("{}: {error}", path.display()));
            Failure::Running
        }),
    }
}

fn keys(path: &std::path::Path) -> Result<String, Problems> {
    let config = Config::load(path, &Surroundings::of_process())?;
    let Some(key) = config.key_encryption_key() else {
        return Err(Problem {
            field: "keys".into(),
            problem: "this broker has none of its own".into(),
            remedy: "render where tokens are made, or without --inline-keys".into(),
        }
        .into());
    };
    KeyRing::open(config.state_dir(), key)
        .map(|keyring| keyring.jwks())
        .map_err(|error| {
            let remedy = format!("{}; the keys are made by the broker's first start", error.remedy());
            Problems::from(Problem {
                remedy,
                ..error.problem()
            })
        })
}

fn module(render: &Render) -> Result<Module, Failure> {
    let sha256 = match &render.module {
        None => None,
        Some(path) => match fs::read(path) {
            Ok(bytes) => Some(hexadecimal(digest::digest(&digest::SHA256, &bytes).as_ref())),
            Err(error) => {
                output::complain(format_args!("--module {}: {error}", path.display()));
                return Err(Failure::Usage);
            }
        },
    };
    let named = render.module.as_ref().map(|path| {
        // A relative path would be Envoy's working directory's.
        std::path::absolute(path)
            .unwrap_or_else(|_| path.clone())
            .to_string_lossy()
            .into_owned()
    });
    let path = render
        .deployed_module
        .clone()
        .or(named)
        .unwrap_or_else(|| DEPLOYED.into());
    Ok(Module { path, sha256 })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
