"""Writes what a program of this workspace is made of, as a CycloneDX 1.6 document.

sbom.py PACKAGE TARGET FILE [PROGRAM]

PACKAGE and TARGET are Cargo's. What runs is "required"; what only took part in the building is "excluded". With PROGRAM the shared
libraries that it asks for by name are listed, too. The same sources make the same document: its time is SOURCE_DATE_EPOCH, and nothing
in it says where it was made.
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
CARGO = ROOT / "tests/setup/cargo.sh"


def cargo(*arguments):
    return subprocess.run([CARGO, "host", *arguments], check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True).stdout


def tree(package, target, edges):
    """The packages that Cargo builds for this one, and with which features it would: by name and version."""
    printed = cargo(
        "tree", "--locked", "--package", package, "--target", target, "--edges", edges, "--prefix", "none", "--format", "{p}"
    )
    found = re.findall(r"^(\S+) v(\S+)", printed, flags=re.MULTILINE)
    return set(found)


def purl(name, version):
    return f"pkg:cargo/{name}@{version.replace('+', '%2B')}"


def licences(package):
    text = package["license"]
    return [{"expression": text.replace("/", " OR ")}] if text else []


def component(package, checksums, scope):
    name, version = package["name"], package["version"]
    entry = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "scope": scope,
        "licenses": licences(package),
        "purl": purl(name, version),
    }
    if (name, version) in checksums:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def shared_libraries(program):
    printed = subprocess.run(["readelf", "--dynamic", "--wide", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    names = re.findall(r"\(NEEDED\).*\[(.+)\]", printed)
    return [
        {"type": "library", "bom-ref": f"shared:{name}", "name": name, "scope": "required", "description": "A shared library of the system"}
        for name in sorted(names)
    ]


def main(package, target, file, program=None):
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    by_id = {entry["id"]: entry for entry in metadata["packages"]}
    key = lambda entry: (entry["name"], entry["version"])
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    checksums = {key(entry): entry["checksum"] for entry in lock["package"] if "checksum" in entry}
    runs = tree(package, target, "normal,no-proc-macro")
    built = tree(package, target, "normal,build")
    parts = {key(entry): entry for entry in by_id.values() if key(entry) in built}
    if set(parts) != built:
        sys.exit(f"cargo tree and cargo metadata differ: {sorted(built - set(parts))}")
    (root,) = [entry for entry in parts.values() if entry["name"] == package]
    compiler = subprocess.run([os.environ.get("RUSTC", "rustc"), "--version"], check=True, stdout=subprocess.PIPE, text=True)
    standard = compiler.stdout.split()[1]
    components = [
        component(entry, checksums, "required" if name in runs else "excluded")
        for name, entry in sorted(parts.items())
        if entry is not root
    ]
    components.append(
        {
            "type": "library",
            "bom-ref": f"pkg:generic/rust-std@{standard}",
            "name": "rust-std",
            "version": standard,
            "scope": "required",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "purl": f"pkg:generic/rust-std@{standard}",
        }
    )
    shared = shared_libraries(program) if program else []
    edges = {}
    for node in metadata["resolve"]["nodes"]:
        here = key(by_id[node["id"]])
        if here not in parts:
            continue
        used = [by_id[dep["pkg"]] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]
        edges[purl(*here)] = sorted({purl(*key(entry)) for entry in used if key(entry) in parts})
    top = purl(*key(root))
    edges[top] = sorted([*edges[top], f"pkg:generic/rust-std@{standard}", *(entry["bom-ref"] for entry in shared)])
    when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": top,
                "name": root["name"],
                "version": root["version"],
                "description": root["description"],
                "licenses": licences(root),
                "purl": top,
            },
            "properties": [{"name": "kerbridge:target", "value": target}],
        },
        "components": components + shared,
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in sorted(edges.items())],
    }
    text = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    pathlib.Path(file).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


main(*sys.argv[1:])
