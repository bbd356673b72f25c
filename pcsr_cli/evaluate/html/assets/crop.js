// Shows a stage on the full screen and saves what it shows.

const GAP = 8; // pixels between the sides of a saved crop
const STRIP = 28; // pixels for the labels above the sides

function makeFullScreen(stage) {
  const button = stage.find(".full-screen"), viewer = stage.find(".viewer");
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen()));
  viewer.addEventListener("fullscreenchange", () => {
    button.setAttribute("aria-pressed", document.fullscreenElement === viewer);
    stage.resize();
  });
}

/** Return the height that is left for a stage on the full screen, 0 if its viewer is not there. */
function roomOnScreen(stage) {
  const viewer = stage.find(".viewer");
  if (document.fullscreenElement !== viewer) return 0;
  const others = [...viewer.children].filter((child) => child !== stage.box);
  return innerHeight - others.reduce((sum, child) => sum + child.offsetHeight, 0) - 40;
}

/** Return the visible rectangle in image pixels, and the pixels to save for each of them. */
function visibleArea({ view, fit, box, image }) {
  const shown = view.zoom * fit;
  const [left, top] = [view.x, view.y].map((offset) => Math.max(0, -offset / shown));
  const width = Math.min(image.size[0] - left, box.clientWidth / shown), height = Math.min(image.size[1] - top, box.clientHeight / shown);
  const [whole, detail] = image.previews;
  const inside = detail && left >= detail.left && top >= detail.top && left + width <= detail.left + detail.width && top + height <= detail.top + detail.height;
  const density = inside ? 1 : whole.size[0] / whole.width;
  return { left, top, width, height, factor: density * Math.max(1, Math.floor(shown / density)) };
}

/** Save the visible area of both sides, with the map, as one PNG. */
function saveCrop(stage) {
  const { left, top, width, height, factor } = visibleArea(stage);
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  const canvas = element("canvas", { width: 2 * w + GAP, height: h + STRIP });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#1b1b1f";
  context.font = "16px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.imageSmoothingEnabled = !stage.box.classList.contains("close");
  const names = ["left", "right"].map((side) => stage.find(`.tag.${side}`).textContent);
  names.forEach((name, number) => {
    const start = number * (w + GAP);
    context.fillText(name, start + 6, STRIP / 2, w - 12);
    context.save();
    context.beginPath();
    context.rect(start, STRIP, w, h);
    context.clip();
    for (const layer of [number ? "right" : "left", "map"]) {
      const side = stage.find(`.side.${layer}`);
      context.globalAlpha = Number(getComputedStyle(side).opacity);
      [...side.querySelectorAll("canvas")].forEach((part, index) => {
        const at = stage.image.previews[index];
        context.drawImage(part, start + (at.left - left) * factor, STRIP + (at.top - top) * factor, at.width * factor, at.height * factor);
      });
    }
    context.restore();
  });
  canvas.toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    element("a", { href: url, download: `${stage.image.name.replace(/\.[^.]*$/, "")} ${names.join(" - ")}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
}
