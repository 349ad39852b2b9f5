// What happens shows by itself, in every tab, and never takes away what somebody is writing.
import assert from "node:assert/strict";

import { atAcme, agent, ceo, customerWrites, escalate, pendingApproval, see, story, tenantBase, unique } from "./harness.mjs";

const TABS = 10;

story("ten tabs of one browser are live at once, and an eleventh page still loads", async (stage) => {
  const visitor = await stage.visitor();
  const first = await atAcme(visitor, ceo, "/approvals?status=pending");
  const list = first.url();
  const tabs = [first, ...(await Promise.all(Array.from({ length: TABS - 1 }, () => visitor.open(list))))];
  for (const tab of tabs) await tab.evaluate(() => (globalThis.notReloaded = true));

  const { customer } = await pendingApproval(stage);
  await Promise.all(tabs.map((tab) => see(tab.locator("#approvals").getByRole("link", { name: customer }))));
  for (const tab of tabs) assert.equal(await tab.evaluate(() => globalThis.notReloaded), true, "no tab was reloaded");

  // Browsers allow six connections to a server: with a stream for each tab this page would wait for ever.
  const eleventh = await visitor.open(`${tenantBase(first)}/audit`);
  await see(eleventh.getByRole("heading", { level: 1, name: "Audit trail" }));

  // Closing tabs, also those that came first, leaves the others live.
  await Promise.all(tabs.slice(0, TABS - 2).map((tab) => tab.close()));
  const { customer: another } = await pendingApproval(stage);
  await Promise.all(tabs.slice(TABS - 2).map((tab) => see(tab.locator("#approvals").getByRole("link", { name: another }))));
});

story("tabs of several tenants are live at once", async (stage) => {
  const visitor = await stage.visitor();
  const acme = await atAcme(visitor, ceo, "/approvals");
  const others = await acme.locator("#switcher .panel a").evaluateAll((links) => links.map((link) => link.href));
  for (const other of others) await visitor.open(other);
  const { customer } = await pendingApproval(stage);
  await see(acme.locator("#approvals").getByRole("link", { name: customer }));
});

story("without shared workers the tabs share one stream all the same", async (stage) => {
  const visitor = await stage.visitor();
  await visitor.context.addInitScript(() => delete globalThis.SharedWorker);
  const first = await atAcme(visitor, ceo, "/approvals?status=pending");
  const tabs = [first, ...(await Promise.all(Array.from({ length: 7 }, () => visitor.open(first.url()))))];
  const { customer } = await pendingApproval(stage);
  await Promise.all(tabs.map((tab) => see(tab.locator("#approvals").getByRole("link", { name: customer }))));
  // The tab that holds the stream goes, and another takes over.
  await first.close();
  const { customer: another } = await pendingApproval(stage);
  await Promise.all(tabs.slice(1).map((tab) => see(tab.locator("#approvals").getByRole("link", { name: another }))));
});

story("what somebody is writing stays when the page changes", async (stage) => {
  const { page, path } = await pendingApproval(stage);
  const visitor = await stage.visitor();
  visitor.allow(/\b409\b/);
  const writing = await atAcme(visitor, ceo);
  await writing.goto(new URL(path, writing.url()).href);
  await writing.getByLabel("Comment").fill("I am still thinking about");
  // The requester takes it back in the meantime.
  await page.goto(new URL(path, page.url()).href);
  await page.getByRole("button", { name: "Withdraw the request" }).click();
  await see(page.getByText("Your request has been withdrawn."));

  await see(writing.locator("#approval-state").getByText("Withdrawn"));
  await see(writing.locator("#live").getByText("What you typed is still here."));
  assert.equal(await writing.getByLabel("Comment").inputValue(), "I am still thinking about");

  // Sent all the same, it is refused in words.
  await writing.getByRole("button", { name: "Approve", exact: true }).click();
  await see(writing.locator(".notice.error"));
  assert.equal(await writing.getByRole("button", { name: "Approve", exact: true }).count(), 0);
});

story("a button pressed twice sends once", async (stage) => {
  const customer = unique("Dora");
  const visitor = await stage.visitor();
  await customerWrites(visitor, customer, "My order came twice.");
  const page = await atAcme(visitor, agent, "/conversations");
  let sent = 0;
  page.on("request", (request) => (sent += request.method() === "POST" ? 1 : 0));
  await page.evaluate(() => {
    document.addEventListener("click", (event) => event.isTrusted && event.target.closest("button")?.click());
  });
  await escalate(page, customer, { reason: "Twice is once too much." });
  assert.equal(sent, 1);
  assert.equal(await page.locator("#conversation-approvals .row").count(), 1);
});
