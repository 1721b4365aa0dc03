//! Prints manifests for Istio and Envoy Gateway, made from the policy file.

use std::collections::BTreeMap;

use clap::Args;
use kerbridge_wire::filter_config::FilterConfig;
use kerbridge_wire::policy::Policy;

use super::super::{Failure, output};
use super::{DEPLOYED, Render};
use crate::render::{self, Code, KubeName, Manifests, Place, Target, Unrenderable};

/// What manifests need to be told beside the policy.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for manifests")]
pub(super) struct Arguments {
    /// The namespace of the gateway.
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) namespace: Option<KubeName>,
    /// The gateway, a Gateway of the Gateway API.
    #[arg(long, value_name = "NAME", conflicts_with = "selector")]
    pub(super) gateway: Option<KubeName>,
    /// The gateway's pods, by a label of theirs; can be given several times.
    #[arg(long, value_name = "LABEL=VALUE", value_parser = label)]
    pub(super) selector: Vec<(String, String)>,
    /// Where the brokers are that the filter calls by this name; can be given several times.
    #[arg(long, value_name = "NAME=HOST:PORT")]
    pub(super) cluster: Vec<Place>,
    /// Where the module comes from: file:///PATH, https://ADDRESS or oci://REGISTRY/NAME@sha256:DIGEST.
    #[arg(long, value_name = "URL")]
    pub(super) module_url: Option<Code>,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let is_word = |word: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        !word.is_empty() && word.chars().all(allowed)
    };
    match text.split_once('=') {
        Some((name, value)) if is_word(name) && is_word(value) && value.len() <= 63 => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("LABEL=VALUE, as in istio=ingressgateway"),
    }
}

/// The manifests that `make` makes of what the command line says.
pub(super) fn render(
    render: &Render,
    policy: &Policy,
    config: &FilterConfig,
    make: impl FnOnce(&Manifests<'_>) -> Result<String, Unrenderable>,
) -> Result<String, Failure> {
    let usage = |said: &str| {
        output::complain(said);
        Failure::Usage
    };
    let arguments = &render.manifests;
    let namespace = arguments.namespace.as_ref();
    let namespace = namespace.ok_or_else(|| usage("--namespace: say where the gateway is"))?;
    let target = match &arguments.gateway {
        Some(name) => Target::Gateway(name.clone()),
        None if arguments.selector.is_empty() => {
            return Err(usage("say which gateway: --gateway NAME or --selector LABEL=VALUE"));
        }
        None => Target::Labels(arguments.selector.iter().cloned().collect()),
    };
    let deployed = || Code::File(render.deployed_module.clone().unwrap_or_else(|| DEPLOYED.to_owned()));
    let code = arguments.module_url.clone().unwrap_or_else(deployed);
    let module = super::module(render)?;
    let services = render::kerberos_upstreams(policy).into_iter();
    let upstreams: BTreeMap<_, _> = services
        .filter_map(|spn| Some((spn.clone(), render::upstream_config(policy, spn)?)))
        .collect();
    let manifests = Manifests {
        config,
        upstreams: &upstreams,
        clusters: &arguments.cluster,
        code: &code,
        sha256: module.sha256.as_deref(),
        target: &target,
        namespace,
    };
    make(&manifests).map_err(|error| usage(&error.to_string()))
}
