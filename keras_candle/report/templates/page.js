"use strict";
(() => {
  // A trial or a run has one key in every chart and table.
  const keyed = new Map();
  for (const each of document.querySelectorAll("[data-key]")) {
    const key = each.dataset.key;
    if (!keyed.has(key)) keyed.set(key, []);
    keyed.get(key).push(each);
  }
  let pinned = null, shown = null;
  const show = (key) => {
    if (key === shown) return;
    for (const each of keyed.get(shown) ?? []) each.classList.remove("lit");
    shown = key;
    const found = keyed.get(key) ?? [];
    for (const each of found) {
      each.classList.add("lit");
      // Above the others; a row keeps its place.
      if (each.matches("path, circle")) each.parentNode.append(each);
    }
    document.body.classList.toggle("focus", found.length > 0);
  };
  const keyOf = (target) => target.closest?.("[data-key]")?.dataset.key ?? null;

  const tooltip = document.querySelector("#tooltip");
  const textOf = (target) => {
    const mark = target.closest?.("svg.chart path, svg.chart circle, svg.chart rect");
    if (!mark) return "";
    const title = mark.querySelector(":scope > title");
    if (title) {  // else the browser would show it too
      mark.dataset.tooltip = title.textContent;
      title.remove();
    }
    return mark.dataset.tooltip ?? "";
  };
  document.addEventListener("pointerover", (event) => {
    show(keyOf(event.target) ?? pinned);
    tooltip.textContent = textOf(event.target);
    tooltip.hidden = !tooltip.textContent;
  });
  document.addEventListener("pointermove", (event) => {
    if (tooltip.hidden) return;
    const left = Math.min(event.clientX + 14, innerWidth - tooltip.offsetWidth - 8);
    const below = event.clientY + 18 + tooltip.offsetHeight < innerHeight;
    tooltip.style.left = `${Math.max(left, 4)}px`;
    tooltip.style.top = `${event.clientY + (below ? 18 : -tooltip.offsetHeight - 10)}px`;
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("a, button, summary")) return;
    const key = keyOf(event.target);
    pinned = key === pinned ? null : key;
    show(pinned);
    if (pinned !== null && !event.target.closest("tr")) {
      const row = keyed.get(pinned).find((each) => each.matches("tr"));
      const box = row?.closest(".scroll");
      // The table's box scrolls, the page stays where it is.
      if (box) box.scrollTop = row.offsetTop - box.clientHeight / 2;
    }
  });

  const button = (act, ...content) => {
    const made = document.createElement("button");
    made.type = "button";
    made.append(...content);
    made.addEventListener("click", act);
    return made;
  };
  const valueOf = ({ dataset, textContent }) => dataset.v === undefined ? textContent : Number(dataset.v);
  const compare = (one, other) => {
    const numbers = [one, other].map((each) => typeof each === "number");
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return numbers[0] ? one - other : one.localeCompare(other, undefined, { numeric: true });
  };
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    const body = head.closest("table").tBodies[0];
    const first = body.rows[0]?.cells[head.cellIndex];
    head.classList.toggle("right", first?.classList.contains("right") ?? false);
    const sort = () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = Array.from(body.rows, (row) => [valueOf(row.cells[head.cellIndex]), row]);
      // Rows without a value stay at the end in both orders.
      const empty = (value) => value === "" || value === "—";
      rows.sort(([a], [b]) => empty(a) - empty(b) || sign * compare(a, b));
      body.append(...rows.map(([, row]) => row));
    };
    head.append(button(sort, ...head.childNodes));
  }

  // The full text of a cell, which no spreadsheet takes for a formula.
  const inFull = (cell) => {
    if (cell.dataset.v !== undefined) return cell.dataset.v;
    if (cell.textContent === "—") return "";
    const text = (cell.title || cell.textContent).replace(/^[=+@-]/, "'$&");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  for (const table of document.querySelectorAll("table.sortable[id]")) {
    const save = () => {
      const lines = Array.from(table.rows, (row) => Array.from(row.cells, inFull).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
      link.download = `${table.id}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    };
    table.parentNode.before(button(save, "Save as CSV"));
  }

  for (const box of document.querySelectorAll(".views")) {
    const views = Array.from(box.parentNode.querySelectorAll(":scope > [data-view]"));
    const choose = (name) => {
      for (const view of views) view.hidden = view.dataset.view !== name;
      for (const each of box.children) each.setAttribute("aria-pressed", each.textContent === name);
    };
    const names = views.map((view) => view.dataset.view);
    box.append(...names.map((name) => button(() => choose(name), name)));
    choose(names[0]);
  }
})();
