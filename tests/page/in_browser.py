"""The status page of a running gateway in a real browser, as its reader sees it (make test-page).

Pictures of it are left in build/page.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser
from support.orders import order
from support.patience import eventually
from support.running import NEW, OLD, RunningGateway, free_port

from gateway.simulator import What

EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
PICTURES = Path(__file__).parents[2] / "build" / "page"
SLOW_BAUD = 4800
PHONE = (360, 640)
LONG_ID = "a-campaign-with-a-name-as-long-as-any-may-be-0123456789-0123456789"[:64]

CONTRASTS = """
const seen = [];
const numbers = color => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = element => {
  for (let one = element; one; one = one.parentElement) {
    const color = numbers(getComputedStyle(one).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.matches("progress, caption")) continue;
  const pair = [numbers(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => b - a);
  seen.push([(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 80)]);
}
return seen;
"""
"""WCAG 2.2, 1.4.3: how far every text stands out from what is behind it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[object]:
    """A gateway with a page, and the browser at it."""
    running: list[RunningGateway] = []

    def open_(**options: object) -> RunningGateway:
        port = free_port()
        sections = {
            "page": {"listen": f"127.0.0.1:{port}"},
            "gateway": {"timezone": "Europe/Helsinki"},
            "windows.night": {"start": "22:00", "duration": "5h", "timezone": "Europe/Helsinki"},
        }
        gateway = RunningGateway(tmp_path, sections=sections, **options)  # type: ignore[arg-type]
        gateway.url = f"http://127.0.0.1:{port}/"  # type: ignore[attr-defined]
        running.append(gateway)
        gateway.start()
        gateway.wait_for("status page at")
        browser.forget()
        browser.screen(1200, 900)
        browser.go(gateway.url)  # type: ignore[attr-defined]
        return gateway

    yield open_
    for gateway in running:
        gateway.close()


def reads(browser: Browser, *words: str) -> None:
    """The reader sees all of these, now or soon, without doing anything."""
    eventually(lambda: all(one in browser.text() for one in words), browser.text)


def bar(browser: Browser, meter: str) -> int | None:
    """How far the progress bar of a meter is; None: it has none."""
    found = browser.run(f"return document.querySelector('progress[aria-label=\"{meter}: blocks\"]')?.value")
    return None if found is None else int(found)


def well_behaved(browser: Browser, gateway: RunningGateway) -> None:
    """No script failed, nothing was against the policy, and nothing was asked of anybody else."""
    assert browser.complaints() == []
    asked = browser.requested()
    assert asked and all(url.startswith(gateway.url) for url in asked), asked  # type: ignore[attr-defined]


def test_an_update_is_followed_live_to_its_end(browser, open_page, tmp_path):
    gateway = open_page(meters=1, baud=SLOW_BAUD)
    reads(browser, "In order", "MTR0001", "idle", "None at work.", "night")
    order(gateway, tmp_path)
    seen: list[int] = []

    def moved() -> bool:
        if (now := bar(browser, "MTR0001")) is not None and now not in seen:
            seen.append(now)
        return len([percent for percent in seen if 0 < percent < 100]) >= 3

    eventually(moved, lambda: f"{seen}\n{browser.text()}")
    assert seen == sorted(seen)
    reads(browser, "B/s", "to go", "transferring", "running")
    browser.picture(PICTURES / "transferring.png")
    gateway.hurry()
    reads(browser, "succeeded", "1 updated", NEW, "None at work.")
    well_behaved(browser, gateway)


def test_nothing_that_a_meter_says_runs_in_the_browser(browser, open_page, tmp_path):
    gateway = open_page(meters=1, changes={0: {"version": EVIL}})
    order(gateway, tmp_path, LONG_ID)
    reads(browser, "succeeded")
    assert gateway.meters[0].history.count(What.ASSOCIATED) > 0
    order(gateway, tmp_path, "again")
    reads(browser, "again")
    assert browser.run("return document.title").startswith("In order")
    assert browser.run("return document.querySelectorAll('script:not([src]), img').length") == 0
    well_behaved(browser, gateway)


def test_it_is_readable_on_a_phone_in_light_and_dark(browser, open_page, tmp_path):
    gateway = open_page(meters=5, baud=SLOW_BAUD)
    order(gateway, tmp_path, LONG_ID)
    reads(browser, "transferring", "B/s")
    for dark in (False, True):
        browser.screen(*PHONE, phone=True, dark=dark)
        browser.go(gateway.url)
        reads(browser, LONG_ID)
        browser.picture(PICTURES / f"phone-{'dark' if dark else 'light'}.png")
        wide = "return [...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right)"
        assert max(browser.run(wide)) <= PHONE[0]
        assert browser.run("return document.documentElement.scrollWidth") == PHONE[0]
        poor = [pair for pair in browser.run(CONTRASTS) if pair[0] < 4.5]
        assert poor == []
    browser.screen(1200, 900)
    assert [pair for pair in browser.run(CONTRASTS) if pair[0] < 4.5] == []
    well_behaved(browser, gateway)


def test_without_a_script_it_is_the_same_and_renews_itself(browser, open_page, tmp_path):
    browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        gateway = open_page(meters=1)
        assert all(word in browser.source() for word in ("In order", "MTR0001", "None at work."))
        order(gateway, tmp_path)
        eventually(
            lambda: all(word in browser.source() for word in ("succeeded", f">{NEW}<")), browser.source
        )
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", value=False)


def test_it_says_so_when_the_gateway_does_not_answer_and_goes_on_when_it_does(browser, open_page):
    gateway = open_page(meters=1)
    reads(browser, "In order")
    assert gateway.stop() == 0
    reads(browser, "The gateway does not answer")
    browser.picture(PICTURES / "stale.png")
    gateway.start()
    eventually(lambda: "does not answer" not in browser.text(), browser.text)
    assert OLD not in browser.text(), "nobody has asked the meter"


def hidden(browser: Browser, yes: bool) -> None:
    """As when its reader turns to another tab, and back."""
    browser.run(
        f"Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {str(yes).lower()}}});"
        "document.dispatchEvent(new Event('visibilitychange'));"
    )


def test_nobody_is_asked_while_nobody_looks(browser, open_page):
    gateway = open_page(meters=1)
    eventually(lambda: any("live.json" in url for url in browser.requested()))
    hidden(browser, True)
    eventually(lambda: not browser.requested(), lambda: "what was asked before has been answered")
    time.sleep(4)  # the next look would have come
    assert browser.requested() == []
    hidden(browser, False)
    eventually(lambda: any("live.json" in url for url in browser.requested()))
    assert browser.complaints() == []
    assert gateway.process.poll() is None
