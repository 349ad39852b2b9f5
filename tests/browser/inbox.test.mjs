// Webhooks as an owner sees and mends them: a source with its secret shown once, what it sent, and processing that again.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";

import { ceo, reloadUntil, see, start, story, switchTo, tenantBase, unique } from "./harness.mjs";

/** Posts what GitHub would, signed with this secret. */
async function push(url, secret, body) {
  const signature = createHmac("sha256", secret).update(body).digest("hex");
  // The page says the public address; the test is on the same machine.
  return fetch(new URL(new URL(url).pathname, start), {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-github-event": "push",
      "x-github-delivery": unique("delivery").replaceAll(" ", "-"),
      "x-hub-signature-256": `sha256=${signature}`,
    },
    body,
  });
}

async function play(stage, javaScriptEnabled) {
  const owner = await stage.visitor({ javaScriptEnabled });
  const page = await owner.signIn(ceo);
  // Everybody owns their own workspace.
  await switchTo(page, "Carla Chief");
  const inbox = `${tenantBase(page)}/inbox`;
  await page.locator("#modules").getByRole("link", { name: /^Webhooks/ }).click();
  await see(page.getByRole("heading", { level: 1, name: "Webhooks" }));
  await page.getByRole("link", { name: "Sources" }).click();
  await page.getByRole("link", { name: "Add a source" }).click();
  const name = unique("Code");
  await page.getByLabel("How it proves itself").selectOption("github");
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Add it" }).click();
  await see(page.getByRole("heading", { name: "Copy this now" }));
  const secret = await page.locator("#once-1").inputValue();
  const url = await page.getByLabel("Address").inputValue();
  assert.ok(secret.length >= 32 && url.includes("/api/v1/webhooks/github/"), url);

  const words = unique("Hello");
  const answer = await push(url, secret, JSON.stringify({ words, access_token: "a-live-credential" }));
  assert.equal(answer.status, 200);
  assert.equal((await push(url, "a-wrong-secret", "{}")).status, 401);

  // The secret isn't shown again.
  await page.goto(`${inbox}/sources/${url.split("/").pop()}`);
  await see(page.getByRole("heading", { level: 1, name }));
  assert.ok(!(await page.content()).includes(secret));
  await page.goto(`${inbox}?source=${url.split("/").pop()}`);
  await page.getByRole("link", { name: /^push/ }).click();
  await reloadUntil(page, page.locator("#event-state").getByText("Done"));
  const body = await page.locator("pre.raw").innerText();
  assert.ok(body.includes(words) && body.includes("•••") && !body.includes("a-live-credential"), body);
  await page.getByRole("button", { name: "Process it again" }).click();
  await see(page.getByText("It will be processed again in a moment."));
  await reloadUntil(page, page.locator("#event-attempts").getByText("replay"));
  await page.goto(`${tenantBase(page)}/audit`);
  await see(page.locator("#audit").getByText("replayed the webhook"));
}

story("an owner adds a source, sees what it sent and has it processed again", (stage) => play(stage, true));
story("the same without JavaScript", (stage) => play(stage, false));
