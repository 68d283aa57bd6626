// Elements, and texts as people read them. Texts of others become text nodes and attributes, never HTML.

// Characters that a reader does not see, or that change the order of others: as `serve` escapes them for terminals.
const UNSAFE =
  /[\p{Cc}\p{Cf}\u2028\u2029\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu;

export const shown = (text) => String(text).replace(UNSAFE, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) throw new Error(`no handler as text: ${name}`);
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, shown(value));
  }
  for (const child of children.flat(3)) {
    if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(shown(child));
  }
  return element;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

// A shape for each state, so that colour is not the only sign.
const SHAPES = {
  down: "M3 1 8 6 13 1 15 3 10 8 15 13 13 15 8 10 3 15 1 13 6 8 1 3Z",
  unhealthy: "M8 1 15.5 15H.5ZM7 6v4h2V6ZM7 11v2h2v-2Z",
  degraded: "M8 .5 15.5 8 8 15.5.5 8Z",
  starting: "M8 1a7 7 0 1 0 7 7h-2.5A4.5 4.5 0 1 1 8 3.5Z",
  paused: "M3 2h4v12H3ZM9 2h4v12H9Z",
  stopped: "M2 2h12v12H2Z",
  healthy: "M6 14 .5 8.5l2-2L6 10l7.5-8 2 2Z",
};

export const shape = (state) =>
  svg("svg", { class: "shape", viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: SHAPES[state] ?? SHAPES.stopped, "fill-rule": "evenodd" }));

// The states in the order of need; an open incident comes after the states that are worse.
export const STATES = ["down", "unhealthy", "degraded", "starting", "paused", "stopped", "healthy"];

export const words = (name) => String(name).replaceAll("_", " ");

const two = (number) => String(number).padStart(2, "0");

export const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

export function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return String(text);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(date)}`;
}

export function lasting(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return "unknown";
  const size = Math.abs(ms);
  if (size < 10) return `${ms.toFixed(1)} ms`;
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (size < 120_000) return `${Math.round(ms / 1000)} s`;
  if (size < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (size < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

// A moment with how long ago it was at `now`, by the daemon's clock.
export function ago(text, now) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return h("span", {}, text);
  return h("time", { datetime: date.toISOString(), title: moment(text) }, `${lasting(Math.max(0, now - date))}`);
}

export const percent = (share) =>
  typeof share !== "number" ? "no data" : share === 1 ? "100 %" : `${(Math.floor(share * 1e5) / 1e3).toFixed(share > 0.99 ? 3 : 1)} %`;

export const link = (kind, name, text) => h("a", { href: `#/${kind}/${encodeURIComponent(name)}` }, text ?? name);

// What a person types; the page itself changes nothing.
export const command = (text) => h("pre", { tabindex: "0", "aria-label": "Command" }, h("code", {}, text));

// A part of the page that scrolls by itself, also by keys.
export const scroll = (label, ...children) =>
  h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, ...children);

// Anything of JSON, for fields that this page does not know.
export function value(json, depth = 0) {
  if (json === null || typeof json !== "object") return h("span", {}, json === null ? "none" : json);
  if (depth > 6) return h("span", {}, JSON.stringify(json));
  if (Array.isArray(json)) {
    if (json.length > 0 && json.every((item) => typeof item === "string")) {
      return h("pre", { tabindex: "0" }, h("code", {}, json.map((line) => shown(line)).flatMap((line) => [line, h("br")])));
    }
    return h("ul", {}, json.map((item) => h("li", {}, value(item, depth + 1))));
  }
  return h("dl", {}, Object.entries(json).flatMap(([name, item]) => [h("dt", {}, words(name)), h("dd", {}, value(item, depth + 1))]));
}

// The same work, once for all calls before the next frame: a thousand services may change at a time.
export function once(work) {
  let frame = 0;
  return () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      work();
    });
  };
}

export async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(15_000), cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}
