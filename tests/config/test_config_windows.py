"""[windows.NAME] as operators write them, rightly and wrongly."""

from datetime import date, time

import pytest

from gateway import config
from gateway.errors import ConfigError

NIGHT = """
[gateway]
timezone = "Europe/Helsinki"
[windows.night]
days = ["mon", "tue", "wed", "thu", "fri"]
start = "22:00"
duration = "5h"
cutoff = "30min"
drain = "2min"
except = ["2026-12-24", 2026-12-25]
valid_until = "2027-06-30"
"""


def read(tmp_path, text):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    return config.load(file)


def test_a_night_of_weekdays(tmp_path):
    window = read(tmp_path, NIGHT).windows["night"]
    assert window.days == {0, 1, 2, 3, 4}
    assert (window.start, window.duration_s, window.timezone) == (time(22, 0), 5 * 3600, "Europe/Helsinki")
    assert (window.cutoff_s, window.drain_s) == (1800, 120)
    assert window.exceptions == {date(2026, 12, 24), date(2026, 12, 25)}
    assert (window.valid_from, window.valid_until) == (None, date(2027, 6, 30))


def test_what_is_left_out(tmp_path):
    window = read(
        tmp_path, '[windows.any]\nstart = "01:30"\nduration = "90min"\ntimezone = "Asia/Tokyo"'
    ).windows["any"]
    assert window.days == set(range(7))
    assert (window.cutoff_s, window.drain_s, window.exceptions) == (0, 120, frozenset())
    assert window.timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("changed", "path", "found", "expected"),
    [
        (('"22:00"', '"24:00"'), "start", '"24:00"', 'a time of day such as "22:00"'),
        (('"22:00"', '"9:00"'), "start", '"9:00"', 'a time of day such as "22:00"'),
        (('start = "22:00"', ""), "start", "nothing", 'a time of day such as "22:00"'),
        (('"5h"', '"25h"'), "duration", '"25h"', "a duration from"),
        (('"fri"', '"friday"'), "days", '"friday"', '"mon", "tue"'),
        (('["mon", "tue", "wed", "thu", "fri"]', "[]"), "days", "[]", "at least one day"),
        (('"2026-12-24"', '"24.12.2026"'), "except", '"24.12.2026"', 'a date such as "2026-12-24"'),
        (('cutoff = "30min"', 'cutoff = "5h"'), "cutoff", '"5h"', "less than the duration"),
        (('"2027-06-30"', '"2026-06-30"\nvalid_from = "2026-07-01"'), "valid_until", "2026-06", "not before"),
        (('"2026-12-24"', '"9999-12-31"'), "except", '"9999-12-31"', 'a date such as "2026-12-24"'),
        (('"2027-06-30"', '"0001-01-01"'), "valid_until", '"0001-01-01"', "a date such as"),
        (('drain = "2min"', 'timezone = "Europe/Helsingfors"'), "timezone", "Helsingfors", "a time zone"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be(tmp_path, changed, path, found, expected):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, NIGHT.replace(*changed))
    (line,) = error.value.mistakes
    assert line.startswith(f"{tmp_path / 'gateway.toml'}: windows.night.{path}: found ")
    assert found in line
    assert expected in line
