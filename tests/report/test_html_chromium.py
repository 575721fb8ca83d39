"""The HTML pages in a real browser: no errors, no requests, everything drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from benchmarking import cell, file_record, plan, result
from made_profile import made_profile

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.report.benchmark_report import BenchmarkReport
from fluidaudio_cli.report.html_benchmark import benchmark_page
from fluidaudio_cli.report.html_profile import profile_page

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=NetworkTimeServiceQuerying",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
)
# Chromium's number for a dark preferred colour scheme (blink::mojom::PreferredColorScheme).
_DARK = "--blink-settings=preferredColorScheme=0"
_BROWSER = "not an origin"
# Appended to the page: notes in the document what a reader would see.
_PROBE = """<script>
const ink = document.querySelector(".main-svg text");
document.body.dataset.probe = JSON.stringify({
  plots: document.querySelectorAll(".js-plotly-plot .main-svg").length,
  bars: document.querySelectorAll("#chart-waterfall .bars .point").length,
  page: getComputedStyle(document.body).backgroundColor,
  ink: ink ? getComputedStyle(ink).fill : "",
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
});
const tables = "#table-cell-1-2, #table-files, #table-stages";
const button = document.querySelector(tables).querySelector("th button");
button.click(); button.click();
document.body.dataset.first = button.closest("table").tBodies[0].rows[0].cells[0].textContent;
</script>"""


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page."""

    dom: str
    console: list[str]
    requests: list[str]

    @property
    def seen(self) -> dict[str, object]:
        text = re.search(r'data-probe="([^"]*)"', self.dom)
        assert text, "the page's script did not run to its end"
        found: dict[str, object] = json.loads(text[1].replace("&quot;", '"'))
        return found

    def attribute(self, name: str) -> str:
        found = re.search(rf'{name}="([^"]*)"', self.dom)
        return found[1] if found else ""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    return found


def visit(chromium: str, page: str, folder: Path, *flags: str) -> Visit:
    path, log = folder / "page.html", folder / "net.json"
    path.write_text(page.replace("</body>", f"{_PROBE}</body>"), encoding="utf-8")
    command = [chromium, *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, f"--log-net-log={log}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    # Every request is in the browser's network log; its own have no origin as initiator.
    starts = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    outside = [
        start["url"]
        for start in starts
        if re.match(r"(https?|wss?|ftp):", str(start.get("url", "")))
        and start.get("initiator", _BROWSER) != _BROWSER
    ]
    return Visit(done.stdout, console, outside)


def benchmark(modes: int = 2) -> str:
    cells = [
        cell(
            f"mode-{number}-with-a-long-name",
            file_record("a", (9.0 - number / 3, 8.0), error_seconds=5.0 + number),
            file_record("b"),
        )
        for number in range(modes)
    ]
    lengths = [
        cell("fast", file_record(walls=(length / 300,)), study="scaling", length=length)
        for length in (600.0, 3600.0)
    ]
    whole = result(*cells, *lengths, plan=plan(*(each.cell for each in cells)))
    whole = whole.model_copy(update={"findings": conclude(whole)})
    return benchmark_page(BenchmarkReport(whole))


def test_profile_page_draws_without_errors_or_requests(chromium: str, tmp_path: Path) -> None:
    seen = visit(chromium, profile_page(made_profile()), tmp_path, "--window-size=1200,900")
    assert seen.console == []
    assert seen.requests == []
    assert seen.attribute("data-ready") == "yes"
    assert seen.seen["bars"] == 5
    # Six charts of three layers each.
    assert seen.seen["plots"] == 18
    assert seen.seen["page"] == "rgb(246, 247, 249)"
    assert seen.attribute("data-first") == "segmentation"


def test_a_request_would_be_seen(chromium: str, tmp_path: Path) -> None:
    page = profile_page(made_profile()).replace("img-src data:", "img-src http: data:")
    page = page.replace("</main>", '<img src="http://127.0.0.1:9/pixel.png"></main>')
    assert visit(chromium, page, tmp_path).requests == ["http://127.0.0.1:9/pixel.png"]


def test_the_policy_stops_a_request(chromium: str, tmp_path: Path) -> None:
    page = profile_page(made_profile())
    seen = visit(
        chromium,
        page.replace("</main>", '<img src="http://127.0.0.1:9/pixel.png"></main>'),
        tmp_path,
    )
    assert seen.requests == []
    assert "Content Security Policy" in seen.console[0]


def test_profile_page_is_dark_for_who_prefers_that(chromium: str, tmp_path: Path) -> None:
    seen = visit(chromium, profile_page(made_profile()), tmp_path, _DARK).seen
    assert seen["page"] == "rgb(16, 20, 24)"
    assert seen["ink"] == "rgb(230, 233, 237)"


# Notes how wide the page is, and which texts of its charts lie outside of them.
_CUT = """<script>
const cut = [];
for (const chart of document.querySelectorAll(".js-plotly-plot")) {
  const frame = chart.getBoundingClientRect();
  for (const text of chart.querySelectorAll(".main-svg text")) {
    const box = text.getBoundingClientRect();
    if (box.width && (box.left < frame.left - 1 || box.right > frame.right + 1))
      cut.push(text.textContent);
  }
}
const ticks = [...document.querySelectorAll(".js-plotly-plot")].map(chart =>
  Math.max(chart.querySelectorAll(".xtick").length, chart.querySelectorAll(".ytick").length));
const seen = {width: document.documentElement.scrollWidth, cut: cut, ticks: Math.min(...ticks)};
parent.postMessage(JSON.stringify(seen), "*");
</script></body>"""


def framed(chromium: str, page: str, folder: Path, width: int) -> dict[str, Any]:
    """What a reader sees in a window so wide (headless ones are at least 500 pixels: a frame)."""
    inner = folder / "inner"
    inner.mkdir()
    (inner / "page.html").write_text(page.replace("</body>", _CUT), encoding="utf-8")
    outer = (
        '<html><body><table id="table-files"><thead><tr><th><button></button></th></tr></thead>'
        "<tbody><tr><td></td></tr></tbody></table>"
        "<script>onmessage = e => { document.body.dataset.seen = e.data; }</script>"
        f'<iframe src="inner/page.html" style="width:{width}px;height:844px;border:0"></iframe>'
        "</body></html>"
    )
    seen = visit(chromium, outer, folder, "--window-size=1400,900").attribute("data-seen")
    found: dict[str, Any] = json.loads(seen.replace("&quot;", '"'))
    return found


def test_profile_page_fits_a_phone(chromium: str, tmp_path: Path) -> None:
    assert framed(chromium, profile_page(made_profile()), tmp_path, 390)["width"] == 390


@pytest.mark.parametrize("modes", [2, 20])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_of_a_benchmark_is_cut_off(
    chromium: str, tmp_path: Path, width: int, modes: int
) -> None:
    seen = framed(chromium, benchmark(modes), tmp_path, width)
    assert seen["width"] == width
    assert seen["cut"] == []
    assert seen["ticks"] >= 2


def test_benchmark_page_draws_and_sorts(chromium: str, tmp_path: Path) -> None:
    seen = visit(chromium, benchmark(), tmp_path)
    assert (seen.console, seen.requests) == ([], [])
    assert seen.seen["plots"] == 21
    # Pressed twice: by file name, descending.
    assert seen.attribute("data-first") == "b"
