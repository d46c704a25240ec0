"""What is ordered about meters: an attribute to be read, meters that come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.config import usual_class, with_stored
from gateway.errors import AuthError, BusyError, SchemaError, StateError
from gateway.model import BitmapOrder, Command, Config, JobState, Meter, Reply
from gateway.store import Store
from gateway.wire.apdu import Attribute, obis
from gateway.wire.hidden import is_secret


def read_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """`meter.read` with everything said: `sure` is whether the class was named. Raises SchemaError, and AuthError for
    what holds a secret: by the class that such objects usually have as well, for there are meters that look at none."""
    if "object" not in args:
        if set(args) - {"meter"}:
            raise SchemaError("args.object: found none, expected one with attribute or class")
        return {}
    name, number, usual = args["object"], args.get("attribute", 2), usual_class(args["object"])
    class_id = args.get("class", usual)
    for one in (class_id, usual):
        if is_secret(Attribute(one, obis(name), number)):
            raise AuthError(f"{name}:{number} (class {one}) holds a secret, which is never read")
    return {"object": name, "attribute": number, "class": class_id, "sure": "class" in args}


class Roster:
    """The meters that come and go by command."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, command: Command, config: Config) -> Reply:
        """`meter.put`. Raises SchemaError with every mistake; StateError for a meter of the configuration or one that
        there is work for; BusyError where its line may not be left now."""
        name = command.args["meter"]
        settings = {key: value for key, value in command.args.items() if key != "meter"}
        before = _known(config, name)
        after = self._read(config, name, settings)
        if after != before:
            self._refuse_while_unbroken(config, {after.port, before.port if before else after.port})
        return self._store.put_meter(command, name, settings, port=after.port, at_once=after == before)

    def delete(self, command: Command, config: Config) -> Reply:
        """`meter.delete`. Raises NotFoundError, and StateError and BusyError as `put`."""
        name = command.args["meter"]
        # One that is left out may have the id of another that stands in the configuration.
        known = None if name in config.left_out else _known(config, name)
        port = known.port if known else ""
        self._refuse_while_unbroken(config, {port})
        return self._store.delete_meter(command, name, port=port)

    def _read(self, config: Config, name: str, settings: Mapping[str, Any]) -> Meter:
        """The meter in the words of the configuration, beside all others."""
        others = {other: of for other, of in self._store.stored_meters().items() if other != name}
        planned = with_stored(config, {**others, name: settings})
        if name in planned.left_out:
            raise SchemaError("; ".join(planned.left_out[name]))
        return next(meter for meter in planned.meters if meter.id == name)

    def _refuse_while_unbroken(self, config: Config, ports: set[str]) -> None:
        whole = {meter.id for meter in config.meters if meter.profile.bitmap is BitmapOrder.IGNORE}
        for job in (job for port in ports for job in self._store.open_jobs(port)):
            if job.meter_id in whole and job.state is JobState.TRANSFERRING:
                raise BusyError(
                    f"{job.meter_id} is being updated in one unbroken association on port {job.port};"
                    " try again later"
                )


def without_meter(config: Config, name: str) -> Config:
    """`config` without this meter, if it is a stored one that is in use."""
    if name not in config.stored:
        return config
    left = tuple(meter for meter in config.meters if meter.id != name)
    return replace(config, meters=left, stored=config.stored - {name})


def _known(config: Config, name: str) -> Meter | None:
    """The stored meter of this id that is in use. Raises StateError for one that does not come and go by command."""
    known = next((meter for meter in config.meters if meter.id == name), None)
    if known is not None and name not in config.stored:
        raise StateError(f"meter {name} stands in the configuration: change it there")
    return known
