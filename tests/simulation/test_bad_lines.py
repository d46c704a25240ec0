"""Lines and meters that misbehave, and what an order ends with there: the right image or a clear code, and the other
meters served all the same (all on virtual time, with the whole gateway)."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.board import port_actor
from gateway.daemon.process import port_patience_s
from gateway.errors import Code
from gateway.simulator import Echo, Faults, MeterSpec, Mishap, Noise, Talk, Then, What, several
from gateway.wire.hdlc import (
    Address,
    Frame,
    FrameReader,
    FrameType,
    Parameters,
    control_octet,
    encode_frame,
)

BUS, ELSEWHERE = "bus1", "bus2"
FIRST = replace(ciphered(), address=Address(1, 17))
NOISE = Noise(bit_error_rate=1e-4, octet_loss_rate=1e-4)


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def bus(count=2, first=FIRST, **changes):
    """Meters on one bus, and one on a line of its own, that nobody disturbs."""
    sims = [
        SimMeter(spec, id=f"MTR{number}", port=BUS, **changes)
        for number, spec in enumerate(several(first, count), start=1)
    ]
    return [*sims, SimMeter(MeterSpec(logical_device_name="AWAY1"), id="AWAY", port=ELSEWHERE)]


def ordered(directory, meters, **options):
    """The world in which everybody was ordered to be updated, and it has ended."""
    world = World(directory, meters, **options)
    world.submit()
    world.run_until_told()
    assert not world.escaped
    return world


def ends(world):
    """How it ended for each: the state, or the code of a failure."""
    check_images(world)
    jobs = {sim_id: world.job(sim_id) for sim_id in world.meters}
    return {sim_id: job["code"] or job["state"] for sim_id, job in jobs.items()}


def check_images(world):
    """The right image or none was activated, and once."""
    for sim_id, meter in world.meters.items():
        assert meter.image.active_sha256 in ("", world.sha256), f"{sim_id} runs a wrong image"
        assert meter.history.activations <= 1
        if world.job(sim_id)["state"] == "updated":
            assert meter.image.active_sha256 == world.sha256


# -- noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("meter", [
    MeterSpec(), ciphered(), ciphered(window=7, max_info=128), ciphered(block_size=900, max_info=2030, max_pdu=2030),
], ids=["plain", "ciphered", "window 7", "long frames"])  # fmt: skip
def test_bit_errors_and_lost_octets_both_ways_end_with_the_right_image(disk, meter, seed):
    """One bit in 10,000 and one octet in 10,000, at 9600. Nothing that was acknowledged is lost, so nothing is begun
    anew; no key is in doubt."""
    noisy = Faults(to_meter=NOISE, to_gateway=NOISE)
    world = ordered(disk, [SimMeter(meter)], seed=seed, image_size=48 * 1024, line_faults=noisy)
    assert ends(world) == {"MTR1": "updated"}
    assert world.meters["MTR1"].history.initiates == 1
    assert not world.store.parked("MTR1")


AFTER = [What.INITIATE, What.BLOCK, What.VERIFY, What.ACTIVATE]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("dedicated", [False, True], ids=["global key", "dedicated key"])
def test_an_answer_that_noise_falsified_costs_an_association(disk, after, dedicated):
    """A damaged answer whose frame check fits has a wrong tag. The meter has proven itself in this association, so
    its keys are right; it is surveyed, and nothing is done twice."""
    faults = Faults(mishaps=(Mishap(after, 1, Then.FALSIFY_REPLY),))
    world = ordered(disk, [SimMeter(ciphered(), faults=faults, dedicated_key=dedicated)])
    assert ends(world) == {"MTR1": "updated"}
    history = world.meters["MTR1"].history
    assert (history.initiates, history.verifies, history.activations) == (1, 1, 1)
    assert any("an answer in a proven association" in sentence for sentence in world.sentences)


def test_falsified_answers_again_and_again_are_no_noise_and_the_meter_is_left_alone(disk):
    faults = Faults(mishaps=tuple(Mishap(What.BLOCK, nth, Then.FALSIFY_REPLY) for nth in (5, 9)))
    world = ordered(disk, bus(faults=faults))
    assert ends(world) == {"MTR1": "T_SECURITY", "MTR2": "T_SECURITY", "AWAY": "updated"}
    assert "for the second time within an hour" in world.job()["message"]
    parked = world.store.parked("MTR1")
    assert parked is not None
    assert parked.code is Code.T_SECURITY


def test_a_falsified_answer_over_tcp_is_never_noise(disk):
    """TCP checks what it carries: there a wrong tag is a wrong key, or somebody in between."""
    faults = Faults(mishaps=(Mishap(What.BLOCK, 5, Then.FALSIFY_REPLY),))
    sim = SimMeter(ciphered(), faults=faults, port="lan1")
    world = ordered(disk, [sim], wrapper_ports=frozenset({"lan1"}))
    assert ends(world) == {"MTR1": "T_SECURITY"}
    assert world.store.parked("MTR1")


class Spoilt:
    """A line that does to one information frame for our client after another what `happens` says: l loses it, d damages
    an octet of it, h lets it be heard."""

    def __init__(self, line, happens):
        self._line = line
        self._happens = list(happens)

    def reopen(self):
        self._line.reopen()
        return self

    def read(self, limit, timeout_s):
        octets = self._line.read(limit, timeout_s)
        ours = any(
            frame.type is FrameType.I and frame.destination == Address(FIRST.client)
            for frame in FrameReader().feed(octets)
        )
        match self._happens.pop(0) if ours and self._happens else "h":
            case "l":
                return b""
            case "d":
                return octets[:30] + bytes((octets[30] ^ 1,)) + octets[31:]
            case _:
                return octets

    def __getattr__(self, name):
        return getattr(self._line, name)


@pytest.mark.parametrize(("max_info", "happens"), [(512, "lldl"), (64, "llhl")], ids=["damaged", "half"])
def test_an_association_whose_answer_is_lost_in_noise_was_not_refused(disk, max_info, happens):
    """The meter has our request and answers the public client. But it has begun to answer us as well: that is no reason
    to leave it alone until an operator comes."""
    world = World(disk, [SimMeter(replace(FIRST, max_info=max_info), id="MTR1", port=BUS)])
    world.lines[BUS] = Spoilt(world.lines[BUS], happens)
    world.submit()
    world.run_until_told()
    assert ends(world) == {"MTR1": "updated"}
    assert not world.store.parked("MTR1")


# -- who talks when he should not -------------------------------------------------------------------------------


def test_a_meter_that_jabbers_for_a_minute_only_costs_that_minute(disk):
    jabber = Faults(talks=(Talk(from_s=10.0, for_s=60.0),))
    world = ordered(disk, bus(), line_faults={BUS: jabber})
    assert set(ends(world).values()) == {"updated"}
    assert all(meter.history.initiates == 1 for meter in world.meters.values())


class NeverDone:
    """A line on which somebody says, for ever, what is a frame of the meter and answers nothing: `word`. With `links`
    he answers SNRM first."""

    def __init__(self, clock, world, *, every_s, word, links):
        self.longest_silence_s = 0.0
        self._clock, self._world = clock, world
        self._every_s, self._word, self._links = every_s, word, links
        self._coming = b""
        self._next_s = float("inf")

    def reopen(self):
        return self

    def write(self, octets):
        self._note_silence()
        self._next_s = min(self._next_s, self._clock.monotonic() + self._every_s)
        for frame in FrameReader().feed(octets):
            back = frame.source.encode() + frame.destination.encode()
            if frame.type is FrameType.SNRM and self._links:
                self._coming = encode_frame(back, control_octet(FrameType.UA, True), Parameters().encode())

    def read(self, limit, timeout_s):
        end_s = self._clock.monotonic() + timeout_s
        if octets := self._coming:
            self._coming = b""
        elif self._next_s <= end_s:
            self._clock.advance_to(max(self._next_s, self._clock.monotonic()))
            self._next_s = self._clock.monotonic() + self._every_s
            octets = self._word
        else:
            self._clock.advance_to(end_s)
        self._note_silence()
        return octets

    def _note_silence(self):
        alive_s = self._world.board.lives()[port_actor(BUS)]
        self.longest_silence_s = max(self.longest_silence_s, self._clock.monotonic() - alive_s)

    def discard(self):
        pass

    def set_baud(self, baud):
        return baud

    def close(self):
        pass


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("word", [FrameType.UA, FrameType.RR])
@pytest.mark.parametrize("every_s", [0.5, 1.9])
def test_a_meter_that_never_ends_its_answer_does_not_make_the_gateway_restart(disk, links, word, every_s):
    """Its worker shows life within what the watchdog grants it, or one meter would stop the service of all."""
    world = World(disk, [SimMeter(FIRST, id="MTR1", port=BUS)])
    words = b"".join(
        encode_frame(
            Address(client).encode() + FIRST.address.encode(),
            control_octet(word, True) if word is FrameType.UA else control_octet(word, True, 0, 0),
        )
        for client in (FIRST.client, 16)
    )
    line = NeverDone(world.clock(BUS), world, every_s=every_s, word=words, links=links)
    world.lines[BUS] = line
    world.store.seed_counter(
        "MTR1", 1000
    )  # it was known before: that its counter cannot be read stops nobody
    world.submit()
    world.run(lambda: world.job("MTR1").get("tries", 0) >= 3)
    (port,) = world.config.ports
    assert line.longest_silence_s < port_patience_s(port)


def test_a_meter_that_jabbers_for_ever_ends_its_line_with_a_code_and_no_other(disk):
    jabber = Faults(talks=(Talk(from_s=10.0),))
    world = ordered(disk, bus(), line_faults={BUS: jabber})
    assert ends(world) == {"MTR1": "T_SILENT", "MTR2": "T_SILENT", "AWAY": "updated"}
    assert "octets came" in world.job()["message"]
    assert world.now_s < 900.0, "a line that is lost is given up"


def test_a_meter_that_jabbers_now_and_then_is_talked_around(disk):
    spells = Faults(talks=(Talk(from_s=5.0, for_s=1.0, pause_s=9.0),))
    world = ordered(disk, bus(), line_faults={BUS: spells})
    assert set(ends(world).values()) == {"updated"}


def test_the_frames_of_a_second_master_are_nobodys_answer(disk):
    asked = Frame(Address(1, 99), Address(16), FrameType.SNRM, poll_final=True).encode()
    answered = Frame(Address(16), Address(1, 99), FrameType.UA, poll_final=True).encode()
    theirs = Faults(talks=(Talk(octets=asked, pause_s=2.0), Talk(from_s=0.05, octets=answered, pause_s=2.0)))
    world = ordered(disk, bus(), line_faults={BUS: theirs})
    assert set(ends(world).values()) == {"updated"}


# -- who is who -------------------------------------------------------------------------------------------------


def test_a_meter_that_answers_with_anothers_address_is_not_believed(disk):
    """Neither is it taken for the meter that was asked, nor for the one whose address it uses."""
    first, second, away = bus()
    impostor = replace(first, faults=Faults(answers_as=Address(1, 18)))
    world = ordered(disk, [impostor, second, away])
    assert ends(world) == {"MTR1": "T_SILENT", "MTR2": "updated", "AWAY": "updated"}
    assert "frames of others came, the last one of address 1/18" in world.job()["message"]
    assert world.meters["MTR1"].history.initiates == 0


@pytest.mark.parametrize("late_s", [0.0, 0.0021], ids=["in step", "one a little later"])
@pytest.mark.parametrize("spec", [FIRST, replace(MeterSpec(), address=Address(1, 17))], ids=["gmac", "plain"])
def test_two_meters_with_one_address_are_left_as_they_are(disk, spec, late_s):
    """Both hear what is asked and both answer; what they say of themselves differs, and is garbled."""
    first, second, away = bus(first=spec)
    twin = replace(
        spec, logical_device_name="TWIN1", system_title=b"TWINTWIN", response_s=spec.response_s + late_s
    )
    world = ordered(disk, [replace(first, twins=(twin,)), second, away])
    assert ends(world) == {"MTR1": "T_SILENT", "MTR2": "updated", "AWAY": "updated"}
    assert world.meters["MTR1"].history.initiates == 0


def test_a_meter_that_answers_late_talks_into_the_turn_of_nobody_for_long(disk):
    slow, second, away = bus()
    slow = replace(slow, spec=replace(slow.spec, response_s=2.7))
    world = ordered(disk, [slow, second, away], image_size=2048)
    assert set(ends(world).values()) == {"updated"}


# -- heads and adapters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [Echo.WHOLE, Echo.HALF, Echo.DAMAGED])
def test_octets_that_come_back_are_no_answer(disk, echo):
    world = ordered(disk, bus(), line_faults={BUS: Faults(echo=echo)}, image_size=2048)
    assert set(ends(world).values()) == {"updated"}


def test_an_adapter_pulled_out_in_mid_transfer_goes_on_where_it_was(disk):
    out = Faults(unplugged=((12.0, 400.0),))
    world = World(disk, bus(), line_faults={BUS: out})
    world.submit()
    world.run(lambda: world.job("MTR1").get("code") == "T_PORT")
    assert "unplugged" in world.job("MTR1")["message"]
    world.run_until_told()
    assert set(ends(world).values()) == {"updated"}
    for sim_id in ("MTR1", "MTR2"):
        history = world.meters[sim_id].history
        assert history.initiates == 1
        assert history.blocks.total() <= world.job(sim_id)["blocks_total"] + 1


def test_an_adapter_that_was_away_for_long_does_not_cost_its_meters_their_tries(disk):
    """Ten times nobody was asked, since there was no line: who does not hear us once thereafter is asked again."""
    out = Faults(unplugged=((12.0, 700.0),))
    world = World(disk, bus(count=1), line_faults={BUS: out})
    world.submit()
    world.run_to(650.0)
    assert world.store.job("c1", "MTR1").tries >= 10
    world.lines[BUS] = Spoilt(world.lines[BUS], "lll")
    world.run_until_told()
    assert set(ends(world).values()) == {"updated"}
    assert any("MTR1 does not answer" in sentence for sentence in world.sentences)


def test_a_slow_converter_costs_time_only(disk):
    world = ordered(disk, bus(1), line_faults={BUS: Faults(turnaround_s=0.3)}, image_size=2048)
    assert set(ends(world).values()) == {"updated"}
