/* What the board's pages do beyond what works without scripts: charts, charts as pictures, definitions that close. */
"use strict";
(() => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const COLOURS = ["--blue-9", "--green-10", "--orange-10", "--gray-7"].map(colour);
  const MARKS = ["circle", "triangle", "rect", "diamond"];

  const [MINIMUM_HEIGHT, BAR_HEIGHT, AXIS_HEIGHT] = [110, 21, 30];

  // ------------------------------------------------------------ charts: their figures come as JSON beside them
  const lines = (spec) => ({
    xAxis: { type: "category", data: spec.labels, boundaryGap: false },
    yAxis: { type: "value", minInterval: 1 },
    series: spec.series.map((one, at) => ({
      type: "line", name: one.name, data: one.values, symbol: MARKS[at], symbolSize: 7, showSymbol: spec.labels.length <= 62,
      lineStyle: { type: ["solid", "dashed", "dotted"][at % 3], width: 2 },
    })),
    legend: { top: 0, left: 0 },
    grid: { left: 8, right: 24, top: 32, bottom: 8, containLabel: true },
    tooltip: { trigger: "axis", renderMode: "richText" },
    dataZoom: spec.labels.length > 62 ? [{ type: "inside" }] : [],
  });
  const bars = (spec) => ({
    xAxis: { type: "value", minInterval: 1 },
    yAxis: { type: "category", data: spec.labels, inverse: true, axisTick: { show: false }, axisLabel: { width: 110, overflow: "truncate" } },
    series: spec.series.map((one) => ({
      type: "bar", name: one.name, data: one.values, barMaxWidth: 18, label: { show: true, position: "right" },
    })),
    grid: { left: 8, right: 48, top: 4, bottom: 4, containLabel: true },
    tooltip: { trigger: "item", renderMode: "richText" },
  });
  const SHAPES = { lines, bars };
  const charts = new Map();
  const draw = (box) => {
    const data = box.querySelector("script[type='application/json']");
    const canvas = box.querySelector(".canvas");
    if (!data || !canvas || !window.echarts) return;
    const spec = JSON.parse(data.textContent);
    canvas.hidden = false;
    // A bar needs its own line, or its name is left out.
    if (spec.kind === "bars") canvas.style.height = `${Math.max(MINIMUM_HEIGHT, spec.labels.length * BAR_HEIGHT + AXIS_HEIGHT)}px`;
    const chart = echarts.init(canvas, null, { renderer: "canvas" });
    chart.setOption({
      animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      color: COLOURS,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("--gray-9") },
      ...SHAPES[spec.kind](spec),
    });
    charts.set(box.dataset.chart, chart);
    for (const button of box.querySelectorAll("[data-png]")) button.hidden = false;
  };
  for (const box of document.querySelectorAll("[data-chart]")) draw(box);
  window.addEventListener("resize", () => { for (const chart of charts.values()) chart.resize(); });

  // ------------------------------------------------------------ a chart as a picture
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-png]");
    const chart = button && charts.get(button.dataset.png);
    if (!chart) return;
    const link = document.createElement("a");
    link.href = chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: "#fff" });
    link.download = button.dataset.file;
    link.click();
  });

  // ------------------------------------------------------------ definitions: Escape closes the one that is shown
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const one of document.querySelectorAll(".explained")) one.classList.add("closed");
  });
  for (const kind of ["focusin", "pointerover"]) {
    document.addEventListener(kind, (event) => {
      const one = event.target.closest && event.target.closest(".explained");
      for (const other of document.querySelectorAll(".explained.closed")) if (other !== one || kind === "focusin") other.classList.remove("closed");
    });
  }
})();
