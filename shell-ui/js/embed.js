// The approvals beside a conversation in Chatwoot: Chatwoot's page says which conversation is open, our server what there is to see.
const { dataset } = document.body;
const panel = document.getElementById("panel");

if (dataset.code) {
  // The window in which somebody has signed in: the frame that has opened it gets the code, and nobody of another origin.
  opener?.postMessage({ code: dataset.code }, location.origin);
  if (opener) close();
} else {
  let shown = "";

  const adopt = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("panel");
    if (fresh) panel.replaceChildren(...document.adoptNode(fresh).childNodes);
    panel.setAttribute("aria-busy", "false");
  };
  const load = async () => {
    if (shown) adopt(await (await fetch(`/embed/chatwoot/panel?${shown}`)).text());
  };
  const id = (value) => (Number.isSafeInteger(value) && value > 0 ? value : 0);

  addEventListener("message", async ({ data, origin, source }) => {
    if (origin === location.origin && source !== parent && data?.code) {
      await fetch("/embed/chatwoot/session", { method: "POST", body: new URLSearchParams({ code: data.code }) });
      await load();
      return;
    }
    // Whoever frames us can say anything: only our Chatwoot is heard, and only which conversation it shows.
    if (origin !== dataset.tool || source !== parent || typeof data !== "string") return;
    let told;
    try {
      told = JSON.parse(data);
    } catch {
      return;
    }
    const conversation = told?.event === "appContext" && told.data?.conversation;
    if (!conversation) return;
    const [account, number] = [id(conversation.account_id), id(conversation.id)];
    const next = `account=${account}&conversation=${number}`;
    if (!account || !number || next === shown) return;
    shown = next;
    await load();
  });

  document.addEventListener("click", ({ target }) => {
    if (target.closest("[data-sign-in]")) open(dataset.signIn, "", "popup,width=520,height=720");
  });

  document.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    panel.setAttribute("aria-busy", "true");
    const sent = new URLSearchParams(new FormData(form));
    adopt(await (await fetch(form.action, { method: "POST", body: sent })).text());
    panel.focus();
  });

  parent.postMessage("chatwoot-dashboard-app:fetch-info", dataset.tool);
}
