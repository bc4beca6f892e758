/* Draws the charts of the report from the JSON block beside it. Names of models reach the page as text only: tooltips
   are built from text nodes, never from markup. */
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const PALETTE = {
    light: ["#0b62a4", "#b8500b", "#2a7f3e", "#8a3ea8", "#a68a00", "#0f8b8d", "#c2385b", "#5b5f66"],
    dark: ["#6db3f2", "#f0a067", "#74c98a", "#c79be0", "#dcc24a", "#5fcfd0", "#f28aa5", "#aab2bd"],
  };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const charts = new Map();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const fixed = (digits) => (value) => Number(value).toFixed(digits);
  const times = (value) => `${fixed(2)(value)}x`;
  const percent = (value) => `${Math.round(100 * value)} %`;
  const milliseconds = (value) => `${fixed(1)(value)} ms`;
  const isNarrow = () => window.innerWidth < 600;

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

  const look = () => {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line");
    const axis = (name, extra) => ({
      name, nameLocation: "middle", nameGap: 30, nameTextStyle: { color: soft },
      axisLabel: { color: soft, hideOverlap: true }, axisLine: { lineStyle: { color: line } },
      splitLine: { lineStyle: { color: line, opacity: 0.5 } }, ...extra,
    });
    const upright = (name) => axis(name, { nameLocation: "end", nameGap: 14, nameTextStyle: { color: soft, align: "left" } });
    return {
      ink, soft, line, axis, upright, colours: PALETTE[dark.matches && !printing.matches ? "dark" : "light"],
      base: {
        animation: false, aria: { enabled: true }, textStyle: { fontFamily: "system-ui, sans-serif" },
        color: PALETTE[dark.matches && !printing.matches ? "dark" : "light"],
        legend: { type: "scroll", bottom: 0, inactiveColor: soft, inactiveBorderColor: line, textStyle: { color: ink, width: isNarrow() ? 220 : 300, overflow: "truncate" },
          pageTextStyle: { color: soft }, pageIconColor: soft },
        grid: { left: 12, right: 20, top: 36, bottom: 62, containLabel: true },
        tooltip: { confine: true, backgroundColor: css("--panel"), borderColor: line, textStyle: { color: ink },
          trigger: "item" },
      },
    };
  };

  const evenLine = (style, extra) => ({
    silent: true, symbol: "none", lineStyle: { color: style.soft, type: "dashed" },
    label: { color: style.soft, formatter: "break-even", position: "insideEndTop" }, data: [{ yAxis: 1 }], ...extra,
  });

  const whisker = (style, colour) => (_params, api) => {
    const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]);
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth: 1.2, opacity: 0.6 } });
    return { type: "group", children: [line(low[0], low[1], high[0], high[1]),
      line(low[0] - 3, low[1], low[0] + 3, low[1]), line(high[0] - 3, high[1], high[0] + 3, high[1])] };
  };

  const drawings = {
    heat(chart, style) {
      const spread = Math.max(0.1, ...chart.cells.filter((c) => c.speedup !== null).map((c) => Math.abs(c.speedup - 1)));
      const onColour = (speedup) => (Math.abs(speedup - 1) > 0.55 * spread ? "#ffffff" : style.ink);
      const point = (cell) => ({ value: [cell.x, cell.y, cell.speedup], cell, label: { color: onColour(cell.speedup) } });
      return {
        tooltip: { ...style.base.tooltip, formatter: ({ data: { cell } }) => tip([
          cell.label,
          cell.speedup === null ? cell.reason : `${times(cell.speedup)} [${fixed(2)(cell.low)}, ${fixed(2)(cell.high)}]`,
          cell.speedup === null ? "" : `k ${cell.k}, p_min ${cell.p_min}, ${cell.evidence}`,
          cell.speedup === null ? cell.detail : cell.detail]) },
        legend: { show: false },
        grid: { ...style.base.grid, bottom: 56, top: 10 },
        xAxis: { type: "category", data: chart.quants, axisLabel: { color: style.soft, interval: 0, width: isNarrow() ? 44 : 90, overflow: "truncate" }, axisLine: { lineStyle: { color: style.line } } },
        yAxis: { type: "category", data: chart.drafts, inverse: true, axisLine: { lineStyle: { color: style.line } },
          axisLabel: { color: style.ink, width: isNarrow() ? 110 : 260, overflow: "break", lineHeight: 14 } },
        visualMap: { seriesIndex: 0, min: 1 - spread, max: 1 + spread, calculable: false, orient: "horizontal", left: "center",
          bottom: 0, precision: 2, textStyle: { color: style.soft }, text: [times(1 + spread), times(1 - spread)],
          inRange: { color: [css("--loss"), css("--even"), css("--gain")] } },
        series: [
          { type: "heatmap", name: "speedup", data: chart.cells.filter((c) => c.speedup !== null).map(point),
            itemStyle: { borderColor: css("--paper"), borderWidth: 2 },
            label: { show: true, formatter: ({ value }) => times(value[2]), fontWeight: "bold" } },
          { type: "scatter", name: "rejected", symbol: "path://M0 0L10 10M10 0L0 10", symbolSize: 14,
            itemStyle: { color: "transparent", borderColor: style.soft, borderWidth: 1.5 },
            data: chart.cells.filter((c) => c.speedup === null).map((cell) => ({ value: [cell.x, cell.y], cell })) },
        ],
      };
    },

    lengths(chart, style) {
      const selected = Object.fromEntries(chart.drafts.map((draft, index) => [draft.label, index < chart.shown]));
      return {
        legend: { ...style.base.legend, selected, data: chart.drafts.map((d) => d.label) },
        tooltip: { ...style.base.tooltip, formatter: ({ seriesName, data: { point } }) => tip([
          `${seriesName}, k = ${point.k}`, `${times(point.speedup)} [${fixed(2)(point.low)}, ${fixed(2)(point.high)}]`,
          `${percent(point.acceptance_rate)} accepted, ${fixed(2)(point.tokens_per_step)} tokens a step`, point.evidence]) },
        xAxis: { type: "value", min: 0, max: chart.k_max + 1, minInterval: 1, ...style.axis("draft length k"), splitLine: { show: false } },
        yAxis: { type: "value", min: ({ min }) => Math.floor(10 * Math.min(1, min)) / 10, max: ({ max }) => Math.ceil(10 * Math.max(1, max)) / 10,
          ...style.upright("speedup") },
        series: chart.drafts.flatMap((draft, index) => {
          const colour = style.colours[index % style.colours.length];
          return [
            { type: "line", name: draft.label, symbol: "circle", symbolSize: 7, color: colour, lineStyle: { width: index ? 1.5 : 3 },
              data: draft.points.map((point) => ({ value: [point.k, point.speedup], point })),
              markLine: index ? undefined : evenLine(style) },
            { type: "custom", name: draft.label, silent: true, tooltip: { show: false }, color: colour, z: 1,
              renderItem: whisker(style, colour), encode: { x: 0, y: [1, 2] },
              data: draft.points.map((point) => [point.k, point.low, point.high]) },
          ];
        }),
      };
    },

    acceptance(chart, style) {
      const selected = Object.fromEntries(chart.drafts.map((draft, index) => [draft.label, index < chart.shown]));
      const highest = Math.max(...chart.drafts.flatMap((draft) => draft.curve.map((point) => point.speedup)));
      const lines = chart.drafts.map((draft, index) => ({
        type: "line", name: draft.label, symbol: "circle", symbolSize: 4, color: style.colours[index % style.colours.length],
        lineStyle: { width: index ? 1.5 : 3 },
        data: draft.curve.map((point) => ({ value: [100 * point.agreement, point.speedup], point, what: "moved there" })),
        markLine: index ? undefined : evenLine(style),
      }));
      const marks = chart.drafts.map((draft, index) => ({
        type: "scatter", name: draft.label, color: style.colours[index % style.colours.length], z: 5,
        data: [
          { value: [100 * draft.agreement, draft.speedup], symbolSize: 15, what: "as measured",
            point: { agreement: draft.agreement, acceptance_rate: draft.acceptance_rate, speedup: draft.speedup } },
          ...(draft.break_even === null ? [] : [{ value: [100 * draft.break_even, 1], symbol: "diamond", symbolSize: 15, what: "break-even",
            point: { agreement: draft.break_even, acceptance_rate: draft.break_even_rate, speedup: 1 } }]),
        ],
      }));
      const formula = { type: "line", name: chart.textbook_label, color: style.soft, symbol: "none", lineStyle: { type: "dotted", width: 2 },
        data: chart.textbook.map(([agreement, speedup]) => ({ value: [100 * agreement, speedup], what: "by the formula",
          point: { agreement, acceptance_rate: null, speedup } })) };
      return {
        legend: { ...style.base.legend, selected, data: [chart.textbook_label, ...chart.drafts.map((d) => d.label)] },
        tooltip: { ...style.base.tooltip, formatter: ({ seriesName, data: { point, what } }) => tip([
          seriesName, `${what}: ${times(point.speedup)} at ${fixed(1)(100 * point.agreement)} % agreement`,
          point.acceptance_rate === null ? "" : `${percent(point.acceptance_rate)} of the drafted tokens accepted`]) },
        xAxis: { type: "value", min: 0, max: 100, ...style.axis("agreement, % of positions"), splitLine: { show: false } },
        yAxis: { type: "value", min: 0, max: Math.ceil(2 * Math.max(1.2, highest)) / 2, ...style.upright("speedup") },
        series: [...lines, ...marks, formula],
      };
    },

    survival(chart, style) {
      return {
        tooltip: { ...style.base.tooltip, formatter: ({ seriesName, data: { point } }) => tip([
          `${seriesName}, position ${point.position}`, `${fixed(1)(100 * point.survival)} % of drafts accepted up to here`,
          point.hazard === null ? "" : `${fixed(1)(100 * point.hazard)} % accepted where all before were`,
          `${point.steps} steps`]) },
        xAxis: { type: "value", min: 0, max: chart.k_max, minInterval: 1, ...style.axis("position in the draft"), splitLine: { show: false } },
        yAxis: { type: "value", min: 0, max: 100, ...style.upright("accepted up to here, %") },
        series: chart.lines.map((line, index) => ({
          type: "line", name: line.name, symbol: "circle", symbolSize: index ? 5 : 8, lineStyle: { width: index ? 1.5 : 3.5 },
          data: [{ value: [0, 100], symbol: "none", point: { position: 0, survival: 1, hazard: null, steps: line.points[0].steps } },
            ...line.points.map((point) => ({ value: [point.position, 100 * point.survival], point }))],
        })),
      };
    },

    categories(chart, style) {
      return {
        legend: { show: false },
        grid: { ...style.base.grid, bottom: 40, top: 12, right: 48 },
        tooltip: { ...style.base.tooltip, formatter: ({ data: { point } }) => tip([point.category, times(point.speedup),
          `${percent(point.acceptance_rate)} accepted`, `${point.answers} answers`]) },
        xAxis: { type: "value", min: 0, ...style.axis("speedup", { nameGap: 26 }) },
        yAxis: { type: "category", inverse: true, data: chart.points.map((p) => p.category),
          axisLabel: { color: style.ink, width: 120, overflow: "truncate" }, axisLine: { lineStyle: { color: style.line } } },
        series: [{ type: "bar", name: "speedup", barMaxWidth: 22,
          markLine: evenLine(style, { data: [{ xAxis: 1 }], label: { show: false } }),
          label: { show: true, position: "right", color: style.ink, formatter: ({ value }) => times(value) },
          data: chart.points.map((point) => ({ value: point.speedup, point,
            itemStyle: { color: point.speedup > 1 ? css("--gain") : css("--loss") } })) }],
      };
    },

    costs(chart, style) {
      return {
        tooltip: { ...style.base.tooltip, formatter: ({ seriesName, data: { point } }) => tip([
          seriesName, `${point.b} tokens: ${milliseconds(1e3 * point.seconds)}`,
          `rounds from ${fixed(1)(1e3 * point.low_s)} to ${milliseconds(1e3 * point.high_s)}`]) },
        xAxis: { type: "value", min: 0, minInterval: 1, ...style.axis("tokens in one decode"), splitLine: { show: false } },
        yAxis: { type: "value", min: 0, ...style.upright("milliseconds") },
        series: chart.lines.flatMap((line, index) => {
          const colour = style.colours[index % style.colours.length];
          return [
            { type: "line", name: line.name, symbol: "circle", symbolSize: 6, color: colour, lineStyle: { width: index ? 1.5 : 3 },
              data: line.points.map((point) => ({ value: [point.b, 1e3 * point.seconds], point })),
              markLine: index || !chart.jumps.length ? undefined : { silent: true, symbol: "none",
                lineStyle: { color: style.soft, type: "dashed" }, label: { color: style.soft, formatter: "another kernel" },
                data: chart.jumps.map((b) => ({ xAxis: b - 0.5 })) } },
            { type: "custom", name: line.name, silent: true, tooltip: { show: false }, color: colour, z: 1, renderItem: whisker(style, colour),
              encode: { x: 0, y: [1, 2] }, data: line.points.map((point) => [point.b, 1e3 * point.low_s, 1e3 * point.high_s]) },
          ];
        }),
      };
    },

    step(chart, style) {
      const parts = ["drafting", "verifying", "re-evaluating", "rest of a real run", "plain decoding"];
      const used = parts.filter((part) => chart.bars.some((bar) => bar.parts[part]));
      return {
        legend: { ...style.base.legend, data: used },
        grid: { ...style.base.grid, bottom: 76 },
        tooltip: { ...style.base.tooltip, formatter: ({ seriesName, data: { bar, part } }) => tip([
          bar.name, `${seriesName}: ${milliseconds(1e3 * part / bar.tokens)} a token`,
          bar.tokens === 1 ? "" : `${milliseconds(1e3 * part)} of a step of ${fixed(2)(bar.tokens)} tokens`]) },
        xAxis: { type: "value", min: 0, ...style.axis("milliseconds a token", { nameGap: 26 }) },
        yAxis: { type: "category", inverse: true, data: chart.bars.map((bar) => bar.name), axisLine: { lineStyle: { color: style.line } },
          axisLabel: { color: style.ink, width: isNarrow() ? 110 : 260, overflow: isNarrow() ? "break" : "truncate", lineHeight: 13, fontSize: 11 } },
        series: used.map((part) => ({ type: "bar", stack: "step", name: part, barMaxWidth: 24, color: style.colours[parts.indexOf(part)],
          data: chart.bars.map((bar) => ({ value: 1e3 * (bar.parts[part] || 0) / bar.tokens, bar, part: bar.parts[part] || 0 })) })),
      };
    },
  };

  const draw = () => {
    const style = look();
    for (const [name, chart] of Object.entries(data.charts)) {
      const place = document.getElementById(`chart-${name}`);
      const instance = charts.get(name) || echarts.init(place, null, { renderer: "svg" });
      charts.set(name, instance);
      instance.resize();
      instance.setOption({ ...style.base, ...drawings[name](chart, style) }, { notMerge: true });
    }
  };

  let waiting = 0;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  dark.addEventListener("change", draw);
  printing.addEventListener("change", draw);
  window.addEventListener("beforeprint", draw);
  window.addEventListener("afterprint", draw);
  draw();
  document.documentElement.dataset.drawn = String(charts.size);
  window.reportCharts = charts;
})();
