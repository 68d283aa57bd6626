// What the page knows: the last status, the latest events, and the response times since the page was opened.

import { STATES } from "./dom.js";

const EVENTS = 50;
const KEPT_MS = 10 * 60 * 1000;
const SAMPLES = 120;

export const model = {
  status: null,
  // When the status came, by the browser's clock, and the daemon's clock then.
  at: null,
  now: 0,
  events: [],
  times: new Map(),
  // The cause of an incident by its id, where an event told it.
  causes: new Map(),
};

const listeners = new Set();

// Calls a function at each change, until the returned function is called.
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(kind, detail) {
  for (const listener of listeners) listener(kind, detail);
}

export const service = (name) => model.status?.services.find((service) => service.name === name);

export const need = (service) => {
  const place = STATES.indexOf(service.state);
  return service.incident && place > 2 ? 2.5 : place;
};

export const byNeed = (one, other) =>
  need(one) - need(other) || (one.name < other.name ? -1 : one.name > other.name ? 1 : 0);

export function takeStatus(status) {
  model.status = status;
  model.at = new Date();
  model.now = Date.parse(status.timestamp);
  const names = new Set();
  for (const { name, response_time_ms: took } of status.services) {
    names.add(name);
    if (typeof took !== "number") continue;
    let times = model.times.get(name);
    if (!times) model.times.set(name, (times = []));
    times.push([model.now, took]);
    while (times.length > SAMPLES || times[0][0] < model.now - KEPT_MS) times.shift();
  }
  for (const name of model.times.keys()) if (!names.has(name)) model.times.delete(name);
  tell("status");
}

export function takeEvent(event) {
  const action = event.event?.action;
  model.events.unshift(event);
  model.events.length = Math.min(model.events.length, EVENTS);
  const { incident } = event;
  if (incident?.id && incident.cause?.service) {
    if (model.causes.size > 500) model.causes.clear();
    model.causes.set(incident.id, incident.cause.service);
  }
  // The state is shown at once; the status follows with the rest.
  const changed = action === "service.state" && service(event.service?.name);
  if (changed && event.service.state && changed.state !== event.service.state) {
    changed.state = event.service.state;
    changed.since = event["@timestamp"] ?? changed.since;
    tell("state", changed);
  }
  tell("event", event);
}

export const missed = () => tell("missed");
