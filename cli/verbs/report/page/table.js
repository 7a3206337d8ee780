// A table whose rows sort by a click on a column's title, are filtered by text and by menus, and open to show more.

const kFewRows = 8;  // Fewer are found without a search.

class Listing {
  /**
   * columns: {title, value(row) -> number, text or null, show(row) -> text or element, kind: classes, hint}; the first is
   *          what opens a row
   * menus:   {title, value(row) -> text}: a menu each, unless all rows have the same value
   * detail:  (row, element) fills the element when a row is opened
   * thing:   what a row is: "shape"; example: words to look for
   */
  constructor({columns, rows, menus, detail, thing, example}) {
    this.columns = columns;
    this.detail = detail;
    this.thing = thing;
    this.entries = rows.map((row, place) => ({row, place, shown: true, opened: null, line: this.line(row)}));
    this.entries.forEach((entry) => {
      entry.text = entry.line.textContent.toLowerCase() + " " + (entry.row.words ?? "").toLowerCase();
      entry.line.addEventListener("click", (event) => {
        if (!event.target.closest("a")) this.toggle(entry);
      });
    });
    this.heads = columns.map((column, i) => this.head(column, i));
    this.body = element("tbody", {}, this.entries.map((entry) => entry.line));
    this.table = element("table", {class: "listing"}, element("thead", {}, element("tr", {}, this.heads)), this.body);
    this.element = element("div", {}, this.controls(menus, example), this.table);
    this.filter();
  }

  line(row) {
    return element("tr", {class: "row", id: row.anchor}, this.columns.map((column, i) => {
      const content = column.show(row);
      return element("td", {class: column.kind},
        i === 0 ? element("button", {class: "expand", type: "button", "aria-expanded": "false"}, content) : content);
    }));
  }

  head(column, i) {
    const button = element("button", {type: "button", title: column.hint ?? null}, column.title);
    button.addEventListener("click", () => this.sort(i));
    return element("th", {scope: "col", class: column.kind, "aria-sort": "none"}, button);
  }

  controls(menus, example) {
    const search = element("input", {type: "search", placeholder: `such as ${example}`, autocomplete: "off"});
    search.addEventListener("input", () => this.filter());
    this.search = search;
    this.menus = menus.flatMap(({title, value}) => {
      const values = [...new Set(this.entries.map(({row}) => value(row)))].sort(compare);
      if (values.length < 2) return [];
      const menu = element("select", {},
        element("option", {value: ""}, "all"), values.map((text) => element("option", {value: text}, String(text))));
      menu.addEventListener("change", () => this.filter());
      return [{title, value, menu}];
    });
    this.told = element("output");
    return element("div", {class: "controls"},
      this.entries.length >= kFewRows && element("label", {class: "search"}, `Find ${this.thing}s with these words`, search),
      this.menus.map(({title, menu}) => element("label", {}, title, menu)), this.told);
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of this.entries) {
      entry.shown = words.every((word) => entry.text.includes(word)) &&
        this.menus.every(({value, menu}) => menu.value === "" || String(value(entry.row)) === menu.value);
      shown += entry.shown ? 1 : 0;
      entry.line.hidden = !entry.shown;
      if (entry.opened) entry.opened.hidden = !entry.shown;
    }
    const all = this.entries.length;
    this.told.textContent = shown === all ? count(all, this.thing) : `${shown} of ${count(all, this.thing)}`;
  }

  /** Rows without a value stay at the end, whichever way they are sorted. */
  sort(column) {
    const head = this.heads[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    this.heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = this.columns[column].value;
    const missing = (entry) => (value(entry.row) === null ? 1 : 0);
    this.entries.sort((a, b) => missing(a) - missing(b) ||
      (down ? -1 : 1) * compare(value(a.row), value(b.row)) || a.place - b.place);
    this.body.append(...this.entries.flatMap(({line, opened}) => (opened ? [line, opened] : [line])));
  }

  toggle(entry) {
    if (entry.opened) this.close(entry);
    else this.open(entry);
  }

  open(entry) {
    if (entry.opened) return;
    const cell = element("td", {colspan: this.columns.length});
    entry.opened = element("tr", {class: "detail"}, cell);
    entry.line.after(entry.opened);
    entry.line.classList.add("open");
    entry.line.querySelector("button.expand").setAttribute("aria-expanded", "true");
    this.detail(entry.row, cell);
    drawCharts();
  }

  close(entry) {
    if (!entry.opened) return;
    forgetCharts(entry.opened);
    entry.opened.remove();
    entry.opened = null;
    entry.line.classList.remove("open");
    entry.line.querySelector("button.expand").setAttribute("aria-expanded", "false");
  }

  /** Opens the row with this id and shows it, even where a filter hides it; false where it is another table's. */
  reveal(anchor) {
    const entry = this.entries.find(({row}) => row.anchor === anchor);
    if (!entry) return false;
    if (!entry.shown) {
      this.search.value = "";
      this.menus.forEach(({menu}) => (menu.value = ""));
      this.filter();
    }
    this.open(entry);
    entry.line.scrollIntoView({block: "start"});
    return true;
  }

  /** On paper nothing can be opened: all rows that the filter shows are, up to so many; returns what closes them. */
  openForPrint(most) {
    const closed = this.entries.filter(({shown, opened}) => shown && !opened);
    if (closed.length > most) return () => {};
    closed.forEach((entry) => this.open(entry));
    return () => closed.forEach((entry) => this.close(entry));
  }
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
}

const kMostOpenOnPaper = 120;  // A page each; drawn in some seconds.

/** Opens the row that the page's address names, now and whenever it changes; prints rows as if they were open. */
function followAndPrint(listings) {
  const follow = () => listings.some((listing) => listing.reveal(location.hash.slice(1)));
  window.addEventListener("hashchange", follow);
  if (location.hash) follow();
  let closeAfterPrint = [];
  window.addEventListener("beforeprint", () => (closeAfterPrint = listings.map((listing) => listing.openForPrint(kMostOpenOnPaper))));
  window.addEventListener("afterprint", () => closeAfterPrint.forEach((close) => close()));
}
