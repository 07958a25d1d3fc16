"use strict";
// The table of experiments: a click on a heading sorts, and two fields choose rows. The table is whole without it.
(() => {
  const table = document.getElementById("experiments");
  const filter = document.getElementById("filter");
  if (!table || !filter) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const words = filter.querySelector("input");
  const status = filter.querySelector("select");
  const shown = document.getElementById("shown");

  const value = (row, column) => row.cells[column].dataset.value;
  const compare = (one, other, isNumber) => {
    if (!isNumber) return one.localeCompare(other);
    if (one === "" || other === "") return Number(one === "") - Number(other === ""); // what has no figure comes last
    return Number(one) - Number(other);
  };

  const sort = (heading, column) => {
    const falls = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const isNumber = heading.dataset.kind === "number";
    const sorted = rows.slice().sort((one, other) => {
      const [a, b] = [value(one, column), value(other, column)];
      const isGap = isNumber && (a === "" || b === "");
      return compare(a, b, isNumber) * (falls && !isGap ? -1 : 1);
    });
    body.append(...sorted);
  };

  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => sort(heading, column));
  });

  const choose = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits || (status.value !== "" && row.dataset.status !== status.value);
      count += Number(!row.hidden);
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  words.addEventListener("input", choose);
  status.addEventListener("change", choose);
  filter.hidden = false;
  choose();

  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
    // On paper, or in a PDF, a link to another page of the bundle would hold this machine's folder.
    for (const link of document.querySelectorAll('a[href]:not([href^="#"]):not([href^="http"])')) {
      link.dataset.href = link.getAttribute("href");
      link.removeAttribute("href");
    }
  });
  window.addEventListener("afterprint", () => {
    for (const link of document.querySelectorAll("a[data-href]")) link.setAttribute("href", link.dataset.href);
  });
})();
