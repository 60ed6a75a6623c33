"use strict";
(() => {
  const narrow = window.matchMedia("(max-width: 40rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);

  // Charts: plotly gets the page's own colours, sizes and type.

  const merged = (base, over) => {
    const made = { ...base };
    for (const [key, value] of Object.entries(over || {})) {
      const inner = value && typeof value === "object" && !Array.isArray(value);
      made[key] = inner ? merged(base[key] || {}, value) : value;
    }
    return made;
  };

  const layoutOf = ({ layout, data }, plot) => {
    const style = getComputedStyle(plot);
    const ink = style.color, rule = style.outlineColor;
    const small = narrow.matches;
    // A phone's legend has a line for every trace, which the drawing must not have to make room for.
    const drawing = (layout.height || 480) - 120;
    const height = drawing + 120 + (small ? 16 * data.length : 0);
    const axis = { gridcolor: rule, linecolor: rule, zeroline: false, automargin: true, fixedrange: small, title: { standoff: 12 }, ticks: "outside", ticklen: 6, tickcolor: "rgba(0,0,0,0)" };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: style.fontFamily, size: small ? 11 : 13 },
      margin: { l: small ? 8 : 20, r: small ? 10 : 24, t: 16, b: 16 },
      height,
      legend: { orientation: "h", x: 0, xanchor: "left", y: -62 / drawing, yanchor: "top", itemsizing: "constant", bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { align: "left", namelength: -1 },
      dragmode: false,
      xaxis: axis,
      yaxis: axis,
    };
    return { ...merged(base, layout), height };
  };

  const draw = (figure) => {
    const views = charts[figure.dataset.chart];
    const choice = figure.querySelector("select");
    const view = views[choice ? Number(choice.value) : 0];
    const plot = figure.querySelector(".plot");
    figure.querySelector("figcaption").textContent = view.caption;
    const options = { responsive: true, displayModeBar: false, displaylogo: false };
    Plotly.react(plot, view.figure.data, layoutOf(view.figure, plot), options);
  };

  const figures = [...document.querySelectorAll("figure.chart")];
  const drawAll = () => figures.forEach(draw);
  for (const figure of figures) figure.querySelector("select")?.addEventListener("change", () => draw(figure));

  // The switch between light and dark; until it is used, the page follows the system.

  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const showTheme = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    drawAll();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  narrow.addEventListener("change", drawAll);

  // Tables: a heading sorts, the same heading again turns the order; what is missing stays last.

  const keyOf = (cell, numeric) => {
    const key = cell.dataset.sort;
    return key === undefined ? null : numeric ? Number(key) : key;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

  const sort = (table, heading) => {
    const column = heading.cellIndex, numeric = heading.classList.contains("number");
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row.cells[column], numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const pressed = event.target.closest("button");
      if (pressed) sort(table, pressed.closest("th"));
    });
  }

  showTheme();
})();
