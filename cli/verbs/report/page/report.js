// The sections of the page, from the data of `lutsmith report --json`.

const report = JSON.parse(document.getElementById("report-data").textContent);
const gpuOf = ({gpu}) => report.gpus[gpu];
const manyGpus = report.gpus.length > 1;
report.shapes.forEach((shape, i) => (shape.anchor = `shape-${i}`));

const kMostNamed = 30;  // of the shapes that changed; the table below has all

const kQuality = {good: "good", noisy: "⚠ noisy", throttled: "⚠ throttled", busy: "⚠ busy"};
const kChange = {
  slower: "▲ slower", faster: "▼ faster", same: "as before", new: "+ new", uncertain: "? uncertain",
};

// What all shapes share behind bits and group is said once: "f16 scalar".
const kinds = new Set(report.shapes.map(({weights}) => weights.split(" ").slice(2).join(" ")));
const sharedKind = kinds.size === 1 ? [...kinds][0] : null;
const weightsOf = ({weights}) => (sharedKind ? weights.split(" ").slice(0, 2).join(" ") : weights);

/** How a shape's time changed against the older document, as text. */
function changeText({change}) {
  if (!change) return "";
  const moved = change.ratio === null || change.status === "same" ? "" : ` ${percent(Math.abs(change.ratio - 1))}`;
  return kChange[change.status] + moved;
}

function changeElement(shape) {
  const status = shape.change?.status;
  return element("span", {class: status === "slower" ? "alarm" : status === "faster" ? "good" : null}, changeText(shape));
}

// ---- Head and summary ----

function showHead() {
  const names = report.gpus.map(({name, multiprocessors}) => `${name} (${multiprocessors} multiprocessors)`).join(", ");
  section("top").append(
    element("h1", {}, `Tuned choices for ${names}`),
    element("p", {class: "quiet"},
      "For each matrix shape, lutsmith measured the candidate kernels on this GPU and kept the fastest: which one it chose, " +
      "what it was compared with, and how far it is from what the memory allows."));
}

function showSummary() {
  const {shapes, tuned, saved, floor_share: floor, fp16_speedup: fp16, regret, doubtful, power_capped: capped} = report.summary;
  section("summary").append(element("div", {class: "cards"},
    card(count(shapes, "shape"), `${tuned} of them faster than the model’s default`),
    saved && card(percent(saved.median), "less time than the default where it was replaced (median)", `at most ${percent(saved.most)}`),
    card(percent(floor.median, 0), "of the speed of the floor, a kernel that only reads the weights (median)", `at least ${percent(floor.least, 0)}`),
    fp16 && card(times(fp16.median), "as fast as 16-bit weights (median)", `at least ${times(fp16.least)}`),
    card(percent(regret.median), "regret of the model: its default over the fastest (median)", `at most ${percent(regret.most)}`)));
  if (doubtful > 0) {
    section("summary").append(element("p", {class: "notice"},
      `⚠ ${count(doubtful, "shape")} measured while the GPU was busy, throttled or noisy: see the column “Quality”, and measure ` +
      `again on an idle GPU.`));
  }
  if (capped > 0) {
    section("summary").append(element("p", {class: "quiet"},
      `${count(capped, "shape")} measured while power-capped: the GPU was at its power limit, which set its clocks, as it is under any ` +
      `large product.`));
  }
}

function showChanges() {
  const {against} = report;
  if (!against) return;
  const order = ["slower", "faster", "uncertain"];
  const moved = report.shapes.filter(({change}) => order.includes(change?.status));
  moved.sort((a, b) => order.indexOf(a.change.status) - order.indexOf(b.change.status) || Math.abs(b.change.ratio - 1) - Math.abs(a.change.ratio - 1));
  const place = section("changes");
  place.hidden = false;
  place.append(
    element("h2", {id: "changes-title"}, "Changes"),
    element("p", {}, "Against ", element("code", {}, against.file), ": ",
      element("span", {class: against.slower > 0 ? "alarm" : null}, `${against.slower} slower`),
      `, ${against.faster} faster, ${against.same} as before, ${against.new} new, ${against.gone.length} gone` +
      (against.uncertain > 0 ? `, ${against.uncertain} uncertain` : "") + ". ",
      element("span", {class: "quiet"}, `Slower or faster: by more than the noise of both and than ${percent(against.tolerance)}. ` +
        "Uncertain: one of the two was measured on a GPU that was not idle.")));
  if (moved.length > 0) {
    place.append(plainTable(["Shape", ["Before, µs", "number"], ["Now, µs", "number"], "Change"], moved.slice(0, kMostNamed).map((shape) => [
      element("a", {href: `#${shape.anchor}`}, shape.name),
      microseconds(shape.change.before_microseconds), microseconds(shape.choice.microseconds), changeElement(shape)])));
  }
  if (against.new > 0 || moved.length > kMostNamed) {
    place.append(element("p", {class: "quiet"}, "All of them are marked in the table of shapes, which filters and sorts by their change."));
  }
  if (against.gone.length > 0) {
    const more = against.gone.length - kMostNamed;
    place.append(element("p", {}, "Gone: ", against.gone.slice(0, kMostNamed).map(({name}) => name).join("; "),
      more > 0 && ` and ${more} more`, "."));
  }
}

// ---- Models ----

const stepOf = (model, m) => model.steps.find((step) => step.m === m) ?? null;
const ratio = (a, b) => (a && b ? a / b : null);

function layerRows(model, step) {
  return model.layers.map(({name}, i) => {
    const shape = report.shapes[step.layers[i].shape];
    return {layer: name, floor: shape.floor_microseconds, tuned: shape.choice.microseconds, fp16: shape.fp16_microseconds, share: shape.floor_share};
  });
}

function showModel(model, place) {
  const {layers, steps} = model;
  const rows = steps.map((step) => layerRows(model, step));
  const most = Math.max(...rows.flat().flatMap(({floor, tuned, fp16}) => [floor, tuned, fp16 ?? 0]));
  place.append(
    element("h3", {}, "All linear layers, one pass of m tokens"),
    plainTable(["m", ["Tuned, µs", "number"], ["Default, µs", "number"], ["Floor, µs", "number"], ["fp16, µs", "number"], ["Of floor", "number"],
                ["Against fp16", "number"], ["Per token, µs", "number"]]
      .map((title, i) => (i === 2 || i === 3 ? [title[0], "number medium"] : title)),
      steps.map((step) => [String(step.m), microseconds(step.microseconds), microseconds(step.default_microseconds), microseconds(step.floor_microseconds),
        microseconds(step.fp16_microseconds), percent(step.floor_microseconds / step.microseconds, 0),
        times(ratio(step.fp16_microseconds, step.microseconds)), microseconds(step.microseconds_per_token)])));

  const bars = element("div", {class: "multiples"});
  place.append(element("h3", {}, "Time of each layer"), bars);
  bars.append(...steps.map((step, i) => element("figure", {}, element("figcaption", {}, `m = ${step.m}`),
    chart(`Bars: microseconds of each layer at m = ${step.m}, beside the floor and fp16`, (width) => barSpecification(rows[i], most, width)))));

  const beside = element("div", {class: "beside"});
  place.append(beside);
  const cells = steps.flatMap((step, i) => rows[i].map(({layer, share}) => ({layer, m: `m = ${step.m}`, share})));
  const heat = element("figure", {}, element("h3", {}, "Fraction of the floor"),
    element("figcaption", {}, "The floor’s time as a part of the tuned kernel’s: the darker, the less there is to gain."),
    chart("Heat map: fraction of the floor for each layer and number of tokens",
      (width) => heatSpecification(cells, layers.map(({name}) => name), steps.map(({m}) => `m = ${m}`), width)));
  const table = element("div", {}, element("h3", {}, "Shapes"),
    plainTable(["Layer", ["N × K", "short"], ["Launches", "number medium"], ...steps.map(({m}) => [`m = ${m}, µs`, "number"])],
      layers.map((layer, i) => [layer.name, dimensions(layer), String(steps[0].layers[i].launches),
        ...steps.map(({layers: of}) => {
          const shape = report.shapes[of[i].shape];
          return element("a", {href: `#${shape.anchor}`}, microseconds(shape.choice.microseconds));
        })])));
  beside.append(heat, table);
}

function showModels() {
  if (report.models.length === 0) return null;
  const place = section("models");
  place.hidden = false;
  const first = report.models[0].steps[0].m;
  const shared = report.models.every((model) => stepOf(model, first));
  const at = (model) => (shared ? stepOf(model, first) : model.steps[0]);
  const listing = new Listing({
    thing: "model", example: "llama w4", rows: report.models, detail: showModel,
    columns: [
      {title: "Model", value: ({names}) => names[0], show: ({names}) => names.join(", ")},
      ...(manyGpus ? [{title: "GPU", value: (model) => gpuOf(model).name, show: (model) => gpuOf(model).name, kind: "medium"}] : []),
      {title: "TP", hint: "tensor parallelism: how many GPUs share the model", value: ({tp}) => tp, show: ({tp}) => String(tp), kind: "number"},
      {title: "Weights", value: weightsOf, show: weightsOf, kind: "short"},
      {title: shared ? `µs per step, m = ${first}` : "µs per step", value: (model) => at(model).microseconds,
       show: (model) => microseconds(at(model).microseconds) + (shared ? "" : ` (m = ${at(model).m})`), kind: "number"},
      {title: "Of floor", value: (model) => at(model).floor_microseconds / at(model).microseconds,
       show: (model) => percent(at(model).floor_microseconds / at(model).microseconds, 0), kind: "number"},
      {title: "Against fp16", value: (model) => ratio(at(model).fp16_microseconds, at(model).microseconds),
       show: (model) => times(ratio(at(model).fp16_microseconds, at(model).microseconds)), kind: "number medium"},
    ],
    menus: [
      {title: "TP", value: ({tp}) => tp}, {title: "Weights", value: weightsOf},
      ...(manyGpus ? [{title: "GPU", value: (model) => gpuOf(model).name}] : []),
    ],
  });
  place.append(element("h2", {id: "models-title"}, "Models"),
    element("p", {class: "quiet"}, "Models all of whose linear layers were tuned. Open one for its layers; a step is one pass of m tokens."),
    listing.element);
  listing.open(listing.entries[0]);
  return listing;
}

// ---- Shapes ----

function partitionFigure(shape, place) {
  const gpu = gpuOf(shape);
  const facts = partitionChart(shape, gpu);
  const {choice} = shape;
  const notes = [
    `Vertical lines: partition counts that just fill whole waves of ${facts.resident} thread blocks ` +
    `(${gpu.multiprocessors} multiprocessors × ${facts.resident / gpu.multiprocessors}). Below: the share of those places that are filled.`,
    facts.leftOut > 0 && `${count(facts.leftOut, "slower measurement")} left out.`,
    shape.fp16_microseconds !== null && !facts.fp16Shown && `fp16 takes ${withUnit(shape.fp16_microseconds)}, above the chart.`,
  ];
  place.append(element("figure", {},
    element("h3", {}, "Time against the number of partitions"),
    chart(`Microseconds against partitions; chosen: ${choice.partitions} partitions, ${withUnit(choice.microseconds)}`,
      (width) => partitionSpecification(facts, width)),
    legend([
      {text: facts.same ? "chosen schedule (the default’s too)" : "chosen schedule", color: kColors.tuned, shape: kShapes.circle, line: true},
      {text: "its noise", color: kColors.tuned, area: 0.25},
      facts.estimate.length > 0 && {text: "the model’s prediction for it", color: kColors.estimate, line: [6, 4]},
      !facts.same && {text: "default’s schedule", color: kColors.default, shape: kShapes.square, line: true},
      facts.others.length > 0 && {text: "other schedules", color: kColors.other, shape: kShapes.cross},
      {text: "chosen", color: kColors.tuned, shape: kShapes.diamond, hollow: true},
      {text: "floor", color: kColors.floor, line: [2, 2]},
      facts.fp16Shown && {text: "fp16", color: kColors.fp16, line: [8, 3]},
      {text: "waves filled", color: "#8c959f", area: 0.5},
    ].filter(Boolean)),
    element("figcaption", {}, notes.filter(Boolean).join(" "))));
}

/** "5.02 µs with 132 partitions of rows 32, ...". */
const timedText = (shape, timed) => `${withUnit(timed.microseconds)} with ${count(timed.partitions, "partition")}: ${shape.schedules[timed.schedule].text}`;

function showShape(shape, place) {
  const {choice, conditions: at, schedules} = shape;
  const replaced = choice.schedule !== shape.default.schedule || choice.partitions !== shape.default.partitions;
  place.append(facts([
    ["Chosen", timedText(shape, choice)],
    ["Default", replaced ? `${timedText(shape, shape.default)}; ${percent(shape.saved)} of its time saved`
                         : "the same: nothing was faster by more than the noise"],
    ["Noise", `± ${percent(shape.noise)}`],
    ["Floor", `${withUnit(shape.floor_microseconds)}: ${percent(shape.floor_share)} of its speed reached`],
    ["fp16", shape.fp16_microseconds === null ? null : `${withUnit(shape.fp16_microseconds)}: ${times(shape.fp16_speedup)} as fast`],
    ["Used by", shape.layers.join(", ")],
    ["Before", shape.change?.before_microseconds ? `${withUnit(shape.change.before_microseconds)}: ${changeText(shape)}` : shape.change ? changeText(shape) : null],
  ]));
  partitionFigure(shape, place);

  place.append(element("h3", {}, "The candidates"),
    plainTable(["Schedule", ["Partitions", "number"], ["µs", "number"], "Slower by"],
      shape.contenders.map((contender) => [
        schedules[contender.schedule].text, String(contender.partitions), microseconds(contender.microseconds),
        contender.schedule === choice.schedule && contender.partitions === choice.partitions ? element("b", {}, "chosen")
        : Math.abs(contender.slower) <= shape.noise ? `${percent(contender.slower)}, within the noise` : percent(contender.slower)])),
    element("p", {class: "quiet small"}, "Each schedule with its best number of partitions."));
  if (shape.failures.length > 0) {
    place.append(element("p", {class: "small"}, "Not usable: ",
      shape.failures.map(({schedule, reason}) => `${schedules[schedule].text} (${reason})`).join("; ")));
  }
  place.append(element("h3", {}, "Measured"), facts([
    ["When", date(at.measured)],
    ["Quality", [kQuality[at.quality], at.throttled_by && `by ${at.throttled_by}`, at.power_capped && "power-capped", at.other_processes > 0 && `${at.other_processes} other processes`]
      .filter(Boolean).join(", ")],
    ["Clocks", at.clock_mhz === null ? null : `${range([at.clock_mhz, at.clock_mhz], "MHz")}` +
      (at.memory_clock_mhz === null ? "" : `, memory ${range([at.memory_clock_mhz, at.memory_clock_mhz], "MHz")}`)],
    ["Power", at.power_watts === null ? null : `${at.power_watts} W` + (at.temperature_celsius === null ? "" : `, ${at.temperature_celsius} °C`)],
    ["Versions", `driver ${at.driver}, ${at.compiler}, lutsmith ${at.library}`],
  ]));
}

function showShapes() {
  const changed = report.shapes.some(({change}) => change);
  report.shapes.forEach((shape) => (shape.words = `${shape.name} ${shape.layers.join(" ")}`));
  const listing = new Listing({
    thing: "shape", example: "4096 w4", rows: report.shapes, detail: showShape,
    columns: [
      {title: "N × K", value: ({spec}) => spec.n * 1e7 + spec.k, show: ({spec}) => dimensions(spec), kind: "short"},
      {title: "m", hint: "tokens", value: ({spec}) => spec.m, show: ({spec}) => String(spec.m), kind: "number"},
      {title: "Weights", value: weightsOf, show: weightsOf, kind: "short"},
      ...(manyGpus ? [{title: "GPU", value: (shape) => gpuOf(shape).name, show: (shape) => gpuOf(shape).name, kind: "wide"}] : []),
      {title: "Layers", value: ({layers}) => layers[0] ?? null, show: ({layers}) => layers.length < 2 ? layers.join("") : `${layers[0]} and ${layers.length - 1} more`, kind: "wide"},
      {title: "µs", hint: "of the tuned choice", value: ({choice}) => choice.microseconds, show: ({choice}) => microseconds(choice.microseconds), kind: "number"},
      {title: "Saved", hint: "part of the default’s time", value: ({saved}) => saved, show: ({saved}) => saved > 0 ? percent(saved) : kNothing, kind: "number"},
      {title: "Of floor", hint: "the floor’s time as a part of the choice’s", value: ({floor_share: share}) => share, show: ({floor_share: share}) => percent(share, 0), kind: "number"},
      {title: "Against fp16", value: ({fp16_speedup: speedup}) => speedup, show: ({fp16_speedup: speedup}) => times(speedup), kind: "number medium"},
      {title: "Regret", hint: "the model’s default over the fastest", value: ({regret}) => regret, show: ({regret}) => percent(regret), kind: "number wide"},
      {title: "Partitions", value: ({choice}) => choice.partitions, show: ({choice}) => String(choice.partitions), kind: "number wide"},
      ...(changed ? [{title: "Change", value: ({change}) => change?.ratio ?? null, show: changeElement, kind: "medium"}] : []),
      {title: "Quality", value: ({conditions}) => conditions.quality, show: ({conditions}) => kQuality[conditions.quality], kind: "wide"},
    ],
    menus: [
      {title: "Weights", value: weightsOf}, {title: "m", value: ({spec}) => spec.m},
      ...(manyGpus ? [{title: "GPU", value: (shape) => gpuOf(shape).name}] : []),
      ...(changed ? [{title: "Change", value: ({change}) => change?.status ?? "not compared"}] : []),
      {title: "Quality", value: ({conditions}) => conditions.quality},
    ],
  });
  section("shapes").append(element("h2", {id: "shapes-title"}, "Shapes"),
    element("p", {class: "quiet"}, `Open a row for its measurements. A click on a column’s title sorts.${sharedKind ? ` Activations and tables: ${sharedKind}.` : ""}`),
    element("p", {class: "print-only quiet"}, `Up to ${kMostOpenOnPaper} shapes are printed with their charts; filter the table for those you want.`),
    listing.element);
  if (report.models.length === 0) listing.open(listing.entries[0]);
  return listing;
}

// ---- Machines ----

function showMachines() {
  section("machines").append(element("h2", {id: "machines-title"}, "Where this was measured"),
    ...report.machines.map((machine) => facts([
      ["GPU", `${gpuOf(machine).name}, ${gpuOf(machine).multiprocessors} multiprocessors, ${gpuOf(machine).target}`],
      ["Shapes", String(machine.shapes)],
      ["When", machine.first === machine.last ? date(machine.first) : `${date(machine.first)} to ${date(machine.last)}`],
      ["Driver", machine.driver], ["Compiler", machine.compiler], ["lutsmith", machine.library],
      ["Clocks", machine.clock_mhz && `${range(machine.clock_mhz, "MHz")}, memory ${range(machine.memory_clock_mhz, "MHz")}`],
      ["Power", machine.power_watts && range(machine.power_watts, "W")],
      ["Temperature", machine.temperature_celsius && range(machine.temperature_celsius, "°C")],
    ])));
  section("end").append(element("p", {}, `Written by lutsmith ${report.library} from `,
    report.sources.map((file, i) => [i > 0 && ", ", element("code", {}, file)]).flat(), ". Charts: Vega."));
}

showHead();
showSummary();
showChanges();
const listings = [showModels(), showShapes()].filter(Boolean);
showMachines();

followAndPrint(listings);
