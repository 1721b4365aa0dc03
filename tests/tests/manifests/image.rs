//! The module as an OCI image layout: every digest is that of its blob, two builds are one, skopeo reads both images.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use kerbridge_tests::process::find_program;
use kerbridge_tests::shipped::repository;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::tools::module;

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Makes the layout; what was printed.
fn make(module: &str, folder: &Path) -> String {
    let script = repository().join("tests/setup/module_image.py");
    let mut command = Command::new(find_program("python3").unwrap());
    let output = command
        .arg(script)
        .args([module, "1.2.3"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The blob that a descriptor names, which has its digest and its size.
fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
    let named = descriptor["digest"].as_str().unwrap();
    let bytes = std::fs::read(folder.join("blobs").join(named.replace(':', "/"))).unwrap();
    assert_eq!(sha256(&bytes), named);
    assert_eq!(descriptor["size"].as_u64(), u64::try_from(bytes.len()).ok());
    bytes
}

#[test]
fn the_modules_image_is_a_layout_whose_digests_are_true_and_which_any_build_makes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let printed = make(&module(), &one);
    assert_eq!(printed, make(&module(), &other));
    assert_eq!(
        std::fs::read(one.join("index.json")).unwrap(),
        std::fs::read(other.join("index.json")).unwrap()
    );
    assert_eq!(read(&one, "oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let index = read(&one, "index.json");
    let bytes = std::fs::read(module()).unwrap();
    let (mut used, mut layers) = (BTreeSet::new(), Vec::new());
    for entry in index["manifests"].as_array().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        let digest = entry["digest"].as_str().unwrap();
        assert!(printed.contains(&format!("{name} {digest}\n")), "{printed}");
        let manifest: Value = serde_json::from_slice(&blob(&one, entry)).unwrap();
        let annotations = &manifest["annotations"];
        assert_eq!(annotations["org.opencontainers.image.version"], "1.2.3");
        assert_eq!(
            format!(
                "sha256:{}",
                annotations["dev.kerbridge.module.sha256"].as_str().unwrap()
            ),
            sha256(&bytes)
        );
        blob(&one, &manifest["config"]);
        let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("one layer: {manifest}");
        };
        layers.push((layer["mediaType"].as_str().unwrap().to_owned(), blob(&one, layer)));
        for descriptor in [entry, &manifest["config"], layer] {
            used.insert(descriptor["digest"].as_str().unwrap().replace("sha256:", ""));
        }
    }
    assert_eq!(
        layers[0],
        ("application/vnd.module.wasm.content.layer.v1+wasm".to_owned(), bytes)
    );
    assert_eq!(layers[1].0, "application/vnd.oci.image.layer.v1.tar+gzip");
    let there = std::fs::read_dir(one.join("blobs/sha256")).unwrap();
    let there: BTreeSet<String> = there
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, used, "blobs that nothing names");
}

#[test]
fn skopeo_reads_both_images_and_finds_a_blob_that_was_changed() {
    let Ok(skopeo) = find_program("skopeo") else {
        eprintln!("left out: apt offers no skopeo here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let printed = make(&module(), &layout);
    let copy = |name: &str, to: &str| {
        let from = format!("oci:{}:{name}", layout.display());
        let to = format!("dir:{}", folder.path().join(to).display());
        Command::new(&skopeo)
            .args(["copy", "--insecure-policy", &from, &to])
            .output()
            .unwrap()
    };
    for line in printed.lines() {
        let (name, digest) = line.split_once(' ').unwrap();
        let output = copy(name, name);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            sha256(&std::fs::read(folder.path().join(name).join("manifest.json")).unwrap()),
            digest
        );
    }
    // As docs/kubernetes.md has it.
    let inspect = |arguments: &[&str]| {
        let image = format!("oci:{}:1.2.3", layout.display());
        Command::new(&skopeo)
            .arg("inspect")
            .args(arguments)
            .arg(image)
            .output()
            .unwrap()
    };
    let raw = inspect(&["--raw"]);
    assert!(raw.status.success() && !inspect(&[]).status.success());
    let index = read(&layout, "index.json");
    let manifest: Value = serde_json::from_slice(&blob(&layout, &index["manifests"][0])).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&raw.stdout).unwrap(), manifest);
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().replace(':', "/");
    std::fs::write(layout.join("blobs").join(layer), b"another").unwrap();
    assert!(!copy("1.2.3", "changed").status.success());
}
