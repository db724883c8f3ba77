// Figures (rlcs/dashboard/figures/figure.py) as options of Apache ECharts. Tooltips are drawn on the canvas
// (renderMode richText), so that no text of a run ever becomes HTML.

const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const colours = { main: value("--main"), second: value("--second"), muted: value("--muted-line") };
  for (let i = 0; i < 7; i++) colours[`d${i}`] = value(`--d${i}`);
  const tiers = [0, 1, 2, 3, 4, 5].map((i) => value(`--tier${i}`));
  return { colours, tiers, text: value("--text"), soft: value("--soft"), grid: value("--grid"), card: value("--card") };
}

export function formatNumber(value, percent) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (percent) return `${(100 * value).toFixed(Math.abs(value) < 0.0995 && value !== 0 ? 1 : 0)} %`;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(1);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

// Exponential moving average by distance on the axis, so that thinned lines are smoothed as whole ones are; where the
// axis has no iterations, a two-hundredth of it counts as one.
export function smoothed(x, y, weight) {
  const unit = x.length > 1 && x.some((value) => !Number.isInteger(value)) ? (x[x.length - 1] - x[0]) / 200 : 1;
  let mean = null;
  let before = null;
  return y.map((value, i) => {
    if (value === null) return null;
    const keep = before === null ? 0 : weight ** (unit === 1 ? Math.max(1, x[i] - before) : (x[i] - before) / unit);
    mean = mean === null ? value : keep * mean + (1 - keep) * value;
    before = x[i];
    return mean;
  });
}

export function option(figure, settings = {}) {
  const look = theme();
  const make = { lines, area, heat, bars, sankey, reliability }[figure.kind];
  return {
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: look.text },
    aria: { enabled: false },
    ...make(figure, look, settings),
  };
}

function base(figure, look, percent) {
  const axis = {
    axisLine: { lineStyle: { color: look.grid } },
    axisTick: { lineStyle: { color: look.grid } },
    axisLabel: { color: look.soft, hideOverlap: true },
    nameTextStyle: { color: look.soft },
    splitLine: { lineStyle: { color: look.grid } },
  };
  return {
    grid: { left: 62, right: 18, top: 42, bottom: 44 },
    legend: { top: 0, left: 0, right: 0, type: "scroll", icon: "roundRect", itemWidth: 14, itemHeight: 4,
      textStyle: { color: look.text }, pageTextStyle: { color: look.soft }, pageIconColor: look.text,
      pageIconInactiveColor: look.grid, inactiveColor: look.grid },
    tooltip: { trigger: "axis", renderMode: "richText", confine: true, backgroundColor: look.card, borderColor: look.grid,
      textStyle: { color: look.text, fontSize: 12 }, axisPointer: { lineStyle: { color: look.soft } },
      valueFormatter: (value) => formatNumber(Array.isArray(value) ? value[1] : value, percent) },
    xAxis: { ...axis, type: "value", min: "dataMin", max: "dataMax", name: figure.xLabel, nameLocation: "middle", nameGap: 26,
      splitLine: { show: false } },
    yAxis: { ...axis, type: "value", name: figure.yLabel, nameLocation: "end", nameGap: 13,
      nameTextStyle: { color: look.soft, align: "left", padding: [0, 0, 0, -54] },
      axisLabel: { ...axis.axisLabel, formatter: (value) => formatNumber(value, percent) } },
  };
}

function withMarks(options, figure) {
  // The name of the value axis stands above it, under the legend.
  const legend = figure.series.length > 1 ? 30 : 0;
  options.grid.top = legend + (figure.yLabel ? 33 : 12);
  return options;
}

function lines(figure, look, { smoothing = 0, log = false }) {
  const options = withMarks(base(figure, look, figure.percent), figure);
  const isLog = (figure.log || log) && !figure.percent;
  options.yAxis.type = isLog ? "log" : "value";
  if (figure.zero && !isLog) options.yAxis.min = 0;
  else options.yAxis.scale = true;
  if (figure.percent) options.yAxis.max = (value) => (value.max > 0.1 ? Math.min(1, Math.ceil(value.max * 10.2) / 10) : 0.1);
  options.dataZoom = [{ type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseMove: false, preventDefaultMouseMove: false }];
  const series = [];
  for (const line of figure.series) {
    const colour = look.colours[line.colour];
    const clean = (value) => (isLog && value !== null && value <= 0 ? null : value);
    const raw = line.x.map((x, i) => [x, clean(line.y[i])]);
    const shown = figure.smooth && smoothing > 0 && line.x.length > 3;
    if (shown) {
      series.push({ type: "line", data: raw, symbol: "none", silent: true, z: 2, tooltip: { show: false },
        lineStyle: { color: colour, width: 1, opacity: 0.22 }, itemStyle: { color: colour } });
    }
    if (line.low) series.push(band(line, colour, shown ? smoothing : 0));
    const values = shown ? smoothed(line.x, line.y, smoothing) : line.y;
    series.push({ type: "line", name: line.name, z: 3, data: line.x.map((x, i) => [x, clean(values[i])]),
      symbol: line.points || line.x.length < 3 ? "circle" : "none", symbolSize: 7, connectNulls: true,
      lineStyle: { color: colour, width: line.colour === "main" ? 2.5 : 1.8, type: line.dashed ? "dashed" : "solid" },
      itemStyle: { color: colour } });
  }
  options.legend.data = figure.series.map((line) => line.name);
  if (figure.series.length < 2) options.legend.show = false;
  options.series = series;
  options.tooltip.formatter = (items) => {
    const byName = new Map(items.filter((item) => item.seriesName && item.seriesType === "line" && !/^series\d/.test(item.seriesName))
      .map((item) => [item.seriesName, item]));
    const rows = [...byName.values()].map((item) => `${item.seriesName}: ${formatNumber(item.value[1], figure.percent)}`);
    return items.length ? [`${figure.xLabel} ${formatNumber(items[0].value[0])}`, ...rows].join("\n") : "";
  };
  return options;
}

function band(line, colour, smoothing) {
  const low = smoothing ? smoothed(line.x, line.low, smoothing) : line.low;
  const high = smoothing ? smoothed(line.x, line.high, smoothing) : line.high;
  const data = line.x.map((x, i) => [x, low[i], high[i]]).filter((point) => point[1] !== null && point[2] !== null);
  return {
    type: "custom", silent: true, z: 1, tooltip: { show: false }, data, encode: { x: 0, y: [1, 2] }, itemStyle: { color: colour },
    renderItem: (params, api) => {
      if (params.dataIndex !== 0) return null;
      if (data.length === 1) {
        const [a, b] = [api.coord([data[0][0], data[0][1]]), api.coord([data[0][0], data[0][2]])];
        return { type: "line", shape: { x1: a[0], y1: a[1], x2: b[0], y2: b[1] }, style: { stroke: colour, opacity: 0.4, lineWidth: 4 } };
      }
      const lower = data.map((point) => api.coord([point[0], point[1]]));
      const upper = data.map((point) => api.coord([point[0], point[2]])).reverse();
      return { type: "polygon", shape: { points: [...lower, ...upper] }, style: { fill: colour, opacity: 0.14 } };
    },
  };
}

function area(figure, look) {
  const options = withMarks(base(figure, look, figure.percent), figure);
  options.yAxis.min = 0;
  options.series = figure.series.map((line) => ({
    type: "line", name: line.name, stack: "all", symbol: "none", data: line.x.map((x, i) => [x, line.y[i]]),
    lineStyle: { width: 0 }, areaStyle: { color: look.colours[line.colour], opacity: 0.85 },
    itemStyle: { color: look.colours[line.colour] },
  }));
  options.legend.data = figure.series.map((line) => line.name);
  return options;
}

function heat(figure, look) {
  const options = base(figure, look, true);
  const { x, y, cells, value } = figure.extra;
  const top = Math.max(...cells.map((cell) => cell[2]));
  const known = new Set(cells.map((cell) => `${cell[0]},${cell[1]}`));
  const none = x.flatMap((_, i) => y.map((_, j) => [i, j, 0, 0])).filter((cell) => !known.has(`${cell[0]},${cell[1]}`));
  options.grid = { left: 78, right: 18, top: 46, bottom: 44 };
  options.xAxis = { ...options.xAxis, type: "category", data: x, min: null, max: null, splitLine: { show: false } };
  options.yAxis = { ...options.yAxis, type: "category", data: y, axisLabel: { color: look.soft }, splitLine: { show: false },
    nameTextStyle: { color: look.soft, align: "left", padding: [0, 0, 0, -70] } };
  options.legend = { show: false };
  options.visualMap = { min: 0, max: top, calculable: false, orient: "horizontal", right: 18, top: 0, itemWidth: 12, itemHeight: 120,
    inRange: { color: VIRIDIS }, textStyle: { color: look.soft }, dimension: 2,
    text: [formatNumber(top, true), `0`], formatter: (v) => formatNumber(v, true) };
  options.tooltip.trigger = "item";
  options.tooltip.formatter = ({ value: cell }) =>
    `iteration ${x[cell[0]]}\npass rate ${y[cell[1]]}\n${formatNumber(cell[2], true)} (${value}), ${cell[3]} groups`;
  options.series = [{ type: "heatmap", data: [...cells, ...none], progressive: 0, itemStyle: { borderWidth: 0 } }];
  return options;
}

function bars(figure, look) {
  const count = figure.series[0]?.x.length ?? 0;
  // A few names are all shown, on several lines where they are long; of many bins those that there is room for.
  const labels = count > 6 ? { hideOverlap: true }
    : { interval: 0, overflow: "break", width: Math.min(104, Math.floor((figure.wide ? 900 : 330) / Math.max(1, count))) };
  const options = withMarks(base(figure, look, figure.percent), figure);
  options.xAxis = { ...options.xAxis, type: "category", min: null, max: null, data: figure.series[0]?.x ?? [], axisTick: { show: false },
    axisLabel: { color: look.soft, fontSize: 11, ...labels } };
  options.yAxis.min = 0;
  options.tooltip.axisPointer = { type: "shadow" };
  options.series = figure.series.map((line) => ({ type: "bar", name: line.name, data: line.y, barGap: "8%", barMaxWidth: 34,
    itemStyle: { color: look.colours[line.colour], borderRadius: [2, 2, 0, 0] } }));
  options.legend.data = figure.series.map((line) => line.name);
  if (figure.series.length < 2) options.legend.show = false;
  return options;
}

function sankey(figure, look) {
  const { nodes, links, before, after } = figure.extra;
  const label = new Map(nodes.map((node) => [node.name, node.label]));
  const size = new Map();
  for (const link of links) {
    for (const end of [link.source, link.target]) size.set(end, (size.get(end) ?? 0) + link.value);
  }
  return {
    tooltip: { trigger: "item", renderMode: "richText", confine: true, backgroundColor: look.card, borderColor: look.grid,
      textStyle: { color: look.text, fontSize: 12 },
      formatter: (item) => item.dataType === "edge"
        ? `${label.get(item.data.source)} at ${before}\n${label.get(item.data.target)} at ${after}\n${formatNumber(item.data.value)} prompts`
        : `${label.get(item.name)}: ${formatNumber(size.get(item.name))} prompts` },
    series: [{
      type: "sankey", left: 150, right: 150, top: 12, bottom: 12, nodeWidth: 16, nodeGap: 10, draggable: false, layoutIterations: 0,
      emphasis: { focus: "adjacency" },
      label: { color: look.text, formatter: ({ name }) => `${label.get(name)}  ${formatNumber(size.get(name))}` },
      lineStyle: { color: "source", opacity: 0.35, curveness: 0.5 },
      levels: [{ depth: 0, label: { position: "left" } }, { depth: 1, label: { position: "right" } }],
      data: nodes.map((node) => ({ name: node.name, itemStyle: { color: look.tiers[node.tier], borderWidth: 0 } })),
      links,
    }],
  };
}

function reliability(figure, look) {
  const options = withMarks(base(figure, look, true), figure);
  const line = figure.series[0];
  const { counts, bins } = figure.extra;
  const percent = (value) => formatNumber(value, true);
  options.legend.show = false;
  options.xAxis = { ...options.xAxis, min: 0, max: 1, axisLabel: { color: look.soft, formatter: percent } };
  options.yAxis = [{ ...options.yAxis, min: 0, max: 1 }, { type: "value", show: false, min: 0, max: 4 * Math.max(...counts) }];
  options.tooltip.trigger = "item";
  options.tooltip.formatter = ({ seriesType, dataIndex }) => seriesType === "custom" ? "" :
    `predicted ${percent(line.x[dataIndex])}\nobserved ${percent(line.y[dataIndex])}\n${formatNumber(counts[dataIndex])} groups`;
  const colour = look.colours[line.colour];
  options.series = [
    { type: "bar", yAxisIndex: 1, barWidth: 14, data: bins.map((bin, i) => [bin / 10 + 0.05, counts[i]]),
      itemStyle: { color: look.colours.muted, opacity: 0.45 } },
    { type: "line", silent: true, symbol: "none", data: [[0, 0], [1, 1]], lineStyle: { color: look.soft, type: "dashed", width: 1 } },
    { type: "custom", silent: true, data: line.x.map((x, i) => [x, line.low[i], line.high[i]]), encode: { x: 0, y: [1, 2] },
      renderItem: (params, api) => {
        const [a, b] = [api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)])];
        return { type: "line", shape: { x1: a[0], y1: a[1], x2: b[0], y2: b[1] }, style: { stroke: colour, lineWidth: 1.5 } };
      } },
    { type: "line", data: line.x.map((x, i) => [x, line.y[i]]), symbol: "circle", symbolSize: 8, lineStyle: { color: colour, width: 2 },
      itemStyle: { color: colour } },
  ];
  return options;
}

// The numbers behind a figure, as rows of text: for those who do not see the plot, and to copy.
export function table(figure) {
  if (figure.kind === "heat") {
    const { x, y, cells } = figure.extra;
    return [["iteration", "pass rate", "share", "groups"], ...cells.map((c) => [x[c[0]], y[c[1]], formatNumber(c[2], true), c[3]])];
  }
  if (figure.kind === "sankey") {
    const label = new Map(figure.extra.nodes.map((node) => [node.name, node.label]));
    return [[`at ${figure.extra.before}`, `at ${figure.extra.after}`, "prompts"],
      ...figure.extra.links.map((l) => [label.get(l.source), label.get(l.target), l.value])];
  }
  const xs = [...new Set(figure.series.flatMap((line) => line.x))];
  if (typeof xs[0] === "number") xs.sort((a, b) => a - b);
  const at = figure.series.map((line) => new Map(line.x.map((x, i) => [x, line.y[i]])));
  return [[figure.xLabel || "", ...figure.series.map((line) => line.name)],
    ...xs.map((x) => [typeof x === "number" ? formatNumber(x) : x, ...at.map((m) => (m.has(x) ? formatNumber(m.get(x), figure.percent) : ""))])];
}
