// Zooms and pans a stage with the mouse, touch, keys and buttons.

function makePannable(stage) {
  const { box, find } = stage;
  const position = (event) => {
    const edge = box.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };
  find(".zoom-in").addEventListener("click", () => stage.zoomTo(stage.view.zoom * 1.5));
  find(".zoom-out").addEventListener("click", () => stage.zoomTo(stage.view.zoom / 1.5));
  find(".zoom-fit").addEventListener("click", () => stage.zoomTo(1));
  find(".zoom-real").addEventListener("click", () => stage.zoomTo(1 / stage.fit));
  const detail = find(".zoom-detail");
  if (detail) detail.addEventListener("click", () => stage.showDetail(stage.image.previews[1]));

  for (const kind of ["pointerdown", "dblclick", "keydown"]) find(".zooms").addEventListener(kind, (event) => event.stopPropagation());

  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // without a modifier the wheel scrolls the page
    event.preventDefault();
    stage.zoomTo(stage.view.zoom * 1.0025 ** -event.deltaY, position(event));
  }, { passive: false });
  box.addEventListener("dblclick", (event) => stage.zoomTo(stage.view.zoom * 2, position(event)));
  box.addEventListener("keydown", (event) => {
    const { zoom, x, y } = stage.view;
    const act = {
      "+": () => stage.zoomTo(zoom * 1.5), "=": () => stage.zoomTo(zoom * 1.5), "-": () => stage.zoomTo(zoom / 1.5), 0: () => stage.zoomTo(1),
      ArrowLeft: () => stage.move({ zoom, x: x + 60, y }), ArrowRight: () => stage.move({ zoom, x: x - 60, y }),
      ArrowUp: () => stage.move({ zoom, x, y: y + 60 }), ArrowDown: () => stage.move({ zoom, x, y: y - 60 }),
    }[event.key];
    const moves = event.key.startsWith("Arrow");
    if (!act || event.ctrlKey || event.metaKey || event.altKey || (moves && zoom === 1)) return;
    event.preventDefault();
    act();
  });

  const fingers = new Map();
  let last = null;
  const together = () => {
    const [one, two = one] = fingers.values();
    return { middle: [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2], apart: Math.hypot(one[0] - two[0], one[1] - two[1]) };
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    fingers.set(event.pointerId, position(event));
    if (stage.view.zoom > 1 || fingers.size > 1) for (const id of fingers.keys()) box.setPointerCapture(id);
    last = together();
    box.classList.add("moving");
  });
  box.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, position(event));
    const now = together();
    const { zoom, x, y } = stage.view;
    stage.move({ zoom, x: x + now.middle[0] - last.middle[0], y: y + now.middle[1] - last.middle[1] });
    if (last.apart && now.apart) stage.zoomTo(stage.view.zoom * (now.apart / last.apart), now.middle);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      if (fingers.size) last = together();
      else box.classList.remove("moving");
    });
  }
}
