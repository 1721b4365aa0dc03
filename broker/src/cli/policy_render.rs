//! Prints the filter's configuration, made from the policy file.

mod fit;
mod inline;
mod manifests;

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kerbridge_wire::Spn;
use kerbridge_wire::filter_config::UpstreamFilterConfig;
use kerbridge_wire::policy::Policy;
use ring::digest;

use super::{ConfigFile, Failure, output};
use crate::config::PolicyConfig;
use crate::hexadecimal;
use crate::problem::Problems;
use crate::render::{self, Chain, Inline, Module};

/// Where the packages put the module.
pub(super) const DEPLOYED: &str = "/etc/envoy/kerbridge_filter.wasm";

/// What every WebAssembly module begins with.
const WASM: &[u8] = b"\0asm";

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
    /// What is printed is for the cluster of this Kerberos service, in place of the listener: the http_filters of its
    /// HttpProtocolOptions.
    #[arg(long, value_name = "SPN", conflicts_with = "inline_keys")]
    upstream: Option<Spn>,
    /// Puts the broker's present public keys and revocations in, so that an Envoy that starts while the broker is away can
    /// verify.
    #[arg(long)]
    inline_keys: bool,
    #[command(flatten)]
    manifests: manifests::Arguments,
    /// Writes to this file instead of standard output, and replaces it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A form of the filter's configuration.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Entries of http_filters, in YAML.
    Envoy,
    /// The filter's configuration alone, in JSON.
    Json,
    /// Manifests for Istio: a WasmPlugin, and an EnvoyFilter with what that cannot say.
    Istio,
    /// Manifests for Istio in which the EnvoyFilter has the filter, too: in a VM of its own name, with what it may ask for.
    IstioEnvoyFilter,
    /// Manifests for Envoy Gateway.
    EnvoyGateway,
}

pub(super) fn run(render: &Render) -> Result<(), Failure> {
    if let Some(misfit) = fit::misfit(render) {
        output::complain(misfit);
        return Err(Failure::Usage);
    }
    let path = &render.file.config;
    let problems = |problems: Problems| output::complain_all(path, &problems);
    let policy = PolicyConfig::load(path).map_err(problems)?;
    let inline = if render.inline_keys {
        inline::get(path).map_err(problems)?
    } else {
        Inline::default()
    };
    let listener = || render::filter_config(policy.issuer(), policy.policy_file(), inline);
    let text = match (render.format, &render.upstream) {
        (Format::Json, None) => render::json(&listener()).map(|text| format!("{text}\n")),
        (Format::Envoy, None) => render::envoy(&listener(), &module(render)?),
        (Format::Json, Some(spn)) => {
            render::json(&upstream(policy.policy_file(), spn)?).map(|text| format!("{text}\n"))
        }
        (Format::Envoy, Some(spn)) => render::envoy_upstream(&upstream(policy.policy_file(), spn)?, &module(render)?),
        (Format::Istio, _) => Ok(manifests::render(render, policy.policy_file(), &listener(), |all| {
            render::istio(all, Chain::WasmPlugin)
        })?),
        (Format::IstioEnvoyFilter, _) => Ok(manifests::render(render, policy.policy_file(), &listener(), |all| {
            render::istio(all, Chain::EnvoyFilter)
        })?),
        (Format::EnvoyGateway, _) => Ok(manifests::render(
            render,
            policy.policy_file(),
            &listener(),
            render::envoy_gateway,
        )?),
    };
    let text = text.map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    match &render.output {
        None => output::print(&text),
        Some(path) => fs::write(path, text).map_err(|error| {
            output::complain(format_args!(
                "--output {}: {error}; name a file in a folder that is there, where you may write",
                path.display()
            ));
            Failure::Running
        }),
    }
}

fn upstream(policy: &Policy, spn: &Spn) -> Result<UpstreamFilterConfig, Failure> {
    render::upstream_config(policy, spn).ok_or_else(|| {
        let known: Vec<&str> = render::kerberos_upstreams(policy)
            .into_iter()
            .map(Spn::as_str)
            .collect();
        let known = if known.is_empty() {
            "none has `upstream`".to_owned()
        } else {
            format!("they lead to {}", known.join(", "))
        };
        output::complain(format_args!(
            "--upstream {spn}: no route of the policy leads there; {known}"
        ));
        Failure::Usage
    })
}

fn module(render: &Render) -> Result<Module, Failure> {
    let sha256 = match &render.module {
        None => None,
        Some(path) => match fs::read(path) {
            Ok(bytes) if !bytes.starts_with(WASM) => {
                output::complain(format_args!(
                    "--module {}: it is no WebAssembly module; name the file kerbridge_filter.wasm",
                    path.display()
                ));
                return Err(Failure::Usage);
            }
            Ok(bytes) => Some(hexadecimal::digits(digest::digest(&digest::SHA256, &bytes).as_ref())),
            Err(error) => {
                output::complain(format_args!(
                    "--module {}: {error}; name the file kerbridge_filter.wasm where you can read it",
                    path.display()
                ));
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
