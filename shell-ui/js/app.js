// What pages gain from JavaScript. Everything works without it.
import { startForms } from "./forms.js";
import { startLive } from "./live.js";

startForms();
startLive();
showTimes();
setInterval(showTimes, 30000);

// Exact times in the reader's own zone, and relative ones kept true.
function showTimes() {
  const language = document.documentElement.lang.replace(/^en$/, "en-GB");
  const words = new Intl.RelativeTimeFormat(language);
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    time.title = at.toLocaleString(language, { dateStyle: "long", timeStyle: "short" });
    const minutes = Math.round((at - Date.now()) / 60000);
    if (/:/.test(time.innerText)) time.textContent = at.toLocaleString(language, { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });
    else if ("relative" in time.dataset && minutes) time.textContent = Math.abs(minutes) < 60 ? words.format(minutes, "minute") : words.format(Math.round(minutes / 60), "hour");
  }
}
