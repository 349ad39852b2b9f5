// Looks again every two seconds and replaces what has changed. Without it the page is as it was when it was loaded.
for (const part of document.querySelectorAll("[data-reload]")) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(part.dataset.reload);
      if (!response.ok) return;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").body;
      if (fresh.textContent.replace(/\s+/g, " ").trim() === part.textContent.replace(/\s+/g, " ").trim()) return;
      part.replaceChildren(...fresh.childNodes);
    } catch {
      // The double is restarting; the next look will tell.
    }
  }, 2000);
}
