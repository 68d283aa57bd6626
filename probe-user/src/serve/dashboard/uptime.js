// How available services were: bars of hours and days, from what the daemon keeps.

import { ask, h, link, moment, percent, scroll, svg } from "./dom.js";
import { listen, model } from "./model.js";

// Between two questions for bars, in milliseconds: each is a read of the state file.
const REST = 150;

const PERIODS = { "24h": 24, "30d": 30 };

// The lower edge is the same; the height says the kind too, so that colour is not the only sign.
const TOPS = { healthy: 5, planned: 10, none: 19, degraded: 2 };

// Bars that are asked for wait here, one after the other.
let queue = Promise.resolve();

function later(work) {
  queue = queue.then(work).catch(() => {}).then(() => new Promise((done) => setTimeout(done, REST)));
}

function kind(part) {
  if (!part) return ["none", "not observed"];
  const { time_ms: times, availability } = part;
  if (typeof availability !== "number") {
    const planned = times.stopped + times.paused + times.maintenance + times.drilled;
    return planned > 0 ? ["planned", "planned"] : ["none", "not observed"];
  }
  if (times.down > 0) return ["down", percent(availability)];
  return times.degraded > 0 ? ["degraded", `${percent(availability)}, in part degraded`] : ["healthy", percent(availability)];
}

function bars(uptime, count) {
  const span = uptime.span_s * 1000;
  const to = Math.floor(Date.parse(uptime.to) / span) * span;
  const parts = new Map(uptime.spans.map((part) => [Date.parse(part.start), part]));
  const all = Array.from({ length: count }, (_, place) => to - (count - 1 - place) * span);
  const rects = all.map((start, place) => {
    const [name, text] = kind(parts.get(start));
    return svg("rect", { class: `b-${name}`, x: place * 10, y: TOPS[name] ?? 0, width: 10, height: 24 - (TOPS[name] ?? 0) },
      svg("title", {}, `${moment(start)}: ${text}`));
  });
  const known = all.map((start) => parts.get(start)).filter(Boolean);
  const sum = (name) => known.reduce((sum, part) => sum + part.time_ms[name], 0);
  const works = sum("healthy") + sum("degraded");
  const whole = works + sum("down");
  const share = whole > 0 ? works / whole : undefined;
  const unwell = known.filter((part) => part.time_ms.down > 0);
  const what = uptime.span_s === 3600 ? "hour" : "day";
  const some = `${unwell.length} ${what}${unwell.length === 1 ? "" : "s"}`;
  const label = `${percent(share)} of the last ${count} ${what}s; ${some} with an outage`;
  return [share, svg("svg", { class: "bars", viewBox: `0 0 ${count * 10} 24`, preserveAspectRatio: "none", role: "img", "aria-label": label }, rects), label];
}

// The bars of one service in a period, which come when they are seen.
export function uptimeBars(name, since, onShare = () => {}) {
  const place = h("div", { class: "uptime-bars" }, h("p", { class: "dim" }, `Last ${since}: loading`));
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    later(async () => {
      if (!place.isConnected) return;
      try {
        const uptime = await ask(`/api/v1/uptime?since=${since}&service=${encodeURIComponent(name)}`);
        const [share, graph, label] = bars(uptime, PERIODS[since]);
        place.replaceChildren(h("p", { class: "dim" }, label), graph);
        onShare(share);
      } catch (error) {
        place.replaceChildren(h("p", { class: "dim" }, error.message));
      }
    });
  });
  observer.observe(place);
  return place;
}

export function uptimePage(root) {
  const body = h("tbody", {});
  root.append(h("h1", {}, "Uptime"),
    h("p", { class: "dim" }, "The share of the time in which a service worked, of the time in which it was to work and was watched. UTC hours and days."),
    scroll("Uptime of the services", h("table", { class: "uptime" },
      h("thead", {}, h("tr", {}, ["Service", "30 days", "Hours and days"].map((word) => h("th", { scope: "col" }, word)))), body)));
  let isOver = false;
  let stop = () => {};
  (async () => {
    let names = [];
    const shares = new Map();
    try {
      const report = await ask("/api/v1/report?since=30d");
      for (const service of report.services) shares.set(service.service, service.availability);
      if (!model.status) await new Promise((known) => (stop = listen((kind) => kind === "status" && known())));
      names = [...new Set([...model.status.services.map((service) => service.name), ...shares.keys()])];
    } catch (error) {
      root.append(h("p", {}, error.message));
      return;
    }
    stop();
    if (isOver) return;
    for (const name of names.sort()) {
      body.append(h("tr", {}, h("th", { scope: "row" }, name === "host" ? name : link("service", name)),
        h("td", {}, percent(shares.get(name))), h("td", {}, uptimeBars(name, "24h"), uptimeBars(name, "30d"))));
    }
  })();
  return () => {
    isOver = true;
    stop();
  };
}
