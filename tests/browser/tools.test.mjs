// Other tools inside the shell, and what they may not do there; and what works with and without JavaScript alike.
import assert from "node:assert/strict";

import { agent, atAcme, ceo, matrix, pendingApproval, see, start, story, switchTo, tenantBase } from "./harness.mjs";

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? "with" : "without";

  story(`a tool is used inside the shell ${how} JavaScript`, async (stage) => {
    await pendingApproval(stage);
    const visitor = await stage.visitor({ javaScriptEnabled });
    const page = await atAcme(visitor, agent);
    await page.getByRole("navigation", { name: "Your tools" }).getByRole("link", { name: "Matrix" }).click();
    await see(page.getByRole("heading", { level: 1, name: "Matrix" }));
    const frame = page.frameLocator('iframe[title="Matrix"]');
    await see(frame.getByRole("link", { name: /approvals/i }));
    await frame.getByRole("link", { name: /approvals/i }).first().click();
    await see(frame.locator("#timeline"));
    assert.match(page.url(), /\/tools\/matrix$/, "the page stays where it is");
    const opened = await visitor.openedBy(() => page.getByRole("link", { name: /Open in a new tab/ }).click());
    assert.equal(new URL(opened.url()).origin, matrix);
  });

  story(`a consultation is cancelled ${how} JavaScript`, async (stage) => {
    const { path } = await pendingApproval(stage, { consultation: true });
    const page = await atAcme(await stage.visitor({ javaScriptEnabled }), ceo);
    await page.goto(ceo.origin + path);
    await page.getByRole("button", { name: "Approve", exact: true }).click();
    await page.getByRole("link", { name: "Go to the consultation" }).click();
    const sure = page.getByRole("button", { name: "Yes, cancel it" });
    assert.ok(!(await sure.isVisible()), "it takes two steps");
    await page.locator("#cancel summary").click();
    await sure.click();
    await see(page.getByText("The consultation has been cancelled."));
    assert.equal(await page.getByRole("button", { name: /Join|Start|cancel/ }).count(), 0);
    await see(page.locator("#consultation-state").getByText("Cancelled"));
  });
}

story("only the page with a tool admits a frame, and only that tool's", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/\b404\b/, /frame-src/);
  const page = await atAcme(visitor, agent);
  const policy = async (place) => (await page.goto(tenantBase(page) + place)).headers()["content-security-policy"];
  for (const place of ["", "/conversations", "/tools/jitsi"]) assert.doesNotMatch(await policy(place), /frame-src/, place);
  const framing = await policy("/tools/matrix");
  assert.match(framing, new RegExp(`; frame-src ${matrix}$`));
  assert.match(framing, /default-src 'none'.*frame-ancestors 'none'/);
  // Another origin is blocked in that page, too.
  const blocked = await page.evaluate(async (url) => {
    const violation = new Promise((resolve) => document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective)));
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.append(frame);
    return violation;
  }, agent.origin);
  assert.equal(blocked, "frame-src");
});

/** A page of the tool's origin that does what Element's module does: it asks in a frame whether somebody is signed in, and then fetches. */
const launcher = `<!doctype html><title>Element</title><script>
  window.asked = new Promise((resolve) => addEventListener("message", ({ origin, data }) => resolve({ origin, ...data })));
  window.fetched = asked.then(() => fetch("${start}/api/v1/navigation?language=en", { credentials: "include" }))
    .then((answer) => answer.json().then((body) => ({ status: answer.status, body })), (error) => ({ error: String(error) }));
</script><iframe src="${start}/embed/navigation"></iframe>`;

story("another tool shows what somebody finds in the sidebar, where the settings allow it", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/\b401\b/, /frame-ancestors/, /CORS policy/, /ERR_FAILED/, /ERR_BLOCKED_BY_RESPONSE/, /refused to connect|Framing/);
  // A page that the test itself answers with counts as one from the internet, and Chancery is on this machine.
  await visitor.context.grantPermissions(["local-network-access"]);
  const at = async (origin) => {
    const page = await visitor.context.newPage();
    await page.route(`${origin}/launcher`, (route) => route.fulfill({ contentType: "text/html", body: launcher }));
    await page.goto(`${origin}/launcher`);
    return page;
  };
  const before = await at(matrix);
  assert.deepEqual(await before.evaluate(() => asked), { origin: start, loggedIn: false });
  assert.equal((await before.evaluate(() => fetched)).status, 401);

  await atAcme(visitor, agent);
  const page = await at(matrix);
  assert.deepEqual(await page.evaluate(() => asked), { origin: start, loggedIn: true });
  const { status, body } = await page.evaluate(() => fetched);
  assert.equal(status, 200);
  const links = body.categories.flatMap(({ entries }) => entries.map(({ link }) => new URL(link).pathname));
  assert.ok(links.some((path) => path.endsWith("/conversations")), links.join(" "));

  // Any other origin hears nothing, and may not read the answer.
  const elsewhere = await at(agent.origin.replace("127.0.0.1", "elsewhere.localhost"));
  const read = await elsewhere.evaluate(async (url) => {
    const heard = await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, 700, "nothing"))]);
    const answer = await fetch(url, { credentials: "include" }).then(() => "read", () => "refused");
    return { heard, answer };
  }, `${start}/api/v1/navigation`);
  assert.deepEqual(read, { heard: "nothing", answer: "refused" });
});

story("somebody adds a module to their own workspace and opens it inside the shell", async (stage) => {
  const visitor = await stage.visitor();
  const page = await atAcme(visitor, agent);
  await switchTo(page, /Personal/);
  await page.goto(`${tenantBase(page)}/modules`);
  await page.getByRole("link", { name: "Add a module" }).click();
  await page.getByLabel("Name").fill("Rooms of mine");
  await page.getByLabel("Address").fill(`${matrix}/`);
  await page.getByRole("radio", { name: "Folder" }).check({ force: true });
  await page.getByRole("radio", { name: "inside a page here" }).check();
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.getByText("Added. Whoever may see it finds it in the sidebar."));
  await page.getByRole("navigation", { name: "Your tools" }).getByRole("link", { name: "Rooms of mine" }).click();
  await see(page.frameLocator('iframe[title="Rooms of mine"]').getByRole("heading", { name: "Rooms" }));
  // And takes it away again.
  await page.goto(`${tenantBase(page)}/modules`);
  await page.getByRole("link", { name: "Rooms of mine", exact: true }).last().click();
  await page.locator("#delete summary").click();
  await page.getByRole("button", { name: "Yes, remove it" }).click();
  await see(page.getByText("The module is gone from the sidebar."));
});
