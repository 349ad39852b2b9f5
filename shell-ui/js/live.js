// When something happens in the tenant, the page is fetched again and its regions `data-live` are replaced, except
// where a person is about to use a form.
const live = document.getElementById("live");
const words = live?.dataset;
const url = words?.events;
const dirty = new WeakSet();
let last = words?.lastEvent, types, channel, worker, timer, running, again, over, merged;

export function startLive(done) {
  if (!live) return;
  merged = done;
  // `data-on-approval-created` holds the words for `approval.created`.
  types = live.getAttributeNames().filter((name) => name.startsWith("data-on-")).map((name) => name.slice(8).replace("-", "."));
  document.addEventListener("input", ({ target }) => dirty.add(target.form));
  const join = () => worker?.postMessage({ kind: "join", url, last, types });
  try {
    worker = new SharedWorker(words.worker, "chancery-live").port;
    worker.onmessage = ({ data }) => hear(data);
    join();
    document.addEventListener("visibilitychange", () => document.hidden || join());
    addEventListener("pagehide", () => worker.postMessage({ kind: "leave", url }));
  } catch {
    elect();
  }
  addEventListener("pageshow", ({ persisted }) => persisted && (join(), refresh()));
  // No event tells of what a region `data-waits` waits for.
  setInterval(() => document.hidden || document.querySelector("[data-waits]") && refresh(), 3000);
}

// Without shared workers, one tab holds a lock and the stream, and tells the others; when it closes, the next takes over.
function elect() {
  if (!window.BroadcastChannel || !navigator.locks) return listen();
  channel = new BroadcastChannel(`chancery:${url}`);
  channel.onmessage = ({ data }) => hear(data);
  navigator.locks.request(`chancery:${url}`, () => new Promise(listen));
}

function listen() {
  const source = new EventSource(url + (last ? `${url.includes("?") ? "&" : "?"}lastEventId=${last}` : ""));
  const pass = (message) => { hear(message); channel?.postMessage(message); };
  source.onopen = () => last || pass({ kind: "stale" });
  for (const type of types) {
    source.addEventListener(type, (event) => pass({ kind: "event", type, data: event.data, id: event.lastEventId }));
  }
  source.addEventListener("end", () => { source.close(); pass({ kind: "end" }); });
}

function hear({ kind, type, data, id }) {
  if (over) return;
  if (kind === "end") {
    over = true;
    return toast(words.ended, words.reload, location.href);
  }
  last = id || last;
  // Several events are one refresh.
  clearTimeout(timer);
  timer = setTimeout(refresh, 120);
  const text = kind === "event" && live.getAttribute(`data-on-${type.replace(".", "-")}`);
  if (!text) return;
  const about = JSON.parse(data).id;
  const href = `${words.base}/${type.split(".")[0]}s/${about}`;
  toast(text, words.open, about && location.pathname !== href && href);
}

function toast(text, label, href) {
  const box = document.createElement("div");
  const add = (name, textContent) => box.appendChild(Object.assign(document.createElement(name), { textContent }));
  box.className = "toast";
  add("p", text);
  if (href) add("a", label).href = href;
  if (href !== location.href) {
    const button = add("button", "×");
    button.ariaLabel = words.dismiss;
    button.onclick = () => box.remove();
    setTimeout(() => box.remove(), 12000);
  }
  live.children[2]?.remove();
  live.prepend(box);
}

async function refresh() {
  if (running) return again = true;
  running = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    const moved = answer.redirected && new URL(answer.url).pathname !== location.pathname;
    if (moved || answer.status === 401) hear({ kind: "end" });
    else if (answer.ok) merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* offline: later */ }
  running = false;
  if (again) again = refresh() && false;
}

function merge(fresh) {
  document.title = fresh.title;
  for (const region of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(region.id);
    if (!next || region.querySelector("[aria-busy]") || shape(next) === shape(region)) continue;
    const focused = region.contains(document.activeElement) && document.activeElement;
    if ((focused && focused.form) || [...region.querySelectorAll("form")].some((form) => dirty.has(form))) {
      if (!region.told) toast(words.changed, words.reload, location.href);
      region.told = true;
      continue;
    }
    for (const { id } of region.querySelectorAll("details[open]")) {
      next.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    }
    const known = new Set([...region.querySelectorAll(".row-title")].map((link) => link.href));
    region.replaceWith(next);
    for (const link of next.querySelectorAll(".row-title")) {
      if (!known.has(link.href)) link.closest(".row").classList.add("fresh");
    }
    [...next.querySelectorAll("a, summary")].find((same) => focused && (same.href ?? same.parentNode.id) === (focused.href ?? focused.parentNode.id))?.focus();
  }
  merged();
}

// What a region says but for times and what is open or new.
function shape(region) {
  const copy = region.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.replaceWith(time.dateTime);
  for (const part of copy.querySelectorAll("details, .row")) part.open = part.className = "";
  return copy.innerHTML;
}
