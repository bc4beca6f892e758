/* Draws the charts of the report from the JSON block beside it. Names of models reach the page as text only: tooltips
   are built from text nodes, never from markup. */
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  /* A draft has one colour in every chart; the target is ink or grey. Parts of a step and categories have their own. */
  const DRAFTS = {
    light: ["#0b62a4", "#b8500b", "#2a7f3e", "#c2385b", "#937a00", "#0f8b8d", "#7a4b2a", "#5f7a00"],
    dark: ["#6db3f2", "#f0a067", "#74c98a", "#f28aa5", "#dcc24a", "#5fcfd0", "#c9a27e", "#b5cc5a"],
  };
  const PARTS = {
    light: { drafting: "#54278f", verifying: "#8f87c4", "re-evaluating": "#cfcbe6", "beyond the parts": "#c98bb0", "whole step": "#8f87c4" },
    dark: { drafting: "#d5d1f0", verifying: "#9188d0", "re-evaluating": "#5b4b9a", "beyond the parts": "#a0628a", "whole step": "#9188d0" },
  };
  const CATEGORIES = {
    light: ["#8e3fa8", "#5b6f8f", "#a8577e", "#6f7d1f", "#4d8fa6", "#a3763a", "#2f7f6f"],
    dark: ["#cf93e0", "#a3b4cf", "#e0a0bf", "#bcc76f", "#8fcbe0", "#dcb37a", "#7fd0bf"],
  };
  const SYMBOLS = ["triangle", "rect", "diamond", "circle"];
  const BASE_HEIGHT_PX = 352, LEGEND_ROW_PX = 22, PAPER_WIDTH_PX = 680;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paper = window.matchMedia("print");
  const charts = new Map();
  const heights = new Map();
  let isPrinting = false;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const fixed = (digits) => (value) => Number(value).toFixed(digits);
  const times = (value) => `${fixed(2)(value)}x`;
  const percent = (value) => `${Math.round(100 * value)} %`;
  const finely = (value) => `${fixed(1)(100 * value)} %`;
  const milliseconds = (value) => `${fixed(1)(value)} ms`;
  const interval = (low, high) => `[${fixed(2)(low)}, ${fixed(2)(high)}]`;
  const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const setting = (one) => (one.p_min ? `k = ${one.k}, p_min = ${one.p_min}` : `k = ${one.k}`);
  const isNarrow = () => window.innerWidth < 600 && !isPrinting;

  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = "12px system-ui, sans-serif";
  const widthOf = (text) => ruler.measureText(text).width;
  const fitting = (text, width) => {
    let length = Math.min(text.length, 200);
    while (length > 1 && widthOf(text.slice(0, length)) > width) length -= 1;
    return length;
  };
  const oneLine = (text, width) => (widthOf(text) <= width ? text : `${text.slice(0, fitting(text, width - widthOf("…")))}…`);
  const twoLines = (text, width) => {
    if (widthOf(text) <= width) return text;
    const most = fitting(text, width), pause = Math.max(...[" ", "-", "_", "/"].map((mark) => text.lastIndexOf(mark, most - 1)));
    const at = pause >= most / 2 ? pause + 1 : most;
    return `${text.slice(0, at)}\n${oneLine(text.slice(at).trim(), width)}`;
  };

  /* Axis ends on round numbers, so that no two labels meet. */
  const roundAxis = (low, high, parts = 5) => {
    const rough = Math.max(1e-9, high - low) / parts, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find((one) => one * power >= rough * 0.999);
    return { min: Number((Math.floor(low / step + 1e-9) * step).toPrecision(9)),
      max: Number((Math.ceil(high / step - 1e-9) * step).toPrecision(9)), interval: step };
  };

  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const mixed = (from, to, share) => channels(from).map((value, i) => value + share * (channels(to)[i] - value));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const readableOn = (rgb) => (1.05 / (luminance(rgb) + 0.05) > (luminance(rgb) + 0.05) / 0.06 ? "#ffffff" : "#111111");

  const tip = (lines) => {
    const box = document.createElement("div");
    box.className = "tip";
    lines.filter(Boolean).forEach((line, index) => {
      const row = document.createElement(index ? "div" : "b");
      row.textContent = line;
      box.appendChild(row);
      if (!index) box.appendChild(document.createElement("br"));
    });
    return box;
  };
  /* One tooltip for all lines at a place: easier to hit than a point. */
  const alongAxis = (style, heading, lines) => ({
    ...style.tooltip, trigger: "axis", axisPointer: { type: "line", snap: true, lineStyle: { color: style.line }, label: { show: false } },
    formatter: (found) => {
      const named = found.filter(({ data: one }) => one && one.point);
      return named.length ? tip([heading(named[0].data.point), ...named.flatMap((one) => lines(one.seriesName, one.data))]) : "";
    },
  });

  const look = (width) => {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line"), scheme = dark.matches && !isPrinting && !paper.matches ? "dark" : "light";
    const axis = (name, extra) => ({
      name, nameLocation: "middle", nameGap: 30, nameTextStyle: { color: soft },
      axisLabel: { color: soft, hideOverlap: true }, axisLine: { lineStyle: { color: line } },
      splitLine: { lineStyle: { color: line, opacity: 0.5 } }, ...extra,
    });
    const upright = (name, extra) => axis(name, { nameLocation: "end", nameGap: 14, nameTextStyle: { color: soft, align: "left" }, ...extra });
    const rows = (names) => {
      const most = isNarrow() ? 110 : 260, space = Math.min(most, Math.max(...names.map(widthOf)) + 6);
      return { type: "category", inverse: true, data: names, axisLine: { lineStyle: { color: line } }, axisTick: { show: false },
        axisLabel: { color: ink, interval: 0, width: space, lineHeight: 14, formatter: (name) => twoLines(name, space) } };
    };
    /* Every entry is listed, on as many lines as that takes: ``rows`` of them. On paper nothing can be switched on. */
    const legend = (names, selected = {}) => {
      const listed = isPrinting ? names.filter((name) => selected[name] !== false) : names;
      const most = Math.min(320, width - 60), lengths = listed.map((name) => 40 + Math.min(most, widthOf(name)));
      let count = 1, used = 0;
      for (const length of lengths) { if (used && used + length > width - 10) { count += 1; used = 0; } used += length; }
      return { rows: count, option: { type: "plain", bottom: 0, itemGap: 10, itemWidth: 22, inactiveColor: soft, inactiveBorderColor: line, selected,
        data: listed, formatter: (name) => oneLine(name, most), textStyle: { color: ink, fontSize: 12 } } };
    };
    const grid = (extra) => ({ left: 12, right: 20, top: 36, bottom: 40, containLabel: true, ...extra });
    const colours = DRAFTS[scheme];
    return { ink, soft, line, width, axis, upright, rows, legend, grid, parts: PARTS[scheme], categories: CATEGORIES[scheme],
      draft: (rank) => (rank === null ? ink : colours[rank % colours.length]),
      tooltip: { confine: true, backgroundColor: css("--panel"), borderColor: line, textStyle: { color: ink }, trigger: "item" } };
  };
  const withLegend = (style, { rows, option }, grid) => ({
    legend: option, extraHeight: (rows - 1) * LEGEND_ROW_PX, grid: style.grid({ bottom: 40 + rows * LEGEND_ROW_PX, ...grid }),
  });

  const evenLine = (style, extra) => ({
    silent: true, symbol: "none", lineStyle: { color: style.soft, type: "dashed" },
    label: { color: style.soft, formatter: "1.00x", position: "end" }, data: [{ yAxis: 1 }], ...extra,
  });
  const BESIDE_PX = [0, -5, 5, -9, 9, -13, 13, -17];
  const whisker = (colour, shift) => (_params, api) => {
    const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]), x = low[0] + shift;
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth: 1.2, opacity: 0.55 } });
    return { type: "group", children: [line(x, low[1], x, high[1]), line(x - 3, low[1], x + 3, low[1]), line(x - 3, high[1], x + 3, high[1])] };
  };
  const whiskers = (name, colour, index, points) => ({
    type: "custom", name, silent: true, clip: true, tooltip: { show: false }, color: colour, z: 1,
    renderItem: whisker(colour, BESIDE_PX[index % BESIDE_PX.length]), encode: { x: 0, y: [1, 2] }, data: points,
  });
  const shownAtFirst = (chart) => Object.fromEntries(chart.drafts.map((draft, index) => [draft.label, index < chart.shown]));

  const drawings = {
    heat(chart, style) {
      const cells = chart.cells.filter((cell) => cell.speedup !== null), crosses = chart.cells.filter((cell) => cell.speedup === null);
      const most = Math.max(0.1, ...cells.map((cell) => Math.abs(Math.log(cell.speedup))));
      const [loss, even, gain] = ["--loss", "--even", "--gain"].map(css);
      const onCell = (log) => readableOn(mixed(even, log < 0 ? loss : gain, Math.abs(log) / most));
      const yAxis = style.rows(chart.drafts), cellWidth = (style.width - yAxis.axisLabel.width - 40) / chart.quants.length;
      const shown = (speedup) => (cellWidth > 44 ? times(speedup) : fixed(1)(speedup));
      const band = ({ coordSys }, api) => {
        const height = 0.86 * api.size([0, 1])[1], y = api.coord([0, api.value(1)])[1] - height / 2;
        return { type: "group", children: [
          { type: "rect", shape: { x: coordSys.x, y, width: coordSys.width, height }, style: { fill: style.line, opacity: 0.45 } },
          { type: "text", style: { text: chart.refused[api.value(2)].reason, x: coordSys.x + coordSys.width / 2, y: y + height / 2, fill: style.ink, align: "center", verticalAlign: "middle", fontSize: 12 } }] };
      };
      return {
        tooltip: { ...style.tooltip, formatter: ({ data: { cell } }) => tip(cell.speedup ? [cell.label,
          `${times(cell.speedup)} ${interval(cell.low, cell.high)}`, `${setting(cell)}, ${cell.evidence}`, cell.detail] : [cell.label, cell.reason, cell.detail]) },
        legend: { show: false },
        grid: style.grid({ bottom: 56, top: 10 }),
        xAxis: { type: "category", data: chart.quants, axisTick: { show: false }, axisLine: { lineStyle: { color: style.line } },
          axisLabel: { color: style.soft, interval: 0, rotate: cellWidth < 50 ? 90 : 0, formatter: (name) => oneLine(name, cellWidth < 50 ? 60 : cellWidth - 6) } },
        yAxis,
        visualMap: { seriesIndex: 0, min: -most, max: most, calculable: false, orient: "horizontal", left: "center", bottom: 0,
          textStyle: { color: style.soft }, text: [times(Math.exp(most)), times(Math.exp(-most))], inRange: { color: [loss, even, gain] } },
        series: [
          { type: "heatmap", name: "speedup", itemStyle: { borderColor: css("--paper"), borderWidth: 2 },
            label: { show: cellWidth > 24, fontWeight: "bold", fontSize: cellWidth > 44 ? 12 : 10, formatter: ({ data: { cell } }) => shown(cell.speedup) },
            data: cells.map((cell) => ({ value: [cell.x, cell.y, Math.log(cell.speedup)], cell, label: { color: onCell(Math.log(cell.speedup)) } })) },
          { type: "scatter", name: "rejected", symbol: "path://M0 0L10 10M10 0L0 10", symbolSize: 14,
            itemStyle: { color: "transparent", borderColor: style.soft, borderWidth: 1.5 }, data: crosses.map((cell) => ({ value: [cell.x, cell.y], cell })) },
          { type: "custom", name: "refused", renderItem: band, encode: { x: 0, y: 1 },
            data: chart.refused.map((cell, index) => ({ value: [0, cell.y, index], cell })) },
        ],
      };
    },

    lengths(chart, style) {
      const points = chart.drafts.flatMap((draft) => draft.points), ends = [chart.ks[0] - 0.5, chart.ks[chart.ks.length - 1] + 0.5];
      return {
        ...withLegend(style, style.legend(chart.drafts.map((draft) => draft.label), shownAtFirst(chart)), { right: 48 }),
        tooltip: alongAxis(style, (point) => `k = ${point.k}`, (name, { point }) => [
          `${name}: ${times(point.speedup)} ${interval(point.low, point.high)}`,
          `${percent(point.acceptance_rate)} accepted, ${fixed(2)(point.tokens_per_step)} tokens a step, ${point.evidence}`]),
        xAxis: { type: "value", min: ends[0], max: ends[1], ...style.axis("draft length k"), splitLine: { show: false },
          axisTick: { customValues: chart.ks }, axisLabel: { color: style.soft, hideOverlap: true, customValues: chart.ks } },
        yAxis: { type: "value", ...roundAxis(Math.min(1, ...points.map((point) => point.low)), Math.max(1, ...points.map((point) => point.high))), ...style.upright("speedup") },
        series: chart.drafts.flatMap((draft, index) => {
          const colour = style.draft(draft.colour);
          return [
            { type: "line", name: draft.label, symbol: "circle", color: colour, lineStyle: { width: index ? 1.5 : 3 },
              data: draft.points.map((point) => ({ value: [point.k, point.speedup], point, symbolSize: point.k === draft.best_k ? 13 : 6 })),
              markLine: index ? undefined : evenLine(style) },
            whiskers(draft.label, colour, index, draft.points.map((point) => [point.k, point.low, point.high])),
          ];
        }),
      };
    },

    acceptance(chart, style) {
      const highest = Math.max(1.2, ...chart.drafts.flatMap((draft) => draft.curve.map((point) => point.speedup)));
      const lines = chart.drafts.map((draft, index) => ({
        type: "line", name: draft.label, symbol: "circle", symbolSize: 4, color: style.draft(draft.colour), lineStyle: { width: index ? 1.5 : 3 },
        data: draft.curve.map((point) => ({ value: [100 * point.agreement, point.speedup], point, what: "moved there" })),
        markLine: index ? undefined : evenLine(style),
      }));
      const marks = chart.drafts.map((draft) => ({
        type: "scatter", name: draft.label, color: style.draft(draft.colour), z: 5,
        data: [
          { value: [100 * draft.agreement, draft.speedup], symbolSize: 14, what: "as it stands",
            point: { agreement: draft.agreement, acceptance_rate: draft.acceptance_rate, speedup: draft.speedup } },
          ...(draft.break_even === null ? [] : [{ value: [100 * draft.break_even, 1], symbol: "diamond", symbolSize: 15, what: "break-even",
            itemStyle: { color: css("--paper"), borderColor: style.draft(draft.colour), borderWidth: 2 },
            point: { agreement: draft.break_even, acceptance_rate: draft.break_even_rate, speedup: 1 } }]),
        ],
      }));
      const formula = { type: "line", name: chart.textbook_label, color: style.soft, symbol: "none", lineStyle: { type: "dotted", width: 2 },
        data: chart.textbook.map(([agreement, speedup]) => ({ value: [100 * agreement, speedup], what: "by the formula",
          point: { agreement, acceptance_rate: null, speedup } })) };
      const names = [chart.textbook_label, ...chart.drafts.map((draft) => draft.label)];
      return {
        ...withLegend(style, style.legend(names, shownAtFirst(chart)), { right: 48 }),
        tooltip: alongAxis(style, (point) => `${finely(point.agreement)} agreement`, (name, { point, what }) => [
          `${name}, ${what}: ${times(point.speedup)}`,
          point.acceptance_rate === null ? "" : `${percent(point.acceptance_rate)} of the drafted tokens accepted`]),
        xAxis: { type: "value", min: 0, max: 100, ...style.axis("agreement, % of positions"), splitLine: { show: false } },
        yAxis: { type: "value", ...roundAxis(0, highest, 4), ...style.upright("speedup") },
        series: [...lines, ...marks, formula],
      };
    },

    survival(chart, style) {
      return {
        ...withLegend(style, style.legend(chart.lines.map((line) => line.name))),
        tooltip: alongAxis(style, (point) => `position ${point.position}`, (name, { point }) => [
          `${name}: ${finely(point.survival)} accepted up to here`,
          (point.hazard === null ? "" : `${finely(point.hazard)} where all before were; `) + counted(point.steps, "step")]),
        xAxis: { type: "value", min: 0, max: chart.k_max + 0.5, minInterval: 1, ...style.axis("position in the draft"), splitLine: { show: false },
          axisLabel: { color: style.soft, hideOverlap: true, showMaxLabel: false } },
        yAxis: { type: "value", min: 0, max: 100, ...style.upright("accepted up to here, %") },
        series: chart.lines.map((line, index) => ({
          type: "line", name: line.name, symbol: index ? SYMBOLS[(index - 1) % SYMBOLS.length] : "circle", symbolSize: index ? 6 : 8,
          color: index ? style.categories[(index - 1) % style.categories.length] : style.draft(0), lineStyle: { width: index ? 1.5 : 3.5 },
          data: [{ value: [0, 100], symbol: "none" }, ...line.points.map((point) => ({ value: [point.position, 100 * point.survival], point }))],
        })),
      };
    },

    categories(chart, style) {
      const xAxis = roundAxis(0, Math.max(1.1, ...chart.points.map((point) => point.speedup)));
      /* A label that the line of the target alone would strike goes into its bar. */
      const isStruck = (speedup) => speedup < 1 && speedup + 0.2 * (isNarrow() ? 2 : 1) * xAxis.max > 1;
      const inside = { position: "insideRight", color: readableOn(channels(css("--loss"))) };
      const inWords = (speedup) => (speedup < 1 ? `${times(speedup)} slower` : times(speedup));
      return {
        legend: { show: false },
        grid: style.grid({ bottom: 40, top: 12, right: 48 }),
        tooltip: { ...style.tooltip, trigger: "axis", axisPointer: { type: "shadow" }, formatter: ([{ data: { point } }]) => tip([point.category, inWords(point.speedup),
          point.acceptance_rate === null ? "" : `${percent(point.acceptance_rate)} of the drafted tokens accepted`,
          point.answers ? counted(point.answers, "answer") : ""]) },
        xAxis: { type: "value", ...xAxis, ...style.axis("speedup", { nameGap: 26 }) },
        yAxis: style.rows(chart.points.map((point) => point.category)),
        series: [{ type: "bar", name: "speedup", barMaxWidth: 22, color: style.draft(0),
          markLine: evenLine(style, { data: [{ xAxis: 1 }], label: { show: false }, z: 1 }),
          label: { show: true, position: "right", color: style.ink, formatter: ({ value }) => inWords(value) },
          data: chart.points.map((point) => ({ value: point.speedup, point, label: isStruck(point.speedup) ? inside : {},
            itemStyle: point.speedup < 1 ? { color: css("--loss") } : {} })) }],
      };
    },

    costs(chart, style) {
      const highest = Math.max(...chart.lines.flatMap((line) => line.points.map((point) => point.high_s)));
      return {
        ...withLegend(style, style.legend(chart.lines.map((line) => line.name))),
        tooltip: alongAxis(style, (point) => `${counted(point.b, "token")} in one decode`, (name, { point }) => [
          `${name}: ${milliseconds(1e3 * point.seconds)}`,
          `${counted(point.rounds, "round")}, ${fixed(1)(1e3 * point.low_s)} to ${milliseconds(1e3 * point.high_s)}`]),
        xAxis: { type: "value", min: 0, max: Math.max(...chart.lines.flatMap((line) => line.points.map((point) => point.b))) + 0.5, minInterval: 1,
          ...style.axis("tokens in one decode"), splitLine: { show: false }, axisLabel: { color: style.soft, hideOverlap: true, showMaxLabel: false } },
        yAxis: { type: "value", ...roundAxis(0, 1e3 * (chart.top_s || highest)), ...style.upright("milliseconds") },
        series: chart.lines.flatMap((line, index) => {
          const colour = style.draft(line.colour);
          return [
            { type: "line", name: line.name, symbol: "circle", symbolSize: 6, color: colour, lineStyle: { width: index ? 1.5 : 3 }, clip: true,
              data: line.points.map((point) => ({ value: [point.b, 1e3 * point.seconds], point })),
              markLine: index || !chart.jumps.length ? undefined : { silent: true, symbol: "none", lineStyle: { color: style.soft, type: "dashed" },
                label: { color: style.soft, formatter: "step up", position: "insideEndTop" }, data: chart.jumps.map((b) => ({ xAxis: b - 0.5 })) } },
            whiskers(line.name, colour, 0, line.points.map((point) => [point.b, 1e3 * point.low_s, 1e3 * point.high_s])),
          ];
        }),
      };
    },

    step(chart, style) {
      const drawn = (bar, part) => 1e3 * (bar.parts[part] || 0) * (bar.shortened || 1) / bar.tokens;
      const said = (bar) => Object.entries(bar.parts).map(([part, seconds]) => `${part}: ${milliseconds(1e3 * seconds / bar.tokens)}`);
      const longest = Math.max(...chart.bars.map((bar) => chart.parts.reduce((sum, part) => sum + drawn(bar, part), 0)));
      return {
        ...withLegend(style, style.legend(chart.parts), { top: 8 }),
        tooltip: { ...style.tooltip, trigger: "axis", axisPointer: { type: "shadow" }, formatter: ([{ data: { bar } }]) => tip([bar.name,
          bar.speedup ? `${times(bar.speedup)}, ${fixed(2)(bar.tokens)} tokens a step; of the time of a token:` : "", ...said(bar),
          bar.shortened ? `real runs took ${percent(1 - bar.shortened)} less: drawn shorter` : ""]) },
        xAxis: { type: "value", ...roundAxis(0, longest), ...style.axis("milliseconds a token", { nameGap: 26 }) },
        yAxis: style.rows(chart.bars.map((bar) => bar.name)),
        series: chart.parts.map((part) => ({ type: "bar", stack: "step", name: part, barMaxWidth: 24, color: style.parts[part] || style.soft,
          data: chart.bars.map((bar) => ({ value: drawn(bar, part), bar })) })),
      };
    },
  };

  const chosen = (instance) => ((instance.getOption() || {}).legend || [{}])[0].selected || {};

  const draw = () => {
    for (const [name, chart] of Object.entries(data.charts)) {
      const place = document.getElementById(`chart-${name}`);
      if (!heights.has(name)) heights.set(name, place.clientHeight || BASE_HEIGHT_PX);
      place.style.width = isPrinting ? `${PAPER_WIDTH_PX}px` : "";
      const instance = charts.get(name) || echarts.init(place, null, { renderer: "svg" });
      const style = look(isPrinting ? PAPER_WIDTH_PX : place.clientWidth);
      const { extraHeight = 0, ...option } = drawings[name](chart, style);
      if (charts.has(name) && option.legend.selected) Object.assign(option.legend.selected, chosen(instance));
      charts.set(name, instance);
      place.style.height = `${heights.get(name) + extraHeight}px`;
      instance.resize();
      instance.setOption({ animation: false, aria: { enabled: true }, textStyle: { fontFamily: "system-ui, sans-serif" }, ...option }, { notMerge: true });
    }
  };

  let opened = [];
  const print = (begins) => {
    if (begins === isPrinting) return;
    isPrinting = begins;
    if (begins) opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = begins;
    draw();
  };

  let waiting = 0;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  dark.addEventListener("change", draw);
  paper.addEventListener("change", () => print(paper.matches));
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  draw();
  document.documentElement.dataset.drawn = String(charts.size);
  window.reportCharts = charts;
})();
