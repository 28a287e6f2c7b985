"use strict";
// Polls the rig's record once a second and shows it. The fused view is WebRTC video where available; otherwise, and for
// the other views, it is Motion JPEG. No libraries; what changes the rig is in page.align.js.
const byId = (id) => document.getElementById(id);
const live = byId("live"), video = byId("video"), wipe = byId("wipe"), rigs = byId("rig");
const PAST = 600, RETRY_MS = 10000, MAX_RETRY_MS = 300000;
let rig = "", view = "fused", since = 0, skews = [], drops = [], last = null, shown = "";
let begun = false, whep = null, webrtcNeeds = null, retryMs = RETRY_MS, retryAt = 0;

// The settings of the chosen view: they are this page's own and change nothing for others.
const keyed = [...document.querySelectorAll("#controls [data-key]")], notes = [...document.querySelectorAll("[data-note]")];
const control = (key) => keyed.find((each) => each.dataset.key === key);
let thermal = false, spots = 0; // whether there are temperatures, and how many spots and boxes the rig file has

function offered({ modes, with: other, thermal: needed }) {
  return (!modes || modes.split(" ").includes(view)) && (!other || control(other).value !== "") && (needed === undefined || thermal);
}

function query() {
  const chosen = new URLSearchParams({ view });
  for (const each of keyed) {
    const label = each.closest("label"), { key } = each.dataset;
    label.hidden = !offered(label.dataset);
    if (!label.hidden && each.value !== "" && each.checkValidity() && !(each.options && each.selectedIndex === 0)) chosen.set(key, each.value);
  }
  for (const each of notes) each.closest("label").hidden = each.dataset.note === "spots" && !spots;
  if (chosen.has("above")) chosen.delete("percentile");
  const marked = notes.filter((each) => each.checked && !each.closest("label").hidden).map((each) => each.dataset.note);
  if (marked.length) chosen.set("annotate", marked.join(","));
  if (view === "wipe") chosen.set("wipe", wipe.value);
  return chosen.toString();
}

// Chooses the view that the rig file gives the page.
function begin(settings) {
  view = settings.view || "fused";
  if ("wipe" in settings) wipe.value = settings.wipe;
  for (const each of keyed) each.value = settings[each.dataset.key] ?? (each.options ? each.options[0].value : each.defaultValue);
  const marked = (settings.annotate || "").split(",");
  for (const each of notes) each.checked = marked.includes(each.dataset.note);
}

function show() {
  if (!rig) return;
  const base = `rigs/${encodeURIComponent(rig)}`, chosen = query();
  const asVideo = chosen === "view=fused" && webrtcNeeds === "" && performance.now() >= retryAt && "RTCPeerConnection" in window;
  const source = asVideo ? `${base}/whep` : `${base}/live.mjpg?${chosen}`;
  byId("snapshot").href = `${base}/snapshot.png?${chosen}`;
  wipe.hidden = view !== "wipe";
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  if (source === shown) return;
  shown = source;
  if (whep) whep.stop();
  whep = null;
  video.hidden = !asVideo;
  live.hidden = asVideo;
  if (asVideo) {
    video.poster = still() || `${base}/snapshot.png?${chosen}`;
    live.removeAttribute("src");
    whep = new Whep(source, video, () => { retryMs = RETRY_MS; }, withoutVideo);
  } else live.src = source;
}

// The image shown now, as a poster until the first video frame; "" if there is none.
function still() {
  if (!live.naturalWidth || !live.getAttribute("src")) return "";
  const canvas = document.createElement("canvas");
  canvas.width = live.naturalWidth; canvas.height = live.naturalHeight;
  canvas.getContext("2d").drawImage(live, 0, 0);
  return canvas.toDataURL("image/jpeg");
}

function withoutVideo() {
  whep = null;
  retryAt = performance.now() + retryMs;
  setTimeout(show, retryMs + 10);
  retryMs = Math.min(2 * retryMs, MAX_RETRY_MS);
  show();
}

live.addEventListener("load", () => { live.alt = "Live video"; });
live.addEventListener("error", () => {
  live.alt = ""; // a failed rig has no image, which is not shown as a broken one
  if (!live.hidden) { shown = ""; setTimeout(show, 2000); }
});
window.addEventListener("pagehide", () => { if (whep) whep.stop(); whep = null; shown = ""; });
window.addEventListener("pageshow", show);
for (const button of document.querySelectorAll("[data-view]"))
  button.addEventListener("click", () => { view = button.dataset.view; show(); });
byId("controls").addEventListener("change", show);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
let moved = 0;
wipe.addEventListener("input", () => { clearTimeout(moved); moved = setTimeout(show, 120); });
rigs.addEventListener("change", () => { choose(rigs.value); });

function choose(name) { rig = name; since = 0; skews = []; drops = []; last = null; begun = false; show(); align.leave(); }

function rows(table, pairs) {
  table.replaceChildren(...pairs.map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.textContent = name; cell.textContent = value; row.append(head, cell);
    return row;
  }));
}

function cards(pairs) {
  byId("main").replaceChildren(...pairs.map(([name, value]) => {
    const card = document.createElement("div"), head = document.createElement("dt"), text = document.createElement("dd");
    head.textContent = name; text.textContent = value; card.append(head, text);
    return card;
  }));
}

function plot(canvas, values, floor, digits) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const colours = getComputedStyle(canvas);
  canvas.width = width * scale; canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const known = values.filter((v) => v !== null);
  const high = Math.max(floor, ...known), low = Math.min(0, ...known);
  const y = (v) => height - 4 - (height - 8) * (v - low) / (high - low);
  pen.strokeStyle = colours.getPropertyValue("--line"); pen.beginPath(); pen.moveTo(0, y(0)); pen.lineTo(width, y(0)); pen.stroke();
  pen.strokeStyle = colours.getPropertyValue("--accent"); pen.lineWidth = 1.4; pen.beginPath();
  let drawing = false;
  values.forEach((v, i) => {
    if (v === null) { drawing = false; return; }
    const x = width * i / Math.max(1, values.length - 1);
    if (drawing) pen.lineTo(x, y(v)); else pen.moveTo(x, y(v));
    drawing = true;
  });
  pen.stroke();
  // of the values, not of the plot; rounded to fewer digits than the last value it might not contain it
  return `${Math.min(...known).toFixed(digits)} to ${Math.max(...known).toFixed(digits)}`;
}

// The stages as frames pass them; others come after.
const FLOW = ["read-infrared", "read-visible", "pair", "register", "fuse", "write"];
// The input mailboxes of each stage; that of `write-2` is `sink-2`.
const BEFORE = { pair: ["infrared", "visible"], register: ["paired"], fuse: ["registered"], drift: ["drift"] };

function stageTable(record, cpuBefore, seconds) {
  const share = (now, before) => now === undefined || before === undefined || !(seconds > 0) ? "–" : `${(100 * (now - before) / seconds).toFixed(1)} %`;
  const of = (counts, names) => names.length ? names.reduce((total, name) => total + ((counts || {})[name] || 0), 0) : "";
  const table = [["", "CPU", "ms", "waiting", "dropped"]], bad = new Set(), recent = record.recent || {};
  const inFlow = ([stage]) => (FLOW.indexOf(stage.replace(/^write-.*/, "write")) + 1) || FLOW.length + 1;
  for (const [stage, cpu] of Object.entries(record.stage_cpu_s || {}).sort((one, other) => inFlow(one) - inFlow(other))) {
    const number = stage.startsWith("write-") ? Number(stage.slice(6)) : 0, sink = (record.sinks || [])[number - 1];
    const boxes = number ? [`sink-${number}`] : BEFORE[stage] || [];
    if (sink && !sink.up) bad.add(table.length);
    const name = sink ? `${sink.sink}${sink.up ? "" : " (down)"}` : stage.replace("-", " ");
    const time = number ? ((recent.sinks || [])[number - 1] || {}).frame_ms : (recent.stage_ms || {})[stage];
    const each = typeof time === "number" ? time.toFixed(time < 10 ? 1 : 0) : "";
    table.push([name, share(cpu, (cpuBefore.stages || {})[stage]), each, of(record.depths, boxes), of(record.dropped, boxes)]);
  }
  if (record.process_cpu_s !== undefined)
    table.push(["process total, including engine", share(record.process_cpu_s, cpuBefore.process), "", "", ""]);
  byId("stages").replaceChildren(...table.map(([name, ...values], i) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.textContent = name;
    row.append(head, ...values.map((value) => { const cell = document.createElement("td"); cell.textContent = value; return cell; }));
    if (bad.has(i)) row.className = "bad";
    return row;
  }));
}

const sum = (counts) => Object.values(counts || {}).reduce((a, b) => a + b, 0);
const ms = (value) => value === undefined ? "–" : `${value.toFixed(1)} ms`;

// Frames per second of the slowest output that is up, and how many should come out; null if not known.
function outRate(record) {
  const recent = record.recent || {}, sinks = (recent.sinks || []).filter((_, i) => ((record.sinks || [])[i] || {}).up);
  if (recent.paired_per_s === undefined || !sinks.length) return null;
  return { out: Math.min(...sinks.map((sink) => sink.frames_per_s)), of: recent.paired_per_s };
}

// What keeps the rig from delivering what it should, then the warnings of its start.
function alerts(record) {
  const status = record.status || {}, failed = status.state === "failed";
  const lines = (status.reasons || []).map((text) => [text, failed ? "bad" : "fair"]);
  if (failed && status.retry_at_s) lines.push([`next attempt at ${new Date(1000 * status.retry_at_s).toLocaleTimeString()}, after ${status.failed_starts} failed`, "fair"]);
  if (failed && !lines.length) lines.push(["failed", "bad"]);
  byId("alerts").replaceChildren(...lines.map(([text, kind]) => {
    const item = document.createElement("li"); item.textContent = text; item.className = kind; return item;
  }));
  byId("alerts").hidden = !lines.length;
}

function badge(record) {
  const status = record.status || {}, element = byId("state"), stalled = !record.ready;
  let text = stalled ? (record.state === null ? "waiting for video" : "no video") : record.state;
  let kind = stalled || text === "no signal" ? "bad" : text === "fused" ? "good" : "fair";
  if (status.state === "failed" || status.state === "starting" || status.state === "stopped") {
    text = status.state;
    kind = text === "failed" ? "bad" : "fair";
  } else if (kind === "good" && status.state === "degraded") {
    text = (record.overload || {}).message ? "too slow" : "degraded";
    kind = "fair";
  }
  element.textContent = text;
  element.className = `state ${kind}`;
}

function draw(record, now) {
  badge(record);
  alerts(record);
  const pairs = sum(record.pairs), lost = sum(record.dropped) + sum(record.skipped);
  stageTable(record, last ? last.cpu : {}, last ? now - last.now : 0);
  if (last && now > last.now) {
    drops.push(Math.max(0, (lost - last.lost) / (now - last.now)));
    drops = drops.slice(-180);
  }
  last = { now, lost, cpu: { stages: record.stage_cpu_s, process: record.process_cpu_s } };
  const recent = record.recent || {}, latency = recent.latency_ms || {}, skew = recent.skew_ms || {}, rate = outRate(record);
  cards([
    ["Frames out per second", rate === null ? "–" : `${rate.out.toFixed(1)} of ${rate.of.toFixed(1)}`],
    ["Frames", pairs],
    ["Latency of the last minute", ms(latency.p50)],
    ["Latency, 99 %", ms(latency.p99)],
    ["Skew of the last minute, 95 %", ms(skew.p95)],
    ["Lost frames", lost],
  ]);
  const counts = [];
  for (const [band, count] of Object.entries(record.read || {})) counts.push([`read ${band}`, count]);
  for (const [name, count] of Object.entries(record.pairs || {})) counts.push([`pairs ${name}`, count]);
  for (const [name, count] of Object.entries(record.skipped || {})) counts.push([`skipped: ${name}`, count]);
  for (const [i, sink] of (record.sinks || []).entries())
    counts.push([`output ${sink.sink}`, `${sink.frames} frames` + (recent.sinks ? `, ${recent.sinks[i].frames_per_s.toFixed(1)} per second` : "")]);
  for (const sink of record.sinks || [])
    if (sink.failures) counts.push([`output ${sink.sink}`, `failed ${sink.failures}×, restarted ${sink.restarts}×, missed ${sink.missed} frames`]);
  counts.push(["viewers", record.clients], ["viewers over WebRTC", record.video_clients]);
  rows(byId("counts"), counts);
  const parts = Object.entries(record.sources || {}).map(([band, s]) =>
    [band, `${s.width}×${s.height} ${s.codec}${s.fps ? ` ${s.fps} fps` : ""}`]);
  const core = ((record.sources || {}).infrared || {}).telemetry;
  if (core) parts.push(["infrared core", `sensor ${core.fpa_c.toFixed(1)} °C, flat-field correction ${core.ffc}, ${core.ffcs} seen`]);
  for (const [band, camera] of Object.entries((record.live || {}).cameras || {})) {
    const { grade, skew_ppm: skew, jitter_ms: jitter, delay_ms: delay } = camera.clock;
    parts.push([`clock of ${band}`, [grade, skew === null ? null : `${skew} ppm`, `jitter ${jitter} ms`, delay ? `${delay} ms after the capture` : null].filter(Boolean).join(", ")]);
    const failures = Object.entries(camera.failures || {}).map(([why, count]) => `${count}× ${why}`);
    if (camera.connections !== undefined) parts.push([`connections to ${band}`, [camera.connections, ...failures].join(", ")]);
    if (camera.frozen_s) parts.push([`image of ${band}`, `unchanged for ${camera.frozen_s.toFixed(0)} s`]);
  }
  const engine = record.engine || {};
  if ((record.overload || {}).lighter_model) parts.push(["lighter model in use", record.overload.lighter_model]);
  if (engine.model) parts.push(["engine", `${engine.model} on ${engine.backend} ${engine.precision}`]);
  if (record.registration) parts.push(["registration", record.registration]);
  if (record.drift) {
    const d = record.drift, moved = d.corrected_px ? `, ${d.corrected_px.toFixed(1)} px corrected` : "";
    parts.push(["drift", d.checks > d.blind ? `${d.state}, ${d.offset_px.toFixed(1)} px off${moved}` : "not measured yet"]);
  }
  rows(byId("parts"), parts);
  byId("warnings").replaceChildren(...(record.warnings || []).map((text) => {
    const item = document.createElement("li"); item.textContent = text; return item;
  }));
}

// Who has logged in; null on a page that everybody may use. Viewers are not told what the tables show.
function who(user) {
  byId("logout").hidden = !user;
  byId("user").textContent = user ? user.name : "";
  for (const table of document.querySelectorAll(".numbers details")) table.hidden = Boolean(user) && user.role === "viewer";
}

// A rig in the list, with what is wrong with it: the page shows one rig, and another may have failed.
function named(name, status) {
  return ["failed", "degraded"].includes(status.state) ? `${name} (${status.state})` : name;
}

async function poll() {
  try {
    const answer = await fetch(`api/rigs?rig=${encodeURIComponent(rig)}&since=${since}`, { signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) { location.replace("login"); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const data = await answer.json(), names = Object.keys(data.rigs);
    if (rigs.options.length !== names.length || names.some((n, i) => rigs.options[i].value !== n)) {
      rigs.replaceChildren(...names.map((n) => new Option(n, n)));
      rigs.hidden = names.length < 2;
    }
    if (webrtcNeeds !== data.webrtc_needs) { webrtcNeeds = data.webrtc_needs; show(); }
    byId("hint").textContent = webrtcNeeds ? `Showing Motion JPEG; for WebRTC video: ${webrtcNeeds}` : "";
    if (!names.includes(rig)) { if (names.length) { choose(names[0]); setTimeout(poll, 50); return; } }
    rigs.value = rig;
    const record = data.rigs[rig] || {};
    if (record.view && (!begun || thermal !== record.temperatures || spots !== record.spots)) {
      thermal = record.temperatures; spots = record.spots;
      if (!begun) { begin(record.view); align.choose(rig); }
      begun = true;
      show();
    }
    for (const option of rigs.options) option.text = named(option.value, data.rigs[option.value].status || {});
    who(data.user);
    document.title = rig ? `${rig} – fusepipe` : "fusepipe";
    for (const [number, skew] of data.past) { since = number; skews.push(skew); }
    skews = skews.slice(-PAST);
    if (data.rigs[rig]) draw(data.rigs[rig], data.time_s);
    const known = skews.filter((v) => v !== null), skewRange = plot(byId("skew"), skews, 1, 2);
    const dropRange = plot(byId("drops"), drops, 1, 1);
    byId("skew-now").textContent = known.length ? `${known[known.length - 1].toFixed(2)}, of ${skewRange}` : "–";
    byId("drops-now").textContent = drops.length ? `${drops[drops.length - 1].toFixed(1)}, of ${dropRange}` : "–";
  } catch (error) {
    byId("state").textContent = "unreachable";
    byId("state").className = "state bad";
  }
  setTimeout(poll, 1000);
}

poll();
