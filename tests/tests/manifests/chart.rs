//! The chart: rendered by Helm with every documented value, held to the schemas of Kubernetes, and its configuration to the broker.

mod wrong;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::document::{quoted, tables};
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::{self, HOST, REALM, repository};
use serde_json::{Value, json};

use crate::tools::{documents, has_helm, python, without_legacy};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn chart() -> std::path::PathBuf {
    repository().join("envoy/chart")
}

/// What has no default.
fn least() -> Value {
    json!({
        "image": {"repository": "registry.example.com/kerbridge", "digest": DIGEST},
        "issuer": "https://kerbridge.example.com",
        "realms": [REALM],
        "principals": [format!("HTTP/{HOST}@{REALM}")],
        "policy": without_legacy(&shipped::policy(HOST, REALM).unwrap()),
        "mesh": {"clientNames": ["gateway.example.com"]},
    })
}

/// Every value as something else than its default.
fn all() -> Value {
    let mut values = least();
    for (name, value) in [
        ("imagePullSecrets", json!([{"name": "registry"}])),
        ("replicas", json!(3)),
        ("limits", json!({"threads": 7, "shared_sources": ["198.51.100.0/24"]})),
        ("keys", json!({"rotate_every": "13d"})),
        (
            "moreConfiguration",
            json!("# More.\n\n[log]\nlevel = \"debug\"\n[kerberos.channel_bindings]\nmode = \"allow\"\n"),
        ),
        ("keytab", json!({"secret": "other-keytab", "key": "all.keytab"})),
        ("keyEncryptionKey", json!({"secret": "other-kek", "key": "other"})),
        (
            "store",
            json!({"kind": "postgres", "size": "3Gi", "storageClass": "fast", "postgres": {
                "hosts": ["db1.example.com", "db2.example.com:5433"], "database": "other-db", "user": "other-user",
                "passwordSecret": "other-password", "caSecret": "other-ca"}}),
        ),
        ("resources", json!({"limits": {"memory": "777Mi"}})),
        (
            "public",
            json!({"enabled": true, "secret": "other-public", "port": 9555, "clientNames": ["robot.example.com"],
                "serviceType": "LoadBalancer"}),
        ),
        ("drainNotice", json!(33)),
        ("drain", json!(44)),
        (
            "networkPolicy",
            json!({"enabled": true, "gateways": {"podSelector": {"matchLabels": {"app": "gateway"}}},
                "public": {"ipBlock": {"cidr": "203.0.113.0/24"}},
                "monitoring": {"podSelector": {"matchLabels": {"app": "prometheus"}}},
                "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 5432}]}]}),
        ),
        (
            "extraVolumes",
            json!([{"name": "ldap-ca", "secret": {"secretName": "other-ldap-ca", "defaultMode": 288}}]),
        ),
        (
            "extraVolumeMounts",
            json!([{"name": "ldap-ca", "mountPath": "/etc/kerbridge/ldap-ca", "readOnly": true}]),
        ),
        (
            "podAnnotations",
            json!({"traffic.sidecar.istio.io/excludeInboundPorts": "9443"}),
        ),
        ("podLabels", json!({"sidecar.istio.io/inject": "false"})),
        ("nodeSelector", json!({"disk": "ssd"})),
        ("tolerations", json!([{"key": "dedicated", "operator": "Exists"}])),
    ] {
        values[name] = value;
    }
    values["image"]["pullPolicy"] = json!("Always");
    values["mesh"]["secret"] = json!("other-mesh");
    values["mesh"]["port"] = json!(9443);
    values
}

fn rendered(values: &Value) -> Value {
    python(&["chart".as_ref(), chart().as_ref(), values.to_string().as_ref()])
}

fn objects(values: &Value) -> Vec<Value> {
    let rendered = rendered(values);
    assert!(rendered["error"].is_null(), "{rendered}");
    rendered["documents"].as_array().unwrap().clone()
}

fn of<'d>(objects: &'d [Value], kind: &str) -> Option<&'d Value> {
    objects.iter().find(|object| object["kind"] == kind)
}

/// The paths of all values below one.
fn paths(value: &Value, path: &str, documented: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !documented.contains(path) && !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                paths(member, &path, documented, found);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_value_of_the_chart_is_documented_and_no_other() {
    let page = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let rows = tables(&page, "value");
    let documented: BTreeSet<String> = rows.iter().map(|row| quoted(&row[0]).concat()).collect();
    let values = documents(&std::fs::read_to_string(chart().join("values.yaml")).unwrap());
    let mut found = BTreeSet::new();
    paths(&values[0], "", &documented, &mut found);
    assert_eq!(found, documented);
    for row in rows {
        let path = format!("/{}", quoted(&row[0]).concat().replace('.', "/"));
        let default = quoted(&row[1]).concat();
        if !default.is_empty() {
            let value = values[0].pointer(&path).unwrap();
            let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(written, default.trim_matches('"'), "{path}");
        }
    }
}

#[test]
fn the_chart_is_good_by_the_schemas_of_kubernetes_with_the_least_and_with_every_value() {
    if !has_helm() {
        return;
    }
    for (values, kinds) in [(least(), 5), (all(), 7)] {
        let objects = objects(&values);
        assert_eq!(objects.len(), kinds, "{objects:#?}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("objects.yaml");
        // JSON is YAML.
        let text: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        std::fs::write(&file, text.concat()).unwrap();
        for version in ["1.25", "1.37"] {
            let complaints = python(&["kubernetes".as_ref(), version.as_ref(), file.as_ref()]);
            assert_eq!(complaints, json!([]), "{version}");
        }
        // The check can fail.
        std::fs::write(&file, text.concat().replace("runAsNonRoot", "runAsNoRoot")).unwrap();
        let complaints = python(&["kubernetes".as_ref(), "1.37".as_ref(), file.as_ref()]);
        assert!(complaints.to_string().contains("runAsNoRoot"), "{complaints}");
    }
}

#[test]
fn each_value_is_seen_in_what_is_rendered() {
    if !has_helm() {
        return;
    }
    let text = json!(objects(&all())).to_string();
    for word in [
        "Always",
        "other-keytab",
        "all.keytab",
        "other-kek",
        "other-mesh",
        "other-public",
        "client_ca = \\\"/etc/kerbridge/public/ca.crt\\\"",
        "robot.example.com",
        "threads = 7",
        "shared_sources = [\\\"198.51.100.0/24\\\"]",
        "rotate_every = \\\"13d\\\"",
        "drain = \\\"44s\\\"",
        "db2.example.com:5433",
        "other-db",
        "other-user",
        "other-password",
        "other-ca",
        "777Mi",
        "prometheus",
        "192.0.2.0/24",
        "ssd",
        "dedicated",
        "registry",
        "gateway.example.com",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let mut volume = all();
    volume["store"]["kind"] = json!("embedded");
    volume["replicas"] = json!(1);
    let claims = of(&objects(&volume), "StatefulSet").unwrap()["spec"]["volumeClaimTemplates"].to_string();
    assert!(claims.contains("3Gi") && claims.contains("fast"), "{claims}");
    let mut open = all();
    open["networkPolicy"]["enabled"] = json!(false);
    assert!(of(&objects(&open), "NetworkPolicy").is_none());
}

#[test]
fn the_port_that_gateways_call_is_the_one_on_which_brokers_listen() {
    if !has_helm() {
        return;
    }
    let objects = objects(&all());
    // The Service is headless: no port becomes another on the way.
    let service = &of(&objects, "Service").unwrap()["spec"];
    assert_eq!(
        (&service["clusterIP"], &service["ports"][0]["port"]),
        (&json!("None"), &json!(9443))
    );
    let container = &of(&objects, "StatefulSet").unwrap()["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["ports"][0], json!({"name": "mesh", "containerPort": 9443}));
    let config = &of(&objects, "ConfigMap").unwrap()["data"]["kerbridge.toml"];
    assert!(
        config
            .as_str()
            .unwrap()
            .contains("[listen.mesh]\ntcp = \"0.0.0.0:9443\"\n"),
        "{config}"
    );
}

#[test]
fn people_reach_the_broker_where_that_is_said_and_nowhere_else() {
    if !has_helm() {
        return;
    }
    let with = objects(&all());
    let service = with
        .iter()
        .find(|object| object["kind"] == "Service" && object["metadata"]["name"] == "kerbridge-public")
        .unwrap();
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(
        service["spec"]["ports"],
        json!([{"name": "tls-public", "port": 443, "targetPort": "public"}])
    );
    let pod = &of(&with, "StatefulSet").unwrap()["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["ports"][1],
        json!({"name": "public", "containerPort": 9555})
    );
    // Requests in flight are not cut off: 33 and 44 seconds, and some to end.
    assert_eq!(pod["terminationGracePeriodSeconds"], 87);
    assert_eq!(
        of(&with, "NetworkPolicy").unwrap()["spec"]["ingress"][1],
        json!({"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": "public"}]})
    );
    let mut without = all();
    without["public"]["enabled"] = json!(false);
    let text = json!(objects(&without)).to_string();
    for word in ["kerbridge-public", "listen.public", "203.0.113.0/24", "9555"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn what_is_added_to_the_pod_stands_beside_what_the_chart_says() {
    if !has_helm() {
        return;
    }
    let objects = objects(&all());
    let set = &of(&objects, "StatefulSet").unwrap()["spec"];
    let (pod, of_pod) = (&set["template"]["spec"], &set["template"]["metadata"]);
    assert_eq!(
        of_pod["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"],
        "9443"
    );
    assert_eq!(
        of_pod["annotations"]["checksum/configuration"].as_str().unwrap().len(),
        64
    );
    assert_eq!(of_pod["labels"]["sidecar.istio.io/inject"], "false");
    for (name, value) in set["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&of_pod["labels"][name], value, "{name}");
    }
    let last = |list: &Value| list.as_array().unwrap().last().unwrap().clone();
    assert_eq!(last(&pod["volumes"]), all()["extraVolumes"][0]);
    assert_eq!(
        last(&pod["containers"][0]["volumeMounts"]),
        all()["extraVolumeMounts"][0]
    );
}

#[test]
fn the_pod_has_no_rights_that_it_does_not_need() {
    if !has_helm() {
        return;
    }
    let objects = objects(&least());
    let pod = &of(&objects, "StatefulSet").unwrap()["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(
        container,
        &json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    assert_eq!(
        of(&objects, "ServiceAccount").unwrap()["automountServiceAccountToken"],
        false
    );
    // Nobody reaches a broker whose gateways were not named.
    assert!(of(&objects, "NetworkPolicy").unwrap()["spec"]["ingress"].is_null());
}

/// A file as Kubernetes lays one of a Secret in a pod with `fsGroup`: root's, and the group reads it.
fn secret(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o440)).unwrap();
}

#[test]
fn the_broker_takes_the_charts_configuration_with_files_as_kubernetes_lays_them() {
    if !has_helm() {
        return;
    }
    let kdc = Kdc::start(REALM).unwrap();
    let keytab = kdc.folder().join("http.keytab");
    let service = format!("HTTP/{HOST}");
    kdc.add_service(&service).unwrap();
    kdc.extract_keytab(&[&service], &keytab).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let root = folder.path().join("root");
    let mut more = least();
    for name in ["public", "limits", "keys", "moreConfiguration", "drain"] {
        more[name] = all()[name].clone();
    }
    for (path, content) in [
        ("keytab/http.keytab", std::fs::read(&keytab).unwrap()),
        ("kek/kek", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n".to_vec()),
        ("mesh/tls.crt", std::fs::read(&certificates.certificate).unwrap()),
        ("mesh/tls.key", std::fs::read(&certificates.private_key).unwrap()),
        ("mesh/ca.crt", std::fs::read(&certificates.authority).unwrap()),
        ("public/tls.crt", std::fs::read(&certificates.certificate).unwrap()),
        ("public/tls.key", std::fs::read(&certificates.private_key).unwrap()),
        ("public/ca.crt", std::fs::read(&certificates.authority).unwrap()),
    ] {
        secret(&root.join(path), &content);
    }
    std::fs::create_dir_all(root.join("lib")).unwrap();
    std::fs::create_dir_all(root.join("run")).unwrap();
    std::fs::create_dir_all(root.join("config")).unwrap();
    for values in [least(), more] {
        let config = of(&objects(&values), "ConfigMap").unwrap()["data"].clone();
        for name in ["kerbridge.toml", "policy.toml"] {
            let text = config[name].as_str().unwrap();
            let text = text
                .replace("/etc/kerbridge", root.to_str().unwrap())
                .replace("/var/lib/kerbridge", root.join("lib").to_str().unwrap())
                .replace("/run/kerbridge", root.join("run").to_str().unwrap());
            std::fs::write(root.join("config").join(name), text).unwrap();
        }
        let output = Command::new(find_kerbridge().unwrap())
            .args(["config", "check", "--config"])
            .arg(root.join("config/kerbridge.toml"))
            .env("CREDENTIALS_DIRECTORY", root.join("kek"))
            .env("KRB5_CONFIG", kdc.krb5_config())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{printed}{config}");
    }
}
