//! Refuses options that what is printed has no place for: one that is given and not heeded would be taken for heeded.

use std::path::Path;

use super::{Format, Render, manifests};
use crate::render::Code;

/// The formats that have a place for what manifests are told.
const OF_MANIFESTS: &str = "it goes with --format istio, istio-envoy-filter and envoy-gateway";

/// What is wrong with the options together: the first option that this format would leave out, by its name and the format's.
pub(super) fn misfit(render: &Render) -> Option<String> {
    let Render {
        file: _,
        format,
        module,
        deployed_module,
        upstream,
        inline_keys: _,
        manifests,
        output,
    } = render;
    // Elsewhere this option says how something is printed.
    if let Some(form @ ("json" | "text")) = output.as_deref().and_then(Path::to_str) {
        return Some(format!(
            "--output {form}: here it names a file to write; for JSON write --format json, and for a file of this name ./{form}"
        ));
    }
    let manifests::Arguments {
        namespace,
        gateway,
        selector,
        cluster,
        module_url,
    } = manifests;
    let of_manifests = [
        ("--namespace", namespace.is_some()),
        ("--gateway", gateway.is_some()),
        ("--selector", !selector.is_empty()),
        ("--cluster", !cluster.is_empty()),
        ("--module-url", module_url.is_some()),
    ];
    let of_manifests = of_manifests.map(|(option, given)| (option, given, OF_MANIFESTS));
    let fetched = matches!(module_url, Some(Code::Https(_)));
    let misfits = match format {
        Format::Envoy => of_manifests.to_vec(),
        Format::Json => {
            let alone = "the configuration alone does not say where the module is; it goes with --format envoy";
            let of_the_module = [
                ("--module", module.is_some(), alone),
                ("--deployed-module", deployed_module.is_some(), alone),
            ];
            of_the_module.into_iter().chain(of_manifests).collect()
        }
        Format::Istio | Format::IstioEnvoyFilter | Format::EnvoyGateway => vec![
            (
                "--upstream",
                upstream.is_some(),
                "manifests have the filters of all Kerberos services already",
            ),
            (
                "--deployed-module",
                deployed_module.is_some() && module_url.is_some(),
                "--module-url says where the module is: leave one of the two out",
            ),
            (
                "--module",
                module.is_some() && !fetched,
                "only an https address in --module-url wants its sha256; where Envoy has the file is said by --deployed-module",
            ),
        ],
    };
    let (option, _, why) = misfits.into_iter().find(|(_, given, _)| *given)?;
    Some(format!("{option}: not with --format {}: {why}", name(*format)))
}

const fn name(format: Format) -> &'static str {
    match format {
        Format::Envoy => "envoy",
        Format::Json => "json",
        Format::Istio => "istio",
        Format::IstioEnvoyFilter => "istio-envoy-filter",
        Format::EnvoyGateway => "envoy-gateway",
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum as _};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        render: Render,
    }

    fn said(format: &str, options: &[&str]) -> Option<String> {
        let line = [&["render", "--format", format], options].concat();
        misfit(&Line::try_parse_from(line).unwrap().render)
    }

    const MANIFESTS: [&str; 3] = ["istio", "istio-envoy-filter", "envoy-gateway"];
    const IMAGE: &str =
        "oci://registry.example.com/m@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn an_option_that_a_format_has_no_place_for_is_refused_by_both_names() {
        let mut cases = vec![
            ("json", vec!["--module", "/a.wasm"]),
            ("json", vec!["--deployed-module", "/a.wasm"]),
        ];
        for format in ["envoy", "json"] {
            for (option, value) in [
                ("--namespace", "a"),
                ("--gateway", "a"),
                ("--selector", "a=b"),
                ("--cluster", "a=b:1"),
                ("--module-url", IMAGE),
            ] {
                cases.push((format, vec![option, value]));
            }
        }
        for format in MANIFESTS {
            cases.push((format, vec!["--upstream", "HTTP/a.example.com@EXAMPLE.COM"]));
            cases.push((format, vec!["--deployed-module", "/a.wasm", "--module-url", IMAGE]));
            cases.push((format, vec!["--module", "/a.wasm"]));
            cases.push((format, vec!["--module", "/a.wasm", "--module-url", IMAGE]));
        }
        for (format, options) in cases {
            let said = said(format, &options).unwrap_or_default();
            assert!(
                said.contains(options[0]) && said.contains(&format!("--format {format}:")),
                "{format} {options:?}: {said}"
            );
        }
    }

    #[test]
    fn a_form_of_printing_is_taken_for_no_file() {
        for form in ["json", "text"] {
            let said = said("envoy", &["--output", form]).unwrap_or_default();
            assert!(
                said.contains("--format json") && said.contains(&format!("./{form}")),
                "{said}"
            );
        }
        assert_eq!(said("envoy", &["--output", "./json"]), None);
    }

    #[test]
    fn options_that_are_heeded_are_taken() {
        let url = "https://a.example.com/m.wasm";
        for (format, options) in [
            ("envoy", &["--module", "/a.wasm", "--deployed-module", "/b.wasm"][..]),
            ("envoy", &["--inline-keys", "--output", "x"]),
            ("json", &["--upstream", "HTTP/a.example.com@EXAMPLE.COM"]),
            ("istio", &["--namespace", "a", "--gateway", "b", "--cluster", "c=d:1"]),
            ("istio", &["--deployed-module", "/a.wasm", "--selector", "a=b"]),
            ("envoy-gateway", &["--module", "/a.wasm", "--module-url", url]),
        ] {
            assert_eq!(said(format, options), None, "{format} {options:?}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_command_line() {
        for format in Format::value_variants() {
            let value = format.to_possible_value().unwrap();
            assert_eq!(value.get_name(), name(*format));
        }
    }
}
