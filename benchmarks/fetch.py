"""Images over HTTP: `fetch_overhead`, `fetch_memory_mib` and `fetch_cancel_s` of the daemon as a process, with a server
in this one; `fetch_waste` of a fetch whose connection is cut again and again.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support import http_server as server_does
from support.fetching import Watching
from support.http_server import ImageServer

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED
from benchmarks.process import CLOSED_WINDOW, Gateway, Line, state_directory
from gateway.cli.client import Client
from gateway.errors import NetError
from gateway.model import FirmwareSettings, Image, Trust
from gateway.supply.fetch import fetch
from gateway.supply.images import ImageStore
from gateway.supply.source import Wanted

OVERHEAD_TARGET = 2.0
MEMORY_TARGET_MIB = 20.0
CANCEL_TARGET_S = 1.0
WASTE_TARGET = 1.05
_MIB = 1 << 20
_SIZE = 64 * _MIB
_ROUNDS = 5
_CANCELS = 5
_CUTS = 50
_PATIENCE_S = 300.0
_LOOK_EVERY_S = 0.001


def figures() -> Iterator[Figure]:
    chance = random.Random("fetch")
    yield from _overhead_and_memory([chance.randbytes(_SIZE) for _ in range(2)])
    yield _cancel(chance.randbytes(_MIB))
    yield _waste(chance.randbytes(_SIZE))


# -- time, CPU and memory -------------------------------------------------------------------------------------


def _overhead_and_memory(images: list[bytes]) -> Iterator[Figure]:
    """In each round a new daemon: its first fetch, which imports httpx, and its second one."""
    curl = shutil.which("curl")
    if curl is None:
        yield Figure("fetch_overhead", None, "ratio", OVERHEAD_TARGET, {"why": "there is no curl"})
        return
    walls: list[tuple[float, float, float]] = []
    cpus: list[tuple[float, float, float]] = []
    above, idle = [], 0.0
    with ImageServer(images[0]) as server:
        for _ in range(_ROUNDS):
            bare_s, bare_cpu_s = _bare(curl, server)
            with _daemon() as (gateway, client):
                idle = gateway.rss_mib()
                found = []
                for number, image in enumerate(images):
                    server.content = image
                    found.append(_fetched(gateway, client, server, f"fw-{number}"))
                    if number == 0:
                        above.append(gateway.peak_rss_mib() - idle)
            server.content = images[0]
            (first_s, first_cpu_s), (second_s, second_cpu_s) = found
            walls.append((bare_s, first_s, second_s))
            cpus.append((bare_cpu_s, first_cpu_s, second_cpu_s))
    compared = (
        f"{_SIZE // _MIB} MiB over HTTP on this machine: from campaign.submit to the campaign ready, as the first fetch"
        " of a daemon (which imports httpx), against `curl -o f && sha256sum f && sync f` in turns with it"
    )
    yield Figure(
        "fetch_overhead",
        percentile([first / bare for bare, first, _ in walls], 50),
        "ratio",
        OVERHEAD_TARGET,
        {
            "compared": compared,
            "wall_ratio": spread([first / bare for bare, first, _ in walls]),
            "wall_ratio_of_the_second": spread([second / bare for bare, _, second in walls]),
            "wall_s": spread([first for _, first, _ in walls]),
            "bare_wall_s": spread([bare for bare, _, _ in walls]),
            "cpu_ratio": spread([first / bare for bare, first, _ in cpus]),
            "cpu_ratio_of_the_second": spread([second / bare for bare, _, second in cpus]),
            "cpu_s": spread([first for _, first, _ in cpus]),
            "bare_cpu_s": spread([bare for bare, _, _ in cpus]),
            "noise": noise(),
            **platform_of_run(),
        },
    )
    yield Figure(
        "fetch_memory_mib",
        max(above),
        "MiB",
        MEMORY_TARGET_MIB,
        {
            "compared": "VmHWM of the daemon when its first image is stored, over VmRSS before the order",
            "idle_mib": idle,
            "above": spread(above),
            **platform_of_run(),
        },
    )


def _bare(curl: str, server: ImageServer) -> tuple[float, float]:
    """Wall time and CPU of what anybody would type."""
    with state_directory() as directory:
        script = f"{curl} --silent --fail --output f {server.url} && sha256sum f && sync f"
        before_s, begin_s = _children_cpu_s(), time.perf_counter()
        subprocess.run(["/bin/sh", "-c", script], cwd=directory, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin_s, _children_cpu_s() - before_s


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fetched(gateway: Gateway, client: Client, server: ImageServer, campaign_id: str) -> tuple[float, float]:
    """Wall time and CPU of the daemon, from the order to the image stored and told of."""
    digest = hashlib.sha256(server.content).hexdigest()
    before_s, begin_s = gateway.cpu_s(), time.perf_counter()
    _order(client, campaign_id, server.url, digest, len(server.content))
    _wait(lambda: f"campaign {campaign_id}: ready" in gateway.check())
    found = time.perf_counter() - begin_s, gateway.cpu_s() - before_s
    client.ask("campaign.cancel", {"campaign_id": campaign_id})
    return found


# -- an end to waiting ----------------------------------------------------------------------------------------


def _cancel(image: bytes) -> Figure:
    """From the cancel to the server seeing that nobody takes its octets, before an answer and in the middle of one."""
    took_s: dict[str, list[float]] = {"before_the_answer": [], "in_the_middle": []}
    behaviours = (server_does.silent, server_does.silent_after(len(image) // 2))
    with _daemon() as (_, client):
        for number, (where, behaviour) in itertools.product(
            range(_CANCELS), zip(took_s, behaviours, strict=True)
        ):
            campaign_id = f"fw-{where}-{number}"
            with ImageServer(image, behaviour) as server:
                _order(client, campaign_id, server.url, f"{number:064x}", len(image))
                assert server.asked.wait(_PATIENCE_S)
                begin_s = time.perf_counter()
                client.ask("campaign.cancel", {"campaign_id": campaign_id})
                assert server.hung_up.wait(_PATIENCE_S)
                took_s[where].append(time.perf_counter() - begin_s)
    return Figure(
        "fetch_cancel_s",
        max(max(samples) for samples in took_s.values()),
        "s",
        CANCEL_TARGET_S,
        {
            "compared": "campaign.cancel to the connection being closed, while the server is silent; the worst of all",
            **{f"{where}_s": spread(samples) for where, samples in took_s.items()},
            "noise": noise(),
            **platform_of_run(),
        },
    )


# -- cuts -----------------------------------------------------------------------------------------------------


def _waste(image: bytes) -> Figure:
    """Every cut is an attempt of its own, as the supplier makes them, without the pauses between them."""
    chance = random.Random("cuts")
    places = sorted(chance.randrange(1, _SIZE) for _ in range(_CUTS))
    parts = [end - start for start, end in itertools.pairwise([0, *places])]
    wanted_sha256 = hashlib.sha256(image).hexdigest()
    settings = FirmwareSettings(trust=Trust.DIGEST)
    stored: Image | None = None
    attempts = 0
    with (
        state_directory() as directory,
        ImageServer(image, *map(server_does.cut_after, parts), server_does.ranged) as server,
    ):
        while stored is None:
            attempts += 1
            images = ImageStore(directory / "images", 2 * _SIZE)  # as after a restart
            try:
                stored = fetch(
                    Wanted(server.url, wanted_sha256, None), images, settings=settings, watch=Watching()
                )
            except NetError:
                if attempts > _CUTS:
                    raise
        sent = server.body_octets
    assert stored == Image(wanted_sha256, _SIZE)
    return Figure(
        "fetch_waste",
        sent / _SIZE,
        "ratio",
        WASTE_TARGET,
        {
            "compared": f"octets of bodies that the server sent over the {_SIZE // _MIB} MiB of the image; the"
            f" connection closed at {_CUTS} random octets, and the store opened anew after each",
            "attempts": attempts,
            **platform_of_run(),
        },
    )


# -- what they have in common ---------------------------------------------------------------------------------


@contextmanager
def _daemon() -> Iterator[tuple[Gateway, Client]]:
    """Its orders wait for a window that is closed for hours: images are fetched, and nothing else is done."""
    with (
        state_directory() as directory,
        Gateway(directory, [Line("/dev/ttyNOT0", [CIPHERED])]) as gateway,
        Client(directory / "run" / "control.sock") as client,
    ):
        gateway.set_closed_window()
        yield gateway, client


def _order(client: Client, campaign_id: str, url: str, sha256: str, size: int) -> None:
    image = {"sha256": sha256, "url": url, "size": size}
    client.ask(
        "campaign.submit",
        {
            "campaign_id": campaign_id,
            "image": image,
            "identifier": "FW",
            "targets": "all",
            "window": CLOSED_WINDOW,
        },
    )


def _wait(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError("it never came about")
        time.sleep(_LOOK_EVERY_S)
