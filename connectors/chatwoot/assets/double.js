// Keeps both sides of the page up to date and sends forms without leaving it. The page works without this file.
const announcer = document.getElementById("announcer");
let known = document.body.dataset.version;

// The bare address shows the latest conversation. Once shown it stays, or a reply could go to another one.
const shown = document.querySelector("#agent-composer [name=conversation]")?.value;
if (shown && !new URLSearchParams(location.search).has("conversation")) {
  const pinned = new URL(location.href);
  pinned.searchParams.set("conversation", shown);
  history.replaceState(null, "", pinned);
}

const scrollDown = () => {
  for (const list of document.querySelectorAll(".messages")) list.scrollTop = list.scrollHeight;
};

// Takes over what changed in another rendering of this page, except where someone is typing.
const adopt = (html) => {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const before = document.querySelectorAll("#agent-messages > li").length;
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    const isBusy = part.contains(document.activeElement) && document.activeElement.matches("input, select");
    if (next && !isBusy && next.innerHTML !== part.innerHTML) {
      part.replaceChildren(...document.adoptNode(next).childNodes);
    }
  }
  known = fresh.body.dataset.version;
  if (document.querySelectorAll("#agent-messages > li").length > before) {
    scrollDown();
    announcer.textContent = "New messages.";
  }
};

const poll = async () => {
  try {
    if (!document.hidden) {
      const version = await (await fetch("/version", { cache: "no-store" })).text();
      if (version !== known) {
        // A page without a conversation has to show the first one.
        const isEmpty = !document.getElementById("agent-messages") && !location.search.includes("new=");
        if (isEmpty) location.reload();
        else adopt(await (await fetch(location.href, { cache: "no-store" })).text());
      }
    }
  } catch {
    // The server is away; the next round tries again.
  }
  setTimeout(poll, 700);
};

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const conversation = form.elements.conversation?.value;
    const target = new URL(answer.url);
    if (!answer.ok || !conversation || target.searchParams.has("problem")) {
      location.assign(target.pathname === "/" ? target : location.href);
      return;
    }
    const text = form.querySelector("textarea");
    if (text) text.value = "";
    document.activeElement?.blur();
    adopt(await answer.text());
    text?.focus();
  } catch {
    announcer.textContent = "That could not be sent.";
  } finally {
    button.disabled = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) {
    event.target.form.requestSubmit();
  }
});

// Dashboard apps are told which conversation is shown as Chatwoot tells them: a text, to whoever is in the frame.
const tell = (frame) => {
  const thread = document.querySelector(".thread");
  const [account_id, id, inbox_id] = ["account", "conversation", "inbox"].map((name) => Number(thread.dataset[name]));
  const currentAgent = { id: Number(document.querySelector("#agent-composer [name=agent]").value) };
  const data = { conversation: { id, account_id, inbox_id }, contact: {}, currentAgent };
  frame.contentWindow.postMessage(JSON.stringify({ event: "appContext", data }), "*");
};
for (const frame of document.querySelectorAll("[data-app]")) frame.addEventListener("load", () => tell(frame));
addEventListener("message", ({ data, source }) => {
  if (data !== "chatwoot-dashboard-app:fetch-info") return;
  const frame = [...document.querySelectorAll("[data-app]")].find((one) => one.contentWindow === source);
  if (frame) tell(frame);
});

scrollDown();
poll();
