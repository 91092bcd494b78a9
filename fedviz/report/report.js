"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")].map(place => ({
    place,
    spec: JSON.parse(document.getElementById(`spec-${place.id}`).textContent),
  }));
  const save = (name, title, format) => ({
    name, title, icon: Plotly.Icons.camera,
    click: plot => Plotly.downloadImage(plot, {
      format, filename: plot.id, scale: format === "png" ? 2 : 1,
      width: plot.offsetWidth, height: plot.offsetHeight,
    }),
  });
  const config = {
    displaylogo: false, scrollZoom: false, doubleClick: false, responsive: true,
    modeBarButtons: [[
      save("png", "Save as a picture (PNG)", "png"),
      save("svg", "Save as a drawing (SVG)", "svg"),
    ]],
  };

  function figure(spec, isDark) {
    const copy = structuredClone(spec.figure);
    for (const [path, value] of isDark ? spec.dark : []) {
      const last = path.at(-1);
      path.slice(0, -1).reduce((inner, key) => inner[key], copy)[last] = value;
    }
    return copy;
  }

  function draw(isDark) {
    for (const { place, spec } of plots) {
      const { data, layout } = figure(spec, isDark);
      Plotly.react(place, data, { ...layout, modebar: { bgcolor: "rgba(0,0,0,0)" } }, config);
    }
  }

  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  // Paper is white.
  window.addEventListener("beforeprint", () => draw(false));
  window.addEventListener("afterprint", () => draw(dark.matches));
})();
