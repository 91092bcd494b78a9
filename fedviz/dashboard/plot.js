// A plotly figure in one element that stays: new figures are drawn in it. Heatmaps have one cursor
// for all; a click on a cell and a box are told to Python.

const SVG = "http://www.w3.org/2000/svg"
const NUMBERS = {
  f4: Float32Array, f8: Float64Array,
  i1: Int8Array, i2: Int16Array, i4: Int32Array,
  u1: Uint8Array, u2: Uint16Array, u4: Uint32Array,
}

// Streamlit's chart is a module that leaves plotly in the window; imported by the address that
// Streamlit itself imports it by, it is loaded once.
async function plotly(name) {
  const { src } = document.querySelector('script[type="module"][src*="static/js/"]')
  await import(new URL(name, src))
  if (!window.Plotly) throw new Error(`${name} left no Plotly in the window`)
  return window.Plotly
}

// After the browser has painted what is drawn already.
function frame() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
}

function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const end = 4 + view.getUint32(0, true)
  const text = new TextDecoder().decode(bytes.subarray(4, end))
  return JSON.parse(text, (key, value) =>
    value?.array in NUMBERS ? numbers(value, bytes.subarray(end)) : value)
}

// One typed array, or of a matrix an array for each row: typed rows plotly searches for colours,
// number by number.
function numbers({ array, at, shape }, bytes) {
  const kind = NUMBERS[array]
  const count = shape.reduce((product, size) => product * size, 1)
  // A copy: a typed array must not begin at any byte.
  const all = new kind(bytes.slice(at, at + count * kind.BYTES_PER_ELEMENT).buffer)
  if (shape.length < 2) return all
  const [rows, columns] = shape
  return Array.from({ length: rows }, (_, i) =>
    Array.from(all.subarray(i * columns, (i + 1) * columns)))
}

function same(one, other) {
  return one?.length === other.length && one.every((byte, i) => byte === other[i])
}

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

const HANDLERS = {
  plotly_hover: (plot, { points: [point] }) => {
    if (point.fullData.type === "heatmap") show(plot, point)
  },
  plotly_unhover: (plot) => clear(plot),
  plotly_click: (plot, { points: [point] }) => {
    const { type, dx, dy } = point.fullData
    if (type !== "heatmap") return
    const [row, column] = [Math.round(point.y - (dy - 1) / 2), Math.round(point.x - (dx - 1) / 2)]
    plot.tell("cell", [row, row + dy, column, column + dx])
  },
  plotly_selected: (plot, event) => {
    const box = event?.selections?.at(-1)
    const isOnCells = ({ trace }) => trace.xaxis === box?.xref && trace.yaxis === box?.yref
    if (heatmaps(plot).some(isOnCells)) plot.tell("box", [box.y0, box.y1, box.x0, box.x1])
  },
}

function listen(plot) {
  for (const [event, handle] of Object.entries(HANDLERS)) {
    plot.on(event, (told) => handle(plot, told))
  }
}

// The layout's width is the element's, which follows the window's.
function follow(plot) {
  const observer = new ResizeObserver(() => {
    const width = plot.clientWidth
    if (!width || !plot._fullLayout || width === plot._fullLayout.width) return
    clear(plot)
    window.Plotly.relayout(plot, { width })
  })
  observer.observe(plot)
  return observer
}

function end(plot) {
  plot.observer.disconnect()
  window.Plotly?.purge(plot)
}

export default async function ({ data: bytes, parentElement, setTriggerValue }) {
  const plot = parentElement.querySelector(".plot")
  plot.tell = setTriggerValue
  plot.observer ??= follow(plot)
  // Streamlit hands over anew what it already has, whenever the script runs.
  if (!same(plot.drawn, bytes)) await draw(plot, bytes)
  return () => end(plot)
}

async function draw(plot, bytes) {
  plot.drawn = bytes
  const { plotly: script, areLinked, config, data, layout } = unpack(bytes)
  // What stands below has its place before the first drawing.
  plot.style.height = `${layout.height}px`
  if (!areLinked) await frame()
  // To wait for what is there would let other charts go first.
  const { react } = window.Plotly ?? (await plotly(script))
  // Another figure came, or the page was left, while plotly was loaded.
  if (plot.drawn !== bytes || !plot.isConnected) return
  clear(plot)
  const isFirst = !plot._fullLayout
  const drawn = react(plot, data, { ...layout, width: plot.clientWidth }, config)
  if (isFirst && areLinked) listen(plot)
  await drawn
}
