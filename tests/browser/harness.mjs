// What the browser tests share: where the demo is, who the people are, and a stage that fails a test when a page complains.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

/** Where Chancery is; the doubles of the tools take the four ports after it, as `chancery demo` does. */
const base = new URL(process.env.CHANCERY_BASE_URL ?? "http://127.0.0.1:8080");
const afterBase = (offset) => `http://${base.hostname}:${Number(base.port) + offset}`;
export const keycloak = process.env.CHANCERY_KEYCLOAK_URL ?? afterBase(1);
export const chatwoot = process.env.CHANCERY_CHATWOOT_URL ?? afterBase(2);
export const matrix = process.env.CHANCERY_MATRIX_URL ?? afterBase(3);
export const jitsi = process.env.CHANCERY_JITSI_URL ?? afterBase(4);
export const start = base.origin;

/** The people of the demo, each on a host name of their own. */
const person = (username, name, host) => ({ username, name, origin: `http://${host}:${base.port}` });
export const agent = person("acme-agent", "Ada Agent", "127.0.0.1");
export const ceo = person("acme-ceo", "Carla Chief", "localhost");
export const viewer = person("acme-viewer", "Victor Viewer", "acme-viewer.localhost");
export const outsider = person("outsider", "Oscar Outsider", "outsider.localhost");

/** How long something that happens by itself may take; a live update takes a fraction of it. */
export const PATIENCE = 20_000;
const TEST_LIMIT = 90_000;
/** What a test that hangs has left to say where. */
const LAST_WORDS = 10_000;
export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

const FAILURES = fileURLToPath(new URL("../../target/browser-failures/", import.meta.url));
const axeSource = () => readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let launched, closing;

/** The browser of this file's tests. */
export function browser() {
  launched ??= chromium.launch({
    executablePath: process.env.CHROMIUM_PATH ?? "/usr/bin/chromium",
    headless: true,
    // The sandbox needs privileges that containers lack; the rest keeps Chromium from calling home.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  return launched;
}

/** Looks again and again until `look` gives something, and returns that. */
export async function eventually(what, look, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) assert.fail(`${what}: not within ${patience} ms`);
    await sleep(50);
  }
}

/** Waits until the locator shows. */
export const see = (locator, timeout = PATIENCE) => locator.first().waitFor({ state: "visible", timeout });

/** Reloads, as somebody without JavaScript does, until the locator shows. */
export async function reloadUntil(page, locator) {
  await eventually(`${locator} after reloading`, async () => {
    if (await locator.first().isVisible()) return true;
    await page.reload();
    return locator.first().isVisible();
  });
}

/** Something that no other test has. */
let counter = 0;
export const unique = (words) => `${words} ${process.pid.toString(36)}${Date.now().toString(36)}${(counter++).toString(36)}`;

/** A browser's context whose pages' complaints are noted. */
class Visitor {
  #complaints = [];
  #allowed = [];

  constructor(context, stage) {
    this.context = context;
    this.stage = stage;
    context.setDefaultTimeout(PATIENCE);
    context.on("page", (page) => this.#watch(page));
  }

  /** What the pages may complain about in this test, such as the status 404 that it asks for. */
  allow(...patterns) {
    this.#allowed.push(...patterns);
  }

  #note(complaint) {
    this.#complaints.push(complaint);
  }

  #watch(page) {
    page.on("pageerror", (error) => this.#note(`${page.url()}: ${error}`));
    page.on("console", (message) => {
      // Violations of the content security policy come here, too.
      if (["error", "warning"].includes(message.type())) {
        this.#note(`${page.url()}: ${message.text()} (${message.location().url ?? ""})`);
      }
    });
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText ?? "";
      // Leaving a page ends what it was fetching.
      if (why !== "net::ERR_ABORTED") this.#note(`${page.url()}: ${request.method()} ${request.url()} failed: ${why}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) {
        this.#note(`${page.url()}: ${response.request().method()} ${response.url()} was answered with ${response.status()}`);
      }
    });
  }

  /** What the pages complained about and may not. */
  complaints() {
    return this.#complaints.filter((complaint) => !this.#allowed.some((pattern) => pattern.test(complaint)));
  }

  /** Opens an address in a new tab. */
  async open(url) {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  /** The tab that `act` opens. */
  async openedBy(act) {
    const [page] = await Promise.all([this.context.waitForEvent("page"), act()]);
    await page.waitForLoadState();
    return page;
  }

  /** Signs in over Keycloak's page and ends on `path` of that person's shell. */
  async signIn(who, path = "/app") {
    const page = await this.context.newPage();
    await page.goto(`${who.origin}/auth/login?${new URLSearchParams({ return_to: path, login_hint: who.username })}`);
    await choose(page, who);
    return page;
  }
}

/** On Keycloak's page: picks a person. */
export async function choose(page, who) {
  assert.equal(new URL(page.url()).origin, keycloak, "this is Keycloak's page");
  await page.getByRole("button", { name: who.name }).click();
  await page.waitForURL((url) => url.origin === who.origin && url.pathname.startsWith("/app/"));
}

/** Sends a form that asks for a second factor: Keycloak asks for a one-time code, unless it got one just now; then the form is there again. */
export async function sendProven(page, button) {
  await page.getByRole("button", { name: button, exact: true }).click();
  const again = page.getByText("Please look at it once more");
  const code = page.getByLabel("Code");
  await see(code.or(again));
  if (await code.isVisible()) {
    assert.equal(new URL(page.url()).origin, keycloak, "this is Keycloak's page");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
  }
  await see(again);
  await page.getByRole("button", { name: button, exact: true }).click();
}

class Stage {
  #visitors = [];

  /** A context: a browser of somebody's own. */
  async visitor(options = {}) {
    const context = await (await browser()).newContext({ viewport: WIDE, reducedMotion: "reduce", ...options });
    const visitor = new Visitor(context, this);
    this.#visitors.push(visitor);
    return visitor;
  }

  async picture(name) {
    await mkdir(FAILURES, { recursive: true });
    const pages = this.#visitors.flatMap((visitor) => visitor.context.pages());
    const lines = await Promise.all(
      pages.map(async (page, index) => {
        const file = path.join(FAILURES, `${name.replace(/\W+/g, "-")}-${index + 1}.png`);
        await page.screenshot({ path: file, timeout: 5000 }).catch(() => {});
        return `${page.url()}  ${file}`;
      }),
    );
    return lines.join("\n");
  }

  complaints() {
    return this.#visitors.flatMap((visitor) => visitor.complaints());
  }

  async close() {
    await Promise.all(this.#visitors.map((visitor) => visitor.context.close()));
  }
}

/** A stage without a test around it; whoever opens it closes it. */
export const openStage = () => new Stage();

/** A test on a stage: it fails when a page complains, and leaves pictures of the open pages when it fails. */
export function story(name, play) {
  closing ??= after(async () => (await launched)?.close()) ?? true;
  test(name, { timeout: TEST_LIMIT }, async (t) => {
    const stage = new Stage();
    const limit = AbortSignal.timeout(TEST_LIMIT - LAST_WORDS);
    const late = new Promise((_, reject) => {
      limit.onabort = () => reject(new Error(`not done within ${TEST_LIMIT - LAST_WORDS} ms`));
    });
    try {
      await Promise.race([play(stage, t), late]);
      const complaints = stage.complaints();
      assert.ok(complaints.length === 0, `the pages complained:\n${complaints.join("\n")}`);
    } catch (error) {
      const complaints = stage.complaints().map((complaint) => `\ncomplaint: ${complaint}`);
      t.diagnostic(`the pages at the end:\n${await stage.picture(name)}${complaints.join("")}`);
      throw error;
    } finally {
      limit.onabort = null;
      await stage.close();
    }
  });
}

/** The base of the tenant that a page of the shell shows: `http://localhost:8080/app/t/…`. */
export function tenantBase(page) {
  const [found] = page.url().match(/^https?:\/\/[^/]+\/app\/t\/[^/?#]+/) ?? [];
  assert.ok(found, `${page.url()} is no page of a tenant`);
  return found;
}

/** Switches to the tenant of that name. */
export async function switchTo(page, name) {
  const switcher = page.locator("#switcher");
  await switcher.locator("summary").click();
  await switcher.getByRole("link", { name }).click();
  await see(page.locator("#switcher summary").getByText(name, { exact: true }));
}

/** Signs in, in the tenant Acme Corp, on a page of it such as `/approvals`. */
export async function atAcme(visitor, who, place = "") {
  const page = await visitor.signIn(who);
  if (!(await page.locator("#switcher summary").innerText()).includes("Acme Corp")) await switchTo(page, "Acme Corp");
  if (place) await page.goto(tenantBase(page) + place);
  return page;
}

/** A customer writes in Chatwoot's widget; the page of the new conversation. */
export async function customerWrites(visitor, customer, message) {
  const page = await visitor.open(`${chatwoot}/?new=true`);
  await page.getByLabel("Your name").fill(customer);
  await page.getByLabel("How can we help?").fill(message);
  await page.getByRole("button", { name: "Start the conversation" }).click();
  await see(page.locator("#agent-messages").getByText(message));
  return page;
}

/** Escalates that customer's conversation from the list of conversations, and returns the page of the conversation. */
export async function escalate(page, customer, { reason, title, priority = "medium", consultation = false, live = true }) {
  await page.bringToFront();
  const row = page.locator("#conversations").getByRole("link", { name: customer });
  await (live ? see(row) : reloadUntil(page, row));
  await row.click();
  await page.getByLabel("Why does this need a decision?").fill(reason);
  if (title) await page.getByLabel("Title").fill(title);
  await page.getByLabel("Priority").selectOption(priority);
  if (consultation) await page.getByLabel("Ask for a video consultation as well").check();
  await page.getByRole("button", { name: "Escalate to CEO" }).click();
  await see(page.getByText("Escalated. You will see the decision here"));
  return page;
}

/** An approval that waits at Acme Corp, about a conversation of its own: its title's customer, and its path below the tenant. */
export async function pendingApproval(stage, options = {}) {
  const customer = unique("Connie");
  const visitor = await stage.visitor();
  await customerWrites(visitor, customer, "My order came broken.");
  const page = await atAcme(visitor, agent, "/conversations");
  await escalate(page, customer, { reason: "The customer wants 1,200 € back.", ...options });
  const href = await page.locator("#conversation-approvals .row-title").first().getAttribute("href");
  return { customer, visitor, page, path: href };
}

/** Makes axe available in every page of that visitor, past the content security policy. */
export async function withAxe(visitor) {
  await visitor.context.addInitScript({ content: await axeSource() });
  return visitor;
}

/** The rules of axe that depend on colours. */
export const COLOUR_RULES = ["color-contrast", "link-in-text-block"];

/** Whatever axe finds wrong with the page as it is, one line each; all its rules unless some are named. */
export async function violations(page, rules) {
  // Colours on their way from one theme to the other are nobody's.
  await page.evaluate(async () => {
    const settle = async () => {
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
    };
    // A window without frames draws none, and an animation that is paused never ends.
    await Promise.race([settle(), new Promise((resolve) => setTimeout(resolve, 1000))]);
  });
  const found = await page.evaluate(async (values) => {
    const runOnly = values && { type: "rule", values };
    // Off unless asked for: what one taps is large enough, or far enough from the next (WCAG 2.2, 2.5.8).
    const rules = { "target-size": { enabled: !values } };
    return (await globalThis.axe.run(document, { resultTypes: ["violations"], rules, ...(runOnly && { runOnly }) })).violations;
  }, rules);
  return found.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary?.replace(/\s+/g, " ")}`),
  );
}

/** What is wider than the window, if the page scrolls sideways. */
export function overflow(page) {
  return page.evaluate(() => {
    const root = document.scrollingElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [...document.querySelectorAll("body *")]
      .filter((element) => element.getBoundingClientRect().right > root.clientWidth + 1)
      .map((element) => `${element.tagName.toLowerCase()}.${element.className} reaches ${Math.round(element.getBoundingClientRect().right)}`);
  });
}
