"use strict";
(() => {
  // Tables: a click on a heading sorts all rows; a long table shows its first rows and a button for more.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    let shown = Number(table.dataset.shown) || Infinity;
    const more = table.closest(".card").querySelector(".more");
    const limit = () => {
      [...body.rows].forEach((row, n) => { row.hidden = n >= shown; });
      if (more) more.hidden = shown >= body.rows.length;
    };
    const value = (row, column, text) => {
      const cell = row.cells[column];
      if (text) return cell.textContent;
      const number = Number(cell.dataset.v ?? cell.textContent.replace(/[,+%\s]/g, "").replace("−", "-"));
      return Number.isNaN(number) ? -Infinity : number;
    };
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const text = head.classList.contains("t");
      const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !text;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => {
        const x = value(a, column, text), y = value(b, column, text);
        return x === y ? 0 : x < y ? -1 : 1;
      };
      body.append(...[...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
      limit();
    }));
    if (more) more.addEventListener("click", () => { shown += 200; limit(); });
  }

  // Plots over time: one moment, pointed at in one plot, is marked in all of them.
  const data = JSON.parse(document.getElementById("data").textContent);
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
