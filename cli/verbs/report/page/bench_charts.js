// Charts over the number of tokens.

const kOver = {lutsmith: kColors.tuned, cublas: kColors.fp16, floor: kColors.floor, slow: "#e69f00", cliff: "#aa3377", failed: kColors.ink};
const kCrossing = "M-4,-4L4,4M-4,4L4,-4";

/** Ranges of the axes that hold all points of some shapes; charts that stand together share them. */
function tokenDomains(shapes) {
  const points = shapes.flatMap((shape) => shape.points);
  const all = (...names) => points.flatMap((point) => names.map((name) => point[name])).filter((value) => value !== null);
  const around = (values, low, high) => (values.length === 0 ? [low, high] : [Math.min(...values), Math.max(...values)]);
  const [first, last] = around(all("m"), 1, 2);
  const [short, long] = around(all("microseconds", "cublas_microseconds", "floor_microseconds"), 1, 10);
  const [slowest, fastest] = around(all("speedup"), 1, 1);
  return {
    m: first === last ? [first / 2, last * 2] : [first, last],
    time: [short * 0.8, long * 1.25], speed: [Math.min(slowest, 0.8) / 1.1, Math.max(fastest, 1.25) * 1.1],
  };
}

/** 1, 2, 5, 10 ... within a domain, or powers of 10 where there is no room for these. */
function decimalTicks([low, high], large) {
  const steps = high / low > (large ? 5000 : 60) ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; ++power) {
    ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}
const within = ([low, high], ticks) => ticks.filter((tick) => tick >= low && tick <= high);
/** Powers of 2, and 1.5 times these where there is room. */
const speedTicks = (domain, high) => within(domain, [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32].flatMap((tick) => (high ? [tick, tick * 1.5] : [tick])));
/** Powers of 2, or of 4 where there is less room. */
const tokenTicks = (domain, every) => within(domain, Array.from({length: 21}, (none, i) => 2 ** i).filter((tick, i) => i % every === 0));

/** What charts over tokens have in common: axes, the line at 1, and the areas between it and the speed. */
function tokenScales({m, speed}, plot, height) {
  return [
    {name: "x", type: "log", base: 2, domain: m, range: [0, plot], nice: false},
    {name: "speed", type: "log", base: 2, domain: speed, range: [height, 0], nice: false},
  ];
}
const tokenAxis = (domain, every) => ({orient: "bottom", scale: "x", values: tokenTicks(domain, every), title: "tokens (m)", format: "d", labelOverlap: true});
const speedAxis = (domain, high) => ({orient: "left", scale: "speed", values: speedTicks(domain, high), grid: true, format: "~g",
                               encode: {labels: {update: {text: {signal: "datum.label + '×'"}}}}});
const atM = {scale: "x", field: "m"};
const onSpeed = {scale: "speed", field: "speedup"};

function tokenSymbols(data, y, color, shape, size, extra = {}) {
  return {type: "symbol", from: {data}, clip: false, encode: {enter: {
    x: atM, y, shape: {value: shape}, size: {value: size}, fill: {value: color}, stroke: {value: color}, tooltip: {field: "told"}, ...extra}}};
}
const outlined = {stroke: {value: kColors.ink}, strokeWidth: {value: 1}};

function tokenLine(data, field, y, color, dash, width = 2) {
  return {type: "line", from: {data}, encode: {enter: {
    x: atM, y, stroke: {value: color}, strokeWidth: {value: width}, strokeDash: {value: dash}, defined: {signal: `isValid(datum.${field})`}}}};
}

const evenRule = (plot) => ({type: "rule", encode: {enter: {
  x: {value: 0}, x2: {value: plot}, y: {scale: "speed", value: 1}, stroke: {value: kOver.cublas}, strokeWidth: {value: 2}, strokeDash: {value: [8, 3]}}}});

/** Points with those between where the speed passes 1, on the straight line of the logarithmic axes. */
function withCrossings(points) {
  return points.flatMap((point, i) => {
    const next = points[i + 1];
    const [here, there] = [point, next].map((each) => (each?.speedup ? Math.log(each.speedup) : null));
    if (here === null || there === null || here * there >= 0) return [point];
    return [point, {m: point.m * (next.m / point.m) ** (here / (here - there)), speedup: 1}];
  });
}

/** A point in a sentence, for the tooltip. */
function tellPoint(point) {
  if (point.microseconds === null) return `m = ${point.m}: failed`;
  const against = point.speedup === null ? "" : `; cuBLAS ${withUnit(point.cublas_microseconds)}: ${speed(point.speedup)}`;
  return `m = ${point.m}: ${withUnit(point.microseconds)}${against}`;
}

/** One shape: above, the times of the kernel, cuBLAS and the floor; below, the speed against cuBLAS. */
function tokenSpecification(shape, domains, width, large) {
  const every = width < 420 ? 2 : 1;
  const padding = {left: 52, right: 20, top: 22, bottom: 42};
  const plot = width - padding.left - padding.right;
  const height = large ? 280 : 150;
  const strip = large ? 130 : 76;
  const gap = large ? 22 : 16;
  const points = shape.points.map((point) => ({...point, told: tellPoint(point)}));
  const compared = points.some((point) => point.speedup !== null);
  const time = (field) => ({scale: "time", field});
  const size = large ? 1 : 0.6;
  const area = (limit, color) => ({type: "area", from: {data: "areas"}, encode: {enter: {
    x: atM, y: {scale: "speed", signal: `${limit}(datum.speedup || 1, 1)`}, y2: {scale: "speed", value: 1},
    fill: {value: color}, fillOpacity: {value: 0.28}, defined: {signal: "isValid(datum.speedup)"}}}});
  const unit = (text) => ({type: "text", encode: {enter: {
    x: {value: -8}, y: {value: -8}, align: {value: "right"}, fill: {value: "#3d444d"}, text: {value: text}}}});
  return {
    width: plot, height: height + (compared ? gap + strip : 0), padding, autosize: "none",
    data: [
      {name: "points", values: points}, {name: "areas", values: withCrossings(points)},
      {name: "measured", values: points.filter((point) => point.microseconds !== null)},
      {name: "slow", values: points.filter((point) => point.slow)}, {name: "cliffs", values: points.filter((point) => point.cliff)},
      {name: "failed", values: points.filter((point) => point.error !== null)},
    ],
    scales: [...tokenScales(domains, plot, strip), {name: "time", type: "log", domain: domains.time, range: [height, 0], nice: false}],
    marks: [
      {
        type: "group", encode: {enter: {width: {value: plot}, height: {value: height}}},
        axes: [
          {orient: "left", scale: "time", values: decimalTicks(domains.time, large), grid: true, format: ",~g"},
          {...tokenAxis(domains.m, every), grid: true, gridScale: "time", ...(compared ? {labels: false, ticks: false, title: null} : {})},
        ],
        marks: [
          unit("µs"),
          tokenLine("points", "floor_microseconds", time("floor_microseconds"), kOver.floor, [2, 2]),
          tokenLine("points", "cublas_microseconds", time("cublas_microseconds"), kOver.cublas, [8, 3]),
          tokenLine("points", "microseconds", time("microseconds"), kOver.lutsmith, [1, 0]),
          tokenSymbols("measured", time("microseconds"), kOver.lutsmith, "circle", 30 * size),
          tokenSymbols("slow", time("microseconds"), kOver.slow, "diamond", 150 * size, outlined),
          tokenSymbols("cliffs", {...time("microseconds"), offset: -10}, kOver.cliff, "triangle-down", 110 * size),
          tokenSymbols("failed", {value: height - 8}, kOver.failed, "cross", 110 * size, {angle: {value: 45}}),
        ],
      },
      ...(compared ? [{
        type: "group", encode: {enter: {y: {value: height + gap}, width: {value: plot}, height: {value: strip}}},
        axes: [speedAxis(domains.speed, large), {...tokenAxis(domains.m, every), grid: true, gridScale: "speed"}],
        marks: [
          area("max", kOver.lutsmith), area("min", kOver.slow), evenRule(plot),
          tokenLine("points", "speedup", onSpeed, kOver.lutsmith, [1, 0]),
          tokenSymbols("slow", onSpeed, kOver.slow, "diamond", 110 * size, outlined),
        ],
      }] : []),
    ],
  };
}

/** Geometric means of the speed at each number of tokens that at least half of the shapes have. */
function meansOverTokens(shapes) {
  const logarithms = new Map();
  for (const {points} of shapes) {
    for (const {m, speedup} of points) {
      if (speedup !== null) logarithms.set(m, [...(logarithms.get(m) ?? []), Math.log(speedup)]);
    }
  }
  const most = Math.max(0, ...[...logarithms.values()].map((each) => each.length));
  return [...logarithms].filter(([, each]) => 2 * each.length >= most).sort(([a], [b]) => a - b)
    .map(([m, each]) => ({m, speedup: Math.exp(each.reduce((a, b) => a + b, 0) / each.length), shapes: each.length}));
}

/** Speed against cuBLAS of all shapes, a thin line each, their mean, and the means over ranges of tokens. */
function overviewSpecification(shapes, ranges, width) {
  const narrow = width < 620;
  const padding = {left: 46, right: 20, top: 30, bottom: 44};
  const plot = width - padding.left - padding.right;
  const height = narrow ? 240 : 340;
  const domains = tokenDomains(shapes);
  const points = shapes.flatMap(({points: of, name}, shape) => of.filter(({speedup}) => speedup !== null)
    .map((point) => ({m: point.m, speedup: point.speedup, slow: point.slow, shape, told: `${name}, ${tellPoint(point)}`})));
  const means = meansOverTokens(shapes).map((mean) => ({...mean, told: `m = ${mean.m}: ${speed(mean.speedup)}, geometric mean of ${count(mean.shapes, "shape")}`}));
  const [first, last] = domains.m;
  // Ranges meet halfway between the last number of tokens of one and the first of the next.
  const bands = ranges.filter((range) => range.points > 0).map((range, i) => ({
    from: Math.max(first, range.first === 1 ? first : range.first - 0.5), to: Math.min(last, range.last === null ? last : range.last + 0.5),
    text: narrow ? kGrouped[2].format(range.mean) : speed(range.mean), shade: i % 2,
  })).filter(({from, to}) => from < to);
  return {
    width: plot, height, padding, autosize: "none",
    data: [{name: "all", values: points}, {name: "slow", values: points.filter(({slow}) => slow)}, {name: "means", values: means}, {name: "bands", values: bands}],
    scales: tokenScales(domains, plot, height),
    axes: [speedAxis(domains.speed, true), {...tokenAxis(domains.m, narrow ? 2 : 1), grid: true}],
    marks: [
      {type: "rect", from: {data: "bands"}, encode: {enter: {
        x: {scale: "x", field: "from"}, x2: {scale: "x", field: "to"}, y: {value: 0}, y2: {value: height},
        fill: {value: kColors.tuned}, fillOpacity: {signal: "datum.shade ? 0.02 : 0.07"}}}},
      {type: "text", from: {data: "bands"}, encode: {enter: {
        x: {signal: "(scale('x', datum.from) + scale('x', datum.to)) / 2"}, y: {value: -8}, align: {value: "center"},
        text: {field: "text"}, fontWeight: {value: "bold"}, fontSize: {value: narrow ? 11 : 13}, fill: {value: kOver.lutsmith}}}},
      {type: "group", from: {facet: {data: "all", name: "of_shape", groupby: "shape"}}, marks: [
        {type: "line", from: {data: "of_shape"}, encode: {enter: {
          x: atM, y: onSpeed, stroke: {value: kColors.other}, strokeWidth: {value: 1}, strokeOpacity: {value: 0.45}}}}]},
      evenRule(plot),
      tokenLine("means", "speedup", onSpeed, "#fff", [1, 0], 6),
      tokenLine("means", "speedup", onSpeed, kOver.lutsmith, [1, 0], 3),
      tokenSymbols("means", onSpeed, kOver.lutsmith, "circle", 34),
      tokenSymbols("slow", onSpeed, kOver.slow, "diamond", 90, outlined),
    ],
  };
}

const kTokenLegend = {
  lutsmith: {text: "lutsmith", color: kOver.lutsmith, shape: kShapes.circle, line: true},
  cublas: {text: "cuBLAS, 16 bits", color: kOver.cublas, line: [8, 3]},
  floor: {text: "floor", color: kOver.floor, line: [2, 2]},
  slow: {text: "below 0.9 of cuBLAS", color: kOver.slow, shape: kShapes.diamond},
  cliff: {text: "cliff: fewer tokens, longer time", color: kOver.cliff, shape: "M0,6L6,-5H-6Z"},
  failed: {text: "failed", color: kOver.failed, shape: kCrossing},
};
