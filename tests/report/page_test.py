"""The page of `lutsmith report` in a headless Chromium: page_test.py LUTSMITH WRITE_EXAMPLE_CHOICES

Exits with 77, "skipped", where there is no Chromium.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import browser
import example_bench

LUTSMITH, WRITE_EXAMPLE_CHOICES = sys.argv[1:3]
DESKTOP = (1280, 900)
PHONE = (375, 800)


def texts(selector):
    return f"[...document.querySelectorAll({json.dumps(selector)})].map(e => (e.innerText ?? e.textContent).trim())"


def number_of(selector):
    return f"document.querySelectorAll({json.dumps(selector)}).length"


def change_times(source, target, factors):
    """Copies a document with the times of its choices multiplied by the factors in turn."""
    document = json.loads(source.read_text())
    for entry, factor in zip(document["entries"], factors):
        entry["choice"]["microseconds"] *= factor
    document["entries"] = document["entries"][: len(factors)]
    target.write_text(json.dumps(document))


class Page(unittest.TestCase):
    """A browser for pages that `lutsmith report` writes; no page may complain or ask for anything."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.example = cls.path("example.json")
        cls.write_example()
        cls.page = cls.write_page("page.html", cls.example)
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    @classmethod
    def path(cls, name):
        return pathlib.Path(cls.folder.name, name)

    @classmethod
    def write_page(cls, name, *arguments, code=0):
        page = cls.path(name)
        done = subprocess.run([LUTSMITH, "report", *arguments, "--html", page], stdout=subprocess.DEVNULL)
        assert done.returncode == code, f"lutsmith report ended with {done.returncode}"
        return page

    def setUp(self):
        self.browser.requests.clear()
        self.browser.complaints.clear()
        self.browser.size(*DESKTOP)

    def tearDown(self):
        self.assertEqual(self.browser.complaints, [])
        asked_for = [url for url in self.browser.requests if not url.startswith(("file://", "data:", "about:"))]
        self.assertEqual(asked_for, [], "the page asks for something over the network")
        self.assertLessEqual({pathlib.PurePath(url.split("#")[0]).suffix for url in self.browser.requests if url.startswith("file:")}, {".html"})
        self.assertEqual(self.browser.evaluate("performance.getEntriesByType('resource').map(e => e.name)"), [])

    def value(self, expression):
        return self.browser.evaluate(expression)

    def column(self, title):
        """What the table of shapes shows in a column, top to bottom, of the rows that are shown."""
        return self.value(
            f"""(() => {{ const titles = [...document.querySelectorAll("#shapes .listing > thead th")].map(e => e.innerText.trim());
            const place = titles.indexOf({json.dumps(title)});
            return [...document.querySelectorAll("#shapes .listing > tbody > tr.row")].filter(row => !row.hidden)
              .map(row => row.children[place].innerText.trim()); }})()"""
        )

    def head(self, title):
        """A selector of the button that sorts the table of shapes by a column."""
        place = self.value(texts("#shapes .listing > thead th")).index(title)
        return f"#shapes .listing > thead th:nth-child({place + 1}) button"

    def nothing_is_wider_than_a_phone(self, *fragments):
        self.browser.size(*PHONE, phone=True)
        for fragment in fragments:
            self.browser.open(self.page, fragment)
            self.assertGreater(self.value(number_of(".chart svg")), 0)
            self.assertEqual(self.value("document.documentElement.scrollWidth"), PHONE[0])
            self.assertEqual(self.value("innerWidth"), PHONE[0])
            outside = f"[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > {PHONE[0]}).map(e => e.outerHTML.slice(0, 80))"
            self.assertEqual(self.value(outside), [])


class TunedPageTest(Page):
    @classmethod
    def write_example(cls):
        subprocess.run([WRITE_EXAMPLE_CHOICES, cls.example, "llama3.1-8b,qwen2.5-7b", "4,3"], check=True)

    def test_the_first_model_is_open_and_its_charts_have_marks(self):
        self.browser.open(self.page)
        self.assertEqual(self.value(number_of("#models .detail")), 1)
        # A chart of bars for each of 4 numbers of tokens, and the heat map.
        self.assertEqual(self.value(number_of("#models .detail .chart svg")), 5)
        bars = self.value(number_of("#models .multiples svg .mark-rect.role-mark path"))
        self.assertGreaterEqual(bars, 4 * 4 * 3)  # floor, tuned and fp16 of each layer
        cells = self.value(texts("#models .beside figure svg .mark-text.role-mark text"))
        self.assertEqual(len(cells), 4 * 4)
        for cell in cells:
            self.assertRegex(cell, r"^\d+%$")

    def test_charts_of_shapes_are_drawn_when_a_row_is_opened(self):
        self.browser.open(self.page)
        self.assertEqual(self.value(number_of("#shapes svg")), 0)
        self.browser.click("#shape-2 button")
        self.assertEqual(self.value(number_of("#shapes .chart svg")), 1)
        self.assertGreater(self.value(number_of("#shapes .chart svg .mark-symbol.role-mark path")), 10)
        self.assertGreaterEqual(self.value(number_of("#shapes .chart svg .mark-line.role-mark path")), 2)
        self.assertGreaterEqual(self.value(number_of("#shapes .chart svg .mark-area.role-mark path")), 2)
        written = self.value(texts("#shapes .chart svg .mark-text text"))
        for word in ("chosen", "floor", "wave"):
            self.assertTrue(any(word in text for text in written), f"{word}: {written}")
        self.assertEqual(self.value("document.querySelector('#shape-2 button').ariaExpanded"), "true")
        self.browser.click("#shape-2 button")
        self.assertEqual(self.value(number_of("#shapes .detail")), 0)

    def test_a_click_on_a_title_sorts_and_another_turns_the_order_round(self):
        self.browser.open(self.page)
        times = [float(text.replace(",", "")) for text in self.column("µs")]
        self.assertNotEqual(times, sorted(times))
        self.browser.click(self.head("µs"))
        self.assertEqual([float(text.replace(",", "")) for text in self.column("µs")], sorted(times))
        self.browser.click(self.head("µs"))
        self.assertEqual([float(text.replace(",", "")) for text in self.column("µs")], sorted(times, reverse=True))
        self.assertEqual(self.value(f"document.querySelector({json.dumps(self.head('µs'))}).parentElement.ariaSort"), "descending")

    def test_an_open_row_stays_with_its_shape_when_sorted(self):
        self.browser.open(self.page)
        self.browser.click("#shape-2 button")
        self.browser.click(self.head("µs"))
        self.assertTrue(self.value("document.getElementById('shape-2').nextElementSibling.classList.contains('detail')"))

    def test_words_and_menus_filter(self):
        self.browser.open(self.page)
        everything = len(self.column("m"))
        self.browser.type("#shapes input[type=search]", "28672 w3")
        self.assertEqual(set(self.column("N × K")), {"28672 × 4096"})
        self.assertEqual(set(self.column("Weights")), {"w3 g128"})
        self.assertEqual(self.value("document.querySelector('#shapes output').textContent"), f"4 of {everything} shapes")
        self.value("""(() => { const menu = [...document.querySelectorAll("#shapes label")].find(e => e.innerText.startsWith("m")).querySelector("select");
            menu.value = "8"; menu.dispatchEvent(new Event("change")); })()""")
        self.assertEqual(self.column("m"), ["8"])
        self.browser.type("#shapes input[type=search]", " nothing has this")
        self.assertEqual(self.column("m"), [])

    def test_a_link_opens_the_shape_it_names(self):
        self.browser.open(self.page)
        target = self.value("document.querySelector('#models .beside td a').hash")
        self.browser.click("#models .beside td a")
        self.assertTrue(self.value(f"document.querySelector('{target}').classList.contains('open')"))
        self.browser.open(self.page, "#shape-5")
        self.assertTrue(self.value("document.getElementById('shape-5').classList.contains('open')"))

    def test_nothing_is_wider_than_a_phone(self):
        self.nothing_is_wider_than_a_phone("", "#shape-3")

    def test_charts_are_drawn_again_when_the_window_changes(self):
        self.browser.open(self.page, "#shape-3")
        width = "document.querySelector('#shapes .chart svg').viewBox.baseVal.width"
        wide = self.value(width)
        self.browser.size(*PHONE)
        self.value("new Promise(done => { const look = () => matchMedia('(max-width: 400px)').matches &&"
                   f" {width} < 400 ? done(1) : setTimeout(look, 20); look(); }})")
        self.assertLess(self.value(width), wide)

    def test_paper_shows_what_was_closed_and_no_controls(self):
        self.browser.open(self.page)
        self.value("addEventListener('beforeprint', () => window.printed = document.querySelectorAll('#shapes .detail').length)")
        self.browser.print_to(self.path("page.pdf"))
        pdf = self.path("page.pdf").read_bytes()
        self.assertTrue(pdf.startswith(b"%PDF-"))
        self.assertGreater(len(pdf), 50_000)
        self.assertEqual(self.value("window.printed"), len(self.column("m")))
        self.assertEqual(self.value(number_of("#shapes .detail")), 0)  # and closed again afterwards
        self.browser.send("Emulation.setEmulatedMedia", media="print")
        shown = self.value("[...document.querySelectorAll('.controls')].map(e => getComputedStyle(e).display)")
        self.browser.send("Emulation.setEmulatedMedia", media="")
        self.assertEqual(set(shown), {"none"})

    def test_regressions_are_marked_and_fail_the_command(self):
        older = self.path("older.json")
        change_times(self.example, older, [1 / 1.1, 1.1, 1, 1, 1])
        page = self.write_page("changes.html", self.example, "--against", older, code=1)
        self.browser.open(page)
        changes = self.value(texts("#changes tbody tr td:last-child"))
        self.assertEqual(changes, ["▲ slower 10.0 %", "▼ faster 9.1 %"])
        self.assertEqual(self.column("Change").count("+ new"), len(self.column("Change")) - 5)
        self.assertIn("1 slower, 1 faster, 3 as before", self.value("document.querySelector('#changes p').innerText"))
        self.browser.click(self.head("Change"))
        self.assertEqual(self.column("Change")[0], "▼ faster 9.1 %")

    def test_a_document_with_one_entry_is_a_page(self):
        one = self.path("one.json")
        change_times(self.example, one, [1])
        self.browser.open(self.write_page("one.html", one))
        self.assertEqual(self.value("document.getElementById('models').hidden"), True)
        self.assertEqual(self.value(number_of("#shapes .chart svg")), 1)
        self.assertEqual(self.value(number_of("#shapes select, #shapes input")), 0)

    def test_thousands_of_entries_are_listed_without_drawing(self):
        many = self.path("many.json")
        document = json.loads(self.example.read_text())
        entries = document["entries"]
        document["entries"] = []
        for i in range(2000):
            entry = json.loads(json.dumps(entries[i % len(entries)]))
            entry["spec"]["n"] = 32 * (i + 1)
            document["entries"].append(entry)
        many.write_text(json.dumps(document))
        self.browser.open(self.write_page("many.html", many))
        self.assertEqual(len(self.column("m")), 2000)
        self.assertLessEqual(self.value(number_of("svg")), 12)  # of what is open, with its legend
        self.browser.type("#shapes input[type=search]", "64000")
        self.assertEqual(self.column("N × K")[0].split(" × ")[0], "64000")

    def test_text_of_a_document_is_only_text(self):
        hostile = self.path("hostile.json")
        document = json.loads(self.example.read_text())
        text = "</script><script>window.taken = 1</script><img src='https://example.org/x.png' onerror='window.taken = 1'>"
        document["gpu"]["name"] = text
        document["entries"] = document["entries"][:1]
        document["entries"][0]["failures"] = [{"schedule": 0, "reason": text}]
        document["entries"][0]["conditions"]["driver"] = text
        hostile.write_text(json.dumps(document))
        self.browser.open(self.write_page("hostile.html", hostile))
        self.assertIn(text, self.value("document.querySelector('h1').textContent"))
        self.assertIsNone(self.value("window.taken"))
        self.assertEqual(self.value(number_of("img")), 0)


class BenchPageTest(Page):
    """Times over the number of tokens: what is planted in the example is marked, and nothing else."""

    @classmethod
    def write_example(cls):
        cls.example.write_text(json.dumps(example_bench.example()))

    def symbols(self, place, color):
        """How many symbols of a colour the charts in a place have."""
        return self.value(number_of(f"{place} svg .mark-symbol.role-mark path[fill='{color}']"))

    def show_marked(self):
        self.value("""(() => { const menu = [...document.querySelectorAll("#shapes label")].find(e => e.innerText.startsWith("Marks")).querySelector("select");
            menu.value = "some"; menu.dispatchEvent(new Event("change")); })()""")

    def open_shape(self, size):
        anchor = self.value(f"""[...document.querySelectorAll("#shapes tr.row")].find(e => e.innerText.includes({json.dumps(size)})).id""")
        self.browser.click(f"#{anchor} button")
        return f"#{anchor} + .detail"

    def test_a_model_has_a_chart_of_each_layer_on_the_same_axes(self):
        self.browser.open(self.page)
        self.assertEqual(self.column("N × K")[0], "2304 × 3584")
        self.assertEqual(self.value(texts("#models .multiples figcaption b")), ["qkv", "o", "gate_up", "down"])
        self.assertEqual(self.value(number_of("#models .multiples .chart svg")), 4)
        # The kernel, cuBLAS and the floor above, and the speed below.
        self.assertEqual(self.value(number_of("#models .multiples svg .mark-line.role-mark path")), 4 * 4)
        ticks = self.value("[...document.querySelectorAll('#models .multiples svg')].map(svg => [...svg.querySelectorAll('.role-axis-label text')].map(e => e.textContent).join(' '))")
        self.assertEqual(len(set(ticks)), 1)
        self.assertIn("1 4 16 64 256 1024 4096", ticks[0])

    def test_what_is_slow_falls_or_failed_is_marked_and_nothing_else(self):
        self.browser.open(self.page)
        slow, cliff, failed = "#e69f00", "#aa3377", "#1b1f24"
        self.assertEqual(self.symbols("#summary", slow), 1)
        self.assertEqual([self.symbols("#models", color) for color in (slow, cliff, failed)], [2, 2, 1])  # slow: time and speed
        self.assertEqual(self.value(texts("#marked tbody tr td:nth-child(-n+4)")), [
            "4096 × 4096", "96", "19.2", "15.3",
            "4096 × 4096", "96", "128", "1.97×",
            "4096 × 14336", "12", "16", "1.50×",
            "6144 × 4096", "4096", "the result is wrong: <b>0.4</b>"])
        self.assertEqual([mark for mark in self.column("Marks") if mark != "–"], ["◆ 1 slow, ▼ 1 cliff", "▼ 1 cliff", "✕ 1 failed"])

    def test_figures_at_the_top_are_those_of_the_data(self):
        self.browser.open(self.page)
        ranges = self.value("report.summary.ranges")
        cards = self.value(texts("#summary .card b"))
        self.assertEqual(cards[:5], [f"{each['mean']:.2f}×" for each in ranges])
        self.assertEqual(cards[5], f"{self.value('report.summary.step.mean'):.2f}×")
        self.assertEqual(self.value(texts("#summary .card .alarm")), ["◆ 1 below 0.9"])
        self.assertIn("cuBLAS 13.1.0", self.value("document.getElementById('top').innerText"))

    def test_an_opened_shape_has_a_chart_and_all_times(self):
        self.browser.open(self.page)
        detail = self.open_shape("4096 × 4096")
        self.assertEqual(self.value(number_of(f"{detail} .chart svg")), 1)
        self.assertEqual(self.value(number_of(f"{detail} tbody tr")), len(example_bench.TOKENS))
        row = self.value(texts(f"{detail} tbody tr")).pop(example_bench.TOKENS.index(96))
        for text in ("19.2", "0.80×", "slow", "1.97× the time of m = 128"):
            self.assertIn(text, row)
        detail = self.open_shape("6144 × 4096")
        self.assertIn("failed: the result is wrong: <b>0.4</b>", self.value(texts(f"{detail} tbody tr"))[-1])

    def test_shapes_sort_and_filter(self):
        self.browser.open(self.page)
        self.browser.click(self.head("Worst"))
        worst = [float(text.rstrip("×")) for text in self.column("Worst")]
        self.assertEqual(worst, sorted(worst))
        self.assertEqual(worst[0], 0.8)
        self.browser.click(self.head("Marks"))
        self.assertEqual(self.column("Marks")[0], "◆ 1 slow, ▼ 1 cliff")
        self.browser.type("#shapes input[type=search]", "tp2 down")
        self.assertEqual(sorted(self.column("N × K")), ["3584 × 9472", "4096 × 7168"])
        self.browser.open(self.page)
        self.show_marked()
        self.assertEqual(len(self.column("N × K")), 3)

    def test_a_link_opens_the_shape_it_names(self):
        self.browser.open(self.page)
        target = self.value("document.querySelector('#marked td a').hash")
        self.browser.click("#marked td a")
        self.assertTrue(self.value(f"document.querySelector('{target}').classList.contains('open')"))

    def test_nothing_is_wider_than_a_phone(self):
        self.nothing_is_wider_than_a_phone("", "#shape-7")

    def test_paper_shows_the_charts_of_all_shapes_that_are_listed(self):
        self.browser.open(self.page)
        self.show_marked()
        self.value("addEventListener('beforeprint', () => window.printed = document.querySelectorAll('#shapes .detail').length)")
        self.browser.print_to(self.path("page.pdf"))
        self.assertEqual(self.value("window.printed"), 3)
        self.assertEqual(self.value(number_of("#shapes .detail")), 0)

    def test_times_without_cublas_at_one_number_of_tokens_are_a_page(self):
        one = example_bench.example(tensor_parallel=(1,), tokens=(12, 16, 96, 128, 4096))
        one["rows"] = [{name: value for name, value in row.items() if name not in ("model", "tp", "layer", "cublas_microseconds")}
                       for row in one["rows"] if row["spec"]["m"] == 16]
        one["cublas"] = None
        path = self.path("one.json")
        path.write_text(json.dumps(one))
        self.browser.open(self.write_page("one.html", path))
        self.assertEqual(self.value(number_of("#models .multiples .chart svg")), 8)
        self.assertEqual(self.value(number_of("#summary svg")), 0)
        self.assertIn("no times of cuBLAS", self.value("document.getElementById('summary').innerText"))


if __name__ == "__main__":
    if browser.find() is None:
        print(f"skipped: none of {', '.join(browser.PROGRAMS)} is installed (Debian package chromium-headless-shell)")
        sys.exit(77)
    os.environ.pop("LUTSMITH_CACHE_DIR", None)
    unittest.main(argv=sys.argv[:1], verbosity=2)
