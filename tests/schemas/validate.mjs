// What the checks share: validators made of TypeScript types, and a list of faults.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Ajv from "ajv";

const modules = join(dirname(fileURLToPath(import.meta.url)), "node_modules");
const ajv = new Ajv({ strict: false, allErrors: true });
const made = new Map();
const faults = [];

export function fault(where, what) {
  faults.push(`${where}: ${what}`);
}

// Prints the faults, and how much was checked.
export function finish(checked) {
  console.log([...faults, `${checked}, ${faults.length} faults`].join("\n"));
  process.exitCode = faults.length === 0 ? 0 : 1;
}

// Checks a value by a type that a package of npm declares. A field that the type does not have is a fault.
// `required` says which of the fields that the type wants are really wanted; all, if it is not given.
export function checkType(where, value, file, type, required) {
  const key = `${file} ${type}`;
  if (!made.has(key)) {
    const path = join(modules, file);
    if (!existsSync(path) || !readFileSync(path, "utf8").includes(`interface ${type} `)) {
      return fault(where, `there is no type ${type} in ${file}`);
    }
    const generator = join(modules, ".bin/ts-json-schema-generator");
    const arguments_ = ["--path", path, "--type", type, "--no-type-check"];
    const schema = JSON.parse(execFileSync(generator, arguments_, { encoding: "utf8" }));
    if (required !== undefined) relax(schema, required);
    made.set(key, ajv.compile(schema));
  }
  report(where, value, made.get(key));
}

// Checks a value by a JSON schema that a package of npm has.
export function checkSchema(where, value, file) {
  const schema = JSON.parse(readFileSync(join(modules, file), "utf8"));
  // Ajv knows this draft without being told.
  delete schema.$schema;
  report(where, value, ajv.compile(schema));
}

function relax(part, required) {
  if (part === null || typeof part !== "object") return;
  if (Array.isArray(part.required)) part.required = part.required.filter((name) => required.includes(name));
  for (const inner of Object.values(part)) relax(inner, required);
}

function report(where, value, valid) {
  if (valid(value)) return;
  for (const { keyword, instancePath, message, params } of valid.errors) {
    if (keyword !== "anyOf") fault(`${where} ${instancePath}`, `${message} ${JSON.stringify(params)}`);
  }
}
