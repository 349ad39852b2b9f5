// Signing in, proving it again and signing out over the pages of a real Keycloak, which `cargo xtask test` starts along with
// a server that uses it.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { before } from "node:test";

import { eventually, see, story, switchTo, tenantBase, unique } from "./harness.mjs";

const given = (name) => {
  const value = process.env[name];
  assert.ok(value, `${name} is missing: \`cargo xtask test\` starts the servers and sets it`);
  return value;
};

const ceo = { username: "acme-ceo", name: "Carla Chief", key: "demo-only-acme-ceo-otp" };
const viewer = { username: "acme-viewer", name: "Victor Viewer" };

/** What a sign-out at Keycloak may take until it is one here. */
const AT_ONCE = 2000;

let start, keycloak;

/** A call of Keycloak that must succeed: its answer. */
async function call(path, { token, ...options }) {
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`${keycloak}${path}`, { ...options, headers });
  assert.ok(answer.ok, `${options.method} ${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
  return answer;
}

async function token(realm, form) {
  const answer = await call(`/realms/${realm}/protocol/openid-connect/token`, { method: "POST", body: new URLSearchParams(form) });
  return (await answer.json()).access_token;
}

/** A call of the realm's Admin REST API, as its administrator. */
async function manage(method, path, body) {
  const administrator = await token("master", {
    grant_type: "password",
    client_id: "admin-cli",
    username: given("CHANCERY_TEST_KEYCLOAK_ADMIN"),
    password: given("CHANCERY_TEST_KEYCLOAK_ADMIN_PASSWORD"),
  });
  return call(`/admin/realms/chancery/${path}`, {
    token: administrator,
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
}

// The realm's client leads to fixed ports: the server has a copy of it that leads to where it is.
before(async () => {
  start = given("CHANCERY_TEST_SERVE_URL");
  keycloak = given("CHANCERY_TEST_KEYCLOAK_URL");
  const realm = JSON.parse(await readFile(new URL("../../keycloak/realm-chancery.json", import.meta.url), "utf8"));
  const shell = realm.clients.find((client) => client.clientId === "chancery-shell");
  await manage("POST", "clients", {
    ...shell,
    id: randomUUID(),
    clientId: given("CHANCERY_TEST_SERVE_CLIENT"),
    baseUrl: start,
    redirectUris: [`${start}/auth/callback`],
    attributes: {
      ...shell.attributes,
      "backchannel.logout.url": `${start}/auth/backchannel-logout`,
      "post.logout.redirect.uris": `${start}/auth/signed-out`,
    },
  });
});

/** The one-time code of now (RFC 6238): six digits for thirty seconds, by HMAC-SHA-1. */
function oneTimeCode(key) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const tag = createHmac("sha1", key).update(counter).digest();
  const number = tag.readUInt32BE(tag.at(-1) & 0x0f) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

const isKeycloaks = (page) => new URL(page.url()).origin === keycloak;

/** A visitor of whom Keycloak's own pages may complain. */
async function visits(stage) {
  const visitor = await stage.visitor();
  visitor.allow(new RegExp(`^${keycloak.replaceAll(".", "\\.")}/`));
  return visitor;
}

/** From the shell's own page to Keycloak's, which asks for name and password. */
async function leaveForKeycloak(page) {
  await page.goto(`${start}/auth/login?${new URLSearchParams({ return_to: "/app" })}`);
  assert.ok(isKeycloaks(page), `this is Keycloak's page: ${page.url()}`);
}

/** Fills in Keycloak's form, or its two forms where it asks for the name first. */
async function identify(page, who) {
  const [name, password, send] = ["#username", "#password", "#kc-login"].map((part) => page.locator(part));
  await name.fill(who.username);
  if (!(await password.isVisible())) {
    await send.click();
    await see(password);
  }
  await password.fill(`demo-only-${who.username}`);
  await send.click();
  await page.waitForURL((url) => url.origin === start && url.pathname.startsWith("/app/"));
}

async function signIn(visitor, who) {
  const page = await visitor.context.newPage();
  await leaveForKeycloak(page);
  await identify(page, who);
  if (!(await page.locator("#switcher summary").innerText()).includes("Acme Corp")) await switchTo(page, "Acme Corp");
  await see(page.getByRole("heading", { level: 1, name: "Overview" }));
  await see(page.locator("#account summary").getByText(who.name));
  return page;
}

/** An urgent approval at Acme Corp, asked for by a program: its id. */
async function urgentApproval(title) {
  const program = await token("chancery", {
    grant_type: "client_credentials",
    client_id: "chancery-automation",
    client_secret: "demo-only-chancery-automation",
  });
  const answer = await fetch(`${start}/api/v1/approvals`, {
    method: "POST",
    headers: { authorization: `Bearer ${program}`, "content-type": "application/json" },
    body: JSON.stringify({ tenantId: "/organizations/acme-corp", title, priority: "high" }),
  });
  assert.equal(answer.status, 201, await answer.clone().text());
  return (await answer.json()).id;
}

story("one signs in on Keycloak's page, decides with a one-time code, and signs out of both", async (stage) => {
  const visitor = await visits(stage);
  const page = await signIn(visitor, ceo);
  const title = unique("A refund of 1,200 €");
  const approval = `${tenantBase(page)}/approvals/${await urgentApproval(title)}`;
  await page.goto(approval);
  await see(page.getByRole("heading", { level: 1, name: title }));
  await page.getByLabel("Comment").fill("Yes, with an apology.");
  await page.getByRole("button", { name: "Approve", exact: true }).click();

  // In the session that there is, Keycloak asks for the code alone.
  await see(page.locator("#otp"));
  assert.ok(isKeycloaks(page), `this is Keycloak's page: ${page.url()}`);
  assert.equal(await page.locator("#password").count(), 0);
  await page.locator("#otp").fill(oneTimeCode(ceo.key));
  await page.locator("#kc-login").click();
  await see(page.getByText("Please look at it once more"));
  assert.equal(page.url().split("?")[0], approval, "back at the very decision");
  assert.equal(await page.getByLabel("Comment").inputValue(), "Yes, with an apology.");
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  await see(page.getByText("Approved. The requester and the conversation have been told."));
  await see(page.locator("#decision").getByText("Yes, with an apology."));

  const ended = page.waitForRequest((request) => request.url().startsWith(`${keycloak}/realms/chancery/protocol/openid-connect/logout?`));
  await page.locator("#account summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  assert.ok(new URL((await ended).url()).searchParams.has("id_token_hint"));
  await see(page.getByRole("heading", { name: "You are signed out" }));
  assert.equal(new URL(page.url()).origin, start, "Keycloak leads back without a question");

  // Keycloak's session is over, too: it asks for the password again.
  await leaveForKeycloak(page);
  await identify(page, ceo);
});

story("whoever is signed in at Keycloak comes in without a password", async (stage) => {
  const visitor = await visits(stage);
  await signIn(visitor, viewer);
  await visitor.context.clearCookies({ name: "__Host-chancery" });
  const page = await visitor.context.newPage();
  await page.goto(`${start}/auth/login?${new URLSearchParams({ return_to: "/app" })}`);
  await page.waitForURL((url) => url.origin === start && url.pathname.startsWith("/app/"));
  await see(page.locator("#account summary").getByText(viewer.name));
});

story("who is signed out at Keycloak is signed out here at once, open pages included", async (stage) => {
  const visitor = await visits(stage);
  visitor.allow(/\b401\b/);
  const page = await signIn(visitor, viewer);
  const [user] = await (await manage("GET", `users?exact=true&username=${viewer.username}`)).json();
  const isSignedIn = () => page.evaluate(async () => (await fetch("/app/me", { redirect: "manual" })).status === 200);
  assert.ok(await isSignedIn());

  await manage("POST", `users/${user.id}/logout`);
  await eventually("the session ends", async () => !(await isSignedIn()), AT_ONCE);
  await see(page.locator("#live").getByText("You have been signed out"));
  await page.reload();
  await see(page.getByRole("link", { name: "Sign in with Keycloak" }));
});
