"use strict";
// Figures in the format of `pcsr sweep`. <data value> holds the exact number.

const page = JSON.parse(document.getElementById("page-data").textContent);

function grouped(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const FORMS = {
  cut: (value) => value.toFixed(4),
  k: (value) => value.toFixed(2).replace("-0.00", "0.00"),
  share: (value) => `${grouped(100 * value, 1)}%`,
  psnr: (value) => value.toFixed(3),
  ssim: (value) => value.toFixed(4),
  gflops: (value) => grouped(value, 2),
};
const FORM_OF = { heavy_share: "share", psnr: "psnr", ssim: "ssim", paper: "gflops", executed: "gflops", saved: "share", saved_executed: "share", cut: "cut", k: "k" };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function figure(key, value) {
  const missing = key === "psnr" ? "equal" : "–";
  if (value === null) return element("data", { value: "", "data-figure": key }, missing);
  return element("data", { value: String(value), "data-figure": key }, FORMS[FORM_OF[key]](value));
}

/** Return the figures of a curve at one point, savings included. */
function figuresAt(curve, index) {
  const point = curve.points[index];
  return {
    ...point,
    saved: 1 - point.paper / curve.heavy.paper,
    saved_executed: 1 - point.executed / curve.heavy.executed,
  };
}

function describe(curve, index) {
  const at = figuresAt(curve, index);
  const quality = at.psnr === null ? "equal to the reference" : `${FORMS.psnr(at.psnr)} dB`;
  const where = at.cut === null ? "" : `cut ${FORMS.cut(at.cut)}: `;
  return `${where}${FORMS.share(at.heavy_share)} heavy, ${quality}, ${FORMS.gflops(at.paper)} GFLOPs (paper's count), ${FORMS.gflops(at.executed)} executed`;
}

/** Fill the panel beside a curve. */
function showFigures(host, curve, index, filters) {
  const at = figuresAt(curve, index);
  const headline = element("dl", { class: "headline" });
  const head = (name, value, kind = "") => headline.append(element("div", {}, element("dt", {}, name), element("dd", { class: kind }, value)));
  head("p_heavy above", figure("cut", at.cut), "cut-value");
  head("heavy pixels", figure("heavy_share", at.heavy_share));
  head(page.quality, figure("psnr", at.psnr));
  head("SSIM", figure("ssim", at.ssim));

  const rows = [
    ["PCSR at this cut", figure("paper", at.paper), figure("executed", at.executed)],
    ["all heavy", FORMS.gflops(curve.heavy.paper), FORMS.gflops(curve.heavy.executed)],
    ["saved", figure("saved", at.saved), figure("saved_executed", at.saved_executed)],
  ];
  if (curve.original) {
    const { paper, executed } = curve.original;
    rows.push(["original network", FORMS.gflops(paper), FORMS.gflops(executed)]);
    rows.push(["PCSR / original", FORMS.share(at.paper / paper), FORMS.share(at.executed / executed)]);
  }
  const heading = element("tr", {}, ...["GFLOPs", "paper's count", "executed"].map((name, column) => element("th", { scope: "col", class: column ? "number" : "" }, name)));
  const body = rows.map(([name, ...cells]) => element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", { class: "number" }, cell))));
  const table = element("table", {}, element("thead", {}, heading), element("tbody", {}, ...body));

  const known = [];
  if (at.k !== null && at.k !== undefined) known.push(element("span", {}, "k = ", figure("k", at.k)));
  if (curve.heavy.psnr !== null) known.push(`all heavy ${FORMS.psnr(curve.heavy.psnr)} dB`);
  if (curve.light.psnr !== null) known.push(`all light ${FORMS.psnr(curve.light.psnr)} dB`);
  for (const [name, value] of Object.entries(filters)) if (value !== null) known.push(`${name} ${FORMS.psnr(value)} dB`);
  const aside = element("p", { class: "aside" });
  known.forEach((part, number) => aside.append(number ? "; " : "", part));
  host.replaceChildren(headline, table, aside);
}
