/**
 * What runs in the browser on the status page. Plain JavaScript in a text: it must not need a build.
 *
 * Every value is set as `textContent`. The bar's and the chart's geometry are SVG attributes and percentages of numbers,
 * because the page's policy allows no inline styles; widths go through the style object, which it does allow.
 *
 * @module
 */

/** The script; page.ts puts it in and hashes it. */
export const SCRIPT = `
"use strict";
const base = location.pathname.replace(/\\/?$/, "/");
const main = document.getElementById("main"), login = document.getElementById("login");
let token = "", speeds = [], before = null;

function make(name, attributes, ...children) {
  const svg = ["svg", "path"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.map((child) => child instanceof Node ? child : String(child)));
  return element;
}
function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (i === 0 ? Math.round(n) : n.toFixed(n < 10 ? 2 : 1)) + " " + units[i];
}
function seconds(n) {
  if (n === null || n === undefined) return "–";
  return n < 60 ? n.toFixed(1) + " s" : n < 5400 ? (n / 60).toFixed(1) + " min" : (n / 3600).toFixed(1) + " h";
}
function text(value) { return value === null || value === undefined ? "–" : value; }
function clock(value) { return value === null ? "–" : new Date(value).toLocaleTimeString(); }
function position(lsn) {
  const [high, low] = lsn.split("/");
  return parseInt(high, 16) * 2 ** 32 + parseInt(low, 16);
}
function facts(rows) {
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
function card(title, wide, ...children) {
  return make("section", wide ? { class: "wide" } : {}, make("h2", {}, title), ...children);
}
function bar(share) {
  const fill = make("i", {});
  fill.style.width = Math.max(0, Math.min(1, share)) * 100 + "%";
  return make("div", { class: "bar" }, fill);
}
function sourceCard(source) {
  return card("Source", false, facts([
    ["server", text(source.description)],
    ["connection", source.isConnected ? (source.caughtUp ? "caught up" : "catching up") : "none"],
    ["server's WAL", text(source.commitLsn)],
    ["received", text(source.streamingLsn)],
    ["last message", clock(source.lastReceivedMessageTime)],
    ["behind", bytes(source.lagBytes) + ", " + seconds(source.lagSeconds)],
  ]));
}
function speedCard(status) {
  const sum = status.timelines.reduce((total, timeline) => total + timeline.walBytes, 0);
  const now = Date.parse(status.time);
  if (before !== null && now > before.now) {
    speeds.push(Math.max(0, sum - before.sum) / ((now - before.now) / 1000));
    if (speeds.length > 61) speeds.shift();
  }
  before = { sum, now };
  const max = Math.max(1, ...speeds);
  // Two minutes, now at the right.
  const left = 600 - (speeds.length - 1) * 10;
  const points = speeds.map((speed, i) => (i === 0 ? "M" : "L") + (left + i * 10) + " " + (78 - speed / max * 74).toFixed(1));
  const path = make("path", { d: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": "2", "vector-effect": "non-scaling-stroke" });
  return card("WAL taken in", false,
    make("svg", { viewBox: "0 0 600 80", preserveAspectRatio: "none", "aria-hidden": "true" }, path),
    facts([["last 2 s", bytes(speeds.at(-1) ?? 0) + "/s"], ["in all", bytes(sum)]]));
}
function timelineCard(t) {
  const start = position(t.startLsn), last = position(t.lastRecordLsn), durable = position(t.remoteConsistentLsn);
  const behind = last - durable;
  return card("Timeline " + t.name + " · " + t.state, false, facts([
    ["PostgreSQL", t.major + ", timeline " + t.tli],
    ["readable", t.consistentLsn + " – " + t.lastRecordLsn],
    ["in the store", t.remoteConsistentLsn],
    ["not yet", bytes(behind) + " of WAL"],
  ]), bar(last > start ? (durable - start) / (last - start) : 1), facts([
    ["logical size", bytes(t.logicalSizeBytes)],
    ["layers", t.layers.count + " (" + t.layers.delta + " delta, " + t.layers.image + " image)"],
    ["all layers", bytes(t.currentPhysicalSizeBytes)],
    ["resident", bytes(t.residentPhysicalSizeBytes) + " in " + t.layers.resident],
    ["in memory", bytes(t.memoryBytes)],
    ["records", t.walRecords.toLocaleString()],
    ["not understood", t.unsupportedRecords],
    ...(t.verification === null ? [] : [
      ["pages judged", (t.verification.pages + t.verification.positions).toLocaleString()],
      ["differences", t.verification.differences],
    ]),
  ]), ...(t.failure === null ? [] : [make("p", {}, t.failure.message)]));
}
function layersCard(name, list) {
  const rows = list.layers.map((layer) => make("tr", {},
    make("td", {}, make("i", { class: "dot " + layer.kind + " " + layer.location }), layer.kind),
    make("td", {}, layer.lsnStart), make("td", {}, layer.kind === "image" ? "" : layer.lsnEnd),
    make("td", { class: "n" }, bytes(layer.sizeBytes)), make("td", {}, layer.location)));
  const head = make("tr", {}, make("th", {}, "kind"), make("th", {}, "from"), make("th", {}, "to"),
    make("th", { class: "n" }, "size"), make("th", {}, "where"));
  return card("Newest layers of " + name + " (" + list.layers.length + " of " + list.total + ")", true,
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}
function backupCard(backup) {
  return card("Base backup", true, bar(backup.bytesTotal > 0 ? backup.bytesDone / backup.bytesTotal : 0), facts([
    ["received", bytes(backup.bytesDone) + " of about " + bytes(backup.bytesTotal)],
    ["rate", bytes(backup.bytesPerSecond) + "/s"], ["time left", seconds(backup.secondsLeft)],
  ]));
}
function badge(kind, words) {
  const state = document.getElementById("state");
  state.className = "badge " + kind;
  if (state.textContent !== words) state.textContent = words;
  document.title = "varve · " + words;
}
async function ask(path) {
  const headers = token === "" ? {} : { authorization: "Bearer " + token };
  const answer = await fetch(base + path, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (answer.status === 401) throw Object.assign(new Error("token needed"), { login: true });
  if (!answer.ok) throw new Error("answered " + answer.status);
  return await answer.json();
}
async function refresh() {
  try {
    const status = await ask("v1/status");
    const cards = [speedCard(status)];
    if (status.backup !== null) cards.unshift(backupCard(status.backup));
    for (const timeline of status.timelines) {
      if (timeline.source !== null) cards.push(sourceCard(timeline.source));
      cards.push(timelineCard(timeline));
    }
    for (const { name } of status.timelines) {
      cards.push(layersCard(name, await ask("v1/timelines/" + encodeURIComponent(name) + "/layers?limit=12")));
    }
    login.hidden = true;
    main.replaceChildren(...cards);
    document.getElementById("about").textContent = status.version + (status.store === null ? "" : " · " + status.store);
    if (status.isReady) badge("good", "ready");
    else badge("busy", status.reasons.map((reason) => reason.code.toLowerCase().replaceAll("_", " ")).join(", "));
  } catch (error) {
    badge("bad", error.login ? "token needed" : "no answer");
    login.hidden = !error.login;
  }
}
async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
login.addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value;
  refresh();
});
run();
`;
