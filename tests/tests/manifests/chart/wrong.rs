//! Values of the chart that are refused.

use serde_json::{Value, json};

use super::{least, rendered};
use crate::tools::has_helm;

#[test]
fn values_that_are_wrong_or_cannot_be_true_together_are_refused_by_name() {
    if !has_helm() {
        return;
    }
    let wrong = |edit: &dyn Fn(&mut Value), expected: &str| {
        let mut values = least();
        edit(&mut values);
        let said = rendered(&values)["error"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(expected), "{expected}: {said}");
    };
    wrong(&|values| values["replicas"] = json!(2), "set store.kind to postgres");
    wrong(
        &|values| values["store"] = json!({"kind": "postgres"}),
        "store.postgres.hosts",
    );
    wrong(&|values| values["store"] = json!({"kind": "sqlite"}), "/store/kind");
    wrong(&|values| values["image"]["digest"] = json!("latest"), "/image/digest");
    wrong(&|values| values["mesh"]["clientNames"] = json!([]), "/mesh/clientNames");
    wrong(&|values| values["mesh"]["port"] = json!(443), "/mesh/port");
    wrong(&|values| values["mesh"]["port"] = json!(9464), "/mesh/port");
    for header in [
        "[limits]",
        " [ keys ]",
        "[kerberos]",
        "[store.postgres]",
        "[listen.public]",
    ] {
        wrong(
            &|values| values["moreConfiguration"] = json!(format!("[log]\nlevel = \"debug\"\n{header}\nx = 1\n")),
            &format!("moreConfiguration: {} is written by the chart", header.trim()),
        );
    }
    wrong(
        &|values| values["moreConfiguration"] = json!("# Of no table.\nthreads = 4\n[log]\n"),
        "begin with the name of a table",
    );
    wrong(
        &|values| values["public"] = json!({"enabled": true, "port": 8443}),
        "public.port: gateways call this one",
    );
    wrong(&|values| values["public"] = json!({"port": 9464}), "/public/port");
    wrong(&|values| values["limits"] = json!({"drain": "5s"}), "/limits/drain");
    wrong(
        &|values| values["keys"] = json!({"key_encryption_credential": "kek"}),
        "/keys/key_encryption_credential",
    );
    wrong(
        &|values| values["extraVolumes"] = json!([{"name": "mesh"}]),
        "/extraVolumes/0/name",
    );
    wrong(
        &|values| values["podLabels"] = json!({"app.kubernetes.io/instance": "x"}),
        "/podLabels/app.kubernetes.io",
    );
    wrong(
        &|values| values["podAnnotations"] = json!({"checksum/configuration": "x"}),
        "/podAnnotations/checksum",
    );
    wrong(
        &|values| values["networkPolicy"] = json!({"public": {"cidr": "192.0.2.0/24"}}),
        "/networkPolicy/public",
    );
    wrong(
        &|values| values["networkPolicy"] = json!({"egress": [{"from": []}]}),
        "/networkPolicy/egress/0",
    );
    wrong(&|values| values["replica"] = json!(1), "replica");
    wrong(&|values| values["issuer"] = json!("http://a"), "/issuer");
}
