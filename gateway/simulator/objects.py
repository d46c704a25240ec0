"""The COSEM objects of a virtual meter, and who may do what with them (Blue Book)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.simulator.history import History, What
from gateway.simulator.image import ImageTransfer, Outcome
from gateway.simulator.schedule import ActionSchedule
from gateway.simulator.spec import MeterSpec
from gateway.wire import action_schedule, axdr, image_transfer
from gateway.wire.apdu import ActionResult, Attribute, DataAccessResult, Method, obis
from gateway.wire.axdr import Data

LOGICAL_DEVICE_NAME = obis("0-0:42.0.0.255")
ASSOCIATION = obis("0-0:40.0.0.255")
CLOCK = obis("0-0:1.0.0.255")

DATA_CLASS = 1
CLOCK_CLASS = 8
ASSOCIATION_CLASS = 15


class Objects:
    """Dispatches attributes and methods. The public client reads what is public; nobody else is a guest here."""

    def __init__(
        self,
        spec: MeterSpec,
        image: ImageTransfer,
        schedule: ActionSchedule,
        history: History,
        client_counter: Callable[[], int],
    ) -> None:
        self._image = image
        self._schedule = schedule
        self._schedule_object = obis(spec.schedule_object)
        self._history = history
        self._image_object = obis(spec.image_object)
        counter = obis(spec.counter_object)
        self._classes = {
            LOGICAL_DEVICE_NAME: DATA_CLASS,
            obis(spec.firmware_object): DATA_CLASS,
            counter: DATA_CLASS,
            CLOCK: CLOCK_CLASS,
            ASSOCIATION: ASSOCIATION_CLASS,
            self._image_object: image_transfer.CLASS_ID,
            self._schedule_object: action_schedule.CLASS_ID,
        }
        self._public = {LOGICAL_DEVICE_NAME, counter, CLOCK}
        if spec.public_version:
            self._public.add(obis(spec.firmware_object))
        self._values: dict[bytes, Callable[[float], Data]] = {
            obis(spec.firmware_object): lambda _: axdr.octet_string(image.active_version.encode()),
            counter: lambda _: axdr.u32(client_counter()),
            CLOCK: schedule.clock.shown,
        }
        self._texts = {obis(name): text for name, text in spec.texts}
        self._texts[LOGICAL_DEVICE_NAME] = spec.logical_device_name
        self._new_texts = {obis(name): text for name, text in spec.new_texts}
        self._new_version = spec.new_version
        self._classes |= dict.fromkeys(self._texts, DATA_CLASS)
        self._others = dict(spec.values)
        self._classes |= {other.instance: other.class_id for other in self._others}

    def exchange(self, texts: Mapping[str, str]) -> None:
        """From now on another meter stands here, of which these objects tell."""
        self._texts |= {obis(name): text for name, text in texts.items()}

    def get(self, attribute: Attribute, now_s: float, *, public: bool) -> Data | DataAccessResult:
        """The value of an attribute, or why there is none."""
        class_id, instance, number = attribute
        wrong = self._wrong(class_id, instance)
        if wrong:
            return DataAccessResult(wrong)
        if public and instance not in self._public:
            return DataAccessResult.READ_WRITE_DENIED
        if number == 1:
            return axdr.octet_string(instance)
        if instance == self._image_object:
            self._history.note(now_s, What.GET, number)
            return self._image.get(number, now_s)
        if instance == self._schedule_object:
            return self._schedule.get(number)
        if attribute in self._others:
            return self._others[attribute]
        if instance == ASSOCIATION and number == 2:
            return self._list()
        if number == 2 and instance in self._texts:
            return axdr.octet_string(self._text(instance).encode())
        if number == 2 and instance in self._values:
            return self._values[instance](now_s)
        return DataAccessResult.OBJECT_UNDEFINED

    def _list(self) -> Data:
        """Attribute 2 of the association: every object, with the right to nothing in particular."""
        no_rights = axdr.structure(axdr.array(), axdr.array())
        return axdr.array(*(
            axdr.structure(axdr.u16(class_id), axdr.unsigned(0), axdr.octet_string(instance), no_rights)
            for instance, class_id in self._classes.items()
        ))  # fmt: skip

    def _text(self, instance: bytes) -> str:
        now_new = self._image.active_version == self._new_version
        return self._new_texts.get(instance, self._texts[instance]) if now_new else self._texts[instance]

    def set(self, attribute: Attribute, value: Data, now_s: float, *, public: bool) -> int:
        """A DataAccessResult."""
        class_id, instance, number = attribute
        wrong = self._wrong(class_id, instance)
        if wrong:
            return wrong
        if public or instance not in (self._image_object, self._schedule_object):
            return DataAccessResult.READ_WRITE_DENIED
        if instance == self._schedule_object:
            return self._schedule.set(number, value, now_s)
        return self._image.set(number, value)

    def invoke(self, method: Method, argument: Data | None, now_s: float, *, public: bool) -> Outcome:
        """What became of a method."""
        class_id, instance, number = method
        wrong = self._wrong(class_id, instance)
        if wrong:
            return Outcome(wrong)
        if public or instance != self._image_object:
            return Outcome(ActionResult.READ_WRITE_DENIED)
        return self._image.invoke(number, argument, now_s)

    def _wrong(self, class_id: int, instance: bytes) -> int:
        """The result for an object that is not there as it was asked for; 0: it is. GET, SET and ACTION share the
        numbers."""
        found = self._classes.get(instance)
        if found is None:
            return DataAccessResult.OBJECT_UNDEFINED
        return 0 if found == class_id else DataAccessResult.OBJECT_CLASS_INCONSISTENT
