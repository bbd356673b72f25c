// The layers of an image: left and right of a divider, and the map on top. They share zoom and position.

const MAX_PIXEL = 8; // screen pixels for one image pixel at the highest zoom
const MIN_RANGE = 4; // the highest zoom is at least this many times the fitting size

async function decoded(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

function pixelsOf(image) {
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Pack a colour into one 32-bit number in the byte order of the machine. */
function packed(red, green, blue, alpha) {
  return new Uint32Array(new Uint8ClampedArray([red, green, blue, alpha]).buffer)[0];
}

const scaleColours = Array.from({ length: 256 }, (_, index) => [0, 2, 4].map((at) => parseInt(page.colours.slice(6 * index + at, 6 * index + at + 2), 16)));

class Stage {
  constructor(article, image) {
    this.image = image;
    this.find = (selector) => article.querySelector(selector);
    this.box = this.find(".stage");
    this.index = page.start;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.loaded = null;
    this.visible = false;
    this.makeControls();
    this.makeDivider();
    new ResizeObserver(() => this.resize()).observe(this.box.parentElement);
    new IntersectionObserver(([entry]) => this.setVisible(entry.isIntersecting), { rootMargin: "60% 0px" }).observe(this.box);
  }

  makeControls() {
    const labels = Object.fromEntries(this.image.layers);
    ["left", "right"].forEach((side, number) => {
      const select = this.find(`.${side}-layer`);
      for (const [key, label] of this.image.layers) select.append(element("option", { value: key }, label));
      select.value = this.image.sides[number];
      const change = () => {
        this.find(`.tag.${side}`).textContent = labels[select.value];
        this.paintSide(side);
      };
      select.addEventListener("change", change);
      change();
    });
    if (this.image.curve) this.makeMapControls();
    this.find(".save-crop").addEventListener("click", () => saveCrop(this));
    makeFullScreen(this);
    makePannable(this);
  }

  makeMapControls() {
    const fade = this.find(".map-fade"), style = this.find(".map-style");
    fade.addEventListener("input", () => this.box.style.setProperty("--fade", fade.value / 100));
    style.addEventListener("change", () => {
      fade.hidden = style.value === "off";
      this.find(".scale").hidden = style.value !== "difficulty";
      this.resize();
      this.paintMap();
    });
    const strip = this.find(".scale canvas").getContext("2d");
    scaleColours.forEach((colour, at) => {
      strip.fillStyle = `rgb(${colour})`;
      strip.fillRect(at, 0, 1, 1);
    });
  }

  makeDivider() {
    const divider = this.find(".divider");
    const put = (percent) => {
      const at = Math.min(100, Math.max(0, percent));
      this.box.style.setProperty("--split", `${at}%`);
      divider.setAttribute("aria-valuenow", Math.round(at));
      divider.setAttribute("aria-valuetext", `${Math.round(at)}% ${this.find(".tag.left").textContent}`);
    };
    put(50);
    divider.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      divider.setPointerCapture(event.pointerId);
      const move = (now) => {
        const box = this.box.getBoundingClientRect();
        put((100 * (now.clientX - box.left)) / box.width);
      };
      divider.addEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) divider.addEventListener(end, () => divider.removeEventListener("pointermove", move), { once: true });
    });
    divider.addEventListener("keydown", (event) => {
      const now = Number(divider.getAttribute("aria-valuenow"));
      const to = { ArrowLeft: now - 2, ArrowDown: now - 2, ArrowRight: now + 2, ArrowUp: now + 2, PageDown: now - 10, PageUp: now + 10, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      put(to);
    });
  }

  /** Fit the image into the width of the page, or into the screen. */
  resize() {
    const width = this.box.clientWidth;
    const [imageWidth, imageHeight] = this.image.size;
    const screen = roomOnScreen(this);
    const height = screen || Math.min((width * imageHeight) / imageWidth, Math.max(240, innerHeight - 220));
    this.fit = Math.min(width / imageWidth, height / imageHeight);
    this.box.style.height = `${height}px`;
    for (const world of this.box.querySelectorAll(".world")) {
      world.style.width = `${imageWidth * this.fit}px`;
      world.style.height = `${imageHeight * this.fit}px`;
    }
    this.move(this.view);
  }

  allowed(zoom) {
    return Math.min(Math.max(MIN_RANGE, MAX_PIXEL / this.fit), Math.max(1, zoom));
  }

  /** Set the view of all layers. At zoom 1 the image fits; x and y are the position of its corner on the stage. */
  move({ zoom, x, y }) {
    const at = this.allowed(zoom);
    const inside = (offset, space, length) => (length <= space ? (space - length) / 2 : Math.min(0, Math.max(space - length, offset)));
    const [width, height] = this.image.size.map((side) => side * this.fit * at);
    this.view = { zoom: at, x: inside(x, this.box.clientWidth, width), y: inside(y, this.box.clientHeight, height) };
    const style = this.box.style;
    style.setProperty("--zoom", at);
    style.setProperty("--x", `${this.view.x}px`);
    style.setProperty("--y", `${this.view.y}px`);
    this.box.classList.toggle("zoomed", at > 1);
    this.box.classList.toggle("close", at * this.fit >= 2);
    this.find(".zoom-level").textContent = `${Math.round(100 * at * this.fit)}%`;
  }

  /** Zoom and keep one point of the stage fixed, by default its centre. */
  zoomTo(zoom, point = [this.box.clientWidth / 2, this.box.clientHeight / 2]) {
    const ratio = this.allowed(zoom) / this.view.zoom;
    this.move({ zoom: this.view.zoom * ratio, x: point[0] - (point[0] - this.view.x) * ratio, y: point[1] - (point[1] - this.view.y) * ratio });
  }

  /** Fit a rectangle of the image into the stage. */
  showDetail({ left, top, width, height }) {
    const zoom = Math.min(this.box.clientWidth / (width * this.fit), this.box.clientHeight / (height * this.fit));
    const size = this.fit * zoom;
    this.move({ zoom, x: this.box.clientWidth / 2 - (left + width / 2) * size, y: this.box.clientHeight / 2 - (top + height / 2) * size });
  }

  /** Decode the layers shortly before they scroll into view and release them afterwards: a page may hold many images. */
  async setVisible(visible) {
    this.visible = visible;
    if (!visible) {
      this.loaded = null;
      for (const world of this.box.querySelectorAll(".world")) world.replaceChildren();
      return;
    }
    const loaded = await Promise.all(this.image.previews.map((preview) => this.load(preview)));
    if (!this.visible) return;
    this.loaded = loaded;
    for (const world of this.box.querySelectorAll(".world")) world.replaceChildren(...this.image.previews.map((preview) => this.canvasFor(preview)));
    this.update();
    this.box.dataset.ready = "yes";
  }

  async load(preview) {
    const names = Object.keys(preview.layers);
    const found = await Promise.all(names.map((name) => decoded(preview.layers[name])));
    const images = Object.fromEntries(names.map((name, number) => [name, found[number]]));
    if (preview.difficulty === null) return { images };
    const levels = pixelsOf(await decoded(preview.difficulty)).data.filter((_, at) => at % 4 === 0);
    const light = pixelsOf(images.light);
    const made = new ImageData(light.width, light.height);
    return {
      images, levels, made, map: new ImageData(light.width, light.height),
      light: new Uint32Array(light.data.buffer), heavy: new Uint32Array(pixelsOf(images.heavy).data.buffer),
    };
  }

  canvasFor({ left, top, width, height, size }) {
    const canvas = element("canvas", { width: size[0], height: size[1] });
    const [wide, high] = this.image.size;
    Object.assign(canvas.style, { left: `${(100 * left) / wide}%`, top: `${(100 * top) / high}%`, width: `${(100 * width) / wide}%`, height: `${(100 * height) / high}%` });
    return canvas;
  }

  setIndex(index) {
    this.index = index;
    if (this.loaded && !this.pending) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.update();
      });
    }
  }

  update() {
    if (!this.loaded) return;
    if (this.image.curve) {
      const level = this.image.cutLevels[this.index];
      for (const { levels, light, heavy, made } of this.loaded) {
        const out = new Uint32Array(made.data.buffer);
        for (let at = 0; at < out.length; at++) out[at] = levels[at] > level ? heavy[at] : light[at];
      }
    }
    this.paintSide("left");
    this.paintSide("right");
    this.paintMap();
    this.box.dataset.cut = this.index;
  }

  paintSide(side) {
    if (!this.loaded) return;
    const layer = this.find(`.${side}-layer`).value;
    const canvases = this.find(`.side.${side} .world`).children;
    this.loaded.forEach(({ images, made }, number) => {
      const context = canvases[number].getContext("2d");
      if (layer === "pcsr") context.putImageData(made, 0, 0);
      else context.drawImage(images[layer], 0, 0);
    });
  }

  paintMap() {
    if (!this.loaded || !this.image.curve) return;
    const level = this.image.cutLevels[this.index];
    const style = this.find(".map-style").value;
    const bounds = [0, ...this.image.boundaries, 1].map((value) => Math.min(1, Math.max(0, value)));
    const colours = new Uint32Array(256);
    for (let at = 0; at < bounds.length - 1; at++) {
      const middle = (bounds[at] + bounds[at + 1]) / 2;
      if (style === "difficulty") colours[at] = packed(...scaleColours[Math.min(255, Math.floor(middle * 256))], 255);
      else if (style === "heavy" && at > level) colours[at] = packed(...page.tint, 255);
    }
    const canvases = this.find(".side.map .world").children;
    this.loaded.forEach(({ levels, map }, number) => {
      const out = new Uint32Array(map.data.buffer);
      for (let at = 0; at < out.length; at++) out[at] = colours[levels[at]];
      canvases[number].getContext("2d").putImageData(map, 0, 0);
    });
  }
}
