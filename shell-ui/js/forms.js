// Forms that change something are sent once, and say so.
export function startForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!("guard" in form.dataset)) return;
    if (form.ariaBusy === "true") return event.preventDefault();
    form.ariaBusy = "true";
    for (const button of form.querySelectorAll("button")) button.ariaDisabled = "true";
    const used = event.submitter;
    const text = used?.querySelector("span");
    if (!text || !used.dataset.busy) return;
    used.dataset.idle = text.textContent;
    text.textContent = used.dataset.busy;
    used.classList.add("busy");
  });

  // Back by the browser's button: forms are ready again.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[aria-busy]")) {
      form.ariaBusy = null;
      for (const button of form.querySelectorAll("button")) {
        button.ariaDisabled = null;
        button.classList.remove("busy");
        if (button.dataset.idle) button.querySelector("span").textContent = button.dataset.idle;
      }
    }
  });

  // Menus close on Escape and on a click elsewhere.
  document.addEventListener("click", ({ target }) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = menu.contains(target);
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.firstElementChild.focus();
  });
}
