// Looks at the page of a cache in a real Chromium, as people and their tools would:
//
//     node look.mjs URL DIR
//
// URL: the first page, as a server shows it. DIR: the same pages as files. Every page that a link leads
// to is looked at in both themes and in two widths: nothing is wider than the window, axe-core finds
// nothing, nothing is loaded, and the console stays empty. Then what people do: search, copy, find
// their way by keyboard, and all of it without a script. The last line counts what was done.

import { strict as assert } from "node:assert";
import { readFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [url, dir] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const looks = ["light", "dark"].flatMap((scheme) => [360, 1400].map((width) => ({ scheme, width })));
const counts = { pages: 0, links: 0, axe: 0, findings: 0 };

const profile = mkdtempSync(join(tmpdir(), "browser-"));
process.on("exit", () => rmSync(profile, { recursive: true, force: true }));

// Opens a browser of its own for one look, with all complaints of its pages in a list.
async function open({ scheme, width, ...options }) {
  const context = await chromium.launchPersistentContext(join(profile, `${scheme}-${width}-${Math.random()}`), {
    executablePath: "/usr/bin/chromium",
    args: flags,
    // The authority of the test is nobody's.
    ignoreHTTPSErrors: true,
    colorScheme: scheme,
    viewport: { width, height: 900 },
    ...options,
  });
  const page = context.pages()[0] ?? await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(`${page.url()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  page.on("request", (request) => {
    if (!request.isNavigationRequest() && !request.url().startsWith("data:")) {
      complaints.push(`${page.url()}: loads ${request.url()}`);
    }
  });
  return { context, page, complaints };
}

// Follows every link from a page, and looks at each page once. Returns the pages.
async function crawl(start, look) {
  const { context, page, complaints } = await open(look);
  const base = start.slice(0, start.lastIndexOf("/") + 1);
  const seen = new Set();
  const todo = [start];
  while (todo.length > 0) {
    const target = todo.pop();
    if (seen.has(target)) continue;
    seen.add(target);
    const answer = await page.goto(target);
    assert.equal(answer?.status() || 200, 200, `${target} of ${start}`);
    await judge(page, look);
    const links = await page.$$eval("a[href]", (all) => all.map((a) => a.href));
    counts.links += links.length;
    for (const link of links) {
      const [path, anchor] = link.split("#");
      // The address of the repository itself is not a page.
      if (!path.startsWith(base) || path.endsWith("/summary")) continue;
      todo.push(path);
      if (anchor && path === target) {
        const found = await page.evaluate((id) => !!document.getElementById(id), decodeURIComponent(anchor));
        assert(found, `#${anchor} of ${target}`);
      }
    }
  }
  assert.deepEqual(complaints, []);
  await context.close();
  counts.pages += seen.size;
  return seen;
}

async function judge(page, look) {
  await page.$$eval("details", (all) => all.slice(0, 3).forEach((details) => { details.open = true; }));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert(wide <= 0, `${page.url()} is ${wide} px too wide at ${look.width} px`);
  // Its own world, which the policy of the page does not bind, and which changes nothing on it.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId: contextId } = await session.send("Page.createIsolatedWorld", {
    frameId: frameTree.frame.id, worldName: "axe", grantUniveralAccess: true,
  });
  const run = async (expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression, contextId, awaitPromise: true, returnByValue: true,
    });
    assert(!exceptionDetails, JSON.stringify(exceptionDetails));
    return result.value;
  };
  await run(axe + "\n;0");
  const findings = await run(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
    violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html + ": " + n.failureSummary)))`);
  await session.detach();
  counts.axe += 1;
  counts.findings += findings.length;
  assert.deepEqual(findings, [], `${page.url()}, ${look.scheme}, ${look.width} px`);
}

// What people do, with or without a script.
async function use(look, javaScriptEnabled) {
  const { context, page, complaints } = await open({ ...look, javaScriptEnabled });
  await page.goto(url);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  const skip = await page.locator(".skip").boundingBox();
  assert(skip.y >= 0, "what has the focus can be seen");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => location.hash), "#main");

  await page.getByRole("searchbox", { name: "Search refs" }).fill("alpha GREETING");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/search?q=*");
  const results = page.getByRole("table").getByRole("link");
  const name = await results.first().textContent();
  assert.match(name, /^alpha\/greeting\//);
  await results.first().click();
  await page.waitForURL("**/p/alpha/greeting/**");
  const row = page.locator("tbody:target");
  assert.equal(await row.count(), 1);
  if (!javaScriptEnabled) await row.locator("summary").click();
  assert(await row.locator("pre").first().isVisible());
  const line = await row.locator("pre").first().textContent();
  assert(line.endsWith(` ${name}`) && line.startsWith("artifact-cache pull "), line);
  assert.equal(await row.locator("dd").first().textContent(), name);
  if (javaScriptEnabled) {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(url).origin });
    await row.getByRole("button").first().click();
    await page.getByRole("status").getByText("Copied").waitFor({ state: "attached" });
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), line);
  }
  await page.getByRole("searchbox").fill("<b>nothing</b>");
  await page.keyboard.press("Enter");
  await page.getByText("Nothing in the cache has all of these words").waitFor();
  await page.getByRole("link", { name: "All projects" }).click();
  assert.equal(page.url(), url);
  const missing = await page.goto(new URL("p/nothing/here/", url).href);
  assert.equal(missing.status(), 404);
  // Without scripts, axe-core's promises are never kept.
  if (javaScriptEnabled) await judge(page, look);
  await page.getByRole("link", { name: "All projects" }).click();
  assert.equal(page.url(), url);
  assert.deepEqual(complaints.filter((text) => !text.includes("404")), []);
  await context.close();
}

// The filter of files, which takes the place of the search.
async function filter(look) {
  const { context, page, complaints } = await open(look);
  await page.goto(pathToFileURL(join(dir, "p/alpha/index.html")).href);
  const rows = page.locator("tbody tr:visible");
  const all = await rows.count();
  await page.getByRole("searchbox", { name: "Show only elements with" }).fill("greet");
  assert.equal(await rows.count(), 1);
  await page.getByRole("searchbox").fill("");
  assert.equal(await rows.count(), all);
  assert.deepEqual(complaints, []);
  await context.close();
}

let served = 0, filed = 0;
for (const look of looks) {
  served = (await crawl(url, look)).size;
  filed = (await crawl(pathToFileURL(join(dir, "index.html")).href, look)).size;
  await use(look, true);
  await use(look, false);
  await filter(look);
}
console.log(`${served} pages served, ${filed} as files, each in ${looks.length} looks: ` +
  `${counts.links} links followed, ${counts.axe} checks by axe-core, ${counts.findings} findings`);
