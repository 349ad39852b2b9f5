// Signing in and out, and what other sites can't do.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";

import { atAcme, agent, browser, ceo, chatwoot, keycloak, pendingApproval, see, start, story, tenantBase } from "./harness.mjs";

const signOut = async (page) => {
  await page.locator("#account summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await see(page.getByRole("heading", { name: "You are signed out" }));
};

story("signing out ends the session here and at Keycloak, and old tabs say so", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/\b401\b/);
  const page = await atAcme(visitor, ceo, "/approvals");
  const old = await visitor.open(page.url());
  const address = page.url();
  const cookies = await visitor.context.cookies(ceo.origin);
  assert.deepEqual(
    cookies.map(({ name, httpOnly, secure, sameSite, path }) => ({ name, httpOnly, secure, sameSite, path })),
    [{ name: "__Host-chancery", httpOnly: true, secure: true, sameSite: "Lax", path: "/" }],
  );

  const visits = [];
  page.on("request", (request) => visits.push(request.url()));
  await signOut(page);
  const [ending] = visits.filter((url) => url.startsWith(`${keycloak}/realms/chancery/protocol/openid-connect/logout`));
  assert.ok(ending, "the sign-out leads over Keycloak");
  assert.equal(new URL(page.url()).origin, ceo.origin);
  assert.deepEqual(await visitor.context.cookies(ceo.origin), []);

  // The open stream ends with the session.
  await see(old.locator("#live").getByText("You have been signed out"));
  await old.locator("#live").getByRole("link", { name: "Reload" }).click();
  await see(old.getByRole("link", { name: "Sign in with Keycloak" }));

  // The cookie is worth nothing, even to somebody who has kept it.
  await visitor.context.addCookies(cookies);
  await page.goto(address);
  await see(page.getByRole("link", { name: "Sign in with Keycloak" }));
});

story("one signs out everywhere else, and the pages there say so at once", async (stage) => {
  const [here, there] = [await stage.visitor(), await stage.visitor()];
  there.allow(/\b401\b/);
  const page = await atAcme(here, ceo);
  const elsewhere = await atAcme(there, ceo, "/approvals");
  await page.goto(`${ceo.origin}/app/me`);
  await page.getByRole("link", { name: "Where you are signed in" }).click();
  await see(page.getByText("This one"));
  await page.getByRole("button", { name: "Sign out everywhere else" }).click();
  await see(page.getByText("Signed out everywhere else."));
  assert.equal(await page.getByRole("button", { name: "Sign out there" }).count(), 0);
  await see(elsewhere.locator("#live").getByText("You have been signed out"));
  await elsewhere.reload();
  await see(elsewhere.getByRole("link", { name: "Sign in with Keycloak" }));
});

story("the way back with the browser's own button shows nothing after signing out", async (stage) => {
  const visitor = await stage.visitor();
  const page = await atAcme(visitor, ceo, "/audit");
  await signOut(page);
  await page.goBack().catch(() => {});
  await page.goto(`${ceo.origin}/app`);
  await see(page.getByRole("link", { name: "Sign in with Keycloak" }));
});

story("a form on another site can't decide or sign out", async (stage) => {
  const { path } = await pendingApproval(stage);
  const visitor = await stage.visitor();
  visitor.allow(/\b403\b/);
  const page = await atAcme(visitor, ceo);
  // Another origin on the same site, so that the browser sends the cookie along: only the origin tells them apart.
  const site = createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><html lang="en"><title>Another site</title><link rel="icon" href="data:,">
      <form method="post" action="${ceo.origin}${path}/decision">
        <input type="hidden" name="version" value="1"><button name="decision" value="approved">Win a prize</button></form>
      <form method="post" action="${ceo.origin}/auth/logout"><button>Win another</button></form>`);
  });
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  try {
    for (const button of ["Win a prize", "Win another"]) {
      const elsewhere = await visitor.open(`http://localhost:${site.address().port}/`);
      const [answer] = await Promise.all([
        elsewhere.waitForResponse((response) => response.request().method() === "POST"),
        elsewhere.getByRole("button", { name: button }).click(),
      ]);
      assert.equal(answer.status(), 403, button);
      await see(elsewhere.getByRole("heading", { level: 1 }));
    }
  } finally {
    site.closeAllConnections();
    site.close();
  }
  await page.goto(`${ceo.origin}${path}`);
  await see(page.getByRole("button", { name: "Approve", exact: true }));
});

story("scripts and connections from elsewhere are refused by the policy", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/Content Security Policy/, /violates/);
  const page = await atAcme(visitor, agent);
  const ran = await page.evaluate(async (foreign) => {
    const script = document.createElement("script");
    script.textContent = "globalThis.inlineRan = true";
    document.head.append(script);
    const style = document.createElement("p");
    style.setAttribute("style", "position: fixed");
    document.body.append(style);
    const fetched = await fetch(foreign).then(() => true, () => false);
    return { inline: globalThis.inlineRan === true, style: getComputedStyle(style).position === "fixed", fetched };
  }, chatwoot);
  assert.deepEqual(ran, { inline: false, style: false, fetched: false });
});

story("a browser that drops the cookie is told, not sent in circles", async (stage) => {
  const visitor = await stage.visitor();
  visitor.allow(/\b400\b/);
  const page = await visitor.open(`${start}/auth/signed-in?return_to=/app`);
  await see(page.getByRole("heading", { name: "Your browser dropped our cookie" }));
});

story("pages are not kept by the browser, assets for ever", async (stage) => {
  const visitor = await stage.visitor();
  const answers = new Map();
  visitor.context.on("response", (response) => answers.set(new URL(response.url()).pathname, response.headers()));
  const page = await atAcme(visitor, ceo, "/approvals");
  const shell = answers.get(new URL(page.url()).pathname);
  assert.match(shell["cache-control"], /no-store/);
  assert.match(shell["content-security-policy"], /^default-src 'none'/);
  assert.doesNotMatch(shell["content-security-policy"], /unsafe-/);
  const assets = [...answers].filter(([path]) => path.startsWith("/assets/"));
  assert.ok(assets.length >= 3, "style, scripts and icon");
  for (const [path, headers] of assets) assert.match(headers["cache-control"], /immutable/, path);
  assert.ok(tenantBase(page));
  assert.ok((await browser()).isConnected());
});
