"""The package through its life on one release of Debian: `life.py RELEASE PACKAGE`; one line for each thing that was
looked at.

Exit status 0 where all holds, 77 where this machine cannot run a container of that release: the line says why.
every_release.py calls it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from container import PACKAGE, ROOT, UNABLE, BrokenError, Container, UnableError

SECURITY = 1.5
UNIT = "meter-gateway.service"
_NEWER = "/root/newer.deb"
_SOURCE = "/root/source"
_DATABASE = "/var/lib/meter-gateway/store.db"
_UPDATE = f"{_SOURCE}/debian/tests/update"
_DROP_INS = f"/etc/systemd/system/{UNIT}.d"
_SEALING = "/usr/share/doc/meter-gateway/examples/encrypted-keys.conf"
_BACKS_OFF = 254
"""The first systemd that can let restarts come at growing distances."""
_COMPLETE = {
    "bash": """
        . /usr/share/bash-completion/bash_completion; _completion_loader meter-gateway
        COMP_WORDS=(meter-gateway cam) COMP_CWORD=1; _meter_gateway_completion meter-gateway cam meter-gateway
        echo "${COMPREPLY[@]}" """,
    "zsh": f"zsh {_SOURCE}/complete.zsh",
    "fish": "fish -c 'complete -C \"meter-gateway cam\"'",
}
"""Scripts that print what the shell makes of `meter-gateway cam` and a TAB."""
_LIMIT_S = 300.0
"""For whatever is waited for: how soon it comes is measured where nobody else is busy (benchmarks/package.py)."""
_LOOK_S = 0.3


def main() -> int:
    release, package = sys.argv[1], Path(sys.argv[2])
    try:
        with Container(release, package) as container, tempfile.TemporaryDirectory() as directory:
            wrong = _Life(release, container, _newer(package, Path(directory))).live()
    except UnableError as error:
        print(f"NOT TESTED: the package on {release}: {error}", flush=True)
        return UNABLE
    except BrokenError as error:
        print(f"FAIL {release}: {error}", flush=True)
        return 1
    return 1 if wrong else 0


class _Life:
    """One release, from installation to purge."""

    def __init__(self, release: str, container: Container, newer: Path) -> None:
        self._release = release
        self._in = container
        self._newer = newer
        self._wrong = 0

    def live(self) -> int:
        """How many things were wrong."""
        for chapter in (
            self._install,
            self._safe_start,
            self._looked_at,
            self._for_people,
            self._asked_for_help,
            self._an_update,
            self._killed,
            self._hung,
            self._upgraded,
            self._gone_back,
            self._rebooted,
            self._sealed,
            self._mistaken,
            self._removed,
        ):
            try:
                chapter()
            except (BrokenError, subprocess.TimeoutExpired) as error:
                self._is(chapter.__name__.strip("_"), False, str(error))
        return self._wrong

    def _install(self) -> None:
        self._in.put(self._newer, _NEWER)
        for file in ("control", "update"):
            self._in.put(ROOT / "debian/tests" / file, f"{_SOURCE}/debian/tests/{file}", 0o755)
        self._in.put(ROOT / "tests/package/complete.zsh", f"{_SOURCE}/complete.zsh")
        for file in ("control", "changelog"):
            self._in.put(ROOT / "debian" / file, f"{_SOURCE}/debian/{file}")
        self._in.run(f"apt-get install -y --no-install-recommends {PACKAGE}")
        self._until("active", self._active)

    def _safe_start(self) -> None:
        status = self._property("StatusText")
        self._is("says what it lacks", "names no ports" in status, status)
        networked = self._networked()
        self._is("listens on no network", not networked, networked)
        score = (
            self._in.run(f"systemd-analyze security --no-pager {UNIT} | tail -n 1").split(":")[1].split()[0]
        )
        self._is(f"exposure {score}", float(score) <= SECURITY)
        log = self._in.run("stat -c %U:%a /run/meter-gateway /run/meter-gateway/control.sock")
        self._is("socket for its group alone", log.split() == ["meter-gateway:750", "meter-gateway:660"], log)

    def _looked_at(self) -> None:
        """The status page, turned on and off by a reload under the rules of the unit."""
        with socket.create_server(("127.0.0.1", 0)) as server:  # the network is the machine's own
            place = f"127.0.0.1:{server.getsockname()[1]}"
        file = "/etc/meter-gateway/conf.d/page.toml"
        self._in.run(f"printf '[page]\\nlisten = \"{place}\"\\n' >{file}; systemctl reload meter-gateway")
        for path, words in (
            ("", "None configured."),
            ("metrics", "meter_gateway_meters 0"),
            ("page.css", ":root"),
        ):
            script = f"import urllib.request as r; print(r.urlopen('http://{place}/{path}').read().decode())"
            self._until(
                f"the status page shows /{path}",
                lambda script=script, words=words: (
                    words in self._in.run(f'python3 -c "{script}"', check=False)
                ),
            )
        self._in.run(f"rm {file}; systemctl reload meter-gateway")
        self._until("listens on no network again", lambda: not self._networked())

    def _for_people(self) -> None:
        """Manual pages and completions, in the programs that read them."""
        for page in ("1 meter-gateway", "5 gateway.toml"):
            said = self._in.run(f"man --warnings=w {page} 2>&1 >/dev/null")
            self._is(f"the page {page} has no mistakes", not said, said)
        for shell, script in _COMPLETE.items():
            said = self._in.run(script, check=False, timeout_s=_LIMIT_S)
            self._is(f"{shell} completes", "campaign" in said, said)

    def _asked_for_help(self) -> None:
        """One file, with the journal and a look at the state, which stays the service's."""
        told = json.loads(self._in.run("meter-gateway support-bundle --json -o /root/support.tar.gz"))
        self._is("support-bundle leaves nothing out", not told["left_out"], str(told["left_out"]))
        journal = self._in.run("tar xzOf /root/support.tar.gz meter-gateway-support/journal.txt")
        self._is("it has the journal", "nothing to do" in journal, journal)
        others = self._in.run("find /var/lib/meter-gateway ! -user meter-gateway")
        self._is("the state is the service's", not others, others)

    def _an_update(self) -> None:
        """By the package's own test, as Debian's autopkgtest runs it; its broker and bus stay for the others."""
        self._in.run(
            f"autopkgtest --no-built-binaries --ignore-restrictions=isolation-container,breaks-testbed"
            f" {_SOURCE}/ -- null",
            timeout_s=2 * _LIMIT_S,
        )
        self._is("autopkgtest: an update by MQTT", True)

    def _main(self) -> str:
        """The process of the service. Raises BrokenError where there is none, for `kill 0` is a whole group."""
        pid = self._property("MainPID")
        if pid == "0":
            raise BrokenError("the service does not run")
        return pid

    def _killed(self) -> None:
        """In mid-transfer; the order goes on."""
        self._in.run(f"{_UPDATE} again")
        self._in.run(f"{_UPDATE} order second 20000")
        self._until("second is under way", lambda: self._transferring("second"))
        before = self._main()
        self._in.run(f"kill -9 {before}")
        self._until(
            "started again after kill -9", lambda: self._active() and self._property("MainPID") != before
        )
        self._in.run(f"{_UPDATE} await second", timeout_s=2 * _LIMIT_S)
        self._is("the order went on after kill -9", True)
        if int(self._in.run("systemctl --version").split()[1]) >= _BACKS_OFF:
            next_ = self._property("RestartUSecNext")
            self._is(f"the next restart would take longer ({next_})", next_ not in ("", "5s"), next_)
        complaints = self._in.run("journalctl -q -o cat _PID=1 | grep -i 'unknown key' | sort -u || true")
        self._is("systemd knows every key of the unit", "meter-gateway" not in complaints, complaints)

    def _hung(self) -> None:
        before = self._main()
        self._in.run(f"kill -STOP {before}")
        self._until(
            "started again after it hung", lambda: self._active() and self._property("MainPID") != before
        )

    def _upgraded(self) -> None:
        """In mid-campaign: state, running campaign and the administrator's edits stay."""
        self._in.run(f"{_UPDATE} again")
        self._in.run("echo '# edited' >>/etc/meter-gateway/gateway.toml")
        self._in.run(f"{_UPDATE} order third 20000")
        self._until("third is under way", lambda: self._transferring("third"))
        before = int(self._schema(_DATABASE))
        self._in.run(f"apt-get install -y --no-install-recommends {_NEWER}")
        self._until("active after the upgrade", self._active)
        self._is("the database has the newer schema", int(self._schema(_DATABASE)) == before + 1)
        self._is("and the older one is kept", int(self._schema(f"{_DATABASE}.v{before}")) == before)
        self._in.run(f"{_UPDATE} await third", timeout_s=2 * _LIMIT_S)
        self._is("the order went on over the upgrade", True)
        self._is("edits stay", "# edited" in self._in.run("cat /etc/meter-gateway/gateway.toml"))
        self._is("older orders stay", "second" in self._in.run("meter-gateway campaign ls"))

    def _gone_back(self) -> None:
        """An older program leaves a newer database alone, and says so; the newer one goes on with it."""
        self._in.run("systemctl stop meter-gateway")
        before = self._in.run(f"sha256sum {_DATABASE}")
        self._in.run(f"apt-get install -y --allow-downgrades {PACKAGE}", check=False)
        self._until("an older program does not start", lambda: "E_STATE" in self._property("StatusText"))
        said = self._in.run(f"journalctl -q -o cat -n 20 -u {UNIT}")
        self._is("and says what to do", "Install the newer meter-gateway again" in said, said)
        self._in.run("systemctl stop meter-gateway", check=False)
        self._is("it touched nothing", self._in.run(f"sha256sum {_DATABASE}") == before)
        self._in.run(f"apt-get install -y --no-install-recommends {_NEWER}")
        self._until("active with the newer one again", self._active)
        self._is("orders stay over the way back", "third" in self._in.run("meter-gateway campaign ls"))

    def _schema(self, database: str) -> str:
        looks = (
            f"import sqlite3; print(*sqlite3.connect('{database}').execute('PRAGMA user_version').fetchone())"
        )
        return self._in.run(f'python3 -c "{looks}"').strip()

    def _rebooted(self) -> None:
        # The virtual bus was a unit of that boot alone: a line that is gone must not keep the service from starting.
        self._in.reboot()
        self._until("active after a reboot, its line gone", self._active)
        self._is("orders stay over a reboot", "third" in self._in.run("meter-gateway campaign ls"))

    def _sealed(self) -> None:
        """Keys encrypted on the disk, by the commands in the head of the example."""
        self._in.run(
            "cd /root; cp /etc/credstore/keys.toml keys.toml; rm /etc/credstore/keys.toml; echo secret >password.txt\n"
            f"mkdir -p {_DROP_INS}; cp {_SEALING} {_DROP_INS}\n"
            f"sed -n 's/^#   //p' {_SEALING} | bash -e"
        )
        self._until("active with encrypted keys", self._active)
        status = self._property("StatusText")
        self._is("the keys are there", "2 meters" in status, status)
        plain = self._in.run("grep -rls encryption_key /etc /root /var/lib/meter-gateway || true")
        self._is("and nowhere on the disk in plain text", not plain, plain)

    def _mistaken(self) -> None:
        """A configuration with a mistake: said once, not tried again."""
        self._in.run("echo 'colour = \"red\"' >/etc/meter-gateway/conf.d/wrong.toml")
        self._in.run("systemctl restart meter-gateway", check=False)
        # Not `failed-before-auto-restart`, which is on the way to being tried again.
        self._until("ended by a mistake", lambda: self._property("SubState") == "failed")
        state, result, tries = (
            self._property(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")
        )
        self._is(
            "a mistake ends it with 2, once",
            (state, result, tries) == ("failed", "2", "0"),
            f"{state} {result} {tries}",
        )
        status = self._property("StatusText") + self._in.run(f"journalctl -q -o cat -n 10 -u {UNIT}")
        self._is("and it says which", "colour" in status, status)
        self._in.run("rm /etc/meter-gateway/conf.d/wrong.toml; systemctl restart meter-gateway")
        self._until("active once it is mended", self._active)

    def _removed(self) -> None:
        self._in.run("apt-get remove -y meter-gateway")
        self._is(
            "removed, state and configuration stay",
            not self._active() and self._there("/var/lib/meter-gateway"),
        )
        self._in.run("apt-get purge -y meter-gateway")
        # Theirs, by README and the example.
        self._in.run(f"rm -r /etc/credstore.encrypted {_DROP_INS}")
        left = self._in.run(
            "find / -xdev -name '*meter-gateway*' -not -path '/proc/*' -not -path '/root/*' -not -path '/run/*'"
            " -not -path '/var/cache/apt/*' -not -path '/var/cache/man/*' -not -path '/var/log/*'"
        ).split()
        self._is("purged, nothing stays", not left, " ".join(left))

    # -- looking ----------------------------------------------------------------------------------------------

    def _property(self, name: str) -> str:
        return self._in.run(f"systemctl show --property={name} --value {UNIT}").strip()

    def _networked(self) -> str:
        """The lines of the kernel's tables that name a socket of the service."""
        links = f"find /proc/{self._property('MainPID')}/fd -lname 'socket:*' -printf '%l\\n'"
        return self._in.run(
            f"for inode in $({links} | tr -dc '0-9\\n'); do grep -hw $inode /proc/net/tcp* /proc/net/udp*; done; true"
        )

    def _active(self) -> bool:
        return self._property("ActiveState") == "active"

    def _transferring(self, campaign: str) -> bool:
        return "transferring" in self._in.run(f"meter-gateway campaign show {campaign}", check=False)

    def _there(self, path: str) -> bool:
        return self._in.run(f"test -e {path} && echo yes", check=False).strip() == "yes"

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        begin = time.monotonic()
        while not (held := holds()) and time.monotonic() < begin + _LIMIT_S:
            time.sleep(_LOOK_S)
        self._is(f"{what} ({time.monotonic() - begin:.1f} s)", held)

    def _is(self, what: str, holds: bool, otherwise: str = "") -> None:
        # One write for each: the other release writes as well.
        line = f"{'ok  ' if holds else 'FAIL'} {self._release}: {what}\n"
        if not holds:
            self._wrong += 1
            line += f"     {otherwise}\n{self._in.run(f'journalctl -q -n 30 -u {UNIT}', check=False)}\n"
        sys.stdout.write(line)
        sys.stdout.flush()


def _newer(package: Path, directory: Path) -> Path:
    """The same package with a higher version, and a schema that this one does not know."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    raised = [f"{line}+next" if line.startswith("Version: ") else line for line in lines]
    control.write_text("\n".join(raised) + "\n")
    (store,) = tree.glob("usr/**/gateway/store")
    script = store / f"schema_v{1 + len(list(store.glob('schema_v*.sql')))}.sql"
    script.write_text("CREATE TABLE of_the_next_release (a INTEGER) STRICT;\n")
    newer = directory / "newer.deb"
    built = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(newer)]
    subprocess.run(built, stdout=subprocess.DEVNULL, check=True)
    return newer


if __name__ == "__main__":
    raise SystemExit(main())
