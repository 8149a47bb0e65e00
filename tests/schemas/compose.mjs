// Checks a compose file by the compose specification's schema, and that its services can be relied upon:
// node compose.mjs FILE

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { checkSchema, fault, finish } from "./validate.mjs";

const [file] = process.argv.slice(2);
const folder = dirname(file);
const compose = parse(readFileSync(file, "utf8"), { merge: true });
checkSchema(file, compose, "dclint/schemas/compose.schema.json");

const addresses = new Set(
  Object.values(compose.services ?? {}).map(({ networks }) => networks?.default?.ipv4_address),
);
const services = Object.entries(compose.services ?? {});
for (const [name, service] of services) {
  const where = `${file}, ${name}`;
  const builders = services.filter(([, other]) => other.build !== undefined && other.image === service.image);
  const built = builders.length > 0;
  if (builders.length > 1) fault(where, `${service.image} is built ${builders.length} times`);
  if (built && service.build === undefined && !comesAfter(service, builders[0][0])) {
    fault(where, `it does not wait for ${builders[0][0]}, which builds its image`);
  }
  // What is built here has its name only; of others' images the version is said.
  if (!built && !/:v?\d+(\.\d+)*$/.test(service.image ?? "")) fault(where, `the image ${service.image} has no version`);
  const context = built && builders[0][1].build;
  if (built && !existsSync(join(folder, context, "Dockerfile"))) fault(where, "there is no Dockerfile");
  const runsOnce = service.restart === undefined;
  const watched = service.healthcheck !== undefined || (built && hasHealthcheck(join(folder, context)));
  if (!runsOnce && !watched) fault(where, "there is no health check");
  if (service.deploy?.resources?.limits?.memory === undefined) fault(where, "there is no limit of memory");
  for (const needed of Object.keys(service.depends_on ?? {})) {
    const other = Array.isArray(service.depends_on) ? service.depends_on[needed] : needed;
    if (compose.services[other] === undefined) fault(where, `it needs ${other}, which is not there`);
  }
  // Unless a variable says otherwise.
  for (const port of service.ports ?? []) {
    if (!/^(\$\{\w+:-)?127\.0\.0\.1:/.test(port)) fault(where, `${port} is published to everybody`);
  }
  // A network is more than the balancers.
  const trusted = service.environment?.ROOKERY_TRUSTED_PROXY?.split(",") ?? [];
  for (const address of trusted) {
    if (!addresses.has(address)) fault(where, `it trusts ${address}, which is no service`);
  }
  for (const volume of service.volumes ?? []) {
    const [source] = volume.split(":");
    if (source.startsWith(".")) {
      if (!existsSync(join(folder, source))) fault(where, `${source} is mounted and is not there`);
    } else if (!(source in (compose.volumes ?? {}))) {
      fault(where, `the volume ${source} is not declared`);
    }
  }
}

// What it acknowledges must be on the disk, and it must have the time to write what is not.
const scylla = compose.services?.scylla;
if (!scylla?.command.includes("--commitlog-sync=batch")) fault(file, "scylla acknowledges before it syncs");
if (!/^\d+m$/.test(scylla?.stop_grace_period ?? "")) fault(file, "scylla has no time to stop");

function comesAfter(service, name) {
  return service.depends_on?.[name] !== undefined;
}

function hasHealthcheck(context) {
  return /^HEALTHCHECK /m.test(readFileSync(join(context, "Dockerfile"), "utf8"));
}

finish(`${services.length} services`);
