// Takes the README's pictures from a running demo: plays a story, then writes docs/pictures/*.png.
// `chancery demo`, and then `node tests/browser/pictures.mjs`; CHANCERY_BASE_URL says where the demo is.
import { mkdir, stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { PHONE, agent, atAcme, browser, ceo, customerWrites, escalate, openStage, see, tenantBase } from "./harness.mjs";

const DIRECTORY = fileURLToPath(new URL("../../docs/pictures/", import.meta.url));
const LARGEST = 200 * 1024;

const STORIES = [
  {
    customer: "Jonas Weber",
    message: "The parcel arrived crushed, and the second one too. I would like my 240 € back, please, and not a third parcel.",
    title: "Refund of 240 € for order 1182",
    reason:
      "Two parcels in a row arrived crushed, so Jonas would like his money back instead of a third one.\n\nI suggest that we refund the full amount and keep the carrier’s report for our own claim.",
    consultation: true,
    decision: "Approve",
    comment: "In full, with an apology. Let us talk about the carrier.",
  },
  {
    customer: "Northwind Traders",
    message: "Two more weeks would help us a lot: our accountants are away until the 9th.",
    title: "Extend the trial of Northwind by two weeks",
    reason: "They test with 40 people and would sign for a year. Our rule says 30 days, so I can’t say yes myself.",
    priority: "low",
    decision: "Reject",
    comment: "One week, and a call with them on Friday.",
  },
  {
    customer: "Petra Lindqvist",
    message: "I was ill and could not cancel in time. Do I have to pay the fee?",
    title: "Waive the cancellation fee",
    reason: "She has been with us for six years and sent the doctor’s letter.",
    priority: "medium",
  },
  {
    customer: "Harbour Hotel",
    message: "The machine is down and we open at six. Can you come today, although it is Sunday?",
    title: "Send a technician on Sunday",
    reason: "It costs us 380 € more than on a Monday. They are on the largest plan.",
    consultation: true,
  },
];

async function save(page, name, options = {}) {
  const file = path.join(DIRECTORY, `${name}.png`);
  // Nothing of the pointer or the focus in the picture.
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement?.blur());
  await page.screenshot({ path: file, animations: "disabled", ...options });
  const { size } = await stat(file);
  if (size > LARGEST) throw new Error(`${file} is too large: ${size} bytes`);
  console.log(`${name}.png  ${Math.ceil(size / 1024)} KiB`);
}

const stage = openStage();
try {
  await mkdir(DIRECTORY, { recursive: true });
  const visitor = await stage.visitor();
  const page = await atAcme(visitor, agent, "/conversations");
  const requests = [];
  for (const { customer, message, title, reason, consultation, priority } of STORIES) {
    await (await customerWrites(visitor, customer, message)).close();
    await page.goto(`${tenantBase(page)}/conversations`);
    await escalate(page, customer, { reason, title, consultation, priority });
    requests.push(await page.locator("#conversation-approvals .row-title").first().getAttribute("href"));
  }

  const desktop = await stage.visitor({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  const desk = await atAcme(desktop, ceo);
  await desk.goto(ceo.origin + requests[3]);
  await save(desk, "approval");
  const phone = await stage.visitor({ viewport: PHONE, colorScheme: "dark", deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  const hand = await atAcme(phone, ceo);
  await hand.goto(ceo.origin + requests[3]);
  await see(hand.getByRole("button", { name: "Approve", exact: true }));
  await save(hand, "approval-phone-dark");

  for (const [index, { decision, comment }] of STORIES.entries()) {
    if (!decision) continue;
    await desk.goto(ceo.origin + requests[index]);
    await desk.getByLabel("Comment").fill(comment);
    await desk.getByRole("button", { name: decision, exact: true }).click();
    await see(desk.locator("#decision").getByText(comment));
  }
  await desk.goto(tenantBase(desk));
  await see(desk.locator("#waiting .row"));
  await save(desk, "overview");
} finally {
  await stage.close();
  await (await browser()).close();
}
