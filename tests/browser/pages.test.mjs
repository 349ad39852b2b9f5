// Every page in both themes and at both widths: no violation of axe's rules, nothing wider than the window.
import assert from "node:assert/strict";

import {
  COLOUR_RULES,
  PHONE,
  WIDE,
  agent,
  atAcme,
  ceo,
  chatwoot,
  choose,
  customerWrites,
  escalate,
  jitsi,
  keycloak,
  matrix,
  outsider,
  overflow,
  pendingApproval,
  reloadUntil,
  see,
  sendProven,
  start,
  story,
  switchTo,
  tenantBase,
  unique,
  viewer,
  violations,
  withAxe,
} from "./harness.mjs";

/** Looks at the page as it is in each theme and width, and notes what is wrong in `faults`. */
async function look(page, name, faults) {
  for (const [width, viewport] of [["wide", WIDE], ["phone", PHONE]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      // The themes differ in nothing but colours.
      const rules = colorScheme === "dark" ? COLOUR_RULES : undefined;
      let found = await violations(page, rules);
      // News may have come while axe looked: what is half there has half its colours.
      if (found.length) found = await violations(page, rules);
      for (const fault of found) faults.push(`${name} (${width}, ${colorScheme}): ${fault}`);
    }
    for (const fault of await overflow(page)) faults.push(`${name} (${width}): ${fault}`);
  }
  await page.setViewportSize(WIDE);
  const title = await page.title();
  if (!title.trim()) faults.push(`${name}: no title`);
  if (await page.evaluate(() => document.documentElement.lang !== "en")) faults.push(`${name}: no language`);
}

/** A story that looks at its pages, and fails with all their faults at once. */
function gallery(name, play) {
  story(name, async (stage) => {
    const faults = [];
    await play(stage, (page, of) => look(page, of, faults));
    assert.ok(faults.length === 0, `${faults.length} faults:\n${faults.join("\n")}`);
  });
}

/** Sends the form although the browser sees that fields are missing. */
async function sendIncomplete(page, button) {
  await page.locator("form").evaluateAll((forms) => forms.forEach((form) => (form.noValidate = true)));
  await button.click();
  await see(page.locator(".notice.error"));
}

gallery("the pages outside of the shell are in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b40[0134]\b/);
  const page = await visitor.open(start);
  await looked(page, "the demo's start page");
  await page.goto(`${start}/app`);
  await see(page.getByRole("link", { name: "Sign in with Keycloak" }));
  await looked(page, "sign in");
  await page.goto(`${start}/auth/callback?state=none&code=none`);
  await see(page.getByRole("alert"));
  await looked(page, "a sign-in that failed");
  await page.goto(`${start}/auth/signed-in`);
  await looked(page, "cookie blocked");
  await page.goto(`${start}/auth/signed-out`);
  await looked(page, "signed out");
  await page.goto(`${start}/no-such-page`);
  await see(page.getByRole("heading", { name: "There is nothing here" }));
  await looked(page, "404 for somebody signed out");
  await page.goto(`${start}/auth/login`);
  assert.equal(new URL(page.url()).origin, keycloak);
  await looked(page, "Keycloak's page");
});

gallery("the pages of a tenant without anything are in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b40[34]\b/);
  // Nobody but the outsider is of Globex, and nothing happens there.
  const page = await visitor.signIn(outsider);
  const places = ["", "/conversations", "/approvals", "/approvals?status=approved", "/approvals/new", "/consultations", "/audit", "/inbox", "/inbox/sources", "/inbox/sources/new", "/endpoints", "/endpoints/new", "/modules", "/modules/new", "/settings"];
  for (const [tenant, seen] of [[/Personal/, places], [/Globex/, ["", "/conversations", "/audit", "/settings"]]]) {
    await switchTo(page, tenant);
    const base = tenantBase(page);
    for (const place of seen) {
      const answer = await page.goto(base + place);
      // A role that may not see a page gets the page of a problem, which is looked at, too.
      assert.ok([200, 403, 404].includes(answer.status()), `${place}: ${answer.status()}`);
      await looked(page, `${tenant} ${place || "overview"}, empty`);
    }
  }
  await page.goto(`${tenantBase(page)}/no-such-page`);
  await see(page.getByRole("heading", { name: "There is nothing here" }));
  await looked(page, "404 for somebody signed in");
  for (const [query, name] of [["", "all tenants"], ["?q=globex", "tenants found"], ["?q=none+like+that", "tenants, none like that"]]) {
    await page.goto(`${outsider.origin}/app/tenants${query}`);
    await see(page.getByRole("heading", { name: "Your workspaces" }));
    await looked(page, name);
  }
});

gallery("an owner's settings are in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b422\b/);
  // Everybody owns their own.
  const page = await visitor.signIn(viewer);
  await switchTo(page, /Personal/);
  await page.getByRole("link", { name: "Settings" }).first().click();
  await see(page.getByRole("heading", { level: 1, name: "Settings" }));
  for (const priority of ["High", "Medium", "Low"]) {
    await page.getByRole("checkbox", { name: `${priority} priority` }).uncheck();
  }
  await page.getByRole("button", { name: "Save" }).click();
  await see(page.getByText("Please choose at least one priority, or switch the second factor off.").first());
  await looked(page, "settings with errors");
  await page.getByRole("checkbox", { name: "Medium priority" }).check();
  await page.getByLabel("Ask again after").selectOption("15 minutes");
  // It asks less of urgent decisions.
  await sendProven(page, "Save");
  await see(page.getByText("Saved. The settings hold from now on."));
  assert.ok(await page.getByRole("checkbox", { name: "Medium priority" }).isChecked());
  assert.equal(await page.getByLabel("Ask again after").inputValue(), "900");
  await looked(page, "settings");
  await page.goto(`${tenantBase(page)}/sign-ins`);
  await see(page.getByRole("heading", { level: 1, name: "Who is signed in" }));
  await see(page.getByText("This one"));
  await looked(page, "members' sign-ins");
  await page.getByRole("link", { name: "Audit trail" }).first().click();
  await see(page.locator(".entry-text", { hasText: "changed the workspace’s" }));
  await looked(page, "the trail of settings");
});

gallery("an owner's webhooks are in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b422\b/);
  const page = await visitor.signIn(agent);
  // Everybody owns their own workspace.
  await switchTo(page, agent.name);
  const inbox = `${tenantBase(page)}/inbox`;
  await page.goto(`${inbox}/sources/new`);
  await page.getByLabel("How it proves itself").selectOption("chatwoot");
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.locator(".notice.error"));
  await looked(page, "a source that can't be added");
  await page.getByLabel("How it proves itself").selectOption("bearer");
  await page.getByLabel("Name").fill(unique("Tool"));
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.getByRole("heading", { name: "Copy this now" }));
  await looked(page, "a source with its secret, shown once");
  const secret = await page.locator("#once-1").inputValue();
  const path = new URL(await page.getByLabel("Address").inputValue()).pathname;
  const headers = { authorization: `Bearer ${secret}`, "content-type": "application/json" };
  const answer = await fetch(start + path, { method: "POST", headers, body: JSON.stringify({ token: "x", text: "<b>Hello</b>" }) });
  assert.equal(answer.status, 200);
  const { id } = await answer.json();
  await page.goto(`${inbox}/sources`);
  await looked(page, "the sources");
  await page.goto(`${inbox}/events/${id}`);
  await reloadUntil(page, page.locator("#event-state").getByText("Done"));
  await looked(page, "a received webhook");
  await page.goto(`${inbox}?state=done`);
  await looked(page, "what was received");
  await page.getByRole("link", { name: "Replay all of these" }).click();
  await see(page.getByRole("button", { name: /Replay/ }));
  await looked(page, "how many would be replayed");
});

gallery("an owner's endpoints are in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b422\b/);
  // Everybody owns their own.
  const page = await visitor.signIn(viewer);
  await switchTo(page, viewer.name);
  await page.getByRole("link", { name: "Outgoing webhooks" }).first().click();
  await page.getByRole("link", { name: "Add endpoint" }).click();
  await page.getByLabel("Address").fill("https://user@example.org/");
  await page.getByRole("checkbox", { name: "Everything that happens" }).uncheck();
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.getByText("The address must not contain a user name or a password.").first());
  await looked(page, "the form for an endpoint with errors");
  // Nothing listens there.
  const address = `http://127.0.0.1:9/${unique("hook")}`;
  await page.getByLabel("Address").fill(address);
  await page.getByRole("checkbox", { name: "Settings changed" }).check();
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.getByText(/^whsec_/));
  await looked(page, "an endpoint with its secret");
  await page.getByRole("button", { name: "Send a test event" }).click();
  await see(page.getByText("A test event is on its way."));
  await see(page.getByText("no connection").first());
  await looked(page, "an endpoint at which nothing arrives");
  await page.getByRole("link", { name: "Test event" }).click();
  await see(page.getByRole("heading", { name: "What is sent" }));
  await looked(page, "a delivery");
  await page.getByRole("link", { name: "The endpoint" }).click();
  await page.getByText("Remove the endpoint").click();
  await page.getByRole("button", { name: "Yes, remove it" }).click();
  await see(page.getByText("The endpoint is gone, and its secrets with it."));
  await looked(page, "endpoints");
});

gallery("the agent's pages are in order", async (stage, looked) => {
  const customer = unique("Ines");
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b422\b/);
  await customerWrites(visitor, customer, `My order came broken, and <b>this</b> is ${"long ".repeat(80)}${"w".repeat(90)}.`);
  const page = await atAcme(visitor, agent, "/conversations");
  await see(page.locator("#conversations").getByRole("link", { name: customer }));
  await looked(page, "conversations");
  await page.goto(`${tenantBase(page)}/conversations?status=snoozed`);
  await looked(page, "conversations, none like that");
  await page.goto(`${tenantBase(page)}/conversations`);
  await page.locator("#conversations").getByRole("link", { name: customer }).click();
  await see(page.getByRole("heading", { name: "Escalate to CEO" }));
  await looked(page, "a conversation");
  await sendIncomplete(page, page.getByRole("button", { name: "Escalate to CEO" }));
  await looked(page, "an escalation with errors");
  await page.goto(`${tenantBase(page)}/conversations`);
  await escalate(page, customer, { reason: `Please. ${"x".repeat(120)}`, consultation: true });
  await looked(page, "an escalated conversation");
  await page.locator("#conversation-approvals .row-title").first().click();
  await see(page.getByText("You can’t decide this"));
  await looked(page, "one's own approval");
  await page.getByRole("button", { name: "Withdraw the request" }).click();
  await see(page.getByText("Your request has been withdrawn."));
  await looked(page, "a withdrawn approval");
  await page.goto(`${tenantBase(page)}/approvals/new`);
  await looked(page, "a new request");
  await sendIncomplete(page, page.getByRole("button", { name: "Send the request" }));
  await looked(page, "a new request with errors");
  await page.getByLabel("What should be approved?").fill(unique("A chair"));
  await page.getByRole("button", { name: "Send the request" }).click();
  await see(page.getByText("Your request is on its way."));
  await looked(page, "a request without a conversation");
  await page.goto(tenantBase(page));
  await looked(page, "the agent's overview");
  await page.locator("#account summary").click();
  await looked(page, "the account's menu");
  await page.getByRole("link", { name: "Your profile" }).click();
  await see(page.getByRole("heading", { name: "Where you belong" }));
  await looked(page, "the profile");
});

gallery("the CEO's pages are in order", async (stage, looked) => {
  const first = await pendingApproval(stage, { consultation: true });
  const second = await pendingApproval(stage);
  const visitor = await withAxe(await stage.visitor());
  const page = await atAcme(visitor, ceo);
  await see(page.locator("#waiting .row"));
  await looked(page, "the CEO's overview");
  await page.locator("#switcher summary").click();
  await looked(page, "the switcher");
  await page.goto(`${tenantBase(page)}/approvals`);
  await looked(page, "approvals");
  await page.goto(`${tenantBase(page)}/approvals?status=expired&priority=low`);
  await looked(page, "approvals, none like that");
  await page.goto(ceo.origin + second.path);
  await page.getByRole("button", { name: "Reject" }).click();
  await see(page.getByText("Rejected. The requester and the conversation have been told."));
  await looked(page, "a rejected approval");
  await page.goto(ceo.origin + first.path);
  await see(page.getByRole("button", { name: "Approve", exact: true }));
  await looked(page, "an approval to decide");
  await page.getByLabel("Comment").fill("Yes, with an apology.");
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  await see(page.getByText("Approved. The requester and the conversation have been told."));
  await see(page.locator("#history").getByText("The decision is a private note in Chatwoot"));
  await looked(page, "an approved approval");
  await page.getByRole("link", { name: "Go to the consultation" }).click();
  await looked(page, "a consultation ahead");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await see(page.getByText("The consultation has started."));
  await looked(page, "a consultation that goes on");
  await page.goto(`${tenantBase(page)}/consultations`);
  await looked(page, "consultations");
  await page.locator("#upcoming").getByRole("link", { name: first.customer }).click();
  await page.getByRole("button", { name: "End for everybody" }).click();
  await see(page.getByText("The consultation has ended."));
  await looked(page, "a consultation that is over");
  await page.goto(`${tenantBase(page)}/audit?action=approval.approved`);
  await page.locator("#audit .entry summary").first().click();
  await looked(page, "the audit trail");
  await page.goto(`${tenantBase(page)}/audit?from=2001-01-01&to=2001-01-02`);
  await looked(page, "the audit trail, none like that");
});

gallery("a cancelled consultation is in order", async (stage, looked) => {
  const { path, customer } = await pendingApproval(stage, { consultation: true });
  const visitor = await withAxe(await stage.visitor());
  const page = await atAcme(visitor, ceo);
  await page.goto(ceo.origin + path);
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  await page.getByRole("link", { name: "Go to the consultation" }).click();
  await page.locator("#cancel summary").click();
  await see(page.getByText("This can’t be undone."));
  await looked(page, "a consultation about to be cancelled");
  await page.getByRole("button", { name: "Yes, cancel it" }).click();
  await see(page.getByText("The consultation has been cancelled."));
  await looked(page, "a cancelled consultation");
  await page.goto(ceo.origin + path);
  await see(page.locator("#history").getByText("The consultation was cancelled"));
  await page.goto(`${tenantBase(page)}/consultations`);
  await see(page.locator("#past .row").filter({ hasText: customer }).getByText("Cancelled"));
});

gallery("a tool inside the shell is in order", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  // Axe asks the frame, which is of another origin and doesn't hear it.
  visitor.allow(/Failed to execute 'postMessage'/);
  const page = await atAcme(visitor, agent);
  const tools = page.getByRole("navigation", { name: "Your tools" });
  await tools.getByRole("link", { name: "Matrix" }).click();
  await see(page.frameLocator('iframe[title="Matrix"]').getByRole("heading", { name: "Rooms" }));
  assert.equal(await tools.getByRole("link", { name: "Matrix" }).getAttribute("aria-current"), "page");
  await looked(page, "a tool inside the shell");
  await switchTo(page, "Personal");
  assert.match(page.url(), /\/tools\/matrix$/, "one stays with the tool");
});

gallery("the pages of somebody who may only look are in order", async (stage, looked) => {
  const { path } = await pendingApproval(stage, { consultation: true });
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b40[34]\b/);
  const page = await atAcme(visitor, viewer);
  await page.goto(viewer.origin + path);
  await see(page.getByText("Deciding takes the role of an approver or owner in this workspace."));
  assert.equal(await page.getByRole("button", { name: "Approve", exact: true }).count(), 0);
  await looked(page, "an approval that somebody else decides");
  const decider = await atAcme(await stage.visitor(), ceo);
  await decider.goto(ceo.origin + path);
  await decider.getByRole("button", { name: "Approve", exact: true }).click();
  // Live, for a viewer as well.
  await page.getByRole("link", { name: "Go to the consultation" }).click();
  await see(page.getByText("Only the host and the people invited can join."));
  assert.equal(await page.getByRole("button", { name: "Join the room" }).count(), 0);
  await looked(page, "a consultation of others");
  await page.goto(`${tenantBase(page)}/approvals/new`);
  await looked(page, "a request that one may not make");
  const answer = await page.goto(`${tenantBase(page)}/audit`);
  assert.equal(answer.status(), 403);
  await looked(page, "403");
});

gallery("mistakes in the audit trail's filter are told", async (stage, looked) => {
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b422\b/);
  const page = await atAcme(visitor, ceo);
  await page.goto(`${tenantBase(page)}/audit?from=2030-02-01&to=2030-01-01`);
  await see(page.getByText("The end is before the beginning.").first());
  await looked(page, "the audit trail's filter with errors");
});

gallery("the pages of the doubles are in order", async (stage, looked) => {
  const { path, page: agentPage, customer } = await pendingApproval(stage, { consultation: true });
  const visitor = await withAxe(await stage.visitor());
  visitor.allow(/\b40[0134]\b/);
  const page = await atAcme(visitor, ceo);
  await page.goto(ceo.origin + path);
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  await page.getByRole("link", { name: "Go to the consultation" }).click();
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await see(page.getByText("The consultation has started."));
  const room = await visitor.openedBy(() => page.getByRole("button", { name: "Join the room" }).click());
  await see(room.getByText("You are in the meeting as"));
  await looked(room, "Jitsi's room");
  const address = new URL(room.url());
  await room.goto(jitsi);
  await looked(room, "Jitsi's rooms");
  await room.goto(`${jitsi}${address.pathname}?jwt=none`);
  await looked(room, "Jitsi refuses");
  await room.goto(matrix);
  await looked(room, "Matrix's rooms");
  await room.goto(`${chatwoot}/?new=true`);
  await looked(room, "Chatwoot, a new customer");
  await room.locator("#conversation-list").getByRole("link", { name: customer }).click();
  await see(room.locator("#agent-messages .note").filter({ hasText: "Approved by" }));
  await looked(room, "Chatwoot, a conversation with notes");
  await room.goto(keycloak);
  await looked(room, "Keycloak's start");
  await room.goto(`${keycloak}/realms/chancery/protocol/openid-connect/auth?client_id=nobody`);
  await looked(room, "Keycloak refuses");
  await agentPage.goto(`${agent.origin}/auth/login`);
  await choose(agentPage, agent);
});
