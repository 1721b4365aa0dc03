//! A release: the same files make the same one, its checksums are its files', and its lists of parts are good and whole.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use kerbridge_tests::shipped::repository;
use serde_json::Value;

use crate::{good, made, run};

/// All files below a folder, by their names from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let printed = good(
        "find",
        [
            folder.as_os_str(),
            OsStr::new("-type"),
            OsStr::new("f"),
            OsStr::new("-printf"),
            OsStr::new("%P\n"),
        ],
    );
    printed.lines().map(str::to_owned).collect()
}

fn complaints(parts: &Path) -> String {
    let python = repository().join("target/tools/manifests/bin/python");
    let script = repository().join("tests/clients/manifests.py");
    good(python, [script.as_os_str(), OsStr::new("parts"), parts.as_os_str()])
}

#[test]
fn a_variable_that_is_no_good_is_named_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (variable, script, argument, said) in [
        (
            "RELEASE=nosuch",
            "broker/package/release.sh",
            out.as_os_str(),
            "RELEASE=nosuch: ",
        ),
        (
            "SETUP=bogus",
            "tests/setup/setup.sh",
            OsStr::new("build"),
            "SETUP=bogus: ",
        ),
    ] {
        let script = repository().join(script);
        let line = [OsStr::new(variable), OsStr::new("bash"), script.as_os_str(), argument];
        let (done, printed) = run("env", line);
        assert!(!done && printed.contains(said), "{printed}");
    }
    assert!(!out.exists());
}

#[test]
fn a_release_is_the_same_twice_and_its_checksums_and_lists_of_parts_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("and/the/second"));
    made("assemble.sh", &first, "022");
    made("assemble.sh", &second, "077");
    good(
        "diff",
        [
            OsStr::new("--recursive"),
            OsStr::new("--brief"),
            first.as_os_str(),
            second.as_os_str(),
        ],
    );
    let all = files(&first);
    for end in [
        ".deb",
        ".tar.gz",
        ".tgz",
        ".wasm",
        ".cdx.json",
        "completions/kerbridge.bash",
        "man/kerbridge.1",
        "man/kerbridge-lab.1",
        "man/kerbridge.toml.5",
        "image/index.json",
        "image-digests.txt",
    ] {
        assert!(all.iter().any(|name| name.ends_with(end)), "{end}: {all:?}");
    }
    // Each file has its sum, and a file that was changed is found out.
    let sums = fs::read_to_string(first.join("SHA256SUMS")).unwrap();
    let summed: BTreeSet<String> = sums
        .lines()
        .map(|line| line.split_once("  ").unwrap().1.to_owned())
        .collect();
    let but_sums: BTreeSet<String> = all.into_iter().filter(|name| name != "SHA256SUMS").collect();
    assert_eq!(summed, but_sums);
    let check = r#"cd "$0" && sha256sum --check --strict --quiet SHA256SUMS"#;
    let check = |folder: &Path| run("bash", [OsStr::new("-c"), OsStr::new(check), folder.as_os_str()]);
    assert!(check(&first).0);
    fs::write(second.join("completions/kerbridge.bash"), "changed").unwrap();
    assert!(!check(&second).0);
    for name in but_sums.iter().filter(|name| name.ends_with(".cdx.json")) {
        whole(&first.join(name));
    }
}

/// A list of parts is good by its schema, names every part that another one needs, and what it is made of.
fn whole(path: &Path) {
    assert_eq!(complaints(path), "[]", "{}", path.display());
    let parts: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let mut known: BTreeSet<String> = list(&parts["components"])
        .iter()
        .map(|part| text(&part["bom-ref"]))
        .collect();
    known.insert(text(&parts["metadata"]["component"]["bom-ref"]));
    let (mut needed, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for entry in list(&parts["dependencies"]) {
        listed.insert(text(&entry["ref"]));
        needed.extend(list(&entry["dependsOn"]).iter().map(text));
    }
    assert!(needed.is_subset(&known) && listed.is_subset(&known), "{needed:?}");
    // Whatever runs comes from somewhere: a crate by the sum that Cargo.lock demands.
    for part in list(&parts["components"]) {
        let name = text(&part["name"]);
        let from_here = name.starts_with("kerbridge-") || name == "rust-std" || name.contains(".so");
        assert!(from_here || part["hashes"][0]["content"].is_string(), "{name}");
    }
    assert!(known.len() > 50, "{}", known.len());
    // The check can fail.
    let broken = path.with_extension("broken");
    fs::write(
        &broken,
        fs::read_to_string(path)
            .unwrap()
            .replacen("\"type\": \"library\"", "\"type\": \"libary\"", 1),
    )
    .unwrap();
    assert_ne!(complaints(&broken), "[]");
    fs::remove_file(&broken).unwrap();
}
