// Looks again every two seconds and replaces what has changed. Without it the page is as it was when it was loaded.
const parts = () => document.querySelectorAll("[data-live]");
const timeline = () => document.getElementById("timeline");
const toTheEnd = () => { const log = timeline(); if (log) log.scrollTop = log.scrollHeight; };

toTheEnd();
setInterval(async () => {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href);
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    // The first room has come: there is a whole page to show, with its form.
    if (!timeline() && fresh.getElementById("timeline")) { location.reload(); return; }
    for (const part of parts()) {
      const next = fresh.getElementById(part.id);
      if (!next || next.innerHTML === part.innerHTML || part.contains(document.activeElement) && part !== document.activeElement) continue;
      const atEnd = part.scrollHeight - part.scrollTop - part.clientHeight < 48;
      part.replaceChildren(...next.childNodes);
      if (part === timeline() && atEnd) toTheEnd();
    }
  } catch {
    // The double is restarting; the next look will tell.
  }
}, 2000);
