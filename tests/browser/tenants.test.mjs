// Which tenant a page shows is in its address: tabs can differ, links can be shared, and strangers see nothing.
import assert from "node:assert/strict";

import { agent, atAcme, ceo, choose, outsider, pendingApproval, see, start, story, switchTo, tenantBase } from "./harness.mjs";

story("two tabs show two tenants", async (stage) => {
  const visitor = await stage.visitor();
  const acme = await atAcme(visitor, ceo, "/approvals");
  const engineering = await visitor.open(acme.url());
  await switchTo(engineering, "Engineering");
  assert.match(engineering.url(), /\/approvals$/, "one stays with the approvals");
  await acme.reload();
  await see(acme.locator("#switcher summary").getByText("Acme Corp", { exact: true }));
  await engineering.reload();
  await see(engineering.locator("#switcher summary").getByText("Engineering", { exact: true }));
  assert.notEqual(tenantBase(acme), tenantBase(engineering));
  // Links within the page stay in its tenant.
  await acme.getByRole("link", { name: "Consultations" }).first().click();
  assert.equal(tenantBase(acme), acme.url().replace(/\/consultations$/, ""));
  await see(acme.locator("#switcher summary").getByText("Acme Corp", { exact: true }));
});

story("an address without a tenant leads to the one that was looked at last", async (stage) => {
  const visitor = await stage.visitor();
  const page = await atAcme(visitor, ceo, "/approvals");
  const acme = tenantBase(page);
  await page.goto(`${ceo.origin}/app/approvals`);
  assert.equal(page.url(), `${acme}/approvals`);
  await switchTo(page, "Engineering");
  const engineering = tenantBase(page);
  await page.goto(`${ceo.origin}/app/consultations`);
  assert.equal(page.url(), `${engineering}/consultations`);
});

story("a shared link leads there after signing in", async (stage) => {
  const { customer, path } = await pendingApproval(stage);
  const page = await (await stage.visitor()).open(`${ceo.origin}${path}`);
  await page.getByRole("link", { name: "Sign in with Keycloak" }).click();
  await choose(page, ceo);
  assert.equal(new URL(page.url()).pathname, path);
  await see(page.getByRole("heading", { level: 1, name: customer }));
  await see(page.getByRole("button", { name: "Approve", exact: true }));
});

story("a stranger gets the same page for somebody else's approval as for one that doesn't exist", async (stage) => {
  const { customer, path } = await pendingApproval(stage);
  const visitor = await stage.visitor();
  visitor.allow(/\b404\b/);
  const page = await visitor.signIn(outsider);
  const [, tenant] = path.match(/^\/app\/t\/([^/]+)\//);
  const none = "01890000-0000-7000-8000-000000000000";
  const own = new URL(tenantBase(page)).pathname;
  const texts = [];
  for (const place of [
    path,
    `/app/t/${tenant}/approvals/${none}`,
    `/app/t/${tenant}`,
    `/app/t/${none}/approvals/${none}`,
    path.replace(/^\/app\/t\/[^/]+/, own),
  ]) {
    const answer = await page.goto(outsider.origin + place);
    assert.equal(answer.status(), 404, place);
    await see(page.getByRole("heading", { name: "There is nothing here" }));
    const text = await page.locator("main").innerText();
    assert.ok(!text.includes(customer));
    // Each request has a number of its own.
    texts.push(text.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "…"));
  }
  assert.equal(new Set(texts).size, 1, "the answers differ");
});

story("whoever asked for an approval can't decide it, and is told why", async (stage) => {
  const { page, path } = await pendingApproval(stage);
  await page.goto(new URL(path, page.url()).href);
  await see(page.getByText("You can’t decide this"));
  assert.equal(await page.getByRole("button", { name: "Approve", exact: true }).count(), 0);
  assert.equal(await page.getByRole("link", { name: "Audit trail" }).count(), 0, "an agent has no audit trail in the sidebar");
});

story("in one's own tenant nobody could decide, and the page says so", async (stage) => {
  const page = await (await stage.visitor()).signIn(agent);
  await switchTo(page, /Personal/);
  await page.goto(`${tenantBase(page)}/approvals/new`);
  await see(page.getByText("Nobody but you could decide here."));
  assert.equal(await page.getByRole("button", { name: "Send the request" }).count(), 0);
});

story("a host name that isn't ours gets nothing", async (stage) => {
  const visitor = await stage.visitor();
  // Not even the style sheet comes.
  visitor.allow(/\b421\b/, /Refused to apply style/);
  const page = await visitor.context.newPage();
  const answer = await page.goto(`${start.replace("127.0.0.1", "evil.localhost")}/app`);
  assert.equal(answer.status(), 421);
  // The way on leads to our own name.
  const href = await page.getByRole("link").first().getAttribute("href");
  assert.equal(new URL(href).host, new URL(start).host);
});
