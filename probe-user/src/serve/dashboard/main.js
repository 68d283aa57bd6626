// The frame of the page: which view is shown, the host, the connection, and changes read aloud.

import { overview } from "./cards.js";
import { h, once, shown } from "./dom.js";
import { hasFleet, hostsPage } from "./hosts.js";
import { incidentList, incidentPage } from "./incidents.js";
import { start } from "./live.js";
import { edges, mapPage } from "./map.js";
import { listen, model } from "./model.js";
import { servicePage } from "./service.js";
import { uptimePage } from "./uptime.js";

// The shortest time between two announcements, in milliseconds.
const ANNOUNCE = 5000;

const main = document.getElementById("content");

const VIEWS = { "": overview, incidents: incidentList, map: mapPage, uptime: uptimePage, hosts: hostsPage, service: servicePage, incident: incidentPage };

const TITLES = { "": "Services", incidents: "Incidents", map: "Dependencies", uptime: "Uptime", hosts: "Hosts" };

let close = () => {};

function route() {
  const [, name = "", rest = ""] = location.hash.match(/^#\/?([a-z]*)\/?(.*)$/) ?? [];
  let argument = rest;
  try {
    argument = decodeURIComponent(rest);
  } catch {
    // It stays as it was typed.
  }
  const known = Object.hasOwn(VIEWS, name) ? name : "";
  close();
  main.replaceChildren();
  close = VIEWS[known](main, argument);
  document.title = `${shown(TITLES[known] ?? argument)} · hostprobe`;
  for (const link of document.querySelectorAll("nav a")) {
    const at = link.getAttribute("href").slice(2);
    if (at === known || at === `${known}s`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function showHost() {
  const { host, agent } = model.status;
  const count = model.status.services.filter((service) => service.incident).length + (model.status.host_incidents?.length ?? 0);
  document.getElementById("host").replaceChildren(shown(host?.name ?? host?.hostname ?? ""),
    h("span", { class: "dim" }, ` ${agent?.version ?? ""}${model.status.ready ? "" : ", starting"} · ${count} open incident${count === 1 ? "" : "s"}`));
  document.getElementById("map-link").hidden = edges(model.status.services).length === 0;
}

// Changes are read aloud in one sentence, some seconds apart.
const changes = new Map();
let announcing = 0;
let states = null;

function noteStates() {
  const now = new Map(model.status.services.map((service) => [service.name, service.state]));
  for (const [name, state] of now) {
    const before = states?.get(name);
    if (before !== undefined && before !== state) changes.set(name, state);
  }
  states = now;
  if (changes.size && !announcing) announcing = setTimeout(announce, ANNOUNCE / 10);
}

function announce() {
  const first = [...changes].slice(0, 3).map(([name, state]) => `${name} is ${state}`);
  const more = changes.size > 3 ? `, and ${changes.size - 3} more changed` : "";
  document.getElementById("announcement").textContent = shown(first.join(", ") + more);
  changes.clear();
  announcing = setTimeout(() => {
    announcing = 0;
    if (changes.size) announce();
  }, ANNOUNCE);
}

// The sentence changes with each status; a screen reader hears of the loss and of the end of it only.
function showConnection(text, isLost) {
  const place = document.getElementById("connection");
  place.setAttribute("aria-live", isLost !== place.classList.contains("lost") ? "polite" : "off");
  place.classList.toggle("lost", isLost);
  if (place.textContent !== text) place.textContent = text;
}

const frame = once(() => {
  showHost();
  noteStates();
});
listen((kind) => {
  if (kind === "status" || kind === "state") frame();
});
document.getElementById("skip").addEventListener("click", () => main.focus());
addEventListener("hashchange", () => {
  route();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
route();
hasFleet().then((is) => {
  document.getElementById("hosts-link").hidden = !is;
});
start(showConnection);
