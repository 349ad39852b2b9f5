// Other tools inside the shell, and what they may not do there; and what works with and without JavaScript alike.
import assert from "node:assert/strict";

import { agent, atAcme, ceo, matrix, pendingApproval, see, story, tenantBase } from "./harness.mjs";

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
