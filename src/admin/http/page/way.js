"use strict";
// Whatever comes from devices is put in as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  ok: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M8 12.5l2.8 2.8L16.2 9.5"],
  warn: ["M12 3.5 22 20.5H2z", "M12 10v4.5", "M12 17.6v.1"],
  bad: ["M8 3h8l5 5v8l-5 5H8l-5-5V8z", "M9 9l6 6M15 9l-6 6"],
  unknown: ["M4 4h16v16H4z", "M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8", "M12 17v.1"],
};
const SHAPE_NAMES = { ok: "fine", warn: "attention", bad: "wrong", unknown: "not known" };
const at = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const icon = (state) => s("svg", { class: `icon ${state}`, viewBox: "0 0 24 24", role: "img", "aria-label": SHAPE_NAMES[state] },
  SHAPES[state].map((d) => s("path", { d })));

// Sections are drawn again only when what they show has changed: selections and readers stay where they are.
const drawn = new Map();
function draw(id, data, make) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  at(id).replaceChildren(...[make(data)].flat(Infinity).filter(Boolean));
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const number = (n) => whole.format(n).replace(/,/g, "\u202f");
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many || `${one}s`}`;
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return [unit && n < 10 ? n.toFixed(1) : number(n), units[unit]];
}
const size = (n) => bytes(n).join("\u00a0");
function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
function milliseconds(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}
// The box's clock may differ from the reader's.
let boxTime = 0;
function ago(time) {
  const seconds = Math.max(0, (boxTime - Date.parse(time)) / 1000);
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

/* What is wrong */
function drawVerdict(report) {
  const count = report.problems.length;
  const state = count ? "bad" : report.notices.length ? "warn" : "ok";
  const words = count ? plural(count, "problem") : report.notices.length ? `Healthy, ${plural(report.notices.length, "note")}` : "Healthy";
  const verdict = at("verdict");
  if (verdict.dataset.words !== words) {
    verdict.dataset.words = words;
    verdict.className = `verdict ${state}`;
    verdict.replaceChildren(icon(state), words);
  }
  document.title = `${count ? `▲ ${count}` : "✓"} ${report.site} – Sluicegate`;
  draw("problems", [report.problems, report.notices], ([problems, notices]) => {
    at("problems").hidden = problems.length + notices.length === 0;
    const one = (kind, state) => (of) => h("div", { class: `problem ${kind}` }, icon(state),
      h("div", {}, h("p", { class: "what" }, of.sentence), of.remedy && h("p", {}, of.remedy)));
    return [problems.map(one("", "bad")), notices.map(one("note", "warn"))];
  });
}

/* The way of a flow */
const WORST = ["ok", "unknown", "warn", "bad"];
const worst = (states) => states.reduce((a, b) => (WORST.indexOf(b) > WORST.indexOf(a) ? b : a), "ok");
const node = (state, name, ...more) => h("div", { class: `node ${state}` }, h("div", { class: "name" }, icon(state), name), more);
const small = (...words) => h("p", { class: "quiet" }, words);
const stop = (title, ...inside) => h("div", { class: "stop" }, h("h3", {}, title), inside);
const hop = (open) => h("div", { class: open ? "hop" : "hop cut" }, s("svg", { viewBox: "0 0 24 24", role: "img", "aria-label": open ? "leads to" : "does not lead to" },
  open ? s("path", { d: "M3 12h17M14 6l6 6-6 6" }) : s("path", { d: "M2 12h6M16 12h6M9 8l6 8M15 8l-6 8" })));

function tunnelNode(tunnel) {
  const state = { up: "ok", suspect: "warn", dead: "bad", down: "bad" }[tunnel.state] || "unknown";
  const facts = [`${tunnel.state} for ${duration(tunnel.since_seconds)}`];
  if (tunnel.up && tunnel.latency_ms !== null) facts.push(milliseconds(tunnel.latency_ms / 1000));
  return node(state, [h("span", {}, tunnel.interface), tunnel.preferred && h("span", { class: "tag" }, "new flows")],
    small(facts.join(" · ")), tunnel.reason && small(tunnel.reason));
}

function interfacesByZone(report) {
  const zones = new Map();
  for (const endpoint of report.endpoints) {
    if (endpoint.reason && !endpoint.required) continue;
    const known = endpoint.interfaces && endpoint.interfaces.length ? endpoint.interfaces
      : endpoint.addresses.map((address) => ({ address, zone: null, state: endpoint.reason ? "unknown" : "up" }));
    for (const one of known) {
      const host = one.address.includes(":") ? one.address.slice(0, one.address.lastIndexOf(":")) : one.address;
      const state = { up: "ok", suspect: "warn", down: "bad" }[one.state] || "unknown";
      const zone = one.zone || "VPC";
      if (!zones.has(zone)) zones.set(zone, new Map());
      const seen = zones.get(zone).get(host);
      zones.get(zone).set(host, seen ? worst([seen, state]) : state);
    }
  }
  return [...zones].sort(([a], [b]) => a.localeCompare(b));
}

function zoneNode([zone, interfaces]) {
  const all = [...interfaces];
  const down = all.filter(([, state]) => state === "bad").length;
  const rank = (state) => -WORST.indexOf(state);
  const shown = all.sort(([a, x], [b, y]) => rank(x) - rank(y) || a.localeCompare(b, "en", { numeric: true })).slice(0, 8);
  const words = down ? `${number(down)} of ${plural(all.length, "network interface")} down` : plural(all.length, "network interface");
  return node(down === all.length ? "bad" : down ? "warn" : worst(all.map(([, state]) => state)), h("span", {}, zone), small(words),
    h("div", { class: "chips" }, shown.map(([address, state]) => h("span", { class: "chip" }, icon(state), address)),
      all.length > shown.length && h("span", { class: "chip" }, `+${all.length - shown.length} more`)));
}

function serviceNodes(report) {
  const tables = new Map();
  for (const endpoint of report.endpoints) {
    if (!endpoint.required && endpoint.reason) continue;
    if (!tables.has(endpoint.endpoint)) tables.set(endpoint.endpoint, []);
    tables.get(endpoint.endpoint).push(endpoint);
  }
  const nodes = [...tables].map(([table, names]) => {
    const wrong = names.filter((name) => name.reason);
    const old = names.some((name) => name.last_good);
    const state = wrong.length ? "bad" : old ? "warn" : "ok";
    return { table, names, wrong, old, state };
  });
  const dull = nodes.filter((one) => one.state === "ok").slice(5);
  const shown = nodes.filter((one) => !dull.includes(one)).sort((a, b) => WORST.indexOf(b.state) - WORST.indexOf(a.state));
  return [
    shown.map(({ table, names, wrong, old, state }) => node(state, h("span", {}, table),
      wrong.length ? wrong.map((name) => small(`${name.name}: ${name.reason}`))
        : small(names.length === 1 ? names[0].name : plural(names.length, "name"), old && " (last good answer)"))),
    dull.length > 0 && node("ok", h("span", {}, plural(dull.length, "more service")), small(dull.map((one) => one.table).join(", "))),
  ];
}

function drawPath(report) {
  const devices = report.lately.devices;
  const data = { t: report.tunnels, e: report.endpoints.map((e) => [e.endpoint, e.reason, e.last_good, e.required, e.addresses, e.interfaces]),
    r: report.resolvers.map((r) => [r.address, r.healthy]), th: report.threads, i: report.rules.intact, a: [report.audit.failure, report.audit.full],
    n: devices.map((d) => d.name), l: report.flows.live, c: report.canary && report.canary.gate, d: report.dns && report.dns.answered_total };
  draw("path", data, () => {
    const records = report.audit.failure || report.audit.full ? "bad" : "ok";
    const rules = report.rules.intact ? "ok" : "bad";
    const threads = report.threads.working === report.threads.all ? "ok" : "bad";
    const closed = report.canary && report.canary.gate === "closed";
    const boxState = worst([records, rules, threads, closed ? "bad" : "ok"]);
    const anyTunnel = report.tunnels.some((tunnel) => tunnel.up);
    const zones = interfacesByZone(report);
    const deaf = report.resolvers.filter((resolver) => !resolver.healthy);
    return [
      stop("Devices", h("div", {}, h("p", { class: "big num", id: "live" }, number(report.flows.live)), small("live flows")),
        devices.length > 0 && small("busiest: ", devices.slice(0, 3).map((d) => d.name).join(", "))),
      hop(boxState !== "bad"),
      stop("Box", node(boxState, h("span", {}, report.site), closed && small("the gate is closed"),
        small(report.threads.working === report.threads.all ? plural(report.threads.all, "data thread") : `${report.threads.working} of ${report.threads.all} data threads`),
        small(rules === "ok" ? "rules intact" : "rules damaged"), small(records === "ok" ? "records every flow" : "cannot record flows"))),
      hop(anyTunnel),
      stop("Tunnels", report.tunnels.map(tunnelNode)),
      hop(anyTunnel),
      stop("Zones and network interfaces", zones.length ? zones.map(zoneNode) : small("No name has an answer yet."),
        node(deaf.length === 0 ? "ok" : deaf.length === report.resolvers.length ? "bad" : "warn", h("span", {}, "Resolvers"),
          h("div", { class: "chips" }, report.resolvers.map((r) => h("span", { class: "chip" }, icon(r.healthy ? "ok" : "bad"), r.address.replace(/:53$/, "")))))),
      hop(zones.length > 0),
      stop("Services", serviceNodes(report)),
    ];
  });
}
