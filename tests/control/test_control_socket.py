"""The control socket as the command line and scripts use it, with every bad manner a client can have."""

import array
import contextlib
import gc
import json
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from support.desk import IMAGE, PROBED, SHA256, Desk, hold, order

from gateway.control import ControlServer
from gateway.control.envelope import COMMAND_LIMIT_BYTES
from gateway.control.socket import AWAITED_LIMIT, CLIENTS_LIMIT
from gateway.errors import StoreError
from gateway.model import JobState, Reply, ReplyStatus


class Room:
    """A server without a thread, and its clients: it does what it does while a client waits for a line."""

    def __init__(self, directory):
        self.desk = Desk(directory / "state")
        self.path = directory / "run" / "control.sock"
        self.server = self.listen()
        self.clients = []

    def listen(self):
        return ControlServer(
            self.path, self.desk.controller, self.desk.store, self.desk.board, self.desk.clock
        )

    def client(self):
        client = Client(self)
        self.clients.append(client)
        return client

    def step(self, times=1):
        for _ in range(times):
            self.server.step(0.0)

    def close(self):
        for client in self.clients:
            client.socket.close()
        self.server.close()
        self.desk.close()


class Client:
    def __init__(self, room):
        self.room = room
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(room.path))
        self.socket.settimeout(0.05)
        self.heard = b""

    def send(self, octets, *descriptors):
        rights = array.array("i", descriptors)
        self.socket.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])
        self.room.step()

    def ask(self, verb, args=None, *descriptors):
        envelope = self.room.desk.envelope(verb, args)
        self.send(json.dumps(envelope).encode() + b"\n", *descriptors)
        reply = self.reply()
        assert reply["cmd_id"] == envelope["cmd_id"]
        return reply

    def reply(self):
        for _ in range(200):
            line, newline, rest = self.heard.partition(b"\n")
            if newline:
                self.heard = rest
                document = json.loads(line)
                hold("reply", document)
                return document
            self.room.step()
            try:
                octets = self.socket.recv(1 << 20)
            except TimeoutError:
                continue
            if not octets:
                raise EOFError
            self.heard += octets
        raise TimeoutError

    def ends_after(self, send, *, times):
        """Whether the server hangs up while this client sends and never reads."""
        try:
            for _ in range(times):
                send()
            self.room.step()
            while self.socket.recv(1 << 20):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def is_dropped(self):
        self.room.step(2)
        try:
            return self.socket.recv(1 << 20) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


def open_of(path):
    """How many descriptors of this process lead to a file; what other tests left open does not count."""
    gc.collect()
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += link.readlink() == path
    return count


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


# -- good manners -----------------------------------------------------------------------------------------------


def test_one_line_up_one_line_down(room):
    client = room.client()
    assert client.ask("ping")["status"] == "done"
    assert client.ask("campaign.submit", order())["status"] == "accepted"
    assert client.ask("campaign.get", {"campaign_id": "fw-1"})["data"]["campaign"]["state"] == "accepted"
    assert client.ask("nonsense")["code"] == "E_VERB"


def test_who_asked_stands_in_the_audit(room):
    room.client().ask("campaign.submit", order())
    assert room.desk.store.events()[0]["who"] == f"uid {os.getuid()} (pid {os.getpid()})"


def test_the_end_of_a_read_comes_as_a_second_line(room):
    client, other = room.client(), room.client()
    accepted = client.ask("meter.probe", {"meter": "MTR1"})
    assert accepted["status"] == "accepted"
    assert other.ask("ping")["status"] == "done"
    errand = room.desk.store.take_errand("rs485-1")
    room.desk.store.finish_errand(
        errand, Reply(None, ReplyStatus.DONE, data={"image_transfer_enabled": True})
    )
    done = client.reply()
    assert (done["cmd_id"], done["status"]) == (accepted["cmd_id"], "done")
    assert done["data"] == {"image_transfer_enabled": True}
    room.step(3)
    with pytest.raises(TimeoutError):
        other.socket.recv(1)


def test_the_end_of_a_campaign_comes_to_whoever_stays(room):
    room.desk.images.add([IMAGE])
    client = room.client()
    client.ask("campaign.submit", order(targets=["MTR1"]))
    store = room.desk.store
    job = store.due_job("rs485-1", room.desk.clock.now())
    store.save_job(replace(job, state=JobState.UPDATED))
    assert client.reply()["data"]["state"] == "succeeded"


def test_a_file_is_handed_over_with_its_line(room, tmp_path):
    path = tmp_path / "x3.bin"
    path.write_bytes(IMAGE)
    client = room.client()
    with path.open("rb") as file:
        reply = client.ask("image.add", {"sha256": SHA256}, file.fileno())
    assert reply["data"] == {"sha256": SHA256, "size": len(IMAGE), "manifest": None}
    assert room.desk.images.read(SHA256) == IMAGE
    assert client.ask("image.add")["code"] == "E_SCHEMA"
    with path.open("rb") as file:
        assert client.ask("ping", {}, file.fileno())["status"] == "done"
    assert open_of(path) == 0, "the files that were handed over are closed"


def test_lines_may_come_in_any_pieces(room):
    client = room.client()
    envelopes = [room.desk.envelope("ping") for _ in range(3)]
    octets = b"".join(json.dumps(envelope).encode() + b"\n" for envelope in envelopes)
    for start in range(0, len(octets), 37):
        client.send(octets[start : start + 37])
    assert [client.reply()["cmd_id"] for _ in envelopes] == [envelope["cmd_id"] for envelope in envelopes]


def test_a_script_may_end_its_side_at_once_and_still_read(room):
    client = room.client()
    client.socket.sendall(json.dumps(room.desk.envelope("meter.probe", {"meter": "MTR1"})).encode())
    client.socket.shutdown(socket.SHUT_WR)  # as `echo -n ... | nc -N -U` does
    assert client.reply()["status"] == "accepted"
    errand = room.desk.store.take_errand("rs485-1")
    room.desk.store.finish_errand(errand, Reply(None, ReplyStatus.DONE, data=PROBED))
    assert client.reply()["status"] == "done"
    assert client.is_dropped()


# -- bad manners ------------------------------------------------------------------------------------------------


def test_a_long_line_is_refused_and_a_very_long_one_ends_the_connection(room):
    client = room.client()
    client.send(b" " * (COMMAND_LIMIT_BYTES + 1) + b"\n")
    assert client.reply()["code"] == "E_SCHEMA"
    assert client.ask("ping")["status"] == "done"
    assert client.ends_after(lambda: client.send(b" " * COMMAND_LIMIT_BYTES), times=10)
    assert room.client().ask("ping")["status"] == "done"


def test_a_client_that_does_not_read_is_dropped(room, monkeypatch):
    monkeypatch.setattr("gateway.control.socket.UNREAD_LIMIT_BYTES", 100_000)
    client = room.client()
    line = json.dumps(room.desk.envelope("info.get")).encode() + b"\n"
    assert client.ends_after(lambda: client.send(line), times=5000)
    assert room.client().ask("ping")["status"] == "done"


def test_not_more_clients_than_the_limit(room):
    clients = [room.client() for _ in range(CLIENTS_LIMIT)]
    room.step(CLIENTS_LIMIT + 1)
    assert room.client().is_dropped()
    assert all(client.ask("ping")["status"] == "done" for client in clients)
    clients[0].socket.close()
    room.step()
    assert room.client().ask("ping")["status"] == "done"


def test_who_begins_a_line_and_does_not_end_it_is_dropped_in_time(room):
    slow, quick = room.client(), room.client()
    for _ in range(29):
        slow.send(b" ")
        room.desk.clock.advance(1)
        assert quick.ask("ping")["status"] == "done"
    assert not slow.is_dropped()
    room.desk.clock.advance(5)
    assert slow.is_dropped()
    assert quick.ask("ping")["status"] == "done"
    quick.send(b" ")
    room.desk.clock.advance(29)
    quick.send(b"\n")
    assert quick.reply()["code"] == "E_SCHEMA"
    room.desk.clock.advance(29)
    assert quick.ask("ping")["status"] == "done"


def test_who_is_silent_gives_way_where_all_places_are_taken_and_who_waits_does_not(room, caplog):
    clients = [room.client() for _ in range(CLIENTS_LIMIT)]
    room.step(CLIENTS_LIMIT + 1)
    assert clients[0].ask("meter.probe", {"meter": "MTR1"})["status"] == "accepted"
    room.desk.clock.advance(59)
    assert room.client().is_dropped()
    assert clients[1].ask("ping")["status"] == "done"
    room.desk.clock.advance(2)
    newcomers = [room.client() for _ in range(CLIENTS_LIMIT - 2)]
    room.step(CLIENTS_LIMIT)
    assert all(client.ask("ping")["status"] == "done" for client in (*newcomers, clients[1]))
    assert all(client.is_dropped() for client in clients[2:])
    assert room.client().is_dropped()
    room.desk.store.finish_errand(room.desk.store.take_errand("rs485-1"), Reply(None, ReplyStatus.DONE))
    assert clients[0].reply()["status"] == "done"


def test_thousands_that_come_in_vain_are_one_line_of_the_log_an_hour(room, caplog):
    clients = [room.client() for _ in range(CLIENTS_LIMIT)]
    room.step(CLIENTS_LIMIT + 1)
    for _ in range(2000):
        with socket.socket(socket.AF_UNIX) as one_more:
            one_more.connect(str(room.path))
            room.step()
    assert len(caplog.records) == 1
    room.desk.clock.advance(3600)
    assert clients[0].ask("ping")["status"] == "done"
    for client in clients[1:]:
        client.socket.close()
    room.step()
    for number in range(50):
        client = room.client()
        room.step(2)
        assert client.ends_after(lambda client=client: client.send(b" " * 50_000), times=10), number
    assert len(caplog.records) == 2
    assert clients[0].ask("ping")["status"] == "done"


def test_a_gibibyte_of_a_line_costs_two_lines_of_memory(room):
    client, other = room.client(), room.client()
    room.step(3)
    most = 0

    def send():
        nonlocal most
        client.send(b"x" * COMMAND_LIMIT_BYTES)
        most = max([most, *(len(one._begun) for one in room.server._clients.values())])

    assert client.ends_after(send, times=(1 << 30) // COMMAND_LIMIT_BYTES)
    assert most <= 3 * COMMAND_LIMIT_BYTES
    assert other.ask("ping")["status"] == "done"


def test_one_client_waits_for_so_many_ends_only(room):
    client = room.client()
    for _ in range(AWAITED_LIMIT):
        assert client.ask("meter.probe", {"meter": "MTR1"})["status"] == "accepted"
    client.send(json.dumps(room.desk.envelope("ping")).encode() + b"\n")
    assert client.reply()["code"] == "E_BUSY"
    assert room.client().ask("ping")["status"] == "done"


def test_more_files_than_lines_end_the_connection_and_leave_no_file_open(room, tmp_path):
    path = tmp_path / "many.bin"
    path.write_bytes(IMAGE)
    client = room.client()
    with path.open("rb") as file:
        client.send(b"{", *[file.fileno()] * 4)
        assert client.ends_after(lambda: client.send(b" ", file.fileno()), times=3)
    client.socket.close()
    assert open_of(path) == 0


def test_a_client_that_goes_away_takes_nothing_along(room):
    for octets in (b"", b"{", json.dumps(room.desk.envelope("ping")).encode() + b"\n"):
        client = room.client()
        client.socket.sendall(octets)
        client.socket.close()
        room.step(3)
    asked = room.client()
    asked.ask("meter.probe", {"meter": "MTR1"})
    asked.socket.close()
    errand = room.desk.store.take_errand("rs485-1")
    room.desk.store.finish_errand(errand, Reply(None, ReplyStatus.DONE, data=PROBED))
    room.step(3)
    assert room.client().ask("ping")["status"] == "done"


def test_when_the_state_cannot_be_written_the_client_is_told(room):
    client = room.client()
    client.ask("ping")
    room.desk.store.close()
    client.send(json.dumps(room.desk.envelope("campaign.submit", order())).encode() + b"\n")
    assert client.reply()["code"] == "F_DISK"


# -- the file ---------------------------------------------------------------------------------------------------


def test_only_owner_and_group_may_use_the_socket(room):
    assert stat.S_IMODE(room.path.stat().st_mode) == 0o660
    assert stat.S_IMODE(room.path.parent.stat().st_mode) == 0o750


def test_a_live_socket_is_not_taken_over(room):
    with pytest.raises(StoreError, match="another daemon"):
        room.listen()
    room.step()
    assert room.client().ask("ping")["status"] == "done"


def test_a_socket_left_by_a_crash_is_taken_over(room, tmp_path):
    room.path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(room.path))
    room.server.close()
    room.server = room.listen()
    assert room.client().ask("ping")["status"] == "done"
    room.server.close()
    assert not room.path.exists()


def test_a_place_that_cannot_be_is_a_clear_error(room, tmp_path):
    (tmp_path / "file").write_text("")
    room.path = tmp_path / "file" / "control.sock"
    with pytest.raises(StoreError, match="cannot listen"):
        room.listen()
    room.path = tmp_path / ("x" * 120)
    with pytest.raises(StoreError, match="cannot listen"):
        room.listen()


def test_a_step_without_clients_ends_by_itself(room):
    report = room.server.step(0.01)
    assert report.sentence == "0 clients, 0 commands"
    assert report.wake_at == room.desk.clock.monotonic()
