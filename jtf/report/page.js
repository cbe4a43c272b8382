"use strict";
(async () => {
  const started = performance.now();

  // Data ---------------------------------------------------------------------------------------------------------
  const raw = (id) => document.getElementById(id).textContent;
  const content = JSON.parse(raw("content"));

  async function inflate(id) {
    const text = atob(raw(id)), bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  const TYPES = { i1: Int8Array, u1: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array, f2: Uint16Array };

  /** The arrays of jtf.report.pack: a JSON header, then byte planes. Each is put together when it is first asked for. */
  function unpack(buffer) {
    const head = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, head)));
    const known = {};
    for (const [name, [kind, length, offset]] of Object.entries(header)) {
      let found = null;
      Object.defineProperty(known, name, { enumerable: true, get: () => found ??= together(kind, length, 4 + head + offset, buffer) });
    }
    return known;
  }

  function together(kind, length, start, buffer) {
    const size = Number(kind[1]), planes = new Uint8Array(buffer, start, length * size), bytes = new Uint8Array(length * size);
    for (let plane = 0; plane < size; plane++) {
      for (let k = 0; k < length; k++) bytes[k * size + plane] = planes[plane * length + k];
    }
    const array = new TYPES[kind](bytes.buffer);
    return kind === "f2" ? Float32Array.from(array, half) : array;
  }

  /** A 16-bit float (IEEE 754 binary16). */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /** Load plotly.js from the page itself; the browser reads it aside while the parts without a figure are drawn. */
  async function loadPlotly() {
    const library = document.createElement("script"), code = new Blob([await inflate("plotly")], { type: "text/javascript" });
    library.src = URL.createObjectURL(code);
    document.head.append(library);
    await new Promise((resolve, reject) => {
      library.onload = resolve;
      library.onerror = () => reject(new Error("plotly.js did not load"));
    });
    URL.revokeObjectURL(library.src);
  }

  const loaded = loadPlotly();
  const arrays = unpack(await inflate("arrays"));

  // Small helpers ------------------------------------------------------------------------------------------------
  /** An element; text is always text, never markup. */
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  const clear = (node, ...children) => { node.replaceChildren(...children.flat()); return node; };
  const number = (value, digits = 2) => value === null || value === undefined || !Number.isFinite(value) ? "–" : value.toFixed(digits);
  const percent = (value, digits = 1) => Number.isFinite(value) ? `${value > 0 ? "+" : ""}${(100 * value).toFixed(digits)}%` : "–";
  const short = (value) => !Number.isFinite(value) ? "–" : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  const money = (value) => value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const stamp = (minutes) => new Date(minutes * 60000).toISOString().slice(0, 16).replace("T", " ");
  const narrow = () => window.innerWidth <= 700;
  const colours = new Map();
  const css = (name) => { // Read once a theme: every reading makes the browser compute the styles.
    if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
    return colours.get(name);
  };
  const table = (head, rows, attributes = {}) => el("table", attributes,
    el("thead", {}, el("tr", {}, head.map((cell) => el("th", {}, cell)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
  /** A table of names and values, as wide as they need. */
  const pairs = (rows, attributes = {}) => el("table", { class: "pairs", ...attributes }, el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
  const faded = (colour, share) => `rgba(${[1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16))},${share})`;

  /** The arrays of one segment by their short names. */
  function segmentArrays(name) {
    const own = {};
    for (const key of Object.keys(arrays)) {
      if (key.startsWith(`${name}/`)) Object.defineProperty(own, key.slice(name.length + 1), { get: () => arrays[key] });
    }
    return own;
  }

  // Figures ------------------------------------------------------------------------------------------------------
  const BINS = 900;
  const FONT = getComputedStyle(document.body).fontFamily;

  /** Rows of y in [from, to] that keep its picture: the lowest and the highest of every bin, in order. */
  function thin(y, from, to) {
    const count = to - from + 1, rows = [];
    if (count <= 2 * BINS) { for (let row = from; row <= to; row++) rows.push(row); return rows; }
    for (let bin = 0; bin < BINS; bin++) {
      const first = from + Math.floor(bin * count / BINS), end = from + Math.floor((bin + 1) * count / BINS);
      let low = first, high = first;
      for (let row = first; row < end; row++) { if (y[row] < y[low]) low = row; if (y[row] > y[high]) high = row; }
      if (bin === 0 && low !== from && high !== from) rows.push(from);
      rows.push(Math.min(low, high));
      if (low !== high) rows.push(Math.max(low, high));
    }
    if (rows[rows.length - 1] !== to) rows.push(to);
    return rows;
  }

  const growth = (equity) => Float32Array.from(equity, (value) => value / equity[0]);

  function falls(equity) {
    let peak = -Infinity;
    return Float32Array.from(equity, (value) => { peak = Math.max(peak, value); return value / peak - 1; });
  }

  /** Lines of the page's theme; axes of a figure are named y, y2, ... and share x. */
  function layout(height, axes, extra = {}) {
    const axis = { gridcolor: css("line"), zerolinecolor: css("line"), linecolor: css("line") };
    const found = {
      height, paper_bgcolor: css("paper"), plot_bgcolor: css("paper"), font: { color: css("ink"), size: 12, family: FONT },
      margin: { l: narrow() ? 58 : 78, r: 10, t: narrow() ? 58 : 34, b: 40, autoexpand: false }, hovermode: "x unified", showlegend: true, dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left", font: { size: 12 } },
      hoverlabel: { bgcolor: css("sheet"), bordercolor: css("line"), font: { color: css("ink"), size: 12 } },
      xaxis: { ...axis, showgrid: false }, ...extra,
    };
    for (const [name, own] of Object.entries(axes)) found[`${name[0]}axis${name.slice(1)}`] = { ...axis, ...found[`${name[0]}axis${name.slice(1)}`], ...own };
    return found;
  }

  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

  /** Ticks of an axis whose unit is the bar: [row, text] where a year, month, day or hour begins, at most `most` of them. */
  function ticks(time, from, to, most) {
    const units = [
      [(date) => date.getUTCFullYear(), (date) => String(date.getUTCFullYear())],
      [(date) => date.getUTCFullYear() * 12 + date.getUTCMonth(), (date) => MONTHS[date.getUTCMonth()]],
      [(date) => Math.floor(date / 864e5), (date) => `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`],
      [(date) => Math.floor(date / 36e5), (date) => date.toISOString().slice(11, 16)],
    ];
    const days = [from];
    for (let row = from + 1; row <= to; row++) if (Math.floor(time[row] / 1440) !== Math.floor(time[row - 1] / 1440)) days.push(row);
    let chosen = [], text = null;
    for (const [key, label] of units) {
      const rows = days.length > 3 ? days : Array.from({ length: to - from + 1 }, (_, k) => from + k);
      const dates = rows.map((row) => new Date(time[row] * 60000));
      chosen = rows.filter((row, k) => k > 0 && key(dates[k]) !== key(dates[k - 1]));
      text = label;
      if (chosen.length >= 3) break;
    }
    const step = Math.ceil(chosen.length / most);
    let year = null;
    return chosen.filter((_, k) => k % step === 0).map((row) => {
      const date = new Date(time[row] * 60000), own = date.getUTCFullYear(), label = text(date);
      const below = own === year || label === String(own) ? "" : `<br>${own}`;
      year = own;
      return [row, label + below];
    });
  }

  const config = { responsive: true, displaylogo: false, displayModeBar: false, doubleClick: false };
  const linked = [];

  /**
   * A figure whose horizontal axis counts bars, so that closed hours take no room; `time` says when each began.
   * Its lines are thinned anew for the span that is shown: `build(from, to)` gives the traces.
   */
  function timeFigure(node, time, build, makeLayout) {
    const last = time.length - 1;
    let span = [0, last];
    const draw = () => {
      const made = makeLayout(), marks = ticks(time, ...span, narrow() ? 4 : 9);
      Object.assign(made.xaxis, {
        range: span, tickvals: marks.map(([row]) => row), ticktext: marks.map(([, text]) => text), unifiedhovertitle: { text: "bar %{x}" },
      });
      // Half the distance of two points: a fill of another bar is not shown as this bar's.
      made.hoverdistance = Math.ceil(node.clientWidth / Math.min(span[1] - span[0], 2 * BINS) / 2) + 1;
      return Plotly.react(node, build(...span), made, config);
    };
    const bound = (row) => Math.max(0, Math.min(last, Math.round(row)));
    draw();
    node.removeAllListeners("plotly_relayout");
    node.on("plotly_relayout", (event) => {
      if (event["xaxis.autorange"]) span = [0, last];
      else if (event["xaxis.range[0]"] !== undefined) span = [bound(event["xaxis.range[0]"]), bound(event["xaxis.range[1]"])];
      else return;
      if (span[1] <= span[0]) span = [bound(span[0] - 5), bound(span[0] + 5)];
      draw();
    });
    node.removeAllListeners("plotly_doubleclick");
    node.on("plotly_doubleclick", () => { span = [0, last]; draw(); });
    linked.push(draw);
    return { show: (row, reach) => { span = [bound(row - reach), bound(row + reach)]; draw(); } };
  }

  /** A line over rows of `time`; every point knows its row and its time. */
  const line = (time, y, rows, options) => ({
    type: "scatter", mode: "lines", x: rows, y: rows.map((row) => y[row]), customdata: rows.map((row) => [row, stamp(time[row])]), ...options,
  });

  /** The time as the first line of the hover box; nothing of it is drawn. */
  const clock = (time, y, rows, options = {}) => line(time, y, rows, { showlegend: false, line: { width: 0 }, hovertemplate: "%{customdata[1]} UTC<extra></extra>", ...options });

  // Parts of the page --------------------------------------------------------------------------------------------
  const page = document.getElementById("page");
  const names = Object.keys(content.segments);
  /** The segment whose numbers stand for the result. */
  const judged = content.judged ?? names[0];
  let current = judged;

  function part(title, hint) {
    const body = el("div");
    const section = el("section", {}, title ? el("h2", {}, title) : null, hint ? el("p", { class: "hint" }, hint) : null, body);
    return { section, body };
  }

  function header() {
    const verdict = content.verdict;
    const reasons = verdict
      ? [el("p", {}, el("span", { class: `badge ${verdict.status}`, id: "verdict" }, verdict.status)), el("ul", { id: "reasons" }, verdict.reasons.map((reason) => el("li", {}, reason)))]
      : [el("p", { class: "faint", id: "verdict" }, content.no_verdict)];
    return el("header", {},
      el("h1", {}, content.title),
      el("p", { class: "headline", id: "headline" }, content.headline),
      content.synthetic ? el("p", { class: "synthetic" }, "SYNTHETIC bars: the built-in market. Nothing is shown about a real one.") : null,
      el("div", { class: "card" }, el("div", {}, reasons, content.notes.length ? el("ul", { class: "faint" }, content.notes.map((note) => el("li", {}, note))) : null),
        el("dl", {}, content.card.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
  }

  function segmentBar() {
    const bar = el("div", { class: "bar segments", role: "toolbar", "aria-label": "segment" });
    if (!names.length) return null;
    const paint = () => clear(bar, names.map((name) => el("button", {
      "aria-pressed": String(name === current), "data-segment": name,
      onclick: () => { current = name; paint(); showSegment(); },
    }, name)), el("span", { class: "faint", id: "span" }, spanText(content.segments[current])));
    paint();
    return bar;
  }

  const spanText = (segment) => `${segment.start.slice(0, 10)} to ${segment.end.slice(0, 10)}, ${segment.bars.toLocaleString("en-US")} bars`
    + (segment.ruined ? ", ruined" : "");

  function drawTiles(body) {
    clear(body, el("div", { class: "tiles", id: "tiles" }, content.segments[current].tiles.map((tile) => el("div", { class: "tile", "data-name": tile.name },
      el("span", {}, tile.label), el("b", {}, tile.text),
      el("span", {}, tile.beside)))));
  }

  function drawEquity(body) {
    const own = segmentArrays(current), time = own.time, seeds = content.segments[current].members;
    const [main, fan, single] = content.segments[current].line_names;
    const lines = [[main, growth(own.equity), "policy", 2], ["buy and hold", growth(own.buy_and_hold), "held", 1.6]];
    const members = seeds.map((seed) => [`${single} ${seed}`, growth(own[`member/${seed}`])]);
    const depth = [[main, falls(own.equity), "policy"], ["buy and hold", falls(own.buy_and_hold), "held"]];
    const node = el("div", { class: "figure", id: "equity" });
    let log = false;
    const build = (from, to) => [
      clock(time, lines[0][1], thin(lines[0][1], from, to)),
      ...members.map(([name, y], index) => line(time, y, thin(y, from, to), {
        name: index ? name : fan, legendgroup: "members", showlegend: index === 0, hoverinfo: "skip", line: { color: faded(css("member"), 0.55), width: 1 },
      })),
      ...lines.slice().reverse().map(([name, y, colour, width]) => line(time, y, thin(y, from, to), {
        name, line: { color: css(colour), width, dash: colour === "held" ? "dot" : "solid" }, hovertemplate: "%{y:.3f}",
      })),
      ...depth.slice().reverse().map(([name, y, colour]) => line(time, y, thin(y, from, to), {
        name: `${name}, drawdown`, yaxis: "y2", showlegend: false, line: { color: css(colour), width: 1.2, dash: colour === "held" ? "dot" : "solid" },
        fill: colour === "policy" ? "tozeroy" : "none", fillcolor: faded(css(colour), 0.15), hovertemplate: "%{y:.1%}",
      })),
    ];
    const toggle = el("button", { "aria-pressed": "false", id: "log" }, "log scale");
    const seen = content.segments[current].seen, several = seen.length > 1;
    const other = (index) => index % 2 ? faded(css("faint"), 0.12) : "rgba(0,0,0,0)";
    const shades = { "in-sample": faded(css("faint"), 0.16), selection: faded(css("held"), 0.14), unseen: faded(css("up"), 0.12) };
    const shapes = seen.filter(() => several).map(([label, first, last], index) => ({ type: "rect", xref: "x", yref: "paper", x0: first, x1: last, y0: 0, y1: 1, layer: "below", line: { width: 0 }, fillcolor: shades[label] ?? other(index) }));
    const annotations = seen.filter(() => several).map(([label, first, last]) => ({ text: label, x: (first + last) / 2, y: 1, xref: "x", yref: "paper", yanchor: "top", showarrow: false, font: { size: 11, color: css("faint") } }));
    clear(body, el("div", { class: "bar" }, toggle), node, el("p", { class: "faint" }, drawdownText(content.segments[current].drawdown)));
    const figure = timeFigure(node, time, build, () => layout(narrow() ? 400 : 480, {
      y: { domain: [0.32, 1], type: log ? "log" : "linear", title: { text: "growth of 1" } }, y2: { domain: [0, 0.25], nticks: 4, tickformat: ".2~%", title: { text: "drawdown" } },
      x: { anchor: "y2" },
    }, { shapes, annotations }));
    toggle.addEventListener("click", () => { log = !log; toggle.setAttribute("aria-pressed", String(log)); linked.forEach((draw) => draw()); });
    return figure;
  }

  const drawdownText = (fall) => fall.depth === 0 ? "The policy's equity never fell from a peak."
    : `Largest drawdown of the policy: ${(100 * fall.depth).toFixed(1)} %, from ${fall.peak.slice(0, 10)} to ${fall.trough.slice(0, 10)}, `
      + (fall.recovery ? `recovered by ${fall.recovery.slice(0, 10)}.` : "not recovered by the end.");

  function drawMonths(body) {
    const monthly = content.segments[current].monthly;
    const choices = { policy: "policy", buy_and_hold: "buy and hold", excess: "policy minus buy and hold" };
    let chosen = "policy";
    const bar = el("div", { class: "bar" }), grid = el("div");
    const paint = () => {
      const held = new Map(monthly.buy_and_hold.map(([year, month, value]) => [`${year}-${month}`, value]));
      const values = chosen === "excess" ? monthly.policy.map(([year, month, value]) => [year, month, value - held.get(`${year}-${month}`)]) : monthly[chosen];
      const years = [...new Set(values.map(([year]) => year))];
      const largest = Math.max(1e-9, ...values.map(([, , value]) => Math.abs(value)));
      const cell = (value) => {
        if (value === undefined) return el("td", {}, "");
        const colour = css(value >= 0 ? "policy" : "down");
        return el("td", { style: `background:${faded(colour, 0.06 + 0.5 * Math.abs(value) / largest)}` }, (100 * value).toFixed(1));
      };
      const total = (year) => {
        const own = (rows) => rows.filter((row) => row[0] === year).reduce((product, row) => product * (1 + row[2]), 1) - 1;
        const value = chosen === "excess" ? own(monthly.policy) - own(monthly.buy_and_hold) : own(monthly[chosen]);
        return el("td", {}, (100 * value).toFixed(1));
      };
      const heads = ["", ..."J F M A M J J A S O N D".split(" "), "all"];
      clear(bar, Object.entries(choices).map(([name, label]) => el("button", { "aria-pressed": String(name === chosen), onclick: () => { chosen = name; paint(); } }, label)));
      clear(grid, el("table", { class: "months", id: "months" }, el("thead", {}, el("tr", {}, heads.map((head) => el("th", {}, head)))),
        el("tbody", {}, years.map((year) => {
          const own = new Map(values.filter((row) => row[0] === year).map((row) => [row[1], row[2]]));
          return el("tr", {}, el("th", {}, narrow() ? `’${String(year).slice(2)}` : String(year)), Array.from({ length: 12 }, (_, k) => cell(own.get(k + 1))), total(year));
        }))));
    };
    paint();
    repaint.push(paint);
    clear(body, bar, grid, el("p", { class: "faint" }, `Returns after costs in per cent, months by the clock of ${monthly.timezone}.`));
  }

  function drawRolling(body) {
    const own = segmentArrays(current), rows = own["rolling/row"], bars = content.segments[current].rolling_bars;
    const time = Int32Array.from(rows, (row) => own.time[row]);
    const node = el("div", { class: "figure", id: "rolling" });
    clear(body, el("p", { class: "faint" }, `Each point looks back over ${bars.toLocaleString("en-US")} bars. A Sharpe ratio is not drawn where the returns do not vary.`), node);
    timeFigure(node, time, (from, to) => [
      clock(time, own["rolling/exposure"], thin(own["rolling/exposure"], from, to), { yaxis: "y2" }),
      line(time, own["rolling/buy_and_hold"], thin(own["rolling/buy_and_hold"], from, to), { name: "buy and hold", line: { color: css("held"), width: 1.4, dash: "dot" }, hovertemplate: "%{y:.2f}" }),
      line(time, own["rolling/sharpe"], thin(own["rolling/sharpe"], from, to), { name: "policy", line: { color: css("policy"), width: 1.8 }, hovertemplate: "%{y:.2f}" }),
      line(time, own["rolling/exposure"], thin(own["rolling/exposure"], from, to), { name: "exposure", yaxis: "y2", showlegend: false, line: { color: css("policy"), width: 1 }, fill: "tozeroy", fillcolor: faded(css("policy"), 0.2), hovertemplate: "%{y:.0%}" }),
    ], () => layout(340, { y: { domain: [0.36, 1], title: { text: "Sharpe ratio" } }, y2: { domain: [0, 0.26], nticks: 4, tickformat: ".2~%", rangemode: "tozero", title: { text: "exposure" } }, x: { anchor: "y2" } }));
  }

  function drawPrice(body) {
    const own = segmentArrays(current), time = own.time, fills = own["fills/row"];
    const node = el("div", { class: "figure", id: "price" }), panel = el("div", { class: "inspector", id: "inspector" });
    clear(body, node, panel);
    let shown = fills.length ? own["fills/decided"][0] : 0;
    const marked = () => ({ type: "line", xref: "x", yref: "paper", x0: shown, x1: shown, y0: 0, y1: 1, line: { color: css("accent"), width: 1.5 } });
    const markers = (side, from, to) => {
      const rows = [], prices = [], texts = [], all = [];
      for (let k = 0; k < fills.length; k++) if (own["fills/side"][k] === side && fills[k] >= from && fills[k] <= to) all.push(k);
      const step = Math.max(1, Math.ceil(all.length / BINS));
      for (let k = 0; k < all.length; k += step) {
        const fill = all[k];
        rows.push(fills[fill]); prices.push(own["fills/price"][fill]); texts.push(`${short(own["fills/units"][fill])} at ${money(own["fills/price"][fill])}`);
      }
      return { type: "scatter", mode: "markers", name: (side > 0 ? "buy" : "sell") + (step > 1 ? ` (1 of ${step} shown, zoom in)` : ""), x: rows, y: prices, text: texts, customdata: rows.map((row) => [row, stamp(time[row])]),
        marker: { symbol: side > 0 ? "triangle-up" : "triangle-down", size: 8, color: css(side > 0 ? "up" : "down"), line: { color: css("paper"), width: 0.7 } }, hovertemplate: "%{text}" };
    };
    const figure = timeFigure(node, time, (from, to) => [
      clock(time, own.close, thin(own.close, from, to)),
      line(time, own.close, thin(own.close, from, to), { name: "close", line: { color: css("faint"), width: 1.2 }, hovertemplate: "%{y:,.2f}" }),
      line(time, own.position, thin(own.position, from, to), { name: "position", yaxis: "y2", showlegend: false, line: { color: css("policy"), width: 1, shape: "hv" }, fill: "tozeroy", fillcolor: faded(css("policy"), 0.2), hovertemplate: "%{y:.0%}" }),
      markers(1, from, to), markers(-1, from, to),
    ], () => layout(narrow() ? 380 : 430, { y: { domain: [0.3, 1], title: { text: "price, USD" } }, y2: { domain: [0, 0.22], nticks: 4, tickformat: ".2~%", title: { text: "position" } }, x: { anchor: "y2" } }, { shapes: [marked()] }));
    node.removeAllListeners("plotly_click");
    node.on("plotly_click", (event) => inspect(event.points[0].customdata[0]));
    const inspect = (row) => { shown = row; Plotly.relayout(node, { shapes: [marked()] }); drawInspector(panel, own, row, inspect); };
    inspector = { inspect, show: (row) => { figure.show(row, 130); inspect(row); node.scrollIntoView({ block: "start" }); } };
    drawInspector(panel, own, shown, inspect);
  }

  function drawInspector(panel, own, row, inspect) {
    const size = own.time.length, actions = content.names.actions, action = own.action[row], fills = own["fills/row"], decided = own["fills/decided"];
    const next = (from, step) => { // The decision before the next fill in that direction.
      for (let k = step > 0 ? 0 : fills.length - 1; k >= 0 && k < fills.length; k += step) if ((decided[k] - from) * step > 0) return decided[k];
      return from;
    };
    const button = (label, target) => el("button", { onclick: () => inspect(target), disabled: target === row ? "" : undefined }, label);
    const filled = [];
    for (let k = 0; k < fills.length; k++) if (decided[k] === row) filled.push(`${own["fills/side"][k] > 0 ? "bought" : "sold"} ${short(own["fills/units"][k])} at ${money(own["fills/price"][k])} (${content.names.reasons[own["fills/reason"][k]].replace("_", " ")}), cost ${money(own["fills/cost"][k])} USD`);
    const facts = [
      ["bar", `${stamp(own.time[row])} UTC`], ["close", money(own.close[row])], ["decision", action < 0 ? "none" : actions[action]],
      ["fills before the next close", filled.length ? filled.join("; ") : "none"],
      ["position at this close", Number.isFinite(own.position[row]) ? percent(own.position[row], 0) : "none"], ["equity", `${money(own.equity[row])} USD`],
    ];
    clear(panel, el("div", { class: "bar" }, button("‹ fill", next(row, -1)), button("‹ bar", Math.max(0, row - 1)), button("bar ›", Math.min(size - 1, row + 1)), button("fill ›", next(row, 1)), el("span", { class: "hint" }, "Click a bar in the figure.")),
      el("div", { class: "two" }, el("dl", { id: "facts", "data-row": row }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])), oddsOf(row, size, action, own)),
      columnsOf(row, size));
  }

  /** Position of a row among the observed bars, -1 outside them. */
  function observedAt(row, size) {
    const observed = content.observed;
    return observed.segment === current && row >= size - observed.bars ? row - (size - observed.bars) : -1;
  }

  function oddsOf(row, size, action) {
    const at = observedAt(row, size), odds = arrays["observed/probabilities"];
    if (at < 0 || !odds) return el("p", { class: "faint" }, "");
    const bars = content.observed.bars;
    return el("div", {}, el("div", { class: "odds", id: "odds" }, content.names.actions.flatMap((name, k) => {
      const share = odds[k * bars + at], taken = k === action ? "taken" : "";
      return [el("span", { class: taken }, name), el("span", {}, el("i", { style: `width:${(100 * share).toFixed(1)}%` })), el("span", { class: taken }, `${(100 * share).toFixed(1)} %`)];
    })), el("p", { class: "faint" }, `value ${short(arrays["observed/value"][at])}`));
  }

  function columnsOf(row, size) {
    const at = observedAt(row, size), observed = content.observed;
    if (at < 0) return el("p", { class: "faint", id: "columns" }, `The columns the policy saw are kept for the last ${observed.bars.toLocaleString("en-US")} bars of ${observed.segment}.`);
    const groups = new Map();
    observed.columns.forEach((name, k) => {
      const z = arrays["observed/columns"][k * observed.bars + at], natural = z * observed.std[k] + observed.mean[k];
      const left = Math.min(50, 50 + 16.6 * Math.max(-3, Math.min(3, z))), width = Math.abs(16.6 * Math.max(-3, Math.min(3, z)));
      const cells = el("div", { class: "column" }, el("span", { title: name }, name), el("span", {}, Math.abs(z) >= 10 ? "clipped" : short(natural)), el("span", {}, number(z)), el("div", { class: "z" }, el("i", { style: `left:${left}%;width:${width}%` })));
      if (!groups.has(observed.groups[k])) groups.set(observed.groups[k], []);
      groups.get(observed.groups[k]).push(cells);
    });
    return el("div", { id: "columns" }, el("p", { class: "faint" }, `The ${observed.columns.length} columns at this bar: in natural units; as the policy is given it, in deviations from the training mean; and that from -3 to 3.`),
      el("div", { class: "columns" }, [...groups].map(([name, cells]) => el("section", {}, el("h3", {}, name), cells))));
  }

  function drawTrades(body) {
    const own = segmentArrays(current), size = own["trades/entry"].length, PAGE = 15;
    if (!size) return clear(body, el("p", { class: "faint" }, "No trade in this segment."));
    const at = (name) => (k) => own[`trades/${name}`][k];
    const held = (k) => own["trades/exit"][k] - own["trades/entry"][k];
    const reason = (k) => content.names.reasons[own["trades/reason"][k]];
    const when = (name) => (k) => stamp(own.time[own[`trades/${name}`][k]]);
    const heads = [
      ["entered, UTC", at("entry"), when("entry"), ""], ["left", at("exit"), when("exit"), "wide"], ["side", at("direction"), (k) => own["trades/direction"][k] > 0 ? "long" : "short", ""],
      ["units", at("units"), (k) => short(own["trades/units"][k]), "wide"], ["in, USD", at("entry_price"), (k) => money(own["trades/entry_price"][k]), "wide"], ["out, USD", at("exit_price"), (k) => money(own["trades/exit_price"][k]), "wide"],
      ["costs, USD", at("costs"), (k) => money(own["trades/costs"][k]), "wide"], ["net, USD", at("net"), (k) => money(own["trades/net"][k]), ""], ["bars", held, (k) => String(held(k)), ""], ["ended by", at("reason"), (k) => reason(k).replace("_", " "), "wide"],
    ];
    let order = Array.from({ length: size }, (_, k) => k), by = 0, down = false, first = 0;
    const grid = el("div"), bar = el("div", { class: "bar" });
    const paint = () => {
      const pages = Math.ceil(size / PAGE), row = (k) => el("tr", { class: "go", title: "show in the price figure", onclick: () => inspector.show(own["trades/decided"][k]) }, heads.map(([, , text, wide]) => el("td", { class: wide }, text(k))));
      clear(grid, el("table", { id: "trades" }, el("thead", {}, el("tr", {}, heads.map(([name, , , wide], k) => el("th", { class: `sort ${wide}`, onclick: () => { down = by === k ? !down : false; by = k; sort(); } }, name + (by === k ? (down ? " ↓" : " ↑") : ""))))),
        el("tbody", {}, order.slice(first, first + PAGE).map(row))));
      clear(bar, el("button", { disabled: first === 0 ? "" : undefined, onclick: () => { first -= PAGE; paint(); } }, "‹"), el("span", { class: "faint" }, `page ${first / PAGE + 1} of ${pages}, ${size.toLocaleString("en-US")} trades`), el("button", { disabled: first + PAGE >= size ? "" : undefined, onclick: () => { first += PAGE; paint(); } }, "›"), el("button", { id: "csv", onclick: download }, "download CSV"));
    };
    const sort = () => { const key = heads[by][1]; order.sort((a, b) => (key(a) - key(b)) * (down ? -1 : 1) || a - b); first = 0; paint(); };
    const download = () => {
      const columns = { entry_time: when("entry"), exit_time: when("exit"), direction: heads[2][2], units: at("units"), entry_price: at("entry_price"), exit_price: at("exit_price"), gross: at("gross"), costs: at("costs"), net: at("net"), bars_held: held, reason };
      const text = [Object.keys(columns).join(","), ...Array.from({ length: size }, (_, k) => Object.values(columns).map((cell) => cell(k)).join(","))].join("\n");
      const link = el("a", { href: URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" })), download: `${content.symbol.replace(/[^\w.-]/g, "")}_${current}_trades.csv` });
      link.click();
    };
    paint();
    clear(body, grid, bar);
  }

  function drawTable(body) {
    const own = content.segments[current], heads = Object.keys(own.metrics).map((name) => name.replaceAll("_", " "));
    const parts = Object.entries(content.parts).map(([name, columns]) => [el("h3", {}, `${name} bars only`), table(["", ...heads], columns.table)]);
    const quiet = own.quiet;
    clear(body, table(["", ...heads], own.table, { id: "metrics" }), ...parts.flat(), el("p", { class: "faint" }, `Longest stretch without a fill: ${quiet.bars.toLocaleString("en-US")} bars, ${quiet.start.slice(0, 10)} to ${quiet.end.slice(0, 10)}.`));
  }

  const GROUPS = { by_direction: "direction", by_reason: "ended by", by_weekday: "entered on", by_hour: "entered in the hour" };

  /** The two accounts: they count different things and are never mixed. */
  function drawAccounts(body) {
    const { bar_account: bars, trade_accounts: trades } = content.segments[current];
    const share = (value, digits = 1) => percent(value, digits).replace("+", ""), usd = (value) => value === null ? "–" : money(value);
    const rows = [
      ["return", percent(bars.total_return)], ["return a year", percent(bars.annual_return)], ["volatility a year", share(bars.volatility)],
      ["Sharpe ratio, of bars", number(bars.sharpe)], ["Sharpe ratio, of days", number(bars.sharpe_daily)], ["Sortino ratio", number(bars.sortino)], ["Calmar ratio", number(bars.calmar)],
      ["turnover a year, times equity", number(bars.turnover, 1)], ["fees, USD", usd(bars.fees)], ["slippage, USD", usd(bars.slippage)], ["break-even costs a side", bars.break_even_bp === null ? "–" : `${number(bars.break_even_bp, 1)} bp`],
    ];
    const cells = (name, own) => [name, own.num_trades.toLocaleString("en-US"), usd(own.net), share(own.win_rate), number(own.payoff), number(own.profit_factor), usd(own.expectancy), number(own.bars_held, 0), share(own.mae, 2), share(own.mfe, 2)];
    const heads = ["", "trades", "net, USD", "wins", "payoff", "profit factor", "a trade, USD", "bars held", "MAE", "MFE"];
    const groups = (...keys) => keys.flatMap((key) => Object.entries(trades[key]).map(([name, own]) => cells(`${GROUPS[key]} ${name.replace("_", " ")}`, own)));
    const wide = [4, 6, 8, 9];
    const grid = (lines, id) => el("table", { id }, el("thead", {}, el("tr", {}, heads.map((head, k) => el("th", { class: wide.includes(k) ? "wide" : "" }, head)))),
      el("tbody", {}, lines.map((row) => el("tr", {}, row.map((cell, k) => el("td", { class: wide.includes(k) ? "wide" : "" }, cell))))));
    clear(body, el("h3", {}, "From close to close"), pairs(rows, { id: "bar-account" }), el("h3", {}, "By closed trades"),
      grid([cells("all closed trades", trades.total), ...groups("by_direction", "by_reason")], "trade-account"),
      el("details", {}, el("summary", {}, "by weekday and hour"), grid(groups("by_weekday", "by_hour"), "trade-times")),
      el("p", { class: "faint" }, "Payoff: mean win over mean loss. MAE, MFE: mean of the worst and the best price while a trade was held, against its entry price. Hours and weekdays by the exchange's clock."));
  }

  function drawLuck(body) {
    const { luck, random } = content, own = content.segments[judged].metrics, node = el("div", { class: "figure", id: "random" });
    const rows = [["return of the policy", percent(own.policy.total_return)], ["return of buying and holding", percent(own.buy_and_hold.total_return)],
      [`the same positions at random times, median of ${random.total_returns.length} draws`, percent(random.percentiles[50])], ["5th to 95th percentile of these draws", `${percent(random.percentiles[5])} to ${percent(random.percentiles[95])}`]];
    if (luck) rows.push(
      ["probability that the true Sharpe ratio is above 0", number(luck.probabilistic_sharpe)],
      [`probability that it is above the luckiest of ${luck.num_trials} ${luck.num_trials === 1 ? "run" : "runs"} (deflated Sharpe ratio)`, number(luck.deflated_sharpe)],
      ["Sharpe ratio the luckiest of them is expected to show", number(luck.expected_maximum)],
      ["bars it takes to say with 95 % confidence that it is above 0", luck.minimum_track_record === null ? "–" : Math.ceil(luck.minimum_track_record).toLocaleString("en-US")]);
    if (luck?.sharpe_interval) rows.push(
      ["90 % interval of the Sharpe ratio (block bootstrap)", `${number(luck.sharpe_interval.low)} to ${number(luck.sharpe_interval.high)}`],
      ["90 % interval of the return", `${percent(luck.total_return_interval.low)} to ${percent(luck.total_return_interval.high)}`]);
    clear(body, node, pairs(rows, { id: "luck" }));
    const draw = () => {
      const bars = { type: "histogram", name: "at random times", x: random.total_returns, nbinsx: 30, marker: { color: faded(css("faint"), 0.6) }, hovertemplate: "%{y} draws" };
      const mark = { type: "scatter", mode: "lines", name: "policy", x: [own.policy.total_return, own.policy.total_return], y: [0, 1], yaxis: "y2", line: { color: css("policy"), width: 2 }, hovertemplate: "%{x:+.1%}" };
      Plotly.react(node, [bars, mark], layout(narrow() ? 270 : 240, { x: { tickformat: "+.2~%", nticks: 6, title: { text: "return" } }, y: { title: { text: "draws" } }, y2: { overlaying: "y", range: [0, 1], visible: false } }, { hovermode: "closest", hoverdistance: 20, bargap: 0.05 }), config);
    };
    draw();
    staying.push(draw);
  }

  function drawMembers(body) {
    const rows = content.members.map((member) => {
      const own = member.segments[current];
      return [`seed ${member.seed}`, member.best_update ?? "–", own.total_return, own.sharpe, own.max_drawdown, own.num_trades];
    });
    clear(body, table(["", "best update", "return", "Sharpe ratio", "drawdown", "trades"], rows.map((row) => row.map(String)), { id: "members", class: "firm" }));
  }

  function drawTraining(body) {
    const training = content.training;
    if (!training) return clear(body, el("p", { class: "faint" }, "A backtest has no training curves; its run has."));
    const ringing = training.alarms.filter((alarm) => alarm.end === null), ended = training.alarms.filter((alarm) => alarm.end !== null);
    const alike = [...new Set(ringing.map((alarm) => alarm.name))].map((name) => ringing.filter((alarm) => alarm.name === name));
    const alarms = alike.map((some) => el("div", { class: "alarm" }, el("b", {}, some[0].name), some.map((alarm) => el("p", {}, `Seed ${alarm.seed}: ${alarm.sentence}`)), el("p", { class: "faint" }, `Likely: ${some[0].cause} Try: ${some[0].remedy}`)));
    alarms.push(...ended.map((alarm) => el("p", { class: "faint ended" }, `Ended: ${alarm.name}, seed ${alarm.seed}, updates ${alarm.begin} to ${alarm.end}. ${alarm.sentence}`)));
    if (!alarms.length) alarms.push(el("p", { class: "faint", id: "alarms" }, "No alarm rang."));
    const node = el("div", { class: "figure", id: "training" });
    clear(body, ...alarms, el("p", { class: "faint" }, "The horizontal axes count updates."), node);
    const panels = training.panels.filter((panel) => panel.lines.length), across = narrow() ? 1 : 2, down = Math.ceil(panels.length / across), palette = ["policy", "held", "up", "accent", "down"];
    const draw = () => {
      const traces = [], axes = {}, titles = [];
      panels.forEach((panel, k) => {
        const id = k ? String(k + 1) : "", column = k % across, row = Math.floor(k / across);
        const x = [column / across + (column ? 0.045 : 0), (column + 1) / across - (column < across - 1 ? 0.045 : 0)], y = [1 - (row + 0.84) / down, 1 - (row + 0.16) / down];
        axes[`x${id}`] = { domain: x, anchor: `y${id}`, type: "linear", nticks: 6, showgrid: false };
        axes[`y${id}`] = { domain: y, anchor: `x${id}`, nticks: 5, tickformat: panel.share ? ".2~%" : undefined };
        titles.push({ text: panel.title, x: x[0], y: y[1], xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12, color: css("faint") } });
        panel.lines.forEach((own, index) => traces.push({ type: "scatter", mode: own.update.length > 40 ? "lines" : "lines+markers", name: `seed ${own.seed}`, legendgroup: String(own.seed), showlegend: k === 0 && panel.lines.length > 1, x: own.update, y: own.value, xaxis: `x${id}`, yaxis: `y${id}`, line: { color: css(palette[index % palette.length]), width: 1.3 }, marker: { size: 4 }, hovertemplate: panel.share ? "update %{x}: %{y:.1%}" : "update %{x}: %{y:.4g}" }));
      });
      return Plotly.react(node, traces, layout(150 * down + 30, axes, { annotations: titles, hovermode: "closest" }), config);
    };
    draw();
    staying.push(draw);
  }

  function drawCosts(body) {
    const sweep = content.cost_sweep, node = el("div", { class: "figure", id: "costs" }), own = sweep.own.basis_points;
    const labels = { next_open: "fills at the next open", close: "fills at the same close" };
    clear(body, node, el("p", { class: "faint" }, `The line marks the costs of this result, ${own} bp a side, ${labels[sweep.own.fill]}.`));
    const draw = () => {
      const traces = Object.entries(sweep.total_return).map(([fill, y]) => ({ type: "scatter", mode: "lines+markers", name: labels[fill], x: sweep.basis_points, y, line: { color: css(fill === sweep.own.fill ? "policy" : "faint"), dash: fill === sweep.own.fill ? "solid" : "dot" }, hovertemplate: "%{y:.1%}" }));
      const mark = { type: "line", xref: "x", yref: "paper", x0: own, x1: own, y0: 0, y1: 1, line: { color: css("held"), width: 1.5, dash: "dash" } };
      Plotly.react(node, traces, layout(300, { x: { type: "linear", title: { text: "costs a side, basis points" }, unifiedhovertitle: { text: "%{x} bp" } }, y: { tickformat: ".2~%", title: { text: "return" } } }, { shapes: [mark] }), config);
    };
    draw();
    staying.push(draw);
  }

  function drawFolds(body) {
    const symbols = Object.keys(content.folds), node = el("div", { class: "figure", id: "folds" }), bar = el("div", { class: "bar" }), grid = el("div");
    let symbol = symbols[0];
    const label = (fold) => `${fold.name}<br>${fold.start.slice(0, 7)}`;
    const keys = [["in_sample", "in-sample", "faint"], ["out_of_sample", "out of sample", "policy"], ["buy_and_hold", "buy and hold", "held"]];
    const draw = () => {
      const folds = content.folds[symbol];
      const bars = keys.map(([key, name, colour]) => ({ type: "bar", name, x: folds.map(label), y: folds.map((fold) => fold[key].total_return), marker: { color: css(colour) }, hovertemplate: "%{y:.1%}" }));
      const dots = { type: "scatter", mode: "markers", name: "members", x: folds.flatMap((fold) => fold.members.map(() => label(fold))), y: folds.flatMap((fold) => fold.members), marker: { color: css("ink"), size: 9, symbol: "line-ew-open", line: { width: 2 } }, hovertemplate: "%{y:.1%}" };
      Plotly.react(node, [...bars, dots], layout(300, { x: { type: "category" }, y: { tickformat: ".2~%", title: { text: "return" } } }, { bargap: 0.3 }), config);
    };
    const paint = () => {
      if (symbols.length > 1) clear(bar, symbols.map((name) => el("button", { "aria-pressed": String(name === symbol), onclick: () => { symbol = name; paint(); draw(); } }, name)));
      const rows = content.folds[symbol].map((fold) => [fold.start.slice(0, 10), percent(fold.in_sample.total_return), percent(fold.out_of_sample.total_return), percent(fold.buy_and_hold.total_return), number(fold.in_sample.sharpe), number(fold.out_of_sample.sharpe), String(fold.out_of_sample.num_trades)]);
      clear(grid, table(["test from", "in-sample", "out of sample", "held", "Sharpe in", "Sharpe out", "trades"], rows, { id: "fold-table", class: "firm" }));
    };
    clear(body, bar, node, grid, el("p", { class: "faint" }, "The page of one fold, with its trades and decisions: python -m jtf.report and the fold's run directory, which report.json names."));
    paint();
    draw();
    staying.push(draw);
  }

  /** Every path's Sharpe ratio in order of size: the distribution that stands for one number. */
  function drawPaths(body) {
    const { sharpe, buy_and_hold: held, rows } = content.paths, node = el("div", { class: "figure", id: "paths" });
    clear(body, node, pairs(rows, { id: "path-table" }));
    const draw = () => {
      const names = sharpe.map(([name]) => `path ${name}`);
      const bars = { type: "bar", name: "path", x: names, y: sharpe.map(([, value]) => value), marker: { color: css("policy") }, hovertemplate: "%{y:.2f}" };
      const line = { type: "scatter", mode: "lines", name: "buy and hold", x: names, y: names.map(() => held), line: { color: css("held"), width: 2, dash: "dot" }, hovertemplate: "%{y:.2f}" };
      Plotly.react(node, [bars, line], layout(narrow() ? 280 : 260, { x: { type: "category" }, y: { title: { text: "Sharpe ratio" } } }, { bargap: 0.4 }), config);
    };
    draw();
    staying.push(draw);
  }

  function drawSymbols(body) {
    const heads = ["symbol", "median", "folds", "members", "Sharpe", "deflated", "verdict"], wide = [3, 5];
    const row = (own) => [own.symbol, own.median, own.folds, own.members, own.sharpe, own.deflated_sharpe, el("b", { class: own.verdict.status }, own.verdict.status)];
    const cell = (tag) => (content, k) => el(tag, { class: wide.includes(k) ? "wide" : "" }, content);
    clear(body, el("table", { id: "symbols" }, el("thead", {}, el("tr", {}, heads.map(cell("th")))), el("tbody", {}, content.symbols.map((own) => el("tr", {}, row(own).map(cell("td")))))),
      el("h3", {}, "Beside the baselines, medians of the folds"),
      table(["symbol", ...Object.keys(content.symbols[0].baselines)], content.symbols.map((own) => [own.symbol, ...Object.values(own.baselines)]), { id: "baselines", class: "firm" }),
      el("p", { class: "faint" }, "random: the same positions at random times, median of the draws and their 95th percentile. cross: moving averages. foresight: a trader who knows every price."),
      ...content.symbols.map((own) => el("details", {}, el("summary", {}, `${own.symbol} (${own.asset_class.replace("_", " ")}): why ${own.verdict.status}, and its bars`), el("ul", {}, own.verdict.reasons.map((reason) => el("li", {}, reason))), pairs(own.card))));
  }

  function drawData(body) {
    const data = content.data;
    const gaps = data.gaps.length ? [el("h3", {}, "longest holes"), table(["first missing bar, UTC", "last", "bars"], data.gaps.map(([first, last, bars]) => [first.slice(0, 16).replace("T", " "), last.slice(0, 16).replace("T", " "), String(bars)]), { class: "pairs" })] : [];
    const sessions = data.missing_sessions.length ? [el("h3", {}, "sessions without a bar"), el("p", {}, data.missing_sessions.join(", "))] : [];
    clear(body, pairs(data.rows, { id: "data" }), ...gaps, ...sessions);
  }

  // The whole page -----------------------------------------------------------------------------------------------
  let inspector = null;
  const repaint = [], staying = [];
  /** Every part by its name: title, hint, what draws it, and whether it stays as it is when another segment is chosen. */
  const PARTS = {
    tiles: ["", "", drawTiles],
    symbols: ["Symbols", "Returns after costs of the test bars of the folds, in per cent.", drawSymbols, true],
    equity: ["Equity and drawdown", "After costs. Drag to zoom, double-click to zoom out.", drawEquity],
    months: ["Months", "", drawMonths],
    folds: ["Folds", "Each fold was trained on bars before those it is tested on.", drawFolds, true],
    rolling: ["Rolling Sharpe ratio and exposure", "", drawRolling],
    price: ["Price, fills and decisions", "Click a bar, or a row of the trades below, to see what the policy saw and did there.", drawPrice],
    trades: ["Trades", "", drawTrades],
    metrics: ["Every metric beside the baselines", "Same bars, fills and costs.", drawTable],
    accounts: ["Two accounts", "Equity counts every bar, trades count when they are closed. The two are never mixed.", drawAccounts],
    members: ["Members alone", "The policy above is their ensemble.", drawMembers],
    paths: ["Distribution of the paths", "Each path tests every bar once, with fits that had not seen it.", drawPaths, true],
    costs: ["Costs", `What the same policy makes on ${judged} at other costs.`, drawCosts, true],
    luck: ["Luck", `What chance alone may do on ${judged}.`, drawLuck, true],
    training: ["Training", "", drawTraining, true],
    bars: ["Data quality", "Of all bars that were read.", drawData, true],
  };
  /** Parts that plotly.js draws. */
  const FIGURES = ["equity", "folds", "rolling", "price", "paths", "costs", "luck", "training"];
  const shown = content.shows.map((name) => { const [title, hint, draw, fixed] = PARTS[name]; return { ...part(title, hint), draw, fixed, figure: FIGURES.includes(name) }; });

  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const drawn = new Set();
  let turn = 0;

  /** Draw part after part, figures last, and let the browser show each before the next; a newer call ends an older one. */
  async function drawAll(some) {
    const own = ++turn;
    for (const { body, draw, figure } of [...some.filter((one) => !one.figure), ...some.filter((one) => one.figure)]) {
      if (figure) await loaded;
      if (own !== turn) return;
      draw(body);
      drawn.add(draw);
      document.documentElement.dataset.first ??= String(Math.round(performance.now() - started));
      await pause();
    }
    document.documentElement.dataset.ready = String(Math.round(performance.now() - started));
  }

  function showSegment() {
    linked.length = 0;
    repaint.length = 0;
    delete document.documentElement.dataset.ready;
    return drawAll(shown.filter(({ draw, fixed }) => !fixed || !drawn.has(draw)));
  }

  const bar = segmentBar();
  const policy = content.derived ? ` Policy ${content.derived.params_sha256}.` : "";
  page.append(header(), ...(bar ? [bar] : []), ...shown.map(({ section }) => section),
    el("footer", {}, `${content.format}.${policy} Every number stands in report.json; what it was computed from lies beside it.`));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours.clear(); [...linked, ...repaint, ...staying].forEach((draw) => draw()); });
  await showSegment();
})().catch((error) => {
  document.getElementById("page").append(`The page could not be drawn: ${error.message}`);
  throw error;
});
