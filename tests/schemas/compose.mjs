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

const services = Object.entries(compose.services ?? {});
for (const [name, service] of services) {
  const where = `${file}, ${name}`;
  const built = service.build !== undefined;
  // What is built here has its name only; of others' images the version is said.
  if (!built && !/:v?\d+(\.\d+)*$/.test(service.image ?? "")) fault(where, `the image ${service.image} has no version`);
  if (built && !existsSync(join(folder, service.build, "Dockerfile"))) fault(where, "there is no Dockerfile");
  const runsOnce = service.restart === undefined;
  const watched = service.healthcheck !== undefined || (built && hasHealthcheck(join(folder, service.build)));
  if (!runsOnce && !watched) fault(where, "there is no health check");
  if (service.deploy?.resources?.limits?.memory === undefined) fault(where, "there is no limit of memory");
  for (const needed of Object.keys(service.depends_on ?? {})) {
    const other = Array.isArray(service.depends_on) ? service.depends_on[needed] : needed;
    if (compose.services[other] === undefined) fault(where, `it needs ${other}, which is not there`);
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

function hasHealthcheck(context) {
  return /^HEALTHCHECK /m.test(readFileSync(join(context, "Dockerfile"), "utf8"));
}

finish(`${services.length} services`);
