"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const units = { min: 1, h: 60, d: 1440 };
  const number = (text) => {
    const [, digits, unit] = text.match(/^(.*?)\s*(min|h|d)?$/);
    const value = Number(digits.replace(/[,+%\s]/g, "").replace("\u2212", "-")) * (units[unit] ?? 1);
    return Number.isNaN(value) ? -Infinity : value;
  };
  const compare = (x, y) => (x === y ? 0 : x < y ? -1 : 1);
  const onSort = (table, sort) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const text = head.classList.contains("t");
      const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !text;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, text, down);
    }));
  };

  // Tables: a click on a heading sorts all rows; a long table shows its first rows and a button for more.
  for (const table of document.querySelectorAll("table.sortable")) {
    if (data.tables[table.id]) continue;
    const body = table.tBodies[0];
    let shown = Number(table.dataset.shown) || Infinity;
    const more = table.closest(".card").querySelector(".more");
    const limit = () => {
      [...body.rows].forEach((row, n) => { row.hidden = n >= shown; });
      if (more) more.hidden = shown >= body.rows.length;
    };
    const value = (cell, text) => (text ? cell.textContent : cell.dataset.v ? Number(cell.dataset.v) : number(cell.textContent));
    onSort(table, (column, text, down) => {
      const rows = [...body.rows].map((row) => [value(row.cells[column], text), row]);
      rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
      body.append(...rows.map((pair) => pair[1]));
      limit();
    });
    if (more) more.addEventListener("click", () => { shown += 200; limit(); });
  }

  // The trades: their rows are text in the data, and only those that show are in the page.
  for (const [id, packed] of Object.entries(data.tables)) {
    const table = document.getElementById(id);
    if (!table) continue;
    const columns = packed.map((column) => (Array.isArray(column) ? column : column.at.map((n) => column.words[n])));
    const styles = [...table.tHead.rows[0].cells].map((head) => head.classList.contains("t"));
    const card = table.closest(".card"), more = card.querySelector(".more"), filter = card.querySelector(".filter");
    const first = table.tBodies[0].rows.length;
    let order = columns[0].map((_, n) => n), shown = first, texts = null;
    const row = (n) => {
      const line = document.createElement("tr");
      columns.forEach((column, k) => {
        const cell = line.insertCell(), text = column[n];
        cell.textContent = text;
        cell.className = styles[k] ? "t" : text.startsWith("\u2212") ? "neg" : text.startsWith("+") ? "pos" : "";
      });
      return line;
    };
    const draw = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (words.length) texts ??= columns[0].map((_, n) => columns.map((column) => column[n]).join(" ").toLowerCase());
      const kept = words.length ? order.filter((n) => words.every((word) => texts[n].includes(word))) : order;
      table.tBodies[0].replaceChildren(...kept.slice(0, shown).map(row));
      const count = (n) => n.toLocaleString("en-US");
      card.querySelector(".count").textContent = `${count(Math.min(shown, kept.length))} of ${count(kept.length)} shown`;
      if (more) more.hidden = shown >= kept.length;
    };
    onSort(table, (column, text, down) => {
      const keys = text ? columns[column] : columns[column].map(number);
      order = [...order].sort((a, b) => (down ? compare(keys[b], keys[a]) : compare(keys[a], keys[b])));
      draw();
    });
    if (more) more.addEventListener("click", () => { shown += 200; draw(); });
    filter.addEventListener("input", () => { shown = first; draw(); });
  }

  // A table that is wider than its card says so: on a phone nothing else tells that there is more of it.
  const hint = () => {
    for (const box of document.querySelectorAll(".scroll")) box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
  };
  addEventListener("resize", hint);
  hint();

  // Plots over time: one moment, pointed at in one plot, is marked in all of them.
  const plots = [...document.querySelectorAll(".plot")].filter((plot) => data.plots[plot.dataset.plot]);
  const formats = {
    money: (v) => v.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }),
    share: (v) => `${(v * 100).toFixed(2)} %`,
    text: (v) => v,
  };
  const nearest = (at) => {
    let low = 0, high = data.at.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (data.at[middle] < at) low = middle + 1; else high = middle;
    }
    return low > 0 && at - data.at[low - 1] < data.at[low] - at ? low - 1 : low;
  };
  const clear = () => document.querySelectorAll(".cross,.tip").forEach((node) => node.remove());
  const show = (event, pointed) => {
    clear();
    if (!data.at.length) return;
    const box = pointed.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const n = nearest(data.start + share * (data.end - data.start));
    const place = (data.at[n] - data.start) / (data.end - data.start);
    for (const plot of plots) {
      const cross = document.createElement("div");
      cross.className = "cross";
      cross.style.left = `${place * 100}%`;
      plot.append(cross);
    }
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.style[place > 0.5 ? "right" : "left"] = `calc(${(place > 0.5 ? 1 - place : place) * 100}% + 10px)`;
    const line = (text) => { const div = document.createElement("div"); div.textContent = text; tip.append(div); };
    line(new Date(data.at[n]).toISOString().slice(0, 16).replace("T", " ") + " UTC");
    for (const series of data.plots[pointed.dataset.plot]) line(`${series.name}: ${formats[series.format](series.values[n])}`);
    pointed.append(tip);
  };
  for (const plot of plots) {
    plot.addEventListener("pointermove", (event) => show(event, plot));
    plot.addEventListener("pointerdown", (event) => show(event, plot));
    plot.addEventListener("pointerleave", clear);
  }
})();
