// One cursor for all heatmaps of a figure, and a click on a cell. plotly tells of both, Streamlit
// does not pass them on. Nothing is kept here: each pointing asks the figure anew.

const SVG = "http://www.w3.org/2000/svg"

function heatmaps(plot) {
  const layout = plot._fullLayout
  return plot._fullData
    .map((trace, i) => ({ trace, z: plot.calcdata[i][0].z }))
    .filter(({ trace }) => trace.type === "heatmap" && trace.hoverinfo !== "skip")
    .map(({ trace, z }) => ({
      trace,
      z,
      x: layout[trace.xaxis.replace("x", "xaxis")],
      y: layout[trace.yaxis.replace("y", "yaxis")],
    }))
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}

function clear(plot) {
  plot.querySelector(".linked-cursor")?.remove()
}

function show(plot, point) {
  clear(plot)
  const { width, height, font } = plot._fullLayout
  const layer = element("svg", { class: "linked-cursor", width, height })
  layer.style.cssText = "position:absolute;inset:0;pointer-events:none"
  for (const { trace, z, x, y } of heatmaps(plot)) {
    const column = Math.round((point.x - trace.x0) / trace.dx)
    const row = Math.round((point.y - trace.y0) / trace.dy)
    const value = z[row]?.[column]
    const centre = [trace.x0 + column * trace.dx, trace.y0 + row * trace.dy]
    const left = x._offset + x.l2p(centre[0] - trace.dx / 2)
    const top = y._offset + y.l2p(centre[1] - trace.dy / 2)
    const wide = Math.abs(x.l2p(trace.dx) - x.l2p(0))
    const high = Math.abs(y.l2p(trace.dy) - y.l2p(0))
    const [w, h] = [Math.max(wide, 7), Math.max(high, 7)]
    const place = { x: left - (w - wide) / 2, y: top - (h - high) / 2, width: w, height: h }
    const stroke = { fill: "none", stroke: font.color, "stroke-width": 1.5 }
    layer.append(element("rect", { ...place, ...stroke }))
    // The pointed cell has plotly's own label.
    if (trace.index === point.fullData.index || value === undefined) continue
    const text = element("text", {
      x: x._offset + x._length,
      y: y._offset - 4,
      "text-anchor": "end",
      fill: font.color,
      "font-family": font.family,
      "font-size": 11,
    })
    text.textContent = Number.isFinite(value) ? String(+value.toPrecision(4)).replace("-", "−") : "–"
    layer.append(text)
  }
  plot.querySelector(".svg-container").append(layer)
}

export default function ({ setTriggerValue }) {
  const attach = (event) => {
    const plot = event.target.closest?.('.st-key-wide_grid .js-plotly-plot')
    if (!plot?.on) return
    plot.tellOfCell = (cells) => setTriggerValue("cell", cells)
    if (plot.hasLinkedCursor) return
    plot.hasLinkedCursor = true
    plot.on("plotly_hover", ({ points: [point] }) => {
      if (point.fullData.type === "heatmap") show(plot, point)
    })
    plot.on("plotly_unhover", () => clear(plot))
    plot.on("plotly_click", ({ points: [point] }) => {
      const { type, dx, dy } = point.fullData
      if (type !== "heatmap") return
      const [row, column] = [Math.round(point.y - (dy - 1) / 2), Math.round(point.x - (dx - 1) / 2)]
      plot.tellOfCell([row, row + dy, column, column + dx])
    })
  }
  document.addEventListener("pointermove", attach, true)
  return () => document.removeEventListener("pointermove", attach, true)
}
