// Asks for the parts of the page again and puts in place those that differ. The page says the same without it.
"use strict";
(() => {
  const EVERY_MS = 3000, PATIENCE_MS = 15000;
  const freshness = document.getElementById("freshness");
  const shown = new Map();
  let timer = 0, asking = false;

  function put(id, html) {
    const part = document.getElementById(id);
    if (!part || shown.get(id) === html) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.outerHTML = html;
    shown.set(id, html);
    if (focused) document.getElementById(focused)?.focus({preventScroll: true});
  }

  function tell(answers) {
    const words = answers ? "" : "The gateway does not answer: this is how it was then.";
    document.body.classList.toggle("stale", !answers);
    if (freshness.textContent !== words) freshness.textContent = words;
  }

  async function look() {
    if (asking) return;
    asking = true;
    const patience = new AbortController();
    const late = setTimeout(() => patience.abort(), PATIENCE_MS);
    try {
      const answer = await fetch(document.body.dataset.live, {cache: "no-store", signal: patience.signal});
      if (!answer.ok) throw new Error(answer.statusText);
      const now = await answer.json();
      if (now.version !== document.body.dataset.version) return location.reload();
      document.title = now.title;
      document.getElementById("at").textContent = now.at;
      for (const [id, html] of Object.entries(now.parts)) put(id, html);
      tell(true);
    } catch {
      tell(false);
    } finally {
      clearTimeout(late);
      asking = false;
      later();
    }
  }

  function later() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, EVERY_MS);
  }

  document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : look());
  later();
})();
