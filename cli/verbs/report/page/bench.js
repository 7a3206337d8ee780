// The sections of the page on what `lutsmith bench` measured, from the data of `lutsmith report --json`.

const report = JSON.parse(document.getElementById("report-data").textContent);
const speed = (value) => (value === null || value === undefined ? kNothing : `${kGrouped[2].format(value)}×`);
const kMostNamed = 15;  // of the marked points; the table of shapes has all

const unique = (values) => [...new Set(values.filter(Boolean))];

// What is marked, where it is drawn.
const pointAt = (shape, m) => report.shapes[shape].points.find((point) => point.m === m);
report.shapes.forEach((shape, i) => Object.assign(shape, {anchor: `shape-${i}`, words: shape.layers.join(" "), slow: 0, cliffs: 0, failed: 0}));
for (const each of report.slow) {
  pointAt(each.shape, each.m).slow = true;
  ++report.shapes[each.shape].slow;
}
for (const each of report.cliffs) {
  pointAt(each.shape, each.m).cliff = each;
  ++report.shapes[each.shape].cliffs;
}
for (const each of report.failed) ++report.shapes[each.shape].failed;

const compared = report.summary.ranges.some(({points}) => points > 0);
const usedRanges = report.summary.ranges.map((range, i) => ({...range, i})).filter(({points}) => points > 0);
const rangeTitle = ({first, last}) => (last === null ? `m > ${first - 1}` : `m ${first}–${last}`);
const speedElement = (value) => element("span", {class: value !== null && value < report.limits.slow ? "alarm" : null}, speed(value));
const alarm = (text) => element("span", {class: "alarm"}, text);
// With one kind of weights a shape's size is name enough.
const oneKind = unique(report.shapes.map(({weights}) => weights)).length === 1;
const linkTo = (shape, text) => element("a", {href: `#${report.shapes[shape].anchor}`}, text);

function marksText({slow, cliffs, failed}) {
  return [slow > 0 && `◆ ${slow} slow`, cliffs > 0 && `▼ ${count(cliffs, "cliff")}`, failed > 0 && `✕ ${failed} failed`].filter(Boolean).join(", ") || kNothing;
}
const marksElement = (marks) => element("span", {class: marks.slow + marks.failed > 0 ? "alarm" : null}, marksText(marks));
const countMarks = ({slow, cliffs, failed}) => slow + cliffs + failed;

/** The worst of some shapes: {m, speedup}, or null. */
const worstOf = (shapes) => shapes.map(({worst}) => worst).filter(Boolean).sort((a, b) => a.speedup - b.speedup)[0] ?? null;

// ---- Head and summary ----

function showHead() {
  const {gpu, runs} = report;
  const of = (title, name) => unique(runs.map((run) => run[name])).map((value) => `${title}${value}`);
  const when = unique(runs.map(({measured}) => measured)).sort();
  section("top").append(
    element("h1", {}, "Time over the number of tokens"),
    element("p", {}, element("b", {}, gpu.name),
      [`, ${gpu.multiprocessors} multiprocessors`, ...of("driver ", "driver"), ...of("cuBLAS ", "cublas"), ...of("lutsmith ", "library"),
       when.length > 0 && `measured ${date(when[0])}${when.length > 1 ? ` to ${date(when.at(-1))}` : ""}`].filter(Boolean).join(" · ")),
    element("p", {class: "quiet"},
      "Each matrix shape was multiplied with m tokens by lutsmith’s kernel, by cuBLAS with 16-bit weights, and, for comparison, only read: " +
      "how the times grow with m, where the kernel is slower than cuBLAS, and where fewer tokens take longer than more."));
}

function rangeCard(range) {
  return card(speed(range.mean), `${rangeTitle(range)}, against 16 bits`, `worst ${speed(range.worst)}, ${count(range.points, "point")}`,
    range.slow > 0 && alarm(`◆ ${range.slow} below ${report.limits.slow}`));
}

function showSummary() {
  const {shapes, points, failed, step} = report.summary;
  section("summary").append(
    element("div", {class: "cards"}, usedRanges.map(rangeCard),
      step && card(speed(step.mean), "time at 17 tokens over that at 16", ["at most ", linkTo(step.shape, speed(step.most))])),
    element("p", {class: "quiet"}, `Geometric means over ${count(points, "point")} of ${count(shapes, "shape")}`, failed > 0 && [", ", alarm(`✕ ${failed} failed`)], "."));
  if (!compared) {
    section("summary").append(element("p", {class: "notice"}, "There are no times of cuBLAS: it was not installed where this was measured."));
    return;
  }
  const means = report.shapes.length > 1;
  section("summary").append(element("figure", {},
    element("h2", {}, "Speed against cuBLAS"),
    chart("Speed against cuBLAS of all shapes over the number of tokens, and their geometric mean",
      (width) => overviewSpecification(report.shapes, usedRanges, width)),
    legend([
      {text: means ? "geometric mean of all shapes; at the top: of a range" : "this shape", color: kOver.lutsmith, shape: kShapes.circle, line: true},
      means && {text: "a shape", color: kColors.other, line: true},
      {text: "cuBLAS, 16 bits", color: kOver.cublas, line: [8, 3]}, report.slow.length > 0 && kTokenLegend.slow,
    ].filter(Boolean))));
}

// ---- Marked points ----

/** A table of what is marked, or a sentence that nothing is. */
function marked(title, entries, none, head, row) {
  const more = entries.length - kMostNamed;
  return [
    element("h3", {}, `${title}: ${entries.length}`),
    entries.length === 0 ? element("p", {class: "quiet"}, none) : plainTable(head, entries.slice(0, kMostNamed).map(row)),
    more > 0 && element("p", {class: "quiet"}, `And ${more} more: sort the table of shapes by its marks.`),
  ].filter(Boolean);
}

function showMarked() {
  const name = ({shape}) => linkTo(shape, (oneKind ? "" : `${report.shapes[shape].weights} `) + dimensions(report.shapes[shape]));
  const layers = ({shape}) => report.shapes[shape].layers.slice(0, 2).join(", ");
  const {slow, cliff} = report.limits;
  const of = (each) => pointAt(each.shape, each.m);
  section("marked").append(element("h2", {id: "marked-title"}, "Marked points"),
    ...(compared ? marked(`◆ Slower than ${slow} of cuBLAS`, report.slow, "No point is.",
      ["Shape", ["m", "number"], ["µs", "number"], ["cuBLAS, µs", "number"], ["Speed", "number"], ["Layers", "wide"]],
      (each) => [name(each), String(each.m), microseconds(of(each).microseconds), microseconds(of(each).cublas_microseconds),
                 speedElement(each.speedup), layers(each)]) : []),
    ...marked("▼ Cliffs: fewer tokens take longer", report.cliffs, `Nowhere by more than ${percent(cliff - 1, 0)}.`,
      ["Shape", ["m", "number"], ["than m", "number"], ["Time", "number"], ["Layers", "wide"]],
      (each) => [name(each), each.first === each.m ? String(each.m) : `${each.first} … ${each.m}`, String(each.more), speed(each.ratio), layers(each)]),
    ...(report.failed.length > 0 ? marked("✕ Failed", report.failed, "", ["Shape", ["m", "number"], "Why"],
      (each) => [name(each), String(each.m), each.error]) : []));
}

// ---- Models and shapes ----

const rangeColumns = (kind) => usedRanges.map((range) => ({
  title: rangeTitle(range), hint: "geometric mean of the speed against cuBLAS", kind,
  value: ({ranges}) => ranges[range.i].mean, show: ({ranges}) => speedElement(ranges[range.i].mean)}));

function legendOf(shapes) {
  const points = shapes.flatMap((shape) => shape.points);
  return legend([
    kTokenLegend.lutsmith, compared && kTokenLegend.cublas, kTokenLegend.floor, shapes.some(({slow}) => slow > 0) && kTokenLegend.slow,
    shapes.some(({cliffs}) => cliffs > 0) && kTokenLegend.cliff, points.some(({error}) => error !== null) && kTokenLegend.failed,
  ].filter(Boolean));
}

function showModel(model, place) {
  const shapes = model.layers.map(({shape}) => report.shapes[shape]);
  const domains = tokenDomains(shapes);
  place.append(
    element("p", {class: "quiet"}, compared ? "Above: time of a launch. Below: speed against cuBLAS." : "Time of a launch."),
    element("div", {class: "multiples"}, model.layers.map(({name, shape}, i) => element("figure", {},
      element("figcaption", {}, element("b", {}, name), " ", linkTo(shape, dimensions(shapes[i])), " ", marksText(shapes[i]) !== kNothing && marksElement(shapes[i])),
      chart(`${name}: microseconds over the number of tokens, beside cuBLAS and the floor`,
        (width) => tokenSpecification(shapes[i], domains, width, false))))),
    legendOf(shapes));
}

const modelName = ({names}) => (names.length > 0 ? names.join(", ") : "given by N and K");

function showModels() {
  for (const model of report.models) {
    const shapes = [...new Set(model.layers.map(({shape}) => shape))].map((shape) => report.shapes[shape]);
    const sum = (name) => shapes.reduce((total, shape) => total + shape[name], 0);
    Object.assign(model, {worst: worstOf(shapes), slow: sum("slow"), cliffs: sum("cliffs"), failed: sum("failed")});
  }
  const listing = new Listing({
    thing: "model", example: "llama 4", rows: report.models, detail: showModel,
    columns: [
      {title: "Model", value: modelName, show: modelName},
      {title: "TP", hint: "tensor parallelism: how many GPUs share the model", value: ({tp}) => tp, show: ({tp}) => String(tp), kind: "number"},
      {title: "Weights", value: ({weights}) => weights, show: ({weights}) => weights, kind: "short medium"},
      ...rangeColumns("number medium"),
      ...(compared ? [{title: "Worst", hint: "the least speed against cuBLAS", value: ({worst}) => worst?.speedup ?? null,
                       show: ({worst}) => speedElement(worst?.speedup ?? null), kind: "number"}] : []),
      {title: "Marks", value: (model) => -countMarks(model), show: marksElement},
    ],
    menus: [{title: "TP", value: ({tp}) => tp}, {title: "Weights", value: ({weights}) => weights}],
  });
  section("models").append(element("h2", {id: "models-title"}, "Models"),
    element("p", {class: "quiet"}, compared ? "Open one for a chart of each layer. Numbers are the speed against cuBLAS." : "Open one for a chart of each layer."),
    listing.element);
  listing.open(listing.entries[0]);
  return listing;
}

function markOf(point) {
  if (point.error !== null) return alarm(`✕ failed: ${point.error}`);
  return [point.slow && alarm("◆ slow"), point.slow && point.cliff && ", ",
          point.cliff && `▼ ${speed(point.cliff.ratio)} the time of m = ${point.cliff.more}`].filter(Boolean);
}

function showShape(shape, place) {
  place.append(
    facts([["Shape", shape.name], ["Used by", shape.layers.join(", ")],
           ["Worst", shape.worst && `${speed(shape.worst.speedup)} at m = ${shape.worst.m}`]]),
    element("figure", {},
      chart(`Microseconds of ${shape.name} over the number of tokens, and speed against cuBLAS`,
        (width) => tokenSpecification(shape, tokenDomains([shape]), width, true)),
      legendOf([shape])));
  place.append(plainTable(
    [["m", "number"], ["µs", "number"], ["cuBLAS, µs", "number"], ["Speed", "number"], ["Floor, µs", "number medium"], ["Partitions", "number wide"],
     ["Schedule", "wide"], "Mark"],
    shape.points.map((point) => [String(point.m), microseconds(point.microseconds), microseconds(point.cublas_microseconds), speedElement(point.speedup),
      microseconds(point.floor_microseconds), point.error === null ? String(point.partitions) : kNothing, point.schedule ?? kNothing,
      element("span", {}, markOf(point))])));
}

function showShapes() {
  const listing = new Listing({
    thing: "shape", example: "qkv 4096", rows: report.shapes, detail: showShape,
    columns: [
      {title: "N × K", value: ({n, k}) => n * 1e6 + k, show: dimensions, kind: "short"},
      {title: "Weights", value: ({weights}) => weights, show: ({weights}) => weights, kind: "short medium"},
      {title: "Layers", value: ({layers}) => layers.join(", "), kind: "wide",
       show: ({layers}) => layers.slice(0, 2).join(", ") + (layers.length > 2 ? `, ${layers.length - 2} more` : "")},
      ...rangeColumns("number wide"),
      ...(compared ? [
        {title: "Worst", hint: "the least speed against cuBLAS", value: ({worst}) => worst?.speedup ?? null,
         show: ({worst}) => speedElement(worst?.speedup ?? null), kind: "number"},
        {title: "at m", value: ({worst}) => worst?.m ?? null, show: ({worst}) => (worst ? String(worst.m) : kNothing), kind: "number"}] : []),
      {title: "Marks", value: (shape) => -countMarks(shape), show: marksElement},
    ],
    menus: [
      {title: "Weights", value: ({weights}) => weights},
      {title: "Marks", value: (shape) => (countMarks(shape) > 0 ? "some" : "none")},
    ],
  });
  section("shapes").append(element("h2", {id: "shapes-title"}, "Shapes"),
    element("p", {class: "quiet"}, "Open a row for its chart and all times. A click on a column’s title sorts."),
    element("p", {class: "print-only quiet"}, `Up to ${kMostOpenOnPaper} shapes are printed with their charts; filter the table for those you want.`),
    listing.element);
  return listing;
}

function showRuns() {
  section("runs").append(element("h2", {id: "runs-title"}, "Where this was measured"),
    ...report.runs.map((run) => facts([
      ["File", element("code", {}, run.file)], ["Rows", String(run.rows)], ["When", run.measured && date(run.measured)],
      ["GPU", `${report.gpu.name}, ${report.gpu.multiprocessors} multiprocessors, ${report.gpu.target}`],
      ["Driver", run.driver], ["cuBLAS", run.cublas ?? "not installed"], ["lutsmith", run.library]])));
  section("end").append(element("p", {}, `Written by lutsmith ${report.library}. Charts: Vega.`));
}

showHead();
showSummary();
showMarked();
const listings = [showModels(), showShapes()];
showRuns();
drawCharts();
followAndPrint(listings);
