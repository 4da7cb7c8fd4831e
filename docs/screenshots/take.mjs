// Drives a headless Chromium over its debugging protocol. Arguments: page, directory for pictures, directory for the
// browser's profile, axe-core's script (may be empty). Ends with 1 when anything is wrong.
import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";

const [url, pictures, profile, axe] = process.argv.slice(2);
const VIEWS = [
  { name: "light-1280", width: 1280, height: 800, scheme: "light", mobile: false },
  { name: "dark-1280", width: 1280, height: 800, scheme: "dark", mobile: false },
  { name: "light-390", width: 390, height: 844, scheme: "light", mobile: true },
  { name: "dark-390", width: 390, height: 844, scheme: "dark", mobile: true },
];

const browser = spawn("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
  "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
const endpoint = await new Promise((resolve, reject) => {
  let said = "";
  browser.stderr.on("data", (part) => {
    said += part;
    const found = said.match(/DevTools listening on (ws:\S+)/);
    if (found) resolve(found[1]);
  });
  browser.on("exit", () => reject(new Error(`the browser ended: ${said}`)));
});

const socket = new WebSocket(endpoint);
await new Promise((resolve) => socket.addEventListener("open", resolve));
const waiting = new Map();
const wrong = [];
let count = 0;
socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.id) {
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    return message.error ? reject(new Error(message.error.message)) : resolve(message.result);
  }
  const { method, params } = message;
  if (method === "Runtime.exceptionThrown") wrong.push(`exception: ${params.exceptionDetails.exception?.description}`);
  if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) wrong.push(`console: ${JSON.stringify(params.args)}`);
  if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) wrong.push(`log: ${params.entry.text} ${params.entry.url || ""}`);
});
function send(method, params, sessionId) {
  count += 1;
  socket.send(JSON.stringify({ id: count, method, params, sessionId }));
  return new Promise((resolve, reject) => waiting.set(count, { resolve, reject }));
}

async function look(view) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params = {}) => send(method, params, sessionId);
  const run = async (expression) => {
    const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
    return result.value;
  };
  for (const domain of ["Runtime", "Log", "Page"]) await page(`${domain}.enable`);
  const { width, height, mobile } = view;
  await page("Emulation.setDeviceMetricsOverride", { width, height, mobile, deviceScaleFactor: mobile ? 2 : 1 });
  await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: view.scheme }] });
  await page("Page.navigate", { url });
  // Live figures need some seconds to have a course.
  const ready = "new Promise((done) => { const look = () => document.querySelectorAll('#figures .spark path.area').length === 4 && document.querySelector('#path .stop') ? setTimeout(done, 12000) : setTimeout(look, 100); look(); })";
  await run(ready);
  const wide = await run("document.documentElement.scrollWidth");
  if (wide > width) wrong.push(`${view.name}: the page is ${wide} px wide`);
  const dead = await run("[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.querySelector(a.hash)).length");
  if (dead) wrong.push(`${view.name}: ${dead} links lead nowhere`);
  if (axe) {
    // Evaluated by the debugger: the page's own policy would not let it in.
    await run(`${await readFile(axe, "utf8")}; undefined`);
    const found = JSON.parse(await run("axe.run().then((r) => JSON.stringify([r.passes.length, r.violations.map((v) => [v.impact, v.id, v.help, v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160))])]))"));
    console.log(`${view.name}: axe-core passes ${found[0]} rules, ${found[1].length} violated`);
    wrong.push(...found[1].map((violation) => `${view.name}: ${JSON.stringify(violation)}`));
  }
  const size = await run("({ width: document.documentElement.clientWidth, height: document.documentElement.scrollHeight })");
  const clip = { x: 0, y: 0, width: size.width, height: Math.min(size.height, mobile ? 3600 : 2400), scale: 1 };
  const { data } = await page("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: true });
  await writeFile(`${pictures}/${view.name}.png`, Buffer.from(data, "base64"));
  await send("Target.closeTarget", { targetId });
}

for (const view of VIEWS) await look(view);
await send("Browser.close");
for (const line of wrong) console.error(line);
process.exit(wrong.length ? 1 : 0);
