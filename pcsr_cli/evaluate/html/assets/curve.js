// The curve of quality over compute. Its handle sets the cut.

const SVG = "http://www.w3.org/2000/svg";
const UNIT = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
const MARGIN = { left: 52 * UNIT, right: 14 * UNIT, top: 34 * UNIT, bottom: 42 * UNIT };

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return about `count` round numbers in a range, and the digits to print them with. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(12)));
  return { values: found, digits: Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9) + (String(step).includes("25") ? 1 : 0))) };
}

function diamond(x, y, r) {
  return `M${x - r} ${y}L${x} ${y - r}L${x + r} ${y}L${x} ${y + r}Z`;
}

class Curve {
  /** Call `choose(index)` when the user selects a point, and `changeConvention(key)` when they select an axis. */
  constructor(host, curve, name, choose, changeConvention) {
    this.host = host;
    this.curve = curve;
    this.choose = choose;
    this.index = 0;
    this.convention = "paper";
    this.radios = this.makeRadios(name, changeConvention);
    this.svg = drawn("svg", {});
    this.plot = drawn("g", { "aria-hidden": "true" });
    this.handle = drawn("g", { class: "handle", role: "slider", tabindex: "0", "aria-label": `Compute for ${name}, set by the cut on p_heavy` },
      drawn("circle", { class: "reach", r: 22 }), drawn("circle", { class: "ring", r: 12 * UNIT }), drawn("circle", { class: "grip", r: 8 * UNIT }));
    this.svg.append(this.plot, this.handle);
    host.append(this.radios.fieldset, this.svg);
    this.svg.addEventListener("pointerdown", (event) => this.grab(event));
    this.handle.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.draw()).observe(host);
  }

  makeRadios(name, changeConvention) {
    const fieldset = element("fieldset", { class: "conventions" }, element("legend", {}, "GFLOPs"));
    const inputs = {};
    for (const [key, text] of [["paper", "paper's count"], ["executed", "executed"]]) {
      inputs[key] = element("input", { type: "radio", name: `convention of ${this.host.dataset.curve}`, value: key });
      inputs[key].addEventListener("change", () => changeConvention(key));
      fieldset.append(element("label", {}, inputs[key], text));
    }
    return { fieldset, inputs };
  }

  setConvention(key) {
    this.convention = key;
    this.radios.inputs[key].checked = true;
    this.draw();
  }

  setIndex(index) {
    this.index = index;
    this.moveHandle();
  }

  /** Return the position of a point in pixels. A result equal to the reference has no finite PSNR and is at the top. */
  at(point) {
    return [this.x(point[this.convention]), point.psnr === null ? MARGIN.top : this.y(point.psnr)];
  }

  draw() {
    const width = this.host.clientWidth;
    if (!width) return;
    const height = Math.round(Math.min(420 * UNIT, Math.max(210, width * 0.62)));
    const { points, light, heavy, adm, original, knee } = this.curve;
    const all = [...points, light, heavy, adm];
    const across = all.map((point) => point[this.convention]);
    const up = all.map((point) => point.psnr).filter((value) => value !== null);
    if (original && original.psnr !== null) up.push(original.psnr);
    const range = (values, margin) => {
      const low = Math.min(...values), high = Math.max(...values), space = (high - low || Math.abs(high) * 0.01 || 1) * margin;
      return [low - space, high + space];
    };
    const [left, right] = range(across, 0.04), [low, high] = range(up.length ? up : [0, 1], 0.08);
    const floor = height - MARGIN.bottom;
    this.x = (value) => MARGIN.left + ((value - left) / (right - left)) * (width - MARGIN.left - MARGIN.right);
    this.y = (value) => floor - ((value - low) / (high - low)) * (floor - MARGIN.top);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.plot.replaceChildren(...this.axes(width, floor, [left, right], [low, high]), ...this.marks({ points, light, heavy, adm, original, knee }, width));
    this.moveHandle();
  }

  axes(width, floor, [left, right], [low, high]) {
    const parts = [];
    const beside = ticks(low, high, 4), below = ticks(left, right, width < 420 ? 3 : 5);
    for (const value of beside.values) {
      const y = this.y(value);
      parts.push(drawn("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
        drawn("text", { x: MARGIN.left - 8 * UNIT, y: y + 4 * UNIT, "text-anchor": "end" }, value.toFixed(beside.digits)));
    }
    for (const value of below.values) parts.push(drawn("text", { x: this.x(value), y: floor + 18 * UNIT, "text-anchor": "middle" }, grouped(value, below.digits)));
    parts.push(drawn("text", { x: width - MARGIN.right, y: floor + 37 * UNIT, "text-anchor": "end" }, this.convention === "paper" ? "GFLOPs (paper's count)" : "GFLOPs (executed)"),
      drawn("text", { x: 0, y: 12 * UNIT }, `${page.quality}, ${page.against}`));
    return parts;
  }

  marks({ points, light, heavy, adm, original, knee }, width) {
    const parts = [];
    if (original && original.psnr !== null) {
      const y = this.y(original.psnr);
      parts.push(drawn("line", { class: "original", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
        drawn("text", { x: width - MARGIN.right, y: y - 6, "text-anchor": "end" }, `original, ${FORMS.psnr(original.psnr)} dB`));
    }
    const places = points.map((point) => this.at(point));
    parts.push(drawn("polyline", { class: "line", points: places.map((place) => place.join(",")).join(" ") }));
    for (const [cx, cy] of places) parts.push(drawn("circle", { class: "dot", cx, cy, r: 2.4 * UNIT }));
    for (const end of [light, heavy]) {
      const [cx, cy] = this.at(end);
      parts.push(drawn("circle", { class: "end", cx, cy, r: 4 * UNIT }));
    }
    if (knee !== null) parts.push(...this.named(points[knee], "knee", "knee", (cx, cy) => drawn("circle", { class: "knee", cx, cy, r: 8 * UNIT }), 1));
    parts.push(...this.named(adm, "ADM", "adm", (cx, cy) => drawn("path", { class: "adm", d: diamond(cx, cy, 5.5 * UNIT) }), -1));
    return parts;
  }

  /** Return a mark and its label, below the curve (side 1) or above it and to the left (side -1). */
  named(point, text, kind, shape, side) {
    const [cx, cy] = this.at(point);
    const label = side > 0 ? { x: cx + 10 * UNIT, y: cy + 20 * UNIT } : { x: cx - 10 * UNIT, y: cy - 10 * UNIT, "text-anchor": "end" };
    if (side > 0 && cx > this.host.clientWidth - 60 * UNIT) label["text-anchor"] = "end";
    return [shape(cx, cy), drawn("text", { class: "mark", ...label }, text)];
  }

  moveHandle() {
    if (!this.x) return;
    const point = this.curve.points[this.index];
    const [x, y] = this.at(point);
    this.handle.setAttribute("transform", `translate(${x} ${y})`);
    const values = this.curve.points.map((each) => each[this.convention]);
    this.handle.setAttribute("aria-valuemin", Math.min(...values));
    this.handle.setAttribute("aria-valuemax", Math.max(...values));
    this.handle.setAttribute("aria-valuenow", point[this.convention]);
    this.handle.setAttribute("aria-valuetext", describe(this.curve, this.index));
  }

  grab(event) {
    if (event.button > 0) return;
    const move = (now) => {
      const box = this.svg.getBoundingClientRect();
      const [x, y] = [now.clientX - box.left, now.clientY - box.top];
      const far = this.curve.points.map((point) => Math.hypot(this.at(point)[0] - x, (this.at(point)[1] - y) * 0.5));
      this.choose(far.indexOf(Math.min(...far)));
    };
    const stop = () => {
      this.svg.removeEventListener("pointermove", move);
      this.svg.removeEventListener("pointerup", stop);
      this.svg.removeEventListener("pointercancel", stop);
    };
    event.preventDefault();
    this.handle.focus({ preventScroll: true, focusVisible: false });
    this.svg.setPointerCapture(event.pointerId);
    this.svg.addEventListener("pointermove", move);
    this.svg.addEventListener("pointerup", stop);
    this.svg.addEventListener("pointercancel", stop);
    move(event);
  }

  /** Points are in the order of falling GFLOPs, the axis is in the order of rising GFLOPs. */
  press(event) {
    const last = this.curve.points.length - 1;
    const to = { ArrowRight: -1, ArrowUp: -1, ArrowLeft: 1, ArrowDown: 1, PageUp: -5, PageDown: 5, Home: last, End: -last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(Math.min(last, Math.max(0, this.index + to)));
  }
}
