// Everything can be done with the keyboard alone, and one sees where one is.
import assert from "node:assert/strict";

import { atAcme, ceo, eventually, pendingApproval, see, story, tenantBase } from "./harness.mjs";

/** What has the focus: its text, and whether one sees that it has. */
const focused = (page) =>
  page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const label = element.labels?.[0]?.innerText ?? element.innerText;
    const box = element.getBoundingClientRect();
    return {
      text: label.replace(/\s+/g, " ").trim(),
      outlined: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== "none",
      inWindow: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    };
  });

/** Presses Tab until something with that text has the focus; each stop on the way has to be visible. */
async function tabTo(page, text, most = 40) {
  const stops = [];
  for (let presses = 0; presses < most; presses += 1) {
    await page.keyboard.press("Tab");
    const stop = await focused(page);
    stops.push(stop.text);
    // A transition takes a moment even where motion is reduced to nothing.
    await eventually(`the focus on “${stop.text}” shows`, async () => {
      const { outlined, inWindow } = await focused(page);
      return outlined && inWindow;
    });
    if (text.test(stop.text)) return stops;
  }
  return assert.fail(`${text} was not reached: ${stops.join(" | ")}`);
}

story("the skip link is the first stop and leads past the navigation", async (stage) => {
  const page = await atAcme(await stage.visitor(), ceo, "/approvals");
  await tabTo(page, /^Skip to the content$/, 1);
  await see(page.getByRole("link", { name: "Skip to the content" }));
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.closest("main") !== null), true);
});

story("an approval is decided with the keyboard alone", async (stage) => {
  const { customer, path } = await pendingApproval(stage);
  const page = await atAcme(await stage.visitor(), ceo);
  await page.goto(new URL(path, page.url()).href);
  await tabTo(page, /^Skip to the content$/, 1);
  await page.keyboard.press("Enter");
  await tabTo(page, /^Comment/);
  await page.keyboard.type("No, sorry.");
  const stops = await tabTo(page, /^Approve$/, 4);
  assert.deepEqual(stops, ["Set up a video consultation if I approve", "Reject", "Approve"]);
  await page.keyboard.press("Shift+Tab");
  assert.equal((await focused(page)).text, "Reject");
  await page.keyboard.press("Enter");
  await see(page.getByText("Rejected. The requester and the conversation have been told."));
  await see(page.locator("#decision").getByText("No, sorry."));
  await see(page.getByRole("heading", { level: 1, name: customer }));
});

story("Enter in the comment writes a line and decides nothing", async (stage) => {
  const { path } = await pendingApproval(stage);
  const page = await atAcme(await stage.visitor(), ceo);
  await page.goto(new URL(path, page.url()).href);
  await page.getByLabel("Comment").focus();
  await page.keyboard.type("one");
  await page.keyboard.press("Enter");
  await page.keyboard.type("two");
  assert.equal(await page.getByLabel("Comment").inputValue(), "one\ntwo");
  await page.reload();
  await see(page.getByRole("button", { name: "Approve", exact: true }));
});

story("the switcher opens with Enter, closes with Escape and leads to another tenant", async (stage) => {
  const page = await atAcme(await stage.visitor(), ceo, "/approvals");
  const before = tenantBase(page);
  const panel = page.locator("#switcher .panel");
  await tabTo(page, /Acme Corp/);
  await page.keyboard.press("Enter");
  await see(panel);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.closest("#switcher .panel") !== null), true);
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "hidden" });
  assert.match((await focused(page)).text, /Acme Corp/, "the focus is back on the switcher");
  await page.keyboard.press("Enter");
  await tabTo(page, /^Engineering/, 10);
  await page.keyboard.press("Enter");
  await see(page.locator("#switcher summary").getByText("Engineering", { exact: true }));
  assert.notEqual(tenantBase(page), before);
});

story("Escape closes the account's menu, and a click elsewhere the switcher", async (stage) => {
  const page = await atAcme(await stage.visitor(), ceo);
  await page.locator("#account summary").click();
  await see(page.getByRole("button", { name: "Sign out" }));
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Sign out" }).waitFor({ state: "hidden" });
  await page.locator("#switcher summary").click();
  await see(page.locator("#switcher .panel"));
  await page.getByRole("heading", { level: 1 }).click();
  await page.locator("#switcher .panel").waitFor({ state: "hidden" });
});
