// Drawing with Vega: specifications are evaluated by its interpreter, so that the page needs no eval.

const vega = Object.assign({}, modules["vega-view"], modules["vega-parser"], modules["vega-interpreter"]);
for (const name of ["vega-transforms", "vega-view-transforms", "vega-encode"]) {
  Object.assign(modules["vega-dataflow"].transforms, modules[name]);
}

const kColors = {
  tuned: "#0072b2", default: "#e69f00", floor: "#009e73", fp16: "#d55e00", other: "#767d86", estimate: "#1b1f24", ink: "#1b1f24",
};
const kFont = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const kConfig = {
  axis: {
    labelFont: kFont, titleFont: kFont, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
    labelColor: "#3d444d", titleColor: "#3d444d", gridColor: "#e4e8ec", domainColor: "#8c959f", tickColor: "#8c959f",
  },
  text: {font: kFont, fontSize: 12, fill: kColors.ink},
};

/** Charts on the page: the element, what to draw there for its width, and the view and width last drawn. */
const charts = new Set();

/** The place of a chart, specification(width); `drawCharts` fills it once it is on the page and has a width. */
function chart(description, specification) {
  const place = element("div", {class: "chart", role: "img", "aria-label": description});
  charts.add({place, specification, view: null, width: 0});
  return place;
}

function drawCharts() {
  charts.forEach(draw);
}

function draw(drawn) {
  const width = Math.floor(drawn.place.clientWidth);
  if (width === 0 || width === drawn.width) return;
  drawn.view?.finalize();
  drawn.width = width;
  const runtime = vega.parse({...drawn.specification(width), config: kConfig}, null, {ast: true});
  drawn.view = new vega.View(runtime, {expr: vega.expressionInterpreter, renderer: "svg", hover: false});
  drawn.view.initialize(drawn.place).run();
}

function forgetCharts(parent) {
  for (const drawn of charts) {
    if (!parent.contains(drawn.place)) continue;
    drawn.view?.finalize();
    charts.delete(drawn);
  }
}

// Not while printing: paper scales what was drawn.
let redrawing = 0;
window.addEventListener("resize", () => {
  clearTimeout(redrawing);
  redrawing = setTimeout(() => !matchMedia("print").matches && drawCharts(), 150);
});

/** What the marks of a chart mean: {text, color, shape (a path about 0, 0), line (a dash pattern or true), area}. */
function legend(entries) {
  const draw = ({color, shape, line, area, hollow}) => {
    const create = (name, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return node;
    };
    const svg = create("svg", {width: 30, height: 14, viewBox: "-15 -7 30 14", "aria-hidden": "true"});
    if (area) svg.append(create("rect", {x: -15, y: -5, width: 30, height: 10, fill: color, "fill-opacity": area}));
    if (line) {
      svg.append(create("path", {d: "M-15,0H15", stroke: color, "stroke-width": 2,
                                 "stroke-dasharray": line === true ? "none" : line.join(",")}));
    }
    if (shape) svg.append(create("path", {d: shape, fill: hollow ? "#fff" : color, stroke: color, "stroke-width": 1.5}));
    return svg;
  };
  return element("ul", {class: "legend"}, entries.map((entry) => element("li", {}, draw(entry), entry.text)));
}

// Vega's own shapes, in the legend's size.
const kShapes = {
  circle: "M-4,0A4,4 0 1,1 4,0A4,4 0 1,1 -4,0Z", square: "M-4,-4H4V4H-4Z", diamond: "M0,-6.5L6.5,0L0,6.5L-6.5,0Z",
  cross: "M-4,-1.5H-1.5V-4H1.5V-1.5H4V1.5H1.5V4H-1.5V1.5H-4Z",
};

// ---- A shape: time against the number of partitions ----

/**
 * Slower measurements are left out: the interesting ones would lie on each other. At least 1.6 times the choice's time
 * is shown, and, up to 3 times, what most numbers of partitions take under its schedule.
 */
function slowestShown({choice, default: standard, measurements}) {
  const own = measurements.filter(([schedule]) => schedule === choice.schedule).map(([, , time]) => time).sort((a, b) => a - b);
  const most = 1.05 * (own[Math.floor(own.length * 0.75)] ?? 0);
  return Math.max(1.6 * choice.microseconds, 1.08 * standard.microseconds, Math.min(most, 3 * choice.microseconds));
}

function partitionChart(shape, gpu) {
  const {choice, measurements, estimates} = shape;
  const standard = shape.default;
  const resident = estimates.find(({schedule}) => schedule === choice.schedule)?.resident ?? gpu.multiprocessors;
  const best = Math.min(choice.microseconds, shape.floor_microseconds);
  const limit = slowestShown(shape);
  const points = measurements.map(([schedule, partitions, time, spread]) =>
    ({schedule, partitions, time, low: time * (1 - spread / 2), high: time * (1 + spread / 2)}));
  const visible = points.filter(({time}) => time <= limit);
  const top = Math.max(...visible.map(({high}) => high), standard.microseconds) * 1.02;
  const right = 1.04 * Math.max(...visible.map(({partitions}) => partitions), standard.partitions, resident);
  const of = (schedule) => visible.filter((point) => point.schedule === schedule).sort((a, b) => a.partitions - b.partitions);
  const estimate = (schedule) => (estimates.find((entry) => entry.schedule === schedule)?.points ?? [])
    .map(([partitions, time]) => ({partitions, time})).filter(({partitions, time}) => partitions <= right && time <= top);
  const waves = [];
  for (let wave = 1; wave * resident <= right; ++wave) {
    waves.push({partitions: wave * resident, text: wave === 1 ? "1 wave" : `${wave} waves`});
  }
  const filled = [];
  for (let wave = 0; wave * resident < right; ++wave) {
    const slots = (wave + 1) * resident;
    filled.push({partitions: wave * resident + 1, share: (wave * resident + 1) / slots});
    if (slots <= right) filled.push({partitions: slots, share: 1});
    else filled.push({partitions: right, share: right / slots});
  }
  const same = choice.schedule === standard.schedule;
  return {
    shape, resident, right, top, waves, filled, same,
    bottom: best * 0.95,
    chosen: of(choice.schedule),
    standard: same ? [] : of(standard.schedule),
    others: visible.filter(({schedule}) => schedule !== choice.schedule && schedule !== standard.schedule),
    estimate: estimate(choice.schedule),
    leftOut: points.length - visible.length,
    fp16Shown: shape.fp16_microseconds !== null && shape.fp16_microseconds <= top,
  };
}

function partitionSpecification(facts, width) {
  const {shape, resident, right, top, bottom} = facts;
  const narrow = width < 520;
  const padding = {left: 54, right: 14, top: 26, bottom: 44};
  const plot = width - padding.left - padding.right;
  const height = narrow ? 240 : 320;
  const gap = 16;
  const strip = 46;
  const x = (field) => ({scale: "x", field});
  const y = (field) => ({scale: "y", field});
  const line = (data, color, dash, extra = {}) => ({
    type: "line", from: {data}, clip: true,
    encode: {enter: {x: x("partitions"), y: y("time"), stroke: {value: color}, strokeWidth: {value: 2}, strokeDash: {value: dash}, ...extra}},
  });
  const symbols = (data, color, form, size, extra = {}) => ({
    type: "symbol", from: {data}, clip: true,
    encode: {enter: {
      x: x("partitions"), y: y("time"), shape: {value: form}, size: {value: size}, fill: {value: color}, stroke: {value: color},
      tooltip: {signal: "datum.partitions + ' partitions: ' + format(datum.time, '.2f') + ' µs'"}, ...extra}},
  });
  const rule = (value, color, dash, text, above) => [
    {type: "rule", encode: {enter: {x: {value: 0}, x2: {value: plot}, y: {scale: "y", value}, stroke: {value: color}, strokeWidth: {value: 2}, strokeDash: {value: dash}}}},
    {type: "text", encode: {enter: {x: {value: plot - 4}, y: {scale: "y", value, offset: above ? -5 : 13}, align: {value: "right"}, text: {value: text}, fontWeight: {value: "bold"}, fill: {value: color}}}},
  ];
  const waveRules = (from, to) => ({
    type: "rule", from: {data: "waves"},
    encode: {enter: {x: x("partitions"), y: {value: from}, y2: {value: to}, stroke: {value: "#8c959f"}, strokeDash: {value: [2, 3]}}},
  });
  // The chosen point and the default's: their names stand at the side where there is room.
  const named = (timed, color, form, text, offset) => {
    const leftwards = timed.partitions > right * 0.6;
    return [
      {type: "symbol", encode: {enter: {x: {scale: "x", value: timed.partitions}, y: {scale: "y", value: timed.microseconds}, shape: {value: form}, size: {value: 190}, fill: {value: "#fff"}, stroke: {value: color}, strokeWidth: {value: 3}}}},
      {type: "text", encode: {enter: {
        x: {scale: "x", value: timed.partitions, offset: leftwards ? -4 : 4}, y: {scale: "y", value: timed.microseconds, offset},
        align: {value: leftwards ? "right" : "left"}, text: {value: text}, fontWeight: {value: "bold"},
        stroke: {value: "#fff"}, strokeWidth: {value: 4}, strokeJoin: {value: "round"}}}},
      {type: "text", encode: {enter: {
        x: {scale: "x", value: timed.partitions, offset: leftwards ? -4 : 4}, y: {scale: "y", value: timed.microseconds, offset},
        align: {value: leftwards ? "right" : "left"}, text: {value: text}, fontWeight: {value: "bold"}, fill: {value: kColors.ink}}}},
    ];
  };
  const {choice} = shape;
  const standard = shape.default;
  const replaced = choice.schedule !== standard.schedule || choice.partitions !== standard.partitions;
  const every = narrow && facts.waves.length > 3 ? 2 : 1;
  return {
    width: plot, height: height + gap + strip, padding, autosize: "none",
    data: [
      {name: "chosen", values: facts.chosen}, {name: "standard", values: facts.standard}, {name: "others", values: facts.others},
      {name: "estimate", values: facts.estimate}, {name: "waves", values: facts.waves}, {name: "filled", values: facts.filled},
    ],
    scales: [
      {name: "x", type: "linear", domain: [0, right], range: [0, plot]},
      {name: "y", type: "linear", domain: [bottom, top], range: [height, 0], zero: false, nice: false},
      {name: "share", type: "linear", domain: [0, 1], range: [strip, 0]},
    ],
    marks: [
      {
        type: "group", encode: {enter: {width: {value: plot}, height: {value: height}}},
        axes: [{orient: "left", scale: "y", grid: true, tickCount: 6}],
        marks: [
          waveRules(0, height + gap + strip),
          {type: "text", encode: {enter: {x: {value: -8}, y: {value: -8}, align: {value: "right"}, fill: {value: "#3d444d"}, text: {value: "µs"}}}},
          {type: "text", from: {data: "waves"}, encode: {enter: {
            x: x("partitions"), y: {value: -8}, fill: {value: "#57606a"},
            align: {signal: `scale('x', datum.partitions) > ${plot - 24} ? 'right' : 'center'`},
            text: {signal: `(datum.partitions / ${resident}) % ${every} === 0 || ${every} === 1 ? datum.text : ''`}}}},
          {type: "area", from: {data: "chosen"}, clip: true, encode: {enter: {
            x: x("partitions"), y: y("low"), y2: y("high"), fill: {value: kColors.tuned}, fillOpacity: {value: 0.2}}}},
          symbols("others", kColors.other, "cross", 26, {fillOpacity: {value: 0.5}, strokeOpacity: {value: 0.5}}),
          line("estimate", kColors.estimate, [6, 4], {strokeWidth: {value: 1.5}}),
          line("standard", kColors.default, [1, 0]),
          symbols("standard", kColors.default, "square", 40),
          line("chosen", kColors.tuned, [1, 0]),
          symbols("chosen", kColors.tuned, "circle", 45),
          ...rule(shape.floor_microseconds, kColors.floor, [2, 2], `floor ${microseconds(shape.floor_microseconds)}`, true),
          ...(facts.fp16Shown ? rule(shape.fp16_microseconds, kColors.fp16, [8, 3], `fp16 ${microseconds(shape.fp16_microseconds)}`, true) : []),
          ...(replaced ? named(standard, kColors.default, "square", `default ${standard.partitions}: ${microseconds(standard.microseconds)}`, -14) : []),
          ...named(choice, kColors.tuned, "diamond", `chosen ${choice.partitions}: ${microseconds(choice.microseconds)}`, 24),
        ],
      },
      {
        type: "group", encode: {enter: {y: {value: height + gap}, width: {value: plot}, height: {value: strip}}},
        axes: [
          {orient: "left", scale: "share", values: [0, 0.5, 1], format: "%", grid: true},
          {orient: "bottom", scale: "x", title: "partitions (thread blocks)", tickCount: narrow ? 5 : 10},
        ],
        marks: [
          {type: "area", from: {data: "filled"}, encode: {enter: {
            x: x("partitions"), y: {scale: "share", field: "share"}, y2: {scale: "share", value: 0}, fill: {value: "#8c959f"}, fillOpacity: {value: 0.35},
            stroke: {value: "#57606a"}}}},
          {type: "rule", encode: {enter: {x: {scale: "x", value: choice.partitions}, y: {value: 0}, y2: {value: strip}, stroke: {value: kColors.tuned}, strokeWidth: {value: 3}}}},
        ],
      },
    ],
  };
}

// ---- A model: bars of each layer, and how near to the floor they are ----

const kBars = [
  {key: "floor", text: "floor"}, {key: "tuned", text: "tuned"}, {key: "fp16", text: "fp16"},
];

/** rows: {layer, floor, tuned, fp16}; most: the longest bar of all charts that stand together. */
function barSpecification(rows, most, width) {
  const bars = rows.flatMap((row) => kBars.filter(({key}) => row[key] !== null)
    .map(({key, text}) => ({layer: row.layer, key, time: row[key], text: `${text} ${microseconds(row[key])}`})));
  const left = 12 + 7 * Math.max(...rows.map(({layer}) => layer.length));
  const padding = {left, right: 8, top: 6, bottom: 36};
  const plot = width - padding.left - padding.right;
  const height = rows.length * 60;
  return {
    width: plot, height, padding, autosize: "none",
    data: [{name: "bars", values: bars}],
    scales: [
      {name: "layer", type: "band", domain: rows.map(({layer}) => layer), range: [0, height], paddingInner: 0.18, paddingOuter: 0.05},
      {name: "bar", type: "band", domain: kBars.map(({key}) => key), range: [0, {signal: "bandwidth('layer')"}], paddingInner: 0.12},
      {name: "x", type: "linear", domain: [0, most], range: [0, plot], nice: true},
      {name: "color", type: "ordinal", domain: kBars.map(({key}) => key), range: kBars.map(({key}) => kColors[key])},
    ],
    axes: [
      {orient: "bottom", scale: "x", title: "µs per launch", tickCount: 4, grid: true},
      {orient: "left", scale: "layer", ticks: false, domain: false, labelLimit: left},
    ],
    marks: [{
      type: "group", from: {facet: {data: "bars", name: "of_layer", groupby: "layer"}},
      encode: {enter: {y: {scale: "layer", field: "layer"}}},
      marks: [
        {type: "rect", from: {data: "of_layer"}, encode: {enter: {
          x: {value: 0}, x2: {scale: "x", field: "time"}, y: {scale: "bar", field: "key"}, height: {scale: "bar", band: 1},
          fill: {scale: "color", field: "key"}}}},
        // Beside the bar, or in it where the chart ends.
        {type: "text", from: {data: "of_layer"}, encode: {enter: {
          x: {scale: "x", field: "time", offset: {signal: `scale('x', datum.time) > ${plot - 90} ? -4 : 4`}},
          y: {scale: "bar", field: "key", band: 0.5}, baseline: {value: "middle"}, fontSize: {value: 11},
          align: {signal: `scale('x', datum.time) > ${plot - 90} ? 'right' : 'left'`},
          fill: {signal: `scale('x', datum.time) > ${plot - 90} ? '#fff' : '${kColors.ink}'`},
          text: {field: "text"}}}},
      ],
    }],
  };
}

/** cells: {layer, m, share of the floor}; colours begin a little below the smallest, so that they differ. */
function heatSpecification(cells, layers, tokens, width) {
  const padding = {left: 70, right: 8, top: 30, bottom: 8};
  const plot = width - padding.left - padding.right;
  const height = tokens.length * 36;
  const low = Math.max(0, Math.floor(Math.min(...cells.map(({share}) => share)) * 10) / 10 - 0.2);
  const dark = low + 0.62 * (1 - low);  // From here on white text is easier to read than black.
  return {
    width: plot, height, padding, autosize: "none",
    data: [{name: "cells", values: cells}],
    scales: [
      {name: "x", type: "band", domain: layers, range: [0, plot], padding: 0.03},
      {name: "y", type: "band", domain: tokens, range: [0, height], padding: 0.05},
      {name: "color", type: "linear", domain: [low, 1], range: ["#f7fbff", "#08306b"], interpolate: "lab", clamp: true},
    ],
    axes: [
      {orient: "top", scale: "x", ticks: false, domain: false},
      {orient: "left", scale: "y", ticks: false, domain: false},
    ],
    marks: [
      {type: "rect", from: {data: "cells"}, encode: {enter: {
        x: {scale: "x", field: "layer"}, width: {scale: "x", band: 1}, y: {scale: "y", field: "m"}, height: {scale: "y", band: 1},
        fill: {scale: "color", field: "share"}, stroke: {value: "#8c959f"}, strokeWidth: {value: 0.5}}}},
      {type: "text", from: {data: "cells"}, encode: {enter: {
        x: {scale: "x", field: "layer", band: 0.5}, y: {scale: "y", field: "m", band: 0.5}, align: {value: "center"}, baseline: {value: "middle"},
        text: {signal: "format(datum.share, '.0%')"}, fill: {signal: `datum.share > ${dark} ? '#fff' : '${kColors.ink}'`}}}},
    ],
  };
}
