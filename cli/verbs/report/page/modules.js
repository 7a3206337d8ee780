// Vega as its package has it: one AMD module a file, each of which asks for others by name. A module's name is that of
// the script element it stands in but for one, and those it asks for stand before it.
const modules = {};
const kOtherNames = {"vega-selection": "vega-selections"};

function define(dependencies, factory) {
  const exports = {};
  factory(...dependencies.map((name) => (name === "exports" ? exports : modules[name])));
  const name = document.currentScript.dataset.module;
  modules[kOtherNames[name] ?? name] = exports;
}
define.amd = {};
