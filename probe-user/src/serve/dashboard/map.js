// What depends on what: a layered drawing, and the same as a list.

import { h, link, scroll, svg, words } from "./dom.js";
import { listen, model } from "./model.js";

// A node's size, the room between two, and the most nodes that are drawn. The list has all.
const [WIDTH, HEIGHT, ACROSS, DOWN] = [170, 42, 80, 16];
const MOST = 300;

// The rounds in which the nodes of a layer move towards their neighbours.
const ROUNDS = 4;

export function edges(services) {
  return services.flatMap((service) =>
    (service.depends_on ?? []).map(({ service: to, learned }) => ({ from: service.name, to, learned })));
}

// The services that are the cause of an open incident of another one, or of their own.
function causes(services) {
  const found = new Set();
  for (const service of services) {
    if (!service.incident) continue;
    const told = model.causes.get(service.incident);
    if (told) found.add(told);
    else if (service.held?.length || service.verdict !== "dependency_down") found.add(service.name);
  }
  return found;
}

// The layer of each node: one more than that of the furthest one that needs it. An edge that closes a circle is passed over.
export function layers(names, all) {
  const out = new Map(names.map((name) => [name, []]));
  for (const { from, to } of all) out.get(from).push(to);
  const state = new Map();
  const order = [];
  const forward = new Map(names.map((name) => [name, []]));
  for (const start of names) {
    if (state.has(start)) continue;
    const stack = [[start, 0]];
    state.set(start, "open");
    while (stack.length) {
      const top = stack.at(-1);
      const next = out.get(top[0])[top[1]++];
      if (next === undefined) {
        state.set(top[0], "done");
        order.push(top[0]);
        stack.pop();
      } else if (state.get(next) !== "open") {
        forward.get(top[0]).push(next);
        if (!state.has(next)) {
          state.set(next, "open");
          stack.push([next, 0]);
        }
      }
    }
  }
  const layer = new Map(names.map((name) => [name, 0]));
  for (const name of order.reverse()) {
    for (const next of forward.get(name)) layer.set(next, Math.max(layer.get(next), layer.get(name) + 1));
  }
  return layer;
}

function columns(names, all) {
  const layer = layers(names, all);
  const found = [];
  for (const name of names) (found[layer.get(name)] ??= []).push(name);
  const near = new Map(names.map((name) => [name, []]));
  for (const { from, to } of all) {
    near.get(from).push(to);
    near.get(to).push(from);
  }
  const place = new Map();
  const settle = () => found.forEach((column) => column.forEach((name, at) => place.set(name, at - column.length / 2)));
  settle();
  for (let round = 0; round < ROUNDS; round++) {
    for (const column of found) {
      const middle = (name) => near.get(name).reduce((sum, other) => sum + place.get(other), 0) / (near.get(name).length || 1);
      column.sort((one, other) => middle(one) - middle(other));
      settle();
    }
  }
  return found;
}

const short = (name) => (name.length > 22 ? `${name.slice(0, 21)}…` : name);

function drawing(services, all, hot) {
  const known = new Map(services.map((service) => [service.name, service]));
  const names = [...new Set(all.flatMap(({ from, to }) => [from, to]))].sort();
  const found = columns(names, all);
  const rows = Math.max(...found.map((column) => column.length));
  const [width, height] = [found.length * (WIDTH + ACROSS) - ACROSS + 8, rows * (HEIGHT + DOWN) + 8];
  const at = new Map();
  found.forEach((column, x) => column.forEach((name, y) =>
    at.set(name, [4 + x * (WIDTH + ACROSS), 4 + (y + (rows - column.length) / 2) * (HEIGHT + DOWN)])));
  const lines = all.map(({ from, to, learned }) => {
    const [[x1, y1], [x2, y2]] = [at.get(from), at.get(to)];
    const isHot = hot.has(to) && (known.get(from)?.incident || known.get(to)?.held?.includes(from));
    // An edge that goes back, in a circle, leaves and arrives at the other sides.
    const [start, end] = x2 > x1 ? [x1 + WIDTH, x2] : [x1, x2 + WIDTH];
    const turn = x2 > x1 ? ACROSS / 2 : -ACROSS / 2;
    const [a, b] = [y1 + HEIGHT / 2, y2 + HEIGHT / 2];
    const tip = x2 > x1 ? -8 : 8;
    const classes = `${learned ? " learned" : ""}${isHot ? " hot" : ""}`;
    return [svg("path", { class: `edge${classes}`, d: `M${start} ${a}C${start + turn} ${a} ${end - turn} ${b} ${end + tip} ${b}` }),
      svg("path", { class: `tip${isHot ? " hot" : ""}`, d: `M${end} ${b}l${tip} -4v8Z` })];
  });
  const nodes = names.map((name) => {
    const [x, y] = at.get(name);
    const state = known.get(name)?.state ?? "not watched";
    const needs = all.filter((edge) => edge.from === name).map((edge) => edge.to);
    const word = hot.has(name) ? `${state} · cause` : state;
    // It begins with what is seen, for people who speak to the page.
    const label = [`${short(name)} ${word}`, short(name) === name ? "" : name, needs.length ? `needs ${needs.join(", ")}` : ""]
      .filter(Boolean).join("; ");
    return svg("a", { href: `#/service/${encodeURIComponent(name)}`, "aria-label": label, class: `node ${known.get(name)?.state ?? ""}${hot.has(name) ? " cause" : ""}` },
      svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 5 }),
      svg("text", { x: x + 10, y: y + 18 }, short(name)), " ",
      svg("text", { class: "word", x: x + 10, y: y + 34 }, word));
  });
  return svg("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height }, lines, nodes);
}

function listing(services, all, hot) {
  const state = new Map(services.map((service) => [service.name, service]));
  return h("ul", { id: "map-list" }, all.map(({ from, to, learned }) => {
    const other = state.get(to);
    return h("li", {}, link("service", from), " needs ", link("service", to),
      ` (${learned ? "learned" : "declared"}; ${to} is ${other?.state ?? "not watched"}`,
      hot.has(to) ? ", the cause of an incident" : "",
      other?.verdict ? `: ${words(other.verdict)}` : "", ")");
  }));
}

export function mapPage(root) {
  const place = h("div", {});
  root.append(h("h1", {}, "Dependencies"),
    h("p", { class: "dim" }, "A service stands left of what it needs. Dashed: learned from connections. Bold red: an incident and its cause."), place);
  let text = "";
  function draw() {
    if (!model.status) return;
    const { services } = model.status;
    const all = edges(services);
    const hot = causes(services);
    const now = JSON.stringify([all, [...hot], all.length && services.map(({ name, state, verdict }) => [name, state, verdict])]);
    if (now === text) return;
    text = now;
    const hadFocus = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const count = new Set(all.flatMap(({ from, to }) => [from, to])).size;
    place.replaceChildren(
      all.length === 0 ? h("p", {}, "No service depends on another one.")
        : count > MOST ? h("p", {}, `${count} services depend on each other: too many to draw.`)
          : scroll("Drawing of the dependencies", drawing(services, all, hot)),
      all.length ? h("section", { "aria-label": "As a list" }, h("h2", {}, "As a list"), listing(services, all, hot)) : "");
    if (hadFocus) [...place.querySelectorAll("a")].find((a) => a.getAttribute("href") === hadFocus)?.focus({ preventScroll: true });
  }
  const stop = listen((kind) => {
    if (kind !== "event") draw();
  });
  draw();
  return stop;
}
