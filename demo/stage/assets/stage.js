/* Hand-overs that are new since the page was loaded, drawn as marks that go along the tree's edges. The list beside says
   the same; who wants little motion sees the list and the numbers at the edges alone. */
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const AT_ONCE = 16, APART_MS = 90, WAY_MS = 1100;
  const known = new Set();
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const listed = () => [...document.querySelectorAll("#moves [data-move]")];
  for (const move of listed()) known.add(move.dataset.move);

  const place = (code) => {
    const box = document.getElementById(`box-${code}`);
    return box && { x: Number(box.dataset.middle), top: Number(box.dataset.top), bottom: Number(box.dataset.bottom) };
  };
  const layer = () => {
    const drawing = document.getElementById("drawing");
    let dots = document.getElementById("dots");
    if (!dots) {
      dots = document.createElementNS(SVG, "svg");
      dots.id = "dots";
      dots.setAttribute("class", "dots");
      dots.setAttribute("aria-hidden", "true");
      document.body.append(dots);
    }
    const at = drawing.getBoundingClientRect();
    dots.setAttribute("viewBox", drawing.getAttribute("viewBox"));
    Object.assign(dots.style, {
      left: `${at.left + scrollX}px`, top: `${at.top + scrollY}px`, width: `${at.width}px`, height: `${at.height}px`,
    });
    return dots;
  };
  const go = (move) => {
    const from = place(move.from), to = place(move.to);
    if (!from || !to) return;
    const down = from.top < to.top;
    const [above, below] = down ? [from, to] : [to, from];
    const across = below.top - 23;
    const way = [[above.x, above.bottom], [above.x, across], [below.x, across], [below.x, below.top]];
    if (!down) way.reverse();
    const steps = way.slice(1).map(([x, y], i) => Math.abs(x - way[i][0]) + Math.abs(y - way[i][1]));
    const length = steps.reduce((sum, step) => sum + step, 0) || 1;
    let gone = 0;
    const offsets = [0, ...steps.map((step) => (gone += step) / length)];
    const mark = document.createElementNS(SVG, move.kind === "result" ? "rect" : "circle");
    const size = move.kind === "result" ? { x: -5, y: -5, width: 10, height: 10 } : { r: 6 };
    for (const [name, value] of Object.entries(size)) mark.setAttribute(name, value);
    layer().append(mark);
    mark.animate(
      way.map(([x, y], i) => ({ transform: `translate(${x}px, ${y}px)`, offset: Math.min(1, offsets[i]) })),
      { duration: WAY_MS, fill: "both", easing: "ease-in-out" },
    ).finished.finally(() => mark.remove());
  };

  document.addEventListener("htmx:after:swap", () => {
    // The bar's clock is not part of what the server sends again.
    const bar = document.querySelector(".bar .now"), instant = document.getElementById("instant");
    if (bar && instant && bar.textContent !== instant.textContent) bar.textContent = instant.textContent;
    const fresh = listed().map((item) => item.dataset).filter((move) => !known.has(move.move)).reverse();
    for (const move of fresh) known.add(move.move);
    if (still.matches || document.hidden) return;
    fresh.slice(-AT_ONCE).forEach((move, index) => setTimeout(go, index * APART_MS, move));
  });
})();
