"""Reads and checks manifests for the tests, and renders the chart by Helm itself. Prints one JSON value.

manifests.py read FILE                 the documents of a YAML file
manifests.py kubernetes VERSION FILE   what is wrong with them by the schemas of Kubernetes, unknown fields included
manifests.py chart FOLDER VALUES       the documents that Helm makes of the chart with these values (JSON), or its error
manifests.py parts FILE                what is wrong with a list of parts by the schema of CycloneDX
"""

import json
import sys

import yaml


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document is not None]


def kubernetes(version, path):
    import kubernetes_validate

    complaints = []
    for document in documents(open(path, encoding="utf-8").read()):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as error:  # its errors have no common class
            complaints.append(f"{document.get('kind')}: {error}")
    return complaints


def chart(folder, values):
    import helm_python

    with helm_python.Chart.load(folder) as loaded:
        try:
            loaded.validate_schema(json.loads(values))
            rendered = loaded.render(json.loads(values), name="kerbridge", namespace="kerbridge")
        except helm_python.HelmError as error:
            return {"error": str(error)}
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    notes = [text for name, text in rendered.items() if name.endswith("NOTES.txt")]
    return {"documents": [one for text in texts for one in documents(text)], "notes": "".join(notes)}


def parts(path):
    import importlib.metadata
    import jsonschema
    from referencing import Registry, Resource

    # The package's own schemas alone are used: its code needs more than is here.
    folder = importlib.metadata.distribution("cyclonedx-python-lib").locate_file("cyclonedx/schema/_res")
    schemas = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.schema.json"))]
    wanted = json.load(open(path, encoding="utf-8"))
    (schema,) = [one for one in schemas if one.get("$id", "").endswith(f"bom-{wanted['specVersion']}.schema.json")]
    registry = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in schemas if "$id" in one)
    validator = jsonschema.Draft7Validator(schema, registry=registry)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(wanted)]


def main(command, *arguments):
    if command == "read":
        return documents(open(arguments[0], encoding="utf-8").read())
    if command == "kubernetes":
        return kubernetes(*arguments)
    if command == "chart":
        return chart(*arguments)
    if command == "parts":
        return parts(*arguments)
    raise SystemExit(f"no command named {command}")


json.dump(main(*sys.argv[1:]), sys.stdout)
