//! Writes the configuration of the filter, of a listener and of a Kerberos service's cluster, from the policy file: as JSON, and
//! as the entry of Envoy's filter list around it.

mod capabilities;
mod envoy_gateway;
mod istio;
mod manifests;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_wire::exchange::{FEED_PATH, JWKS_PATH};
use kerbridge_wire::filter_config::{
    BrokerConfig, DelegationConfig, FeedConfig, FilterConfig, IssuerConfig, JwksConfig, UpstreamFilterConfig,
};
use kerbridge_wire::policy::{DelegationSettings, FilterSettings, Policy};
use kerbridge_wire::{Span, Spn};
use serde::Serialize;

pub use envoy_gateway::envoy_gateway;
pub use istio::{Chain, istio};
pub use manifests::{Code, KubeName, Manifests, Place, Target, Unrenderable};

/// Where Envoy finds the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The path as Envoy sees it.
    pub path: String,
    /// SHA-256 of the file in hexadecimal, where it was at hand.
    pub sha256: Option<String>,
}

/// `:authority` of the filter's calls to the broker.
const AUTHORITY: &str = "kerbridge";

/// What a filter starts with while the broker is away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inline {
    /// The broker's public keys (RFC 7517 §5).
    pub keys: Option<String>,
    /// The pages of its feed, each in base64.
    pub feed: Vec<String>,
}

/// The filter's configuration. Keys and revocations grow stale alike: without either nobody knows whether a token is good.
pub fn filter_config(issuer: &str, policy: &Policy, inline: Inline) -> FilterConfig {
    let Policy {
        audience,
        grant: _,
        route,
        issuer: others,
        // The broker's business alone.
        delegation: _,
        subject: _,
        exchange: _,
        introspection: _,
        filter,
    } = policy;
    let FilterSettings {
        cluster,
        timeout,
        delegation,
        poll,
        max_staleness,
        follow_revocations,
        feed_cluster,
        algorithms,
        clock_skew_seconds,
        identity_headers,
        token_header,
        token_cache,
        filter_state,
        underscores_rejected,
        explain,
        logout,
    } = filter.clone();
    let own = IssuerConfig {
        issuer: issuer.to_owned(),
        name: None,
        audiences: BTreeMap::new(),
        algorithms,
        types: vec!["at+jwt".to_owned()],
        jwks: JwksConfig {
            cluster: Some(cluster.clone()),
            authority: AUTHORITY.to_owned(),
            path: JWKS_PATH.to_owned(),
            poll,
            max_staleness,
            inline: inline.keys,
        },
        feed: follow_revocations.then(|| FeedConfig {
            cluster: feed_cluster.unwrap_or_else(|| cluster.clone()),
            authority: AUTHORITY.to_owned(),
            path: FEED_PATH.to_owned(),
            poll,
            max_staleness,
            inline: inline.feed,
        }),
        clock_skew_seconds,
        expiry_skew_seconds: 0,
        max_lifetime: None,
        scope_claim: "scope".to_owned(),
        groups_claim: "groups".to_owned(),
    };
    let delegation = (delegation != DelegationSettings::default()).then(|| DelegationConfig {
        cluster: delegation.cluster.unwrap_or_else(|| cluster.clone()),
        authority: AUTHORITY.to_owned(),
        timeout: delegation.timeout.unwrap_or(timeout),
    });
    FilterConfig {
        issuers: std::iter::once(own).chain(others.iter().cloned()).collect(),
        broker: Some(BrokerConfig {
            cluster,
            authority: AUTHORITY.to_owned(),
            timeout,
            issuer: issuer.to_owned(),
            delegation,
        }),
        routes: route.clone(),
        identity_headers,
        token_header,
        token_cache,
        filter_state,
        underscores_rejected,
        explain,
        logout,
        resources: audience
            .iter()
            .filter_map(|one| Some((one.name.clone(), one.resource.clone()?)))
            .collect(),
        certificate_bound: audience.iter().any(|one| one.certificate_bound),
        retry_after: Span::FIVE_SECONDS,
    }
}

/// The configuration of the filter of a Kerberos service's cluster; `None` where no route leads to that service.
pub fn upstream_config(policy: &Policy, spn: &Spn) -> Option<UpstreamFilterConfig> {
    let upstream = policy
        .route
        .iter()
        .filter_map(|route| route.upstream.as_ref())
        .find(|upstream| upstream.kerberos.spn == *spn)?;
    Some(UpstreamFilterConfig {
        upstream: upstream.clone(),
    })
}

/// The services to which the routes lead with tickets, each once.
pub fn kerberos_upstreams(policy: &Policy) -> BTreeSet<&Spn> {
    let upstreams = policy.route.iter().filter_map(|route| route.upstream.as_ref());
    upstreams.map(|upstream| &upstream.kerberos.spn).collect()
}

/// A configuration as JSON, one member a line.
pub fn json(config: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(config)
}

/// The entry for `http_filters` of Envoy's connection manager, as YAML.
pub fn envoy(config: &FilterConfig, module: &Module) -> serde_json::Result<String> {
    let mut yaml = plugin("kerbridge", module)?;
    yaml.push_str("        value: |\n");
    for text in json(config)?.lines() {
        line(&mut yaml, 10, text);
    }
    Ok(yaml)
}

/// The entries for `http_filters` of a cluster's `HttpProtocolOptions`, as YAML. The VM is that of the listener's filter: there
/// the two meet.
pub fn envoy_upstream(config: &UpstreamFilterConfig, module: &Module) -> serde_json::Result<String> {
    let mut yaml = plugin("kerbridge_upstream", module)?;
    // A service principal has no quote in it.
    line(&mut yaml, 8, &format!("value: '{}'", serde_json::to_string(config)?));
    yaml.push_str(
        r#"- name: envoy.filters.http.upstream_codec
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
"#,
    );
    Ok(yaml)
}

/// The module under a name, up to its configuration.
fn plugin(name: &str, module: &Module) -> serde_json::Result<String> {
    let mut yaml = format!(
        r#"- name: {name}
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: {name}
      root_id: {name}
      failure_policy: FAIL_RELOAD
      capability_restriction_config:
        allowed_capabilities:
"#
    );
    for name in capabilities::allowed() {
        line(&mut yaml, 10, &format!("{name}: {{}}"));
    }
    yaml.push_str(
        r"      vm_config:
        vm_id: kerbridge
        runtime: envoy.wasm.runtime.v8
        code:
          local:
",
    );
    // Envoy itself checks a digest only where it fetches the module; here it is for the reader and for sha256sum.
    if let Some(sha256) = &module.sha256 {
        line(&mut yaml, 12, &format!("# sha256: {sha256}"));
    }
    // A JSON string is a YAML string.
    line(
        &mut yaml,
        12,
        &format!("filename: {}", serde_json::to_string(&module.path)?),
    );
    yaml.push_str(
        r#"      configuration:
        "@type": type.googleapis.com/google.protobuf.StringValue
"#,
    );
    Ok(yaml)
}

fn line(yaml: &mut String, indent: usize, text: &str) {
    yaml.push_str(&" ".repeat(indent));
    yaml.push_str(text);
    yaml.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problems;

    fn policy() -> Policy {
        let text = r#"
            [[audience]]
            name = "orders"
            [[route]]
            name = "a: #b"
            path_prefix = "/orders"
            accept = ["negotiate", "bearer"]
            audience = "orders"
            [filter]
            cluster = "broker"
            poll = "3s"
            identity_headers.subject = "x-who"
        "#;
        crate::strict_toml::read(text, &mut Problems::default()).unwrap()
    }

    #[test]
    fn what_is_rendered_reads_back_as_the_filter_reads_it() {
        let inline = Inline {
            keys: Some("{\"keys\":[]}".into()),
            feed: vec!["cGFnZQ==".into()],
        };
        let config = filter_config("https://broker.test", &policy(), inline);
        let read: FilterConfig = serde_json::from_str(&json(&config).unwrap()).unwrap();
        assert_eq!(read, config);
        assert_eq!(read.routes, policy().route);
        assert_eq!(read.issuers[0].jwks.cluster.as_deref(), Some("broker"));
        assert_eq!(read.issuers[0].jwks.poll.seconds(), 3);
        let feed = read.issuers[0].feed.as_ref().unwrap();
        assert_eq!(
            (feed.cluster.as_str(), feed.path.as_str()),
            ("broker", "/v1/revocations")
        );
        assert_eq!((feed.poll.seconds(), feed.inline.len()), (3, 1));
        assert_eq!(read.broker.unwrap().issuer, read.issuers[0].issuer);
        assert_eq!(read.identity_headers.subject, "x-who");
    }

    #[test]
    fn a_policy_that_follows_no_revocations_renders_a_filter_without_a_feed() {
        let mut policy = policy();
        policy.filter.follow_revocations = false;
        let inline = Inline {
            keys: None,
            feed: vec!["page".to_owned()],
        };
        let config = filter_config("https://broker.test", &policy, inline);
        assert_eq!(config.issuers[0].feed, None);
        assert!(config.issuers[0].jwks.cluster.is_some());
    }

    #[test]
    fn tickets_are_had_where_the_policy_says_and_else_where_tokens_are() {
        let rendered = |settings: &str| {
            let text =
                format!("[[route]]\npath_prefix = \"/\"\n[filter]\ncluster = \"a\"\ntimeout = \"3s\"\n{settings}");
            let policy: Policy = crate::strict_toml::read(&text, &mut Problems::default()).unwrap();
            let config = filter_config("https://broker.test", &policy, Inline::default());
            let read: FilterConfig = serde_json::from_str(&json(&config).unwrap()).unwrap();
            assert_eq!(read, config);
            let delegation = read.broker.unwrap().delegation;
            delegation.map(|another| (another.cluster, another.timeout.seconds()))
        };
        assert_eq!(rendered(""), None);
        assert_eq!(rendered("[filter.delegation]\n"), None);
        assert_eq!(rendered("delegation = { cluster = \"b\" }"), Some(("b".to_owned(), 3)));
        assert_eq!(rendered("delegation = { timeout = \"9s\" }"), Some(("a".to_owned(), 9)));
        assert_eq!(
            rendered("delegation = { cluster = \"b\", timeout = \"9s\" }"),
            Some(("b".to_owned(), 9))
        );
    }

    #[test]
    fn revocations_are_fetched_where_the_policy_says_and_else_where_keys_are() {
        for (settings, expected) in [("", "a"), ("feed_cluster = \"b\"", "b")] {
            let text = format!("[[route]]\npath_prefix = \"/\"\n[filter]\ncluster = \"a\"\n{settings}");
            let policy: Policy = crate::strict_toml::read(&text, &mut Problems::default()).unwrap();
            let config = filter_config("https://broker.test", &policy, Inline::default());
            let own = &config.issuers[0];
            assert_eq!(own.feed.as_ref().unwrap().cluster, expected);
            assert_eq!(own.jwks.cluster.as_deref(), Some("a"));
        }
    }

    #[test]
    fn the_envoy_entry_holds_the_same_json_in_its_literal_block() {
        let config = filter_config("https://broker.test", &policy(), Inline::default());
        let module = Module {
            path: "/etc/envoy/a \"b\".wasm".into(),
            sha256: Some("00ff".into()),
        };
        let yaml = envoy(&config, &module).unwrap();
        assert!(
            yaml.contains("            # sha256: 00ff\n            filename: \"/etc/envoy/a \\\"b\\\".wasm\"\n"),
            "{yaml}"
        );
        assert!(yaml.contains("      failure_policy: FAIL_RELOAD\n"));
        let (_, block) = yaml.split_once("        value: |\n").unwrap();
        let block: String = block
            .lines()
            .map(|line| line.strip_prefix("          ").unwrap())
            .collect();
        let read: FilterConfig = serde_json::from_str(&block).unwrap();
        assert_eq!(read, config);
    }

    #[test]
    fn a_clusters_entries_name_its_service_and_the_listeners_vm() {
        let text = r#"
            [[route]]
            path_prefix = "/a"
            upstream = { kerberos = { spn = "HTTP/a.test@R" } }
            [[route]]
            path_prefix = "/b"
            upstream = { kerberos = { spn = "HTTP/a.test@R" } }
            [[route]]
            path_prefix = "/c"
        "#;
        let policy: Policy = crate::strict_toml::read(text, &mut Problems::default()).unwrap();
        let spn: Spn = "HTTP/a.test@R".parse().unwrap();
        assert_eq!(kerberos_upstreams(&policy), BTreeSet::from([&spn]));
        assert_eq!(upstream_config(&policy, &"HTTP/b.test@R".parse().unwrap()), None);
        let config = upstream_config(&policy, &spn).unwrap();
        let module = Module {
            path: "/m.wasm".into(),
            sha256: None,
        };
        let yaml = envoy_upstream(&config, &module).unwrap();
        let (before, value) = yaml.split_once("        value: '").unwrap();
        let read: UpstreamFilterConfig = serde_json::from_str(value.split('\'').next().unwrap()).unwrap();
        assert_eq!(read, config);
        assert!(before.contains("        vm_id: kerbridge\n") && before.contains("filename: \"/m.wasm\"\n"));
        assert!(yaml.ends_with("upstream_codec.v3.UpstreamCodec\n"));
    }
}
