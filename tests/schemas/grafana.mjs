// Checks dashboards by Grafana's own types: node grafana.mjs FILE…

import { readFileSync } from "node:fs";
import { checkType, fault, finish } from "./validate.mjs";

// The types want what has a default too; Grafana puts that in when it loads a dashboard.
const REQUIRED = ["type", "schemaVersion"];

function check(where, value, path, type) {
  checkType(where, value, `@grafana/schema/dist/types/raw/${path}/x/types.gen.d.ts`, type, REQUIRED);
}

function checkPanel(file, panel) {
  const where = `${file}, panel ${panel.id} (${panel.title})`;
  if (panel.type === "row") return check(where, panel, "dashboard", "RowPanel");
  check(where, panel, "dashboard", "Panel");
  const kind = `composable/${panel.type}/panelcfg`;
  check(`${where} options`, panel.options, kind, "Options");
  const { custom, unit } = panel.fieldConfig.defaults;
  if (custom !== undefined) check(`${where} custom`, custom, kind, "FieldConfig");
  if (!unit) fault(where, "there is no unit");
  if (!panel.description) fault(where, "there is no description");
  if (panel.targets.length === 0) fault(where, "it shows nothing");
  for (const { datasource } of [panel, ...panel.targets]) {
    if (!datasource?.uid?.startsWith("$")) fault(where, "it names a data source that others may not have");
  }
}

function overlap({ gridPos: a }, { gridPos: b }) {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

let panels = 0;
for (const file of process.argv.slice(2)) {
  const dashboard = JSON.parse(readFileSync(file, "utf8"));
  check(file, { ...dashboard, panels: [] }, "dashboard", "Dashboard");
  if (!dashboard.templating.list.some(({ name }) => name === "node")) fault(file, "there is no variable node");
  if (!JSON.stringify(dashboard).includes("/explore?")) fault(file, "no panel links to traces");
  dashboard.panels.forEach((panel, nth) => {
    panels += 1;
    checkPanel(file, panel);
    for (const other of dashboard.panels.slice(nth + 1)) {
      if (other.id === panel.id) fault(file, `two panels are ${panel.id}`);
      if (overlap(panel, other)) fault(file, `panels ${panel.id} and ${other.id} overlap`);
    }
    if (panel.gridPos.x + panel.gridPos.w > 24) fault(file, `panel ${panel.id} is too far right`);
  });
}
finish(`${panels} panels`);
