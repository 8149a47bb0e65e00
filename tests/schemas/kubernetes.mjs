// Checks manifests by the types of the Kubernetes API: node kubernetes.mjs FILE…

import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { checkType, fault, finish } from "./validate.mjs";

let manifests = 0;
for (const file of process.argv.slice(2)) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    for (const error of document.errors) fault(file, error.message);
    const manifest = document.toJS();
    manifests += 1;
    const { apiVersion, kind } = manifest;
    const path = apiVersion.includes("/") ? apiVersion : `core/${apiVersion}`;
    checkType(`${file}, ${kind}`, manifest, `kubernetes-types/${path}.d.ts`, kind);
  }
}
finish(`${manifests} manifests`);
