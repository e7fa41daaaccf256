/* What pages do beyond what htmx does: dialogs, keys, one press once, live parts. Every page works without it. */
"use strict";
(() => {
  const dialog = () => document.getElementById("dialog");

  // ------------------------------------------------------------ dialogs: what is put into #dialog is shown in it
  document.addEventListener("htmx:after:swap", () => {
    const box = dialog();
    if (box && box.childElementCount && !box.open) box.showModal();
    const first = box && box.open && box.querySelector("[autofocus], .wrong input, .wrong textarea, .wrong select");
    if (first) first.focus();
  });
  document.addEventListener("close", (event) => { if (event.target === dialog()) dialog().replaceChildren(); }, true);
  document.addEventListener("click", (event) => {
    const closer = event.target.closest("[data-close]");
    if (closer && dialog().open) { event.preventDefault(); dialog().close(); }
    if (event.target === dialog()) dialog().close();
  });

  // ------------------------------------------------------------ one press once: the request key makes it so at the
  // server, this spares the second request
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || form.dataset.sent) { if (form.dataset.sent) event.preventDefault(); return; }
    if (form.hasAttribute("hx-post")) return;
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // ------------------------------------------------------------ keys
  const rows = () => [...document.querySelectorAll("tr[data-href]")];
  const go = (step) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("at"));
    const next = Math.max(0, Math.min(all.length - 1, at + step));
    if (at >= 0) all[at].classList.remove("at");
    all[next].classList.add("at");
    const link = all[next].querySelector("a");
    if (link) link.focus();
    all[next].scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable]") || (dialog() && dialog().open)) return;
    if (event.key === "j" || event.key === "k") { go(event.key === "j" ? 1 : -1); event.preventDefault(); return; }
    if (event.key === "?") {
      const keys = document.getElementById("keys");
      if (keys) { dialog().replaceChildren(keys.content.cloneNode(true)); dialog().showModal(); }
      event.preventDefault();
      return;
    }
    const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (!wanted) return;
    event.preventDefault();
    if (wanted.matches("input, textarea, select")) wanted.focus(); else wanted.click();
  });
  const mark = (element) => {
    const row = element && element.closest && element.closest("tr[data-href]");
    if (row) for (const other of rows()) other.classList.toggle("at", other === row);
  };
  document.addEventListener("focusin", (event) => mark(event.target));
  document.addEventListener("htmx:after:swap", () => mark(document.activeElement));

  // ------------------------------------------------------------ select all, and how many are selected
  const count = () => {
    for (const shown of document.querySelectorAll("[data-selected]")) {
      const chosen = document.querySelectorAll(`input[name="${shown.dataset.selected}"]:checked`).length;
      shown.querySelector(".count").textContent = chosen;
      for (const button of shown.querySelectorAll("button")) button.disabled = chosen === 0;
    }
  };
  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-select-all]");
    if (all) for (const box of document.querySelectorAll(`input[name="${all.dataset.selectAll}"]`)) box.checked = all.checked;
    count();
  });
  document.addEventListener("htmx:after:swap", count);
  count();

  // ------------------------------------------------------------ what was not confirmed is said, until something is
  const lost = (is) => { const bar = document.getElementById("lost"); if (bar) bar.hidden = !is; };
  document.addEventListener("htmx:error", () => lost(true));
  document.addEventListener("htmx:after:request", () => lost(false));

  // ------------------------------------------------------------ live: the server says what has changed, parts that
  // show it ask again. Without it, or when it breaks off, pages are as they were loaded.
  // What somebody types into or has chosen stays as it is, also when the answer had been asked for before; it follows
  // when he has done.
  const busy = (part) => part.querySelector(":is(input, textarea, select):focus, input:checked");
  const refresh = (part) => {
    clearTimeout(part.refreshing);
    part.refreshing = setTimeout(() => {
      part.behind = Boolean(busy(part));
      if (!part.behind) htmx.trigger(part, "refresh");
    }, 150 + Math.random() * 250);
  };
  const live = () => [...document.querySelectorAll("[data-live]")];
  document.addEventListener("htmx:before:swap", (event) => {
    const part = event.detail.ctx.sourceElement;
    if (!part.matches("[data-live]") || !busy(part)) return;
    part.behind = true;
    event.preventDefault();
  });
  for (const done of ["change", "focusout"])
    document.addEventListener(done, () => { for (const part of live()) if (part.behind) refresh(part); });
  const at = document.body.dataset.liveAt;
  if (at && window.EventSource) {
    let source = null;
    const close = () => { if (source) source.close(); source = null; };
    const open = (again) => {
      if (source) return;
      source = new EventSource(at);
      source.addEventListener("changed", (event) => {
        for (const part of live()) if (part.dataset.live === "any" || part.dataset.live === event.data) refresh(part);
      });
      source.addEventListener("open", () => {
        document.body.setAttribute("data-live-state", "open");
        if (again) for (const part of live()) refresh(part);
        again = true;
      });
      source.addEventListener("error", () => document.body.setAttribute("data-live-state", "lost"));
    };
    // A browser opens six connections to a service: pages that nobody looks at give theirs up.
    document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(true); });
    window.addEventListener("pagehide", close);
    if (!document.hidden) open(false);
  }
})();
