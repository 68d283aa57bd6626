// The list of incidents, and one incident from its evidence to its end.

import { ago, ask, command, h, lasting, link, moment, scroll, value, words } from "./dom.js";
import { listen, model } from "./model.js";

// The shortest time between two questions, in milliseconds.
const REST = 1000;

// The fields of an incident that have a place of their own. All others are shown as they are.
const PLACED = new Set(["id", "verdict", "confidence", "severity", "summary", "cause", "evidence", "held", "since", "attempts",
  "timing", "snapshot", "logs", "changes", "drill"]);

export function incidentTable(incidents) {
  if (!incidents.length) return h("p", { class: "dim" }, "None.");
  return scroll("Incidents", h("table", {},
    h("thead", {}, h("tr", {}, ["State", "Incident", "Service", "Verdict", "Summary", "Began"].map((word) => h("th", { scope: "col" }, word)))),
    h("tbody", {}, incidents.map((incident) => h("tr", {},
      h("td", {}, incident.open ? h("strong", { class: incident.severity }, "open") : "over"),
      h("td", {}, link("incident", incident.id)),
      h("td", {}, incident.service === "host" ? "host" : link("service", incident.service)),
      h("td", {}, words(incident.verdict ?? "unknown")),
      h("td", {}, incident.summary ?? "", incident.hold ? h("p", { class: "dim" }, "Not restarted: ", incident.hold) : null),
      h("td", {}, incident.since ? moment(incident.since) : "unknown"))))));
}

// Has `load` run now and after events that concern it, once a second at most. Returns how to end that.
function keepLoaded(load, concerns) {
  let timer = 0;
  let begun = -Infinity;
  const soon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      begun = performance.now();
      load();
    }, Math.max(100, begun + REST - performance.now()));
  };
  const stop = listen((kind, event) => {
    if (kind === "missed" || (kind === "event" && concerns(event))) soon();
  });
  begun = performance.now();
  load();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export function incidentList(root) {
  const place = h("div", {}, h("p", { class: "dim" }, "Loading"));
  root.append(h("h1", {}, "Incidents of the last 30 days"), place);
  let isOver = false;
  const load = async () => {
    try {
      const found = await ask("/api/v1/incidents?since=30d");
      if (!isOver) place.replaceChildren(incidentTable(found));
    } catch (error) {
      if (!isOver) place.replaceChildren(h("p", {}, error.message));
    }
  };
  const stop = keepLoaded(load, (event) => event.incident?.id);
  return () => {
    isOver = true;
    stop();
  };
}

function list(title, items, draw) {
  return items?.length ? [h("h2", {}, title), draw(items)] : [];
}

const STEPS = [["detected_ms", "Detected"], ["decided_ms", "Decided"], ["acted_ms", "Acted"], ["listening_ms", "Listening again"],
  ["healthy_ms", "Healthy again"]];

function steps(timing) {
  const known = STEPS.filter(([name]) => typeof timing?.[name] === "number");
  if (!known.length) return [];
  return [h("h2", {}, "Times since the fault"),
    h("dl", {}, known.map(([name, word]) => [h("dt", {}, word), h("dd", {}, lasting(timing[name]))]))];
}

function timeline({ timeline: entries, left_out: leftOut, missing }) {
  return [
    h("h2", {}, "Timeline"),
    h("ol", { class: "timeline", "aria-label": "Timeline" }, entries.map((entry) =>
      h("li", { class: entry.evidence ? "evidence" : null },
        h("span", { class: "after", title: moment(entry.timestamp) }, `${entry.after_ms >= 0 ? "+" : ""}${lasting(entry.after_ms)}`),
        " ", h("code", {}, entry.action), " ", entry.evidence ? h("span", { class: "badge" }, "evidence") : "", " ", entry.message))),
    leftOut ? h("p", { class: "dim" }, `${leftOut} events in the middle are left out.`) : null,
    missing?.length ? h("p", { class: "dim" }, `Evidence that is not kept any more: ${missing.join(", ")}`) : null,
  ];
}

function logs(lines) {
  return h("pre", { tabindex: "0", "aria-label": "Last log lines" }, h("code", {}, lines.flatMap((line) => [line, h("br")])));
}

function further(incident) {
  const others = Object.entries(incident).filter(([name, item]) => !PLACED.has(name) && item !== null);
  return others.flatMap(([name, item]) => [h("h2", {}, words(name)), value(item)]);
}

function page(explanation) {
  const { incident, service, open, until } = explanation;
  const facts = [
    ["State", open ? "open" : until ? `over since ${moment(until)}` : "over"],
    ["Began", incident.since ? [moment(incident.since), open ? [" (", ago(incident.since, model.now || Date.now()), " ago)"] : ""] : null],
    ["Severity", incident.severity ? h("span", { class: incident.severity }, incident.severity) : null],
    ["Confidence", typeof incident.confidence === "number" ? `${Math.round(incident.confidence * 100)} %` : null],
    ["Cause", incident.cause?.service && incident.cause.service !== service ? link("service", incident.cause.service) : null],
    ["Restarts", incident.attempts],
    ["Holds back", incident.held?.length ? incident.held.join(", ") : null],
    ["Snapshot", incident.snapshot ? h("code", {}, incident.snapshot) : null],
    ["Drill", incident.drill ? `caused on purpose by ${incident.drill}` : null],
  ].filter(([, fact]) => fact !== null && fact !== undefined);
  return [
    h("h1", {}, service === "host" ? "host" : link("service", service), `: ${words(incident.verdict ?? "incident")}`),
    h("p", { id: "summary" }, incident.summary ?? ""),
    h("dl", {}, facts.map(([word, fact]) => [h("dt", {}, word), h("dd", {}, fact)])),
    steps(incident.timing),
    list("Changes before the fault", incident.changes, (items) => h("ul", {}, items.map((item) => h("li", {}, item)))),
    list("Last log lines", incident.logs, logs),
    further(incident),
    timeline(explanation),
    h("h2", {}, "Commands"),
    h("p", { class: "dim" }, "This page changes nothing. Type this on the host."),
    open ? command(`hostprobe ack ${incident.id}`) : null,
    command(`hostprobe explain ${incident.id}`),
  ].flat(2).filter(Boolean);
}

export function incidentPage(root, id) {
  root.append(h("h1", {}, `Incident ${id}`), h("p", { class: "dim" }, "Loading"));
  let isOver = false;
  let text = "";
  const load = async () => {
    try {
      const explanation = await ask(`/api/v1/incidents/${encodeURIComponent(id)}`);
      const now = JSON.stringify(explanation);
      // A page that stays as it is keeps its selection and focus.
      if (isOver || now === text) return;
      text = now;
      root.replaceChildren(...page(explanation));
    } catch (error) {
      if (!isOver && !text) root.replaceChildren(h("h1", {}, `Incident ${id}`), h("p", {}, error.message));
    }
  };
  const stop = keepLoaded(load, (event) => event.incident?.id === id || event.event?.action === "service.state");
  return () => {
    isOver = true;
    stop();
  };
}
