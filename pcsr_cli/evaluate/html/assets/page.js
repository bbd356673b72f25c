// Connects the parts: one cut and one count of GFLOPs for the whole page.

const curves = [];
const stages = [];
const tables = [...document.querySelectorAll("table#images, table.bench")];

function subject(which) {
  if (which === "mean") return { curve: page.mean, filters: page.meanFilters };
  return page.images[Number(which)];
}

function choose(index) {
  for (const curve of curves) curve.setIndex(index);
  for (const stage of stages) stage.setIndex(index);
  for (const host of document.querySelectorAll("[data-figures]")) {
    const { curve, filters } = subject(host.dataset.figures);
    showFigures(host, curve, index, filters);
  }
  for (const row of document.querySelectorAll("#images [data-image]")) {
    const at = figuresAt(subject(row.dataset.image).curve, index);
    for (const cell of row.querySelectorAll("[data-key]")) cell.replaceChildren(figure(cell.dataset.key, at[cell.dataset.key]));
  }
  const [cut] = page.images.map((image) => image.curve.points[index].cut);
  for (const output of document.querySelectorAll("output.cut")) output.replaceChildren(figure("cut", cut));
  tables.forEach(keepSorted);
}

function changeConvention(key) {
  for (const curve of curves) curve.setConvention(key);
}

for (const host of document.querySelectorAll("[data-curve]")) {
  curves.push(new Curve(host, subject(host.dataset.curve).curve, host.dataset.name, choose, changeConvention));
}
for (const article of document.querySelectorAll("article[data-image]")) {
  stages.push(new Stage(article, page.images[Number(article.dataset.image)]));
}
tables.forEach(makeSortable);
if (page.mean) {
  changeConvention("paper");
  choose(page.start);
}
