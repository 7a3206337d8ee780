// Small helpers: elements of the page, and numbers as text.

"use strict";

/** element("td", {class: "number"}, "4.80", ...): children are texts or elements; what is null or false is left out. */
function element(name, attributes = {}, ...children) {
  const result = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) result.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) result.setAttribute(key, value);
  }
  result.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return result;
}

const kNothing = "–";
const grouped = (digits) => new Intl.NumberFormat("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
const kGrouped = [0, 1, 2, 3].map(grouped);

/** Three digits or more: 4.80, 48.0, 480, 4,801. */
function microseconds(value) {
  if (value === null || value === undefined) return kNothing;
  return kGrouped[value < 9.995 ? 2 : value < 99.95 ? 1 : 0].format(value);
}
const withUnit = (value) => (value === null || value === undefined ? kNothing : `${microseconds(value)} µs`);
const percent = (value, digits = 1) =>
  value === null || value === undefined ? kNothing : `${kGrouped[digits].format(value * 100)} %`;
const times = (value) => (value === null || value === undefined ? kNothing : `${kGrouped[value < 9.95 ? 1 : 0].format(value)}×`);
const count = (value, thing) => `${kGrouped[0].format(value)} ${thing}${value === 1 ? "" : "s"}`;
/** "2026-11-26T21:30:00Z" as "2026-11-26 21:30 UTC". */
const date = (text) => text.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*Z$/, "$1 $2 UTC");
/** "1,980" or, where the two differ, "1,965 to 1,980". */
function range(values, unit) {
  if (!values) return kNothing;
  const [low, high] = values.map((value) => kGrouped[0].format(value));
  return `${low === high ? low : `${low} to ${high}`} ${unit}`;
}

/** A list of terms and what they are; pairs without a value are left out. */
function facts(pairs) {
  return element("dl", {class: "facts"}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
}

/** A plain table: `head` are texts or [text, "number"], rows are lists of texts or elements. */
function plainTable(head, rows) {
  const columns = head.map((title) => (Array.isArray(title) ? title : [title, null]));
  return element("table", {},
    element("thead", {}, element("tr", {}, columns.map(([title, kind]) => element("th", {scope: "col", class: kind}, title)))),
    element("tbody", {}, rows.map((cells) =>
      element("tr", {}, cells.map((cell, i) => element("td", {class: columns[i][1]}, cell))))));
}

const section = (name) => document.getElementById(name);
const dimensions = ({n, k}) => `${n} × ${k}`;

/** A figure at the top: a number, and lines that say of what. */
function card(value, ...lines) {
  return element("div", {class: "card"}, element("b", {}, value), lines.filter(Boolean).map((line) => element("span", {}, line)));
}
