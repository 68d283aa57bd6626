// The services as cards, the host, the hooks and what was counted.

import { STATES, ago, clock, h, lasting, link, once, shape, svg, words } from "./dom.js";
import { byNeed, listen, model } from "./model.js";

// The events that the page lists, and the shortest time between two drawings of the list.
const EVENTS = 12;
const EVENTS_REST = 250;

export function spark(times) {
  const graph = svg("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (!times || times.length < 2) return graph;
  const first = times[0][0];
  const width = Math.max(1, times.at(-1)[0] - first);
  const most = Math.max(...times.map(([, took]) => took), 0.001);
  const points = times.map(([at, took]) => `${((at - first) / width) * 100} ${19 - (took / most) * 18}`);
  graph.append(svg("path", { d: `M${points.join("L")}` }));
  return graph;
}

export function orders(service) {
  return (service.orders ?? []).map((order) =>
    h("p", {}, `${words(order.command)} by ${order.by}`, order.reason ? `: ${order.reason}` : "",
      order.until ? [", ends ", h("time", { datetime: order.until }, clock(new Date(order.until)))] : ""));
}

export function stateLine(service) {
  return h("p", {},
    h("span", { class: "state" }, service.state),
    service.since ? [" for ", ago(service.since, model.now)] : "",
    service.incident ? [" · ", link("incident", service.incident, words(service.verdict ?? "incident"))] : "",
    service.critical === false ? h("span", { class: "dim" }, " · not critical") : "");
}

// What is wrong with a service, and what is done or not done about it.
export function troubles(service) {
  return [
    service.stale_since ? h("p", {}, "Last known state: not watched for ", ago(service.stale_since, model.now)) : null,
    service.summary ? h("p", {}, service.summary) : null,
    service.error && service.error !== service.summary ? h("p", { class: "dim" }, service.error) : null,
    service.hold ? h("p", {}, "Not restarted: ", service.hold) : null,
    service.held?.length ? h("p", {}, "Holds back: ", service.held.join(", ")) : null,
    ...orders(service),
    service.maintenance ? h("p", {}, "In maintenance: ", service.maintenance) : null,
  ];
}

function card(service) {
  return [
    h("h2", {}, shape(service.state), link("service", service.name)),
    stateLine(service),
    troubles(service),
    service.depends_on?.length
      ? h("p", { class: "dim" }, "Needs ", service.depends_on.map((other) => other.service).join(", "))
      : null,
    h("div", { class: "time" }, h("span")),
  ].flat(3).filter((part) => part);
}

// What a card shows, but for the response time.
const content = ({ response_time_ms: _, main_pid: __, ...rest }) => JSON.stringify(rest);

function section(title, ...children) {
  return h("section", { "aria-label": title }, h("h2", {}, title), ...children);
}

export function overview(root) {
  const known = new Map();
  const visible = new Set();
  const list = h("ul", { class: "cards", "aria-label": "Services" });
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false" });
  const sums = h("p", { id: "sums" });
  const [host, events, hooks, counters] = ["host-incidents", "events", "hooks", "counters"].map((id) => h("div", { id }));
  root.append(h("h1", {}, "Services"), host,
    h("div", { class: "filter" }, h("label", { for: "filter" }, "Filter"), filter, sums), list,
    section("Latest events", events), section("What hostprobe sees", hooks), section("Since its start", counters));

  const drawTime = (entry) => {
    const { service, item } = entry;
    const times = model.times.get(service.name);
    const place = item.querySelector(".time");
    if (!place || entry.drawn === times?.at(-1)?.[0]) return;
    entry.drawn = times?.at(-1)?.[0];
    const took = service.response_time_ms;
    place.replaceChildren(
      ...(typeof took === "number" ? [h("span", {}, lasting(took)), spark(times)] : [h("span", {}, "no answer measured")]));
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const entry = known.get(target.dataset.name);
      if (!entry) continue;
      if (isIntersecting) {
        visible.add(entry);
        drawTime(entry);
      } else visible.delete(entry);
    }
  });

  function draw(entry, service) {
    const text = content(service);
    entry.service = service;
    if (entry.text === text) return;
    const hadFocus = entry.item.contains(document.activeElement);
    const changed = entry.state !== undefined && entry.state !== service.state;
    [entry.text, entry.state, entry.drawn] = [text, service.state, undefined];
    entry.item.className = `card ${service.state}${changed ? " changed" : ""}`;
    entry.item.replaceChildren(...card(service));
    if (hadFocus) entry.item.querySelector("a")?.focus();
  }

  const matches = (service) => {
    const wanted = filter.value.trim().toLowerCase();
    return [service.name, service.state, service.unit, service.verdict].some((text) => text?.toLowerCase().includes(wanted));
  };

  function drawSums(services) {
    const counts = STATES.map((state) => [state, services.filter((service) => service.state === state).length]);
    const hidden = services.length - services.filter(matches).length;
    sums.replaceChildren(...counts.filter(([, count]) => count).flatMap(([state, count], place) => [
      place ? ", " : "", h("span", { class: state }, h("span", { class: "state" }, `${count} ${state}`))]),
      hidden ? ` (${hidden} hidden by the filter)` : "");
  }

  function drawServices() {
    const services = model.status.services;
    const names = new Set(services.map((service) => service.name));
    for (const [name, entry] of known) {
      if (names.has(name)) continue;
      observer.unobserve(entry.item);
      visible.delete(entry);
      entry.item.remove();
      known.delete(name);
    }
    const focused = document.activeElement;
    let next = list.firstElementChild;
    for (const service of [...services].sort(byNeed)) {
      let entry = known.get(service.name);
      if (!entry) {
        entry = { item: h("li", {}) };
        entry.item.dataset.name = service.name;
        known.set(service.name, entry);
        observer.observe(entry.item);
      }
      draw(entry, service);
      entry.item.hidden = !matches(service);
      if (next === entry.item) next = next.nextElementSibling;
      else list.insertBefore(entry.item, next);
    }
    if (list.contains(focused)) focused.focus({ preventScroll: true });
    for (const entry of visible) drawTime(entry);
    drawSums(services);
  }

  function drawHost() {
    const { host_incidents: incidents = [], coverage, counters: counted } = model.status;
    host.replaceChildren(...incidents.map((open) =>
      h("div", { class: `notice ${open.severity === "critical" ? "down" : "degraded"}` },
        h("p", {}, h("strong", {}, "Host: ", words(open.verdict).replace(/^host /, "")), " for ", ago(open.since, model.now), " · ", link("incident", open.incident)),
        h("p", {}, open.summary), open.held?.length ? h("p", {}, "Holds back: ", open.held.join(", ")) : null)));
    const attached = coverage.filter((hook) => hook.attached).length;
    const lacking = coverage.filter((hook) => !hook.attached || hook.lacking?.length);
    hooks.replaceChildren(h("p", {}, `${attached} of ${coverage.length} kernel hooks are attached.`),
      h("ul", {}, lacking.map((hook) => h("li", {}, h("code", {}, hook.hook), ": ",
        [hook.reason, hook.fallback, ...(hook.lacking ?? [])].filter(Boolean).join("; ")))));
    counters.replaceChildren(h("dl", {}, Object.entries(counted).flatMap(([name, count]) =>
      [h("dt", {}, words(name)), h("dd", {}, count)])));
  }

  let drawnEvents = 0;
  function drawEvents() {
    drawnEvents = 0;
    events.replaceChildren(model.events.length
      ? h("ol", { class: "events" }, model.events.slice(0, EVENTS).map((event) =>
        h("li", {}, clock(new Date(event["@timestamp"])), " ", event.event?.action, " ", event.message ?? "")))
      : h("p", { class: "dim" }, "None since this page was opened."));
  }

  const draws = () => {
    if (!model.status) return;
    drawServices();
    drawHost();
  };
  filter.addEventListener("input", draws);
  let isOver = false;
  const drawSoon = once(() => {
    if (!isOver) draws();
  });
  const stop = listen((kind, detail) => {
    if (kind === "status") draws();
    if (kind === "state") drawSoon();
    if (kind === "event") drawnEvents ||= setTimeout(drawEvents, EVENTS_REST);
  });
  draws();
  drawEvents();
  return () => {
    isOver = true;
    clearTimeout(drawnEvents);
    observer.disconnect();
    stop();
  };
}

