"""What somebody reads on the status page, and what no text from outside can make of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from support.desk import CONFIG, Desk, campaign, command, jobs_of, order

from gateway.errors import Code
from gateway.model import AlarmKind, Config, JobState, Meter, PageSettings, StepReport
from gateway.page.looks import LONGEST_S, OPEN_SHOWN, Looks
from gateway.page.markup import Html, el

EVIL = "<script>alert(1)</script>\x1b[2J\"'&</p>"
_VOID = {"meta", "link"}


class Page(HTMLParser):
    """The page as a browser understands it; every element must be closed where it belongs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words += data + " "


def read(site, target: str = "/") -> Page:
    told = site.get(target)
    assert told.status == 200
    return Page(told.text)


def test_text_is_text_unless_it_was_made_as_markup():
    assert el("p", "a < b", Html("<br>"), None, 3) == "<p>a &lt; b<br>3</p>"
    assert (
        el("td", "x", class_="a", data_head='"', hidden=True, id=None)
        == '<td class="a" data-head="&quot;" hidden>x</td>'
    )


def test_a_quiet_gateway_in_order(site):
    page = read(site)
    for words in ("In order", "MTR1", "rs485-1", "None at work.", "not used yet", "idle"):
        assert words in page.words
    assert ("html", {"lang": "en"}) in page.tags
    assert any(tag == "meta" and attrs.get("name") == "viewport" for tag, attrs in page.tags)


def test_the_page_loads_its_own_things_only_and_has_no_script_or_style_inside(site):
    for tag, attrs in read(site).tags:
        assert not {name for name in attrs if name.startswith("on") or name == "style"}
        assert tag not in ("style", "iframe", "form", "object", "base")
        for value in (attrs.get("src"), attrs.get("href")):
            assert value is None or re.fullmatch(r"page[.](js|css)|icon[.]svg|[?]meters=\d+#meters", value)
    assert '<script src="page.js" defer></script>' in site.get().text


def test_nothing_from_outside_becomes_markup(desk, open_site):
    """Whatever a meter says of its version, a broker of its reasons, an order of itself."""
    desk.store.submit_campaign(
        command(desk.clock),
        campaign(desk.clock, "MTR1", "MTR2"),
        jobs_of(campaign(desk.clock, "MTR1", "MTR2")),
    )
    desk.store.save_job(
        replace(
            desk.store.job("fw-1", "MTR1"),
            state=JobState.FAILED,
            code=Code.T_VERSION,
            message=EVIL,
            detail=EVIL,
            version_before=EVIL,
            version_after=EVIL,
            finished_at=desk.clock.now(),
        )
    )
    desk.board.post(("uplink",), {"online": False, "since": None, "reason": EVIL})
    desk.board.post(
        ("alarm", "mqtt_refused"),
        {"topic": EVIL, "reason": 135, "message": EVIL, "at": "2026-01-01T00:00:00.000Z"},
    )
    desk.store.raise_alarm(AlarmKind.DISK, EVIL)
    site = open_site(desk)
    told = site.get()
    assert "<script>alert" not in told.text and "\x1b" not in told.text
    page = Page(told.text)
    assert page.words.count("<script>alert(1)</script>\\x1b[2J\"'&</p>") >= 5, "it is shown, as what it is"
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"src": "page.js", "defer": None}]
    parts = json.loads(site.get("/live.json").body)["parts"]
    assert "<script" not in "".join(parts.values())


def test_the_script_is_given_the_same_parts(site):
    page, live = site.get().text, json.loads(site.get("/live.json").body)
    assert list(live["parts"]) == ["summary", "alarms", "campaigns", "ports", "meters", "windows", "ended"]
    for name, part in live["parts"].items():
        assert part in page
        assert part.startswith(f'<section id="{name}"') or f'id="{name}"' in part.split(">")[0]


def test_alarms_say_what_to_do_and_are_the_first_thing_to_see(desk, site):
    desk.store.raise_alarm(AlarmKind.PORT_LOST, "/dev/ttyUSB0 is not there", port="rs485-1")
    site.later(LONGEST_S)
    page = read(site)
    assert "1 alarm" in page.words and "Check the adapter and its cable" in page.words
    assert page.words.index("port-lost.rs485-1") < page.words.index("None at work.")


def test_a_campaign_with_its_progress(desk, site):
    desk.send("campaign.submit", order())
    desk.store.save_job(
        replace(desk.store.job("fw-1", "MTR2"), state=JobState.TRANSFERRING, blocks_done=10, blocks_total=200)
    )
    desk.board.post(
        ("progress", "fw-1", "MTR2"),
        {"blocks_done": 120, "blocks_total": 200, "bytes_per_s": 812, "eta_s": 200},
    )
    site.later(LONGEST_S)
    page = read(site)
    assert "60 %, 812 B/s, 3 min 20 s to go" in page.words
    assert ("progress", {"max": "100", "value": "60", "aria-label": "MTR2: blocks"}) in page.tags
    assert page.words.index("MTR2") < page.words.index("MTR1"), "who is worked on comes first"
    assert "And 1 queued." in page.words


def test_each_table_has_headers_and_a_name_and_each_part_a_heading(desk, site):
    desk.send("campaign.submit", order())
    site.later(LONGEST_S)
    page = read(site)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 0
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert tags.count("h1") == 1
    named = {
        attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section" and "hidden" not in attrs
    }
    assert named <= {attrs.get("id") for tag, attrs in page.tags if tag == "h2"}


def many(meters: int) -> Config:
    return replace(
        CONFIG,
        meters=tuple(
            Meter(f"M{number:04}", "rs485-1", physical_address=number) for number in range(1, meters + 1)
        ),
    )


def test_a_thousand_meters_come_page_by_page_and_a_campaign_of_them_in_short(tmp_path, open_site):
    desk = Desk(tmp_path, many(1000))
    everybody = campaign(desk.clock, *(meter.id for meter in desk.config.meters))
    desk.store.submit_campaign(command(desk.clock), everybody, jobs_of(everybody))
    site = open_site(desk)
    first, last = site.get("/?meters=1"), site.get("/?meters=20")
    assert len(first.body) < 100_000
    assert "And 1000 queued." in first.text and "1 to 50 of 1000" in first.text
    assert "M1000" in last.text and "951 to 1000 of 1000" in last.text
    assert site.get("/?meters=999").body == last.body
    assert len(site.get("/metrics").body) < 30_000
    desk.close()


def test_only_some_of_many_campaigns_are_shown_with_their_meters(tmp_path, open_site):
    desk = Desk(tmp_path, many(OPEN_SHOWN + 2))
    for number, meter in enumerate(desk.config.meters):
        one = campaign(desk.clock, meter.id, id=f"c{number}")
        desk.store.submit_campaign(command(desk.clock), one, jobs_of(one))
    page = read(open_site(desk))
    assert [tag for tag, _ in page.tags].count("article") == OPEN_SHOWN
    assert "And 2 more that go on." in page.words
    desk.close()


def test_all_who_ask_at_once_share_a_look(desk):
    asked = []

    def ask(verb, args):
        asked.append(verb)
        desk.clock.advance(0.1)
        return desk.controller.look(verb, args)

    looks = Looks(ask, desk.clock)
    first = looks.now()
    assert len(asked) == 5
    desk.clock.advance(20 * 0.5 - 0.1)
    assert looks.now() is first and len(asked) == 5, "twenty times as long as it took"
    desk.clock.advance(0.2)
    assert looks.now() is not first
    desk.clock.advance(LONGEST_S)
    looks.forget_old()
    assert looks._last is None


def test_another_address_is_used_from_the_next_step_on(desk, site):
    before = site.port
    site.page.use(PageSettings("::1", 0))
    assert site.step() == "0 connections"
    site.host = "::1"
    assert (site.get(host="[::1]").status, site.port != before) == (200, True)
    site.page.use(None)
    assert site.page.step(0.0) == StepReport("off", None)


def test_a_port_that_is_taken_is_an_alarm_until_it_is_free(desk, site, open_site):
    taken = PageSettings("127.0.0.1", site.port)
    other = open_site(desk)
    other.page.use(taken)
    report = other.page.step(0.0)
    assert report.sentence == "cannot listen" and report.wake_at > desk.clock.monotonic()
    [alarm] = desk.board.values("alarm").values()
    assert alarm["kind"] == "page" and "already in use" in alarm["message"]
    site.page.use(None)
    site.step()
    assert other.step() == "0 connections"
    assert desk.board.values("alarm") == {}
