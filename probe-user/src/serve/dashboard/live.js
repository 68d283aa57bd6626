// Keeps the model up to date: the event stream says when to ask for the status, which is asked for once a second at most.

import { ask, clock } from "./dom.js";
import { missed, model, takeEvent, takeStatus } from "./model.js";

// The shortest time between two questions, the longest, and how long a burst of events is waited for. In milliseconds.
const REST = 1000;
const QUIET = 10_000;
const BURST = 100;

// A stream that the daemon refuses, because as many watch as may, is asked for again after so long.
const REFUSED = 10_000;

let source = null;
let timer = 0;
let due = Infinity;
let asked = -Infinity;
let latest = -Infinity;
let isAsking = false;
let lost = "";
let note = () => {};

function askAt(time) {
  if (isAsking || document.hidden) return;
  time = Math.max(time, asked + REST);
  if (time >= due) return;
  due = time;
  clearTimeout(timer);
  timer = setTimeout(question, Math.max(0, time - performance.now()));
}

async function question() {
  due = Infinity;
  isAsking = true;
  asked = performance.now();
  let rest = QUIET;
  try {
    takeStatus(await ask("/api/v1/status"));
    lost = "";
  } catch {
    lost = "Connection lost";
    rest = REST;
  }
  isAsking = false;
  tell();
  // What an event tells may be in the status a moment later only.
  askAt(latest > asked - BURST * 5 ? performance.now() : performance.now() + rest);
}

function tell() {
  const at = model.at ? clock(model.at) : "";
  const isLive = source?.readyState === EventSource.OPEN;
  if (!at && !lost) note("Connecting", false);
  else if (!lost) note(isLive ? `Live, state of ${at}` : `Not live, state of ${at}`, false);
  else note(at ? `${lost}, last known state of ${at}` : lost, true);
}

function open() {
  if (source || document.hidden) return;
  const mine = (source = new EventSource("/events"));
  source.onopen = () => {
    missed();
    askAt(performance.now());
  };
  source.onmessage = (message) => {
    latest = performance.now();
    try {
      takeEvent(JSON.parse(message.data));
    } catch (error) {
      console.warn("an event could not be read", error);
    }
    askAt(latest + BURST);
  };
  source.addEventListener("missed", () => {
    latest = performance.now();
    missed();
    askAt(latest);
  });
  source.onerror = () => {
    lost = "Connection lost";
    tell();
    askAt(performance.now());
    if (mine.readyState !== EventSource.CLOSED) return;
    // The browser does not try again by itself.
    close();
    setTimeout(open, REFUSED);
  };
}

function close() {
  source?.close();
  source = null;
}

// A page in the background asks for nothing: browsers open few connections to one host, and each page takes one.
function onVisibility() {
  if (document.hidden) {
    close();
    clearTimeout(timer);
    due = Infinity;
  } else {
    open();
    askAt(performance.now());
  }
}

// Begins. `show` gets a sentence about the connection, and whether it is lost.
export function start(show) {
  note = show;
  document.addEventListener("visibilitychange", onVisibility);
  onVisibility();
}
