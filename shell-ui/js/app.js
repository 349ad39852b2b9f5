// What pages gain from JavaScript. Everything works without it.
import { startForms } from "./forms.js";
import { startLive } from "./live.js";

startForms();
startLive(showTimes);
showTimes();
setInterval(showTimes, 30000);

// Exact times in the reader's own zone, and relative ones kept true.
function showTimes() {
  const language = document.documentElement.lang.replace(/^en$/, "en-GB");
  const words = new Intl.RelativeTimeFormat(language);
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    time.title = at.toLocaleString(language, { dateStyle: "long", timeStyle: "short" });
    const minutes = Math.round((at - Date.now()) / 60000), away = Math.abs(minutes), relative = "relative" in time.dataset;
    if (relative && away < 1410) {
      if (away) time.textContent = words.format(...(away < 60 ? [minutes, "minute"] : [Math.round(minutes / 60), "hour"]));
    } else if (relative || /:/.test(time.innerText)) {
      time.textContent = at.toLocaleString(language, { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });
    }
  }
}
