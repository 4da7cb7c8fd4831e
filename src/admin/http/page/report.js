/* Live figures */
const past = [];
function rate(key) {
  const pairs = past.slice(1).map((now, place) => [past[place], now]);
  return pairs.map(([before, now]) => Math.max(0, (key(now) - key(before)) / Math.max(0.2, now.at - before.at)));
}
function lately(values) {
  const last = values.slice(-5);
  return last.length ? last.reduce((a, b) => a + b, 0) / last.length : 0;
}
function spark(values, label) {
  const most = Math.max(1, ...values);
  const width = 120;
  const x = (place) => (width - values.length + 1 + place).toFixed(1);
  const y = (value) => (29 - (value / most) * 26).toFixed(1);
  const line = values.map((value, place) => `${place ? "L" : "M"}${x(place)} ${y(value)}`).join("");
  return s("svg", { class: "spark", viewBox: `0 0 ${width} 30`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("path", { class: "base", d: `M0 29H${width}` }),
    values.length > 1 && [s("path", { class: "area", d: `${line}L${x(values.length - 1)} 29L${x(0)} 29Z` }), s("path", { d: line })]);
}
const figure = (title, value, unit, note, values) => h("div", { class: "figure" }, h("h3", {}, title),
  h("p", { class: "big num" }, value, unit && [" ", h("small", {}, unit)]), h("p", { class: "quiet num" }, note),
  spark(values, `${title}, the last two minutes`));
function perSecond(n) {
  return n === 0 ? "0" : n < 10 ? n.toFixed(1) : number(n);
}
function drawFigures(pulse) {
  past.push({ ...pulse, at: performance.now() / 1000 });
  if (past.length > 120) past.shift();
  const opened = rate((p) => p.flows.allowed_total);
  const refused = rate((p) => p.flows.denied_total);
  const moved = rate((p) => p.relay.copied + p.relay.spliced);
  const all = pulse.relay.copied + pulse.relay.spliced;
  const spliced = all ? Math.round((pulse.relay.spliced / all) * 100) : 0;
  const [amount, unit] = bytes(lately(moved));
  const { hello, dial, half_closed: half } = pulse.states;
  at("figures").replaceChildren(
    figure("Live flows", number(pulse.flows.live), "", `${number(hello)} saying hello, ${number(dial)} dialling, ${number(half)} half closed`, past.map((p) => p.flows.live)),
    figure("New flows", perSecond(lately(opened)), "per second", `${number(pulse.flows.allowed_total)} since the start`, opened),
    figure("Refused flows", perSecond(lately(refused)), "per second", `${number(pulse.flows.denied_total)} since the start`, refused),
    figure("Moved", amount, `${unit} per second`, `${size(all)}, ${spliced} % of it spliced`, moved));
  const live = at("live");
  if (live) live.textContent = number(pulse.flows.live);
}

/* Refusals, devices, names */
function refusal(of) {
  const places = of.places.map((place) => `${place.name || "no name"}${place.port ? `:${place.port}` : ""}`);
  const who = [of.address !== of.device && of.address, of.mac].filter(Boolean).join(" · ");
  const endpoint = of.endpoint ? ` Endpoint: ${of.endpoint}.` : "";
  return h("article", { class: "refusal" },
    h("div", {}, h("p", { class: "who" }, of.device), who && h("p", { class: "quiet mono" }, who),
      h("p", { class: "quiet num" }, `${number(of.count)}×, last ${ago(of.last)}`)),
    h("div", {}, h("p", { class: "what" }, of.sentence), h("p", { class: "quiet" }, h("code", {}, of.reason), of.detail && `: ${of.detail}`, endpoint),
      places.length > 0 && h("p", { class: "quiet mono places" }, places.join(", ")),
      h("p", { class: "remedy" }, of.remedy)));
}
const refusalList = (all, none) => (all.length ? h("div", {}, all.slice(0, 20).map(refusal)) : h("p", { class: "empty" }, none));
function busiest(title, all) {
  if (!all.length) return h("p", { class: "empty" }, "Nothing yet.");
  const most = Math.max(...all.map((of) => of.flows));
  return h("table", {}, h("caption", {}, title),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"), h("th", { scope: "col", class: "n" }, "Flows"), h("th", { scope: "col", class: "n" }, "Live"), h("th", { scope: "col", class: "n" }, "Refused"), h("th", { scope: "col", class: "n" }, "Moved"))),
    h("tbody", {}, all.map((of) => h("tr", {}, h("td", {}, of.name, bar(of.flows, most)), h("td", { class: "n" }, `${of.over ? "≤ " : ""}${number(of.flows)}`),
      h("td", { class: "n" }, number(of.live)), h("td", { class: "n" }, number(of.refused)), h("td", { class: "n" }, size(of.bytes))))));
}
function bar(used, most, full) {
  const inside = h("span", {});
  inside.style.width = `${most > 0 ? Math.min(100, (used / most) * 100) : 0}%`;
  return h("div", { class: full ? "bar full" : "bar", "aria-hidden": "true" }, inside);
}

/* The box */
const row = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
function auditCard(audit) {
  const state = audit.failure || audit.full ? "bad" : audit.lost_total ? "bad" : "ok";
  return h("dl", {},
    row("State", icon(state), audit.failure || (audit.full ? "no room for further flows" : "every flow is recorded")),
    row("Records", number(audit.seq)), row("Chain head", h("code", { title: audit.head }, `${audit.head.slice(0, 16)}…`)),
    row("On their way to disk", audit.waiting ? `${number(audit.waiting)}, ${milliseconds(audit.lag_seconds)}` : "none"),
    row("Lost", icon(audit.lost_total ? "bad" : "ok"), number(audit.lost_total)),
    audit.unrecorded_total > 0 && row("Refused unrecorded", number(audit.unrecorded_total)),
    row("Only on this box", number(audit.unshipped)), audit.oldest && row("Oldest record", audit.oldest.slice(0, 10)),
    row("Disk", `${size(audit.used_bytes)} of ${size(audit.quota_bytes)}`),
    h("div", { class: "gauge" }, bar(audit.used_bytes, audit.quota_bytes, audit.used_bytes > audit.quota_bytes * 0.8)));
}
const BOUNDS = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
function quantile(step, part) {
  let below = 0;
  const wanted = step.count * part;
  for (let place = 0; place < step.buckets.length; place += 1) {
    below += step.buckets[place];
    if (below >= wanted) return place < BOUNDS.length ? `≤ ${milliseconds(BOUNDS[place])}` : `> ${milliseconds(BOUNDS[BOUNDS.length - 1])}`;
  }
  return "";
}
const STEPS = { hello: "ClientHello", resolve: "Resolution", dial: "Connection", audit: "Open record" };
function setupCard(steps) {
  if (!steps.some((step) => step.count)) return h("p", { class: "empty" }, "No flow yet.");
  return h("table", {}, h("caption", {}, "How long each step of the set-up took"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col", class: "n" }, "half"), h("th", { scope: "col", class: "n" }, "99 %"))),
    h("tbody", {}, steps.filter((step) => step.count).map((step) => h("tr", {}, h("td", {}, STEPS[step.step] || step.step),
      h("td", { class: "n" }, quantile(step, 0.5)), h("td", { class: "n" }, quantile(step, 0.99))))));
}
const LIMITS = { flows: "Flows", descriptors: "File descriptors", ports: "Ports to one address", conntrack: "Connection tracking", tcp_memory: "TCP memory (pages)", neighbours: "Neighbours", pipes: "Pipes" };
const limitMeter = (of) => h("div", { class: "meter" }, h("p", {}, h("span", {}, LIMITS[of.what] || of.what), h("span", { class: "num" }, `${number(of.used)} of ${number(of.most)}`)),
  bar(of.used, of.most, of.what !== "pipes" && of.used > of.most * 0.8));
function rulesCard([rules, policy, dns, listen]) {
  const packets = Object.entries(rules.packets).filter(([, count]) => count > 0);
  return h("dl", {},
    row("Rules in the kernel", icon(rules.intact ? "ok" : "bad"), rules.intact ? "intact" : "damaged"), row("Repaired", plural(rules.restored_total, "time")),
    packets.map(([name, count]) => row(h("code", {}, name), `${number(count)} packets`)),
    row("Policy", h("code", { title: policy.hash }, policy.hash.slice(0, 12))), row("Loaded", policy.loaded.slice(0, 16).replace("T", " ")),
    dns && [row("DNS answered", number(dns.answered_total)), row("DNS refused", number(dns.refused_total))],
    listen.fingerprint && row("Certificate", h("code", { title: listen.fingerprint }, `${listen.fingerprint.slice(0, 23)}…`)));
}
// Whatever a part of the report says that has no drawing of its own.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  return h("dl", {}, Object.entries(value).filter(([, v]) => v !== null).map(([key, v]) =>
    row(key.replace(/_/g, " "), typeof v === "object" ? JSON.stringify(v) : String(v))));
}

function show(report) {
  boxTime = Date.parse(report.now);
  at("site").textContent = report.site;
  at("about").textContent = `Sluicegate ${report.version}, up ${duration(report.uptime_seconds)}`;
  drawVerdict(report);
  drawPath(report);
  const { refusals, learnt, devices, names } = report.lately;
  at("learnt-card").hidden = learnt.length === 0;
  draw("learnt", [learnt, boxTime], () => refusalList(learnt, ""));
  draw("refusals", [refusals, boxTime], () => refusalList(refusals, "Nothing was refused since the start."));
  draw("devices", devices, (all) => busiest("Busiest devices", all));
  draw("names", names, (all) => busiest("Most asked names", all));
  draw("audit", report.audit, auditCard);
  draw("setup", report.flows.set_up, setupCard);
  draw("limits", report.headroom, (all) => all.map(limitMeter));
  draw("rules", [report.rules, report.policy, report.dns, report.admin], rulesCard);
  const shipping = report.shipping;
  at("shipping-card").hidden = !shipping || Object.keys(shipping).length === 0;
  if (shipping) draw("shipping", shipping, plain);
}

/* From the gate */
let heard = 0;
function link(state, words) {
  const text = at("link");
  if (text.dataset.words === words) return;
  text.dataset.words = words;
  text.replaceChildren(icon(state), words);
  document.body.classList.toggle("stale", state !== "ok");
}
function listen() {
  const events = new EventSource("/events");
  const hear = (take) => (event) => {
    heard = Date.now();
    link("ok", "live");
    take(JSON.parse(event.data));
  };
  events.addEventListener("status", hear((report) => { show(report); drawFigures(report); }));
  events.addEventListener("pulse", hear(drawFigures));
  events.onerror = () => {
    link("bad", "no connection");
    // A browser tries again by itself, unless the answer was a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}
setInterval(() => {
  if (heard && Date.now() - heard > 4000) link("bad", `silent for ${duration((Date.now() - heard) / 1000)}`);
}, 1000);
link("unknown", "connecting");
listen();
