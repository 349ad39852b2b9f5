// The main job as people play it, from the demo's start page to the audit trail.
import assert from "node:assert/strict";

import {
  agent,
  atAcme,
  ceo,
  chatwoot,
  choose,
  customerWrites,
  sendProven,
  escalate,
  jitsi,
  keycloak,
  matrix,
  reloadUntil,
  see,
  start,
  story,
  switchTo,
  tenantBase,
  unique,
} from "./harness.mjs";

/** From the start page to a person's shell, as a reader of the start page goes. */
async function fromTheStartPage(visitor, link, who) {
  const first = await visitor.open(start);
  await see(first.getByRole("heading", { name: "A customer writes. The CEO decides. Everybody knows." }));
  const page = await visitor.openedBy(() => first.getByRole("link", { name: link }).first().click());
  await choose(page, who);
  if (!(await page.locator("#switcher summary").innerText()).includes("Acme Corp")) await switchTo(page, "Acme Corp");
  return page;
}

async function play(stage, javaScriptEnabled) {
  const options = { javaScriptEnabled };
  const customer = unique("Connie");
  const message = `My order came broken, says ${customer}, and I want my 1,200 € back.`;
  const comment = `Refund it, with an apology to ${customer}.`;
  const appears = (page, locator) => (javaScriptEnabled ? see(locator) : reloadUntil(page, locator));

  const agents = await stage.visitor(options);
  const ceos = await stage.visitor(options);
  const ceoPage = await fromTheStartPage(ceos, "Open as the CEO", ceo);
  await ceoPage.getByRole("link", { name: "Approvals" }).first().click();
  await ceoPage.getByRole("heading", { level: 1, name: "Approvals" }).waitFor();
  await ceoPage.goto(`${tenantBase(ceoPage)}/approvals?status=pending`);
  // A reload would lose this.
  if (javaScriptEnabled) await ceoPage.evaluate(() => (globalThis.notReloaded = true));

  // The customer writes, and the agent sees it in Chatwoot.
  const first = await agents.open(start);
  const chatwootPage = await agents.openedBy(() => first.getByRole("link", { name: "Open Chatwoot" }).click());
  await chatwootPage.goto(`${chatwoot}/?new=true`);
  await chatwootPage.getByLabel("Your name").fill(customer);
  await chatwootPage.getByLabel("How can we help?").fill(message);
  await chatwootPage.getByRole("button", { name: "Start the conversation" }).click();
  await see(chatwootPage.locator("#agent-messages").getByText(message));

  // The agent escalates.
  const agentPage = await fromTheStartPage(agents, "Open as the agent", agent);
  await agentPage.getByRole("link", { name: "Conversations" }).first().click();
  await escalate(agentPage, customer, { reason: `${customer} wants 1,200 € back.`, priority: "high", consultation: true, live: javaScriptEnabled });
  await see(agentPage.getByText("A request about this conversation already waits for a decision."));

  // It is on the CEO's screen.
  const request = ceoPage.locator("#approvals").getByRole("link", { name: customer });
  await appears(ceoPage, request);
  if (javaScriptEnabled) {
    assert.equal(await ceoPage.evaluate(() => globalThis.notReloaded), true, "the list was not reloaded");
    await see(ceoPage.locator("#live").getByText("A new request for approval has arrived."));
  }

  // The CEO reads, and approves.
  await ceoPage.bringToFront();
  await request.click();
  await see(ceoPage.locator("#context").getByText(message));
  await see(ceoPage.getByText(`${customer} wants 1,200 € back.`));
  await ceoPage.getByLabel("Comment").fill(comment);
  await ceoPage.getByLabel("Set up a video consultation if I approve").check();
  await sendProven(ceoPage, "Approve");
  await see(ceoPage.getByText("Approved. The requester and the conversation have been told."));
  await see(ceoPage.locator("#decision").getByText(comment));
  assert.equal(await ceoPage.getByRole("button", { name: "Reject" }).count(), 0, "a decision is final");

  // The agent sees it, in Chancery and in Chatwoot; the team sees it in Matrix.
  await appears(agentPage, agentPage.locator("#conversation-approvals .badge").getByText("Approved"));
  const note = chatwootPage.locator("#agent-messages .note", { hasText: "Approved by Carla Chief" });
  await appears(chatwootPage, note);
  await see(note.getByText("private note"));
  await see(note.locator("blockquote").getByText(comment));
  assert.equal(await chatwootPage.locator("#customer-messages").getByText("Approved by").count(), 0, "the customer doesn't see it");
  const matrixPage = await agents.open(matrix);
  await matrixPage.getByRole("link", { name: /approvals/i }).first().click();
  await appears(matrixPage, matrixPage.locator("#timeline").getByText(new RegExp(`Approved by Carla Chief.*${customer}`)));

  // The consultation: the CEO hosts, the agent comes.
  await ceoPage.bringToFront();
  await ceoPage.getByRole("link", { name: "Go to the consultation" }).click();
  await ceoPage.getByRole("button", { name: "Start", exact: true }).click();
  await see(ceoPage.getByText("The consultation has started."));
  await agentPage.bringToFront();
  await agentPage.getByRole("link", { name: "Consultations" }).first().click();
  await appears(agentPage, agentPage.locator("#upcoming").getByRole("link", { name: customer }));
  await agentPage.locator("#upcoming").getByRole("link", { name: customer }).click();
  await appears(agentPage, agentPage.locator("#consultation-state").getByText("Going on now"));
  for (const [visitor, page, who] of [[ceos, ceoPage, ceo], [agents, agentPage, agent]]) {
    await page.bringToFront();
    const room = await visitor.openedBy(() => page.getByRole("button", { name: "Join the room" }).click());
    assert.equal(new URL(room.url()).origin, jitsi, "the button leads to Jitsi");
    await see(room.getByText(`You are in the meeting as ${who.name}`));
    const people = room.locator("#people");
    await see(people.getByText(who.name));
    assert.equal(await people.locator(".person", { hasText: who.name }).getByText("Moderator").count(), who === ceo ? 1 : 0, "the host moderates");
    if (who === agent) await see(people.getByText(ceo.name));
  }

  // Everything is in the audit trail.
  await ceoPage.bringToFront();
  await ceoPage.getByRole("link", { name: "Audit trail" }).first().click();
  for (const [who, did] of [[agent, "requested an approval"], [ceo, "approved"], [ceo, "started a consultation"]]) {
    await see(ceoPage.locator("#audit .entry", { hasText: customer }).filter({ hasText: who.name }).filter({ hasText: did }));
  }
  const approved = ceoPage.locator("#audit .entry", { hasText: customer }).filter({ hasText: ` approved ` }).filter({ hasText: ceo.name }).first();
  await approved.locator("summary").click();
  await see(approved.getByText(comment));
}

story("the main job is played with JavaScript", (stage) => play(stage, true));

story("the main job is played without JavaScript", (stage) => play(stage, false));

story("the start page opens everybody under the name that Keycloak knows", async (stage) => {
  const visitor = await stage.visitor();
  const first = await visitor.open(start);
  const people = first.locator(".person");
  assert.equal(await people.count(), 6);
  for (const one of await people.all()) {
    const name = await one.getByRole("heading").innerText();
    const page = await visitor.openedBy(() => one.getByRole("link", { name: `Open as ${name}` }).click());
    assert.equal(new URL(page.url()).origin, keycloak);
    // Whoever is meant comes first.
    assert.match(await page.getByRole("button").first().innerText(), new RegExp(name));
    await page.close();
  }
});

story("one browser is the agent and the CEO at once", async (stage) => {
  const visitor = await stage.visitor();
  const agentPage = await atAcme(visitor, agent);
  const ceoPage = await atAcme(visitor, ceo);
  for (const [page, who] of [[agentPage, agent], [ceoPage, ceo]]) {
    await page.reload();
    await see(page.locator("#account summary").getByText(who.name));
  }
});

story("a private note that begins with /escalate escalates, too", async (stage) => {
  const customer = unique("Nora");
  const visitor = await stage.visitor();
  const page = await customerWrites(visitor, customer, "Can you send it again?");
  const select = page.getByLabel("You are");
  if (await select.count()) {
    await select.selectOption({ label: agent.name });
    await page.getByRole("button", { name: "Change" }).click();
    await see(page.getByText(`Reply as ${agent.name}`));
  }
  await page.getByLabel(/^Reply as/).fill(`/escalate ${customer} wants a second parcel`);
  await page.getByLabel("Private note").check();
  await page.locator("#agent-composer").getByRole("button", { name: "Send" }).click();
  const ceoPage = await atAcme(await stage.visitor(), ceo, "/approvals");
  await see(ceoPage.locator("#approvals").getByRole("link", { name: customer }));
  await see(page.locator("#agent-messages .note", { hasText: `${agent.name} asks for a decision` }));
});
