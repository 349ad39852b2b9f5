// Our page inside Chatwoot: shown beside a conversation, signed in in a window of its own, and escalated from.
import assert from "node:assert/strict";

import { agent, atAcme, ceo, chatwoot, customerWrites, keycloak, see, start, story, unique } from "./harness.mjs";

story("an agent signs in beside the conversation in Chatwoot and escalates it there", async (stage) => {
  const customer = unique("Connie");
  const visitor = await stage.visitor();
  const page = await customerWrites(visitor, customer, "My order came broken.");
  await page.locator("summary", { hasText: "Approvals" }).click();
  const frame = page.frameLocator('iframe[title="Approvals"]');
  const signIn = frame.getByRole("button", { name: /Keycloak/ });
  await see(signIn);
  const popup = await visitor.openedBy(() => signIn.click());
  assert.equal(new URL(popup.url()).origin, keycloak);
  const closed = popup.waitForEvent("close");
  await popup.getByRole("button", { name: agent.name }).click();
  await closed;
  await see(frame.getByRole("heading", { level: 2, name: "Escalate to CEO" }));
  await frame.getByLabel("Why does this need a decision?").fill(`${customer} wants 1,200 € back.`);
  await frame.getByRole("button", { name: "Escalate to CEO" }).click();
  await see(frame.getByText("Escalated. You will see the decision here"));
  await see(frame.getByRole("link", { name: customer }));
  // It is on the CEO's screen.
  const ceoPage = await atAcme(await stage.visitor(), ceo, "/approvals?status=pending");
  await see(ceoPage.locator("#approvals").getByRole("link", { name: customer }));
});

story("the page beside a conversation hears Chatwoot alone, and only which conversation it is", async (stage) => {
  const visitor = await stage.visitor();
  const page = await customerWrites(visitor, unique("Connie"), "Hello");
  await page.locator("summary", { hasText: "Approvals" }).click();
  const element = page.locator('iframe[title="Approvals"]');
  const frame = await (await element.elementHandle()).contentFrame();
  await frame.getByRole("button", { name: /Keycloak/ }).waitFor();
  const asked = [];
  page.on("request", (request) => request.url().includes("/embed/chatwoot/panel") && asked.push(request.url()));
  const context = (id) => JSON.stringify({ event: "appContext", data: { conversation: { id, account_id: 1 } } });
  // From the frame itself: the right origin is another one, and so is the window.
  await frame.evaluate((told) => postMessage(told, "*"), context(1));
  // From Chatwoot: what is no number of a conversation, and what is no text.
  for (const told of [context("1&account=2"), context(-1), context(1.5), "{", "null", { event: "appContext" }]) {
    await element.evaluate((one, told) => one.contentWindow.postMessage(told, "*"), told);
  }
  await element.evaluate((one, told) => one.contentWindow.postMessage(told, "*"), context(999_999));
  await page.waitForTimeout(300);
  assert.deepEqual(asked, [`${new URL(await element.getAttribute("src")).origin}/embed/chatwoot/panel?account=1&conversation=999999`]);
});

story("nobody but Chatwoot frames the page beside a conversation", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/frame-ancestors/, /frame-src/);
  const page = await visitor.open(chatwoot);
  const headers = (await page.goto(`${start}/embed/chatwoot`)).headers();
  assert.match(headers["content-security-policy"], new RegExp(`; frame-ancestors ${chatwoot};`));
  assert.equal(headers["x-frame-options"], undefined);
});

story("another origin than Chatwoot's gets no frame", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/frame-ancestors/, /ERR_BLOCKED_BY_RESPONSE/);
  // The same double under another name: another origin.
  const page = await customerWrites(visitor, unique("Connie"), "Hello");
  await page.goto(page.url().replace("127.0.0.1", "localhost"));
  const blocked = page.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
  await page.locator("summary", { hasText: "Approvals" }).click();
  await blocked;
});
