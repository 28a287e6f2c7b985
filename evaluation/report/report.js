"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const pairs = Array.from(document.querySelectorAll(".pair"));
  const wipe = byId("wipe");
  if (wipe && pairs.length) {
    const [pair, left, right, range] = ["pair", "left", "right", "range"].map((name) => byId("wipe-" + name));
    const [stage, under, over, edge] = ["stage", "under", "over", "edge"].map((name) => byId("wipe-" + name));
    const tags = { left: byId("wipe-tag-left"), right: byId("wipe-tag-right") };
    const option = (text, value) => new Option(text, value);
    const images = () => Array.from(pairs[Number(pair.value)].querySelectorAll("img.shown"));
    const imageOf = (method) => images().find((image) => image.dataset.method === method);

    pairs.forEach((section, index) => pair.add(option(section.dataset.label, index)));

    const fill = () => {
      const keep = [left.value, right.value];
      const names = images().map((image) => image.dataset.method);
      for (const select of [left, right]) {
        select.replaceChildren(...images().map((image) => option(image.alt, image.dataset.method)));
      }
      // initially the visible image against the first method; later the selection, where it exists
      left.value = names.includes(keep[0]) ? keep[0] : "vis";
      right.value = names.includes(keep[1]) ? keep[1] : names[Math.min(2, names.length - 1)];
    };
    const show = () => {
      for (const [side, image, select] of [["left", over, left], ["right", under, right]]) {
        const from = imageOf(select.value);
        image.src = from.src;
        image.alt = side + ": " + from.alt;
        image.width = from.width;
        image.height = from.height;
        tags[side].textContent = from.alt;
      }
      const shape = imageOf(left.value);
      const ratio = shape.getAttribute("width") / shape.getAttribute("height");
      stage.style.aspectRatio = String(ratio);
      byId("wipe-viewer").style.setProperty("--ratio", ratio);
      move();
    };
    const move = () => {
      const share = Number(range.value);
      over.style.clipPath = "inset(0 " + (100 - share) + "% 0 0)";
      edge.style.left = share + "%";
      tags.left.style.opacity = share < 12 ? 0 : 1;
      tags.right.style.opacity = share > 88 ? 0 : 1;
      range.setAttribute("aria-valuetext", share + " percent " + tags.left.textContent + ", the rest " +
        tags.right.textContent);
      root.dataset.wipe = String(share);
    };
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      range.value = String(Math.round(100 * (event.clientX - box.left) / box.width));
      move();
    };
    pair.addEventListener("change", () => { fill(); show(); });
    left.addEventListener("change", show);
    right.addEventListener("change", show);
    range.addEventListener("input", move);
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    wipe.hidden = false;
    fill();
    show();
  }
  root.dataset.script = "done";
})();
