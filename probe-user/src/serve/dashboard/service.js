// One service: its state, its response times, what it depends on, its uptime and its incidents.

import { ask, command, h, lasting, link, shape } from "./dom.js";
import { incidentTable } from "./incidents.js";
import { spark, stateLine, troubles } from "./cards.js";
import { listen, model, service as known } from "./model.js";
import { uptimeBars } from "./uptime.js";

export function servicePage(root, name) {
  const [state, incidents] = [h("div", {}), h("div", {}, h("p", { class: "dim" }, "Loading"))];
  root.append(h("h1", {}, name), state,
    h("section", { "aria-label": "Uptime" }, h("h2", {}, "Uptime"), ["24h", "30d"].map((since) => uptimeBars(name, since))),
    h("section", { "aria-label": "Incidents of the service" }, h("h2", {}, "Incidents of the last 30 days"), incidents),
    h("h2", {}, "Commands"),
    h("p", { class: "dim" }, "This page changes nothing. Type these on the host."),
    ...["restart", "stop", "pause"].map((word) => command(`hostprobe ${word} ${name}${word === "pause" ? " --for 1h" : ""}`)));

  function draw() {
    const service = known(name);
    if (!service) {
      state.replaceChildren(h("p", {}, model.status ? "No service of this name is watched now." : "Loading"));
      return;
    }
    const dependants = model.status.services.filter((other) => other.depends_on?.some((it) => it.service === name));
    state.className = service.state;
    const facts = [
      ["Unit", service.unit], ["Main process", service.main_pid],
      ["Needs", service.depends_on?.length ? service.depends_on.map((other, place) => [place ? ", " : "",
        link("service", other.service), other.learned ? " (learned)" : ""]) : null],
      ["Needed by", dependants.length ? dependants.map((other, place) => [place ? ", " : "", link("service", other.name)]) : null],
    ];
    const times = model.times.get(name);
    const took = service.response_time_ms;
    state.replaceChildren(...[
      h("p", { class: "card" }, shape(service.state), " ", ...stateLine(service).childNodes),
      ...troubles(service),
      typeof took === "number" ? h("div", { class: "time" }, h("span", {}, `Answers in ${lasting(took)}`), spark(times)) : null,
      h("dl", {}, facts.filter(([, fact]) => fact).map(([word, fact]) => [h("dt", {}, word), h("dd", {}, fact)])),
    ].filter(Boolean));
  }

  let isOver = false;
  const load = async () => {
    try {
      const found = await ask(`/api/v1/incidents?since=30d&service=${encodeURIComponent(name)}`);
      if (!isOver) incidents.replaceChildren(incidentTable(found));
    } catch (error) {
      if (!isOver) incidents.replaceChildren(h("p", {}, error.message));
    }
  };
  const stop = listen((kind, event) => {
    if (kind === "status" || kind === "state") draw();
    const isMine = kind === "event" && event.service?.name === name;
    if (kind === "missed" || (isMine && /^incident\.(open|resolve)$/.test(event.event?.action))) load();
  });
  draw();
  load();
  return () => {
    isOver = true;
    stop();
  };
}

