// Checks manifests by the types of the Kubernetes API: node kubernetes.mjs FILE…

import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { checkType, fault, finish } from "./validate.mjs";

// What must be so beyond types.
const rules = {
  ConfigMap(where, { data }) {
    settings = data;
  },
  Deployment(where, { spec }) {
    const { containers, terminationGracePeriodSeconds: grace } = spec.template.spec;
    for (const { image, lifecycle, ports } of containers) {
      if (!/^[^/]+\.[^/]+\/.+:\d+(\.\d+)*$/.test(image)) fault(where, `${image} names no registry or no version`);
      // Nobody has to hear that one goes which serves no clients.
      if (!ports.some(({ name }) => name === "clients")) continue;
      const [command, pause] = lifecycle?.preStop?.exec?.command ?? [];
      if (command !== "sleep") fault(where, "it ends before balancers know");
      const drain = Number(pause) + Number(settings.ROOKERY_DRAIN_SECONDS);
      if (!(grace > drain)) fault(where, `${grace} seconds are too few to end in`);
    }
  },
  HorizontalPodAutoscaler(where, { spec }) {
    for (const { type } of spec.metrics) {
      // Whoever scales those by what waits has somebody serve that.
      if (type !== "Resource" && spec.scaleTargetRef.name !== "rookery-consumer") fault(where, `a metric of type ${type} has to be served, or nothing is scaled down`);
    }
  },
  Ingress(where, { metadata }) {
    for (const [name, value] of Object.entries(metadata.annotations)) {
      if (name.includes("timeout") && !(parseInt(value) > PING_SECONDS)) fault(where, `${name} ends idle sockets`);
    }
  },
};

const PING_SECONDS = 30;
let settings = {};
let manifests = 0;
for (const file of process.argv.slice(2)) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    for (const error of document.errors) fault(file, error.message);
    const manifest = document.toJS();
    manifests += 1;
    const { apiVersion, kind } = manifest;
    // Groups stand there by the first part of their name.
    const path = apiVersion.includes("/") ? apiVersion.replace(/\.[^/]*/, "") : `core/${apiVersion}`;
    const where = `${file}, ${kind}`;
    checkType(where, manifest, `kubernetes-types/${path}.d.ts`, kind);
    rules[kind]?.(where, manifest);
  }
}
finish(`${manifests} manifests`);
