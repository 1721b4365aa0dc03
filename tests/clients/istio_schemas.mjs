// Holds Istio's objects to the CRDs of Istio: validators that @kubernetes-models/istio made of them, and its list of the fields that
// there are, since a field that no CRD knows would be dropped without a word.
//
// istio_schemas.mjs FOLDER FILE: the package's folder, and the documents as JSON. Prints an array of complaints.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const complaints = [];

// Below these anything may stand.
const FREE = new Set(["pluginConfig", "value", "metadata", "matchLabels", "labels"]);

function unknown(value, known, path) {
  if (Array.isArray(value)) {
    value.forEach((item, at) => unknown(item, known, `${path}/${at}`));
  } else if (value !== null && typeof value === "object") {
    for (const [name, member] of Object.entries(value)) {
      if (!known.has(name)) complaints.push(`${path}/${name}: no CRD knows it`);
      if (!FREE.has(name)) unknown(member, known, `${path}/${name}`);
    }
  }
}

for (const document of JSON.parse(readFileSync(file, "utf8"))) {
  const { apiVersion, kind } = document;
  const [group, version] = apiVersion.split("/");
  const capital = (word) => word[0].toUpperCase() + word.slice(1);
  const schema = group.split(".").concat(version).map(capital).join("") + kind;
  const { validate } = await import(pathToFileURL(`${folder}/_schemas/${schema}.js`));
  if (!validate(document)) {
    complaints.push(...validate.errors.map((error) => `${kind}${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`));
  }
  const types = readFileSync(`${folder}/${group}/${version}/${kind}.d.ts`, "utf8");
  const known = new Set([...types.matchAll(/^\s*"?(\w+)"?\??:/gm)].map((found) => found[1]));
  for (const name of ["apiVersion", "kind", "metadata"]) known.add(name);
  unknown(document, known, kind);
}
console.log(JSON.stringify(complaints));
