// What every page does: draws its figures, keeps them up to date, and remembers smoothing and axes.
import { option, table } from "./charts.js";

const charts = new Map();
let figures = new Map();

function remembered(name, otherwise) {
  try {
    return localStorage.getItem(`rlcs-${name}`) ?? otherwise;
  } catch {
    return otherwise; // a file opened from disk may have no storage
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`rlcs-${name}`, value);
  } catch {
    // It is forgotten when the page is left.
  }
}

function settings() {
  const smoothing = document.getElementById("smoothing");
  const log = document.getElementById("log");
  return { smoothing: smoothing ? Number(smoothing.value) : 0, log: Boolean(log?.checked) };
}

function draw(holder) {
  const figure = figures.get(holder.dataset.figure);
  if (!figure) return;
  const message = holder.parentElement.querySelector(".empty");
  message.hidden = figure.empty === null;
  message.textContent = figure.empty ?? "";
  holder.hidden = figure.empty !== null;
  const note = holder.parentElement.querySelector(".note");
  if (note) note.textContent = figure.note;
  const title = holder.parentElement.querySelector("h2");
  if (title) title.textContent = figure.title;
  if (figure.empty !== null) return;
  let chart = charts.get(holder);
  if (!chart) {
    chart = echarts.init(holder, null, { renderer: "canvas" });
    charts.set(holder, chart);
  }
  chart.setOption(option(figure, settings()), { notMerge: true });
  holder.dataset.drawn = "yes";
  const details = holder.parentElement.querySelector("details.numbers");
  if (details?.open) fill(details);
}

// Only what is on the screen is drawn at once: a page of twelve charts is there sooner.
const visible = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      visible.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "300px" });

function drawAll() {
  for (const holder of document.querySelectorAll(".chart")) {
    if (holder.dataset.drawn || figures.get(holder.dataset.figure)?.empty) draw(holder);
    else visible.observe(holder);
  }
}

function fill(details) {
  const figure = figures.get(details.dataset.figure);
  const rows = table(figure);
  const element = document.createElement("table");
  rows.slice(0, 400).forEach((cells, number) => {
    const row = element.insertRow();
    for (const cell of cells) {
      const box = document.createElement(number ? "td" : "th");
      box.textContent = cell;
      row.append(box);
    }
  });
  const scroller = details.querySelector("div");
  scroller.replaceChildren(element);
  if (rows.length > 400) scroller.append(`${rows.length - 400} more rows are not shown.`);
}

export function take(list) {
  figures = new Map(list.map((figure) => [figure.id, figure]));
  drawAll();
}

async function update() {
  const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // Parts of the page that change with the run are marked; their content is the server's, escaped there.
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (other && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(other));
  }
  const data = fresh.getElementById("figures");
  if (data) take(JSON.parse(data.textContent));
}

function follow() {
  const address = document.body.dataset.events;
  if (!address) return;
  const source = new EventSource(address);
  let version = document.body.dataset.version;
  let busy = false;
  source.addEventListener("version", async (event) => {
    if (event.data === version || busy || document.hidden) return;
    busy = true;
    version = event.data;
    try {
      await update();
    } finally {
      busy = false;
    }
  });
  const light = document.getElementById("link");
  source.onopen = () => { if (light) light.textContent = ""; };
  source.onerror = () => { if (light) light.textContent = "The server does not answer; what is shown may be old."; };
}

function start() {
  const smoothing = document.getElementById("smoothing");
  if (smoothing) {
    smoothing.value = remembered("smoothing", smoothing.value);
    const output = document.getElementById("smoothing-value");
    const say = () => { output.textContent = Number(smoothing.value).toFixed(2); };
    say();
    smoothing.addEventListener("input", () => { remember("smoothing", smoothing.value); say(); drawAll(); });
  }
  const log = document.getElementById("log");
  if (log) {
    log.checked = remembered("log", "no") === "yes";
    log.addEventListener("change", () => { remember("log", log.checked ? "yes" : "no"); drawAll(); });
  }
  for (const details of document.querySelectorAll("details.numbers")) {
    details.addEventListener("toggle", () => { if (details.open) fill(details); });
  }
  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.addEventListener("change", () => form.requestSubmit());
  }
  const filter = document.getElementById("metric-filter");
  filter?.addEventListener("input", () => filterMetrics(filter));
  const data = document.getElementById("figures");
  if (data) take(JSON.parse(data.textContent));
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => charts.forEach((chart) => chart.resize()), 100);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => document.querySelectorAll(".chart").forEach(draw));
  follow();
}

function filterMetrics(filter) {
  let pattern;
  try {
    pattern = new RegExp(filter.value, "i");
    filter.removeAttribute("aria-invalid");
  } catch {
    filter.setAttribute("aria-invalid", "true");
    return;
  }
  for (const item of document.querySelectorAll("#metric-list li")) item.hidden = !pattern.test(item.dataset.name);
}

// For tests and for the curious: the figures as they were drawn.
window.rlcsFigures = () => Object.fromEntries(figures);
start();
