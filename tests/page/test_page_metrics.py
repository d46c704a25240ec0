"""The figures for Prometheus, read by its own client's parser and held against the rules of its text format."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.desk import CONFIG, Desk, campaign, command, jobs_of, order

from gateway.model import AlarmKind, CampaignState, JobState, Meter
from gateway.page.looks import LONGEST_S
from gateway.page.metrics import PREFIX, Family
from gateway.worker.figures import Figures

_LINE = re.compile(
    r"# (HELP|TYPE) meter_gateway_[a-z_]+ .+"
    r'|meter_gateway_[a-z_]+(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\})? -?[0-9.e+-]+'
)


def figures(site) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by the name of their family, without prefix, after a look at every rule."""
    text = site.get("/metrics").text
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if not _LINE.fullmatch(line)] == []
    families = list(text_string_to_metric_families(text))
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in families:
        assert family.documentation and family.type in ("counter", "gauge")
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            found.setdefault(sample.name.removeprefix(PREFIX), []).append((sample.labels, sample.value))
    for samples in found.values():
        keys = [tuple(sorted(labels.items())) for labels, _ in samples]
        assert len(set(keys)) == len(keys), "no series twice"
        assert len({frozenset(labels) for labels, _ in samples}) == 1, "the same labels on each"
    assert text.count("# TYPE") == len(families) == len({family.name for family in families})
    return found


def one(site, name: str, **labels: str) -> float:
    [value] = [value for found, value in figures(site)[name] if labels.items() <= found.items()]
    return value


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ back', "two\nlines", "\\n", "ümlaut", ""])
def test_labels_come_back_as_they_were(text):
    lines = "\n".join(Family("x", "a \\ b\nc", [({"label": text}, 1)]).lines()) + "\n"
    [family] = text_string_to_metric_families(lines)
    assert family.samples[0].labels == {"label": text}
    assert family.documentation == "a \\ b\nc"


def test_a_gateway_in_order(site):
    assert one(site, "build_info", version="0.1.0", gateway="gw-1") == 1
    assert one(site, "clock_trusted") == 1
    assert one(site, "meters") == 3
    assert one(site, "outbox_limit_bytes") == 64 * 2**20
    assert sum(value for _, value in figures(site)["alarm"]) == 0
    assert {labels["state"] for labels, _ in figures(site)["jobs"]} == set(JobState)
    assert {labels["state"] for labels, _ in figures(site)["campaigns"]} == set(CampaignState)


def test_what_an_operator_is_woken_for(desk, site):
    desk.clock_says = "unsynced"
    desk.board.post(("uplink",), {"online": False, "since": None, "reason": ""})
    desk.store.raise_alarm(AlarmKind.PORT_LOST, "gone", port="lan")
    desk.store.raise_alarm(AlarmKind.DISK, "full")
    desk.board.post(("certificates",), {"first_end": "2026-01-02T00:00:00.000Z"})
    desk.send("campaign.submit", order())
    site.later(LONGEST_S)
    assert (one(site, "clock_trusted"), one(site, "broker_connected")) == (0, 0)
    assert one(site, "alarm", kind="port-lost", port="lan") == 1
    assert one(site, "alarm", kind="port-lost", port="rs485-1") == 0
    assert one(site, "alarm", kind="disk") == 1
    assert one(site, "certificate_first_end_timestamp_seconds") == 1767312000
    assert one(site, "jobs", state="queued") == 2
    assert one(site, "campaigns", state="accepted") == 1
    assert one(site, "outbox_bytes") == desk.store.outbox_bytes() > 0


def test_what_was_counted_on_a_line(desk, site):
    counted = Figures("lan", board=desk.board, clock=desk.clock)
    counted.of("MTR3").octets_out, counted.of("MTR3").timeouts = 1000, 3
    counted.post(desk.clock.monotonic())
    site.later(LONGEST_S)
    assert one(site, "port_sent_bytes_total", port="lan") == 1000
    assert one(site, "port_timeouts_total", port="lan") == 3
    assert [labels for labels, _ in figures(site)["port_busy_ratio"]] == [{"port": "lan"}]


def test_a_thousand_meters_make_no_more_series_than_three(tmp_path, open_site, site):
    meters = tuple(Meter(f"M{number}", "lan", logical_address=number) for number in range(1, 1001))
    desk = Desk(tmp_path / "many", replace(CONFIG, meters=meters))
    everybody = campaign(desk.clock, *(meter.id for meter in meters))
    desk.store.submit_campaign(command(desk.clock), everybody, jobs_of(everybody, "lan"))
    many = figures(open_site(desk))
    assert {name: len(series) for name, series in many.items()} == {
        name: len(series) for name, series in figures(site).items()
    }
    desk.close()
