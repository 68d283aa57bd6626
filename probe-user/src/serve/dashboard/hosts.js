// All hosts of the fleet, as this one reads them from NATS.

import { ask, h, lasting, scroll, shape, words } from "./dom.js";

// Between two questions, in milliseconds.
const AGAIN = 5000;

export async function hasFleet() {
  try {
    return (await ask("/api/v1/hosts")).fleet;
  } catch {
    // A fleet that does not answer is one.
    return true;
  }
}

function incident(open) {
  if (!open) return null;
  const cause = open.cause ? `, caused by ${open.cause}` : "";
  const held = open.held.length ? `; held because of it: ${open.held.join(", ")}` : "";
  return h("span", { class: "dim" }, ` ${words(open.verdict)} (${open.confidence.toFixed(2)})${cause}: ${open.summary}${held}`);
}

function row(host) {
  const unwell = host.services.filter((service) => service.state !== "healthy");
  const all = host.services.length + host.left_out;
  const heard = host.is_silent ? `silent${host.heard_ms ? ` for ${lasting(host.heard_ms)}` : ""}` : "heard";
  return h("tr", {}, h("th", { scope: "row" }, host.name),
    h("td", {}, shape(host.is_silent ? "down" : "healthy"), ` ${heard}`),
    h("td", {}, `${host.services.length - unwell.length} of ${all}`),
    h("td", {}, unwell.map((service) => h("p", {}, shape(service.state), ` ${service.name}: ${words(service.state)}`, incident(service.incident)))));
}

export function hostsPage(root) {
  const body = h("tbody", {});
  const note = h("p", { class: "dim" }, "Loading");
  root.append(h("h1", {}, "Hosts"), note, scroll("Hosts of the fleet", h("table", {},
    h("thead", {}, h("tr", {}, ["Host", "Heard", "Healthy services", "Not healthy"].map((word) => h("th", { scope: "col" }, word)))), body)));
  let isOver = false;
  let timer = 0;
  async function show() {
    try {
      const { fleet, hosts } = await ask("/api/v1/hosts");
      if (isOver) return;
      body.replaceChildren(...hosts.map(row));
      note.textContent = fleet ? `${hosts.length} host${hosts.length === 1 ? "" : "s"}` : "This host takes part in no fleet.";
    } catch (error) {
      note.textContent = `The fleet cannot be read: ${error.message}`;
    }
    if (!isOver) timer = setTimeout(show, AGAIN);
  }
  show();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
