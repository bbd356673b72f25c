// Tables that can be sorted by any column.

function sortValue(row, column) {
  const cell = row.cells[column];
  const exact = cell.querySelector("data");
  if (!exact) return cell.classList.contains("number") ? Infinity : cell.textContent.trim().toLowerCase();
  return exact.value === "" ? Infinity : Number(exact.value);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Sort the body by the column with aria-sort. Equal rows keep their order. */
function keepSorted(table) {
  const headings = [...table.tHead.rows[0].cells];
  const column = headings.findIndex((heading) => heading.getAttribute("aria-sort") !== "none");
  if (column < 0) return;
  const sign = headings[column].getAttribute("aria-sort") === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const sorted = [...rows].sort((a, b) => sign * compare(sortValue(a, column), sortValue(b, column)));
  if (sorted.some((row, index) => row !== rows[index])) body.append(...sorted);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  for (const heading of headings) {
    heading.querySelector("button").addEventListener("click", () => {
      const next = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of headings) other.setAttribute("aria-sort", other === heading ? next : "none");
      keepSorted(table);
    });
  }
}
