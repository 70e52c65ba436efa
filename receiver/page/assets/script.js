"use strict";
(() => {
  const said = document.createElement("p");
  said.className = "unseen";
  said.setAttribute("role", "status");
  document.body.append(said);

  const copy = async (pre, button) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(pre.textContent);
    } catch {
      // Without https, browsers offer no clipboard: the user can copy the selected text.
      getSelection().selectAllChildren(pre);
      done = false;
    }
    button.textContent = done ? "Copied" : "Selected";
    said.textContent = button.textContent;
    setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2000);
  };
  for (const pre of document.querySelectorAll("pre.copy")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copier";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy: " + pre.dataset.label);
    button.addEventListener("click", () => copy(pre, button));
    pre.before(button);
  }

  const filter = document.getElementById("filter");
  if (filter) {
    filter.parentElement.hidden = false;
    const table = filter.closest("section").querySelector("table");
    const rows = table.classList.contains("keys") ? table.tBodies : table.tBodies[0].rows;
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.querySelector("th").textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }

  const open = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const row = id.startsWith("key-") && document.getElementById(id);
    const details = row && row.querySelector("details");
    if (details) details.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
