"""Writes the module as an OCI image layout: the same bytes give the same digests, wherever and whenever it is made.

module_image.py MODULE VERSION FOLDER

Two manifests, by the names VERSION and VERSION-compat: the artifact, whose one layer is the module itself, and an image that holds it as
plugin.wasm, for what knows images alone, such as an image volume of Kubernetes. Istio and Envoy Gateway take either. Prints the digest
of each.
"""

import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Layout:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "blobs" / "sha256").mkdir(parents=True)
        self.manifests = []

    def add(self, media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def manifest(self, name, config, layer, annotations):
        text = written(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config,
                "layers": [layer],
                "annotations": annotations,
            }
        )
        entry = self.add(MANIFEST, text)
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        self.manifests.append(entry)
        return entry["digest"]

    def finish(self):
        (self.folder / "oci-layout").write_bytes(written({"imageLayoutVersion": "1.0.0"}))
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self.manifests}
        (self.folder / "index.json").write_bytes(written(index))


def written(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def tar_of(module):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo("plugin.wasm")
        entry.size, entry.mode, entry.mtime = len(module), 0o444, 0
        tar.addfile(entry, io.BytesIO(module))
    return buffer.getvalue()


def main(path, version, folder):
    module = pathlib.Path(path).read_bytes()
    annotations = {
        "org.opencontainers.image.title": "kerbridge-filter",
        "org.opencontainers.image.description": "Verifies tokens and exchanges Kerberos tickets in Envoy",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": version,
        "dev.kerbridge.module.sha256": hashlib.sha256(module).hexdigest(),
    }
    layout = Layout(folder)
    artifact = layout.manifest(
        version,
        layout.add("application/vnd.module.wasm.config.v1+json", b"{}"),
        layout.add("application/vnd.module.wasm.content.layer.v1+wasm", module),
        annotations,
    )
    tar = tar_of(module)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
    }
    compat = layout.manifest(
        f"{version}-compat",
        layout.add("application/vnd.oci.image.config.v1+json", written(config)),
        layout.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(tar, mtime=0)),
        annotations,
    )
    layout.finish()
    print(f"{version} {artifact}\n{version}-compat {compat}")


main(*sys.argv[1:])
