"""A headless Chromium, driven over its DevTools protocol through two pipes: no driver, no library, no port."""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
LONGEST_WAIT_S = 120  # for an answer of a browser that hangs; nothing is judged by its time


def find():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page. Everything the page asks a server for, prints to the console or throws is kept."""

    def __init__(self):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        program = [
            find(),
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",  # tests run as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={self._profile.name}",
            "about:blank",
        ]

        def descriptors():
            # The browser reads from 3 and writes to 4; moved out of the way first, as they may be each other's.
            high = [os.dup2(commands, 100), os.dup2(answers, 101)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            program, preexec_fn=descriptors, pass_fds=(3, 4), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self._last_id = 0
        self._session = None
        self._buffer = b""
        self._seen = set()
        self.requests = []  # URLs
        self.complaints = []  # of the console, and what was thrown
        page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        self._session = None
        self.send("Browser.close")
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def send(self, method, **parameters):
        """Calls a method of the protocol and waits for its answer."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") != self._last_id:
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            return answer["result"]

    def _next_message(self):
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], LONGEST_WAIT_S)[0]:
                raise RuntimeError("the browser does not answer")
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, event):
        self._seen.add(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(event["entry"]["text"])

    def size(self, width, height, phone=False):
        """In CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def open(self, path, fragment=""):
        """Opens a file anew and waits until it has loaded."""
        for url in ("about:blank", pathlib.Path(path).resolve().as_uri() + fragment):
            self._seen.clear()
            self.send("Page.navigate", url=url)
            while "Page.loadEventFired" not in self._seen:
                self._next_message()
        self.settle()

    def settle(self):
        """Waits until what was begun has been drawn."""
        self.evaluate("new Promise(done => setTimeout(() => requestAnimationFrame(() => done(1)), 0))")

    def evaluate(self, expression):
        """The value of JavaScript, a promise's once it is there."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def click(self, selector):
        """Presses and releases the mouse in the middle of the first element that matches."""
        place = self.evaluate(
            f"""(() => {{ const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center"}});
            const {{x, y, width, height}} = element.getBoundingClientRect();
            return [x + width / 2, y + height / 2]; }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
        self.settle()

    def type(self, selector, text):
        """Clicks into a field and types."""
        self.click(selector)
        self.send("Input.insertText", text=text)
        self.settle()

    def screenshot(self, path, whole=False):
        picture = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole,
                            **({"clip": self._whole_page()} if whole else {}))
        pathlib.Path(path).write_bytes(base64.b64decode(picture["data"]))

    def _whole_page(self):
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def print_to(self, path):
        """Prints to a PDF."""
        answer = self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))
