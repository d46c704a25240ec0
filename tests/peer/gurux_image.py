"""What a gurux meter is like, and the image that it stores: class 18 by gurux, its methods by a strict meter."""

from collections import Counter
from dataclasses import dataclass

from gurux_dlms.enums import Authentication, ErrorCode
from gurux_dlms.objects import GXDLMSImageActivateInfo, GXDLMSImageTransfer
from gurux_dlms.objects.enums import ImageTransferStatus


@dataclass(frozen=True)
class Model:
    """What a meter is like."""

    authentication: Authentication = Authentication.NONE
    ciphered: bool = False
    password: bytes = b""
    system_title: bytes = b"GRX\x00\x00\x00\x00\x01"
    encryption_key: bytes = bytes(range(0x10))
    authentication_key: bytes = bytes(range(0xD0, 0xE0))
    logical_device_name: bytes = b"GRX0000000000001"
    version: bytes = b"4.1.6"
    next_version: bytes = b"4.1.7"
    identifier: bytes = b"GRX-4.1.7"
    """The only image identifier that it accepts."""
    block_size: int = 256
    max_pdu: int = 1024
    max_info: int = 128


class StoredImage(GXDLMSImageTransfer):
    """Class 18 of a strict meter: every argument must be of its type, and every block of its size."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.imageBlockSize = model.block_size
        self.identifier = b""
        self.blocks = {}
        self.initiates = 0
        self.activations = 0
        self.received = Counter()

    @property
    def content(self):
        return b"".join(self.blocks[number] for number in sorted(self.blocks))

    def invoke(self, settings, e):
        method = {1: self.initiate, 2: self.take_block, 3: self.verify, 4: self.activate}[e.index]
        e.error = method(e.parameters)

    def initiate(self, parameters):
        identifier, size = parameters
        if bytes(identifier) != self.model.identifier:
            return ErrorCode.READ_WRITE_DENIED
        self.initiates += 1
        self.identifier, self.imageSize, self.blocks = bytes(identifier), int(size), {}
        self.imageActivateInfo = []
        self.imageTransferStatus = ImageTransferStatus.IMAGE_TRANSFER_INITIATED
        return ErrorCode.OK

    def take_block(self, parameters):
        number, value = parameters
        if self.imageTransferStatus != ImageTransferStatus.IMAGE_TRANSFER_INITIATED or number >= self.count:
            return ErrorCode.DATA_BLOCK_UNAVAILABLE
        if len(value) != min(self.imageBlockSize, self.imageSize - number * self.imageBlockSize):
            return ErrorCode.UNMATCHED_TYPE
        self.received[int(number)] += 1
        self.blocks[int(number)] = bytes(value)
        return ErrorCode.OK

    def verify(self, parameters):
        if parameters != 0 or len(self.blocks) != self.count:
            self.imageTransferStatus = ImageTransferStatus.IMAGE_VERIFICATION_FAILED
            return ErrorCode.OTHER_REASON
        self.imageActivateInfo = [GXDLMSImageActivateInfo(self.imageSize, self.identifier, b"")]
        self.imageTransferStatus = ImageTransferStatus.IMAGE_VERIFICATION_SUCCESSFUL
        return ErrorCode.OK

    def activate(self, parameters):
        if parameters != 0 or self.imageTransferStatus != ImageTransferStatus.IMAGE_VERIFICATION_SUCCESSFUL:
            return ErrorCode.OTHER_REASON
        self.activations += 1
        self.imageTransferStatus = ImageTransferStatus.IMAGE_ACTIVATION_SUCCESSFUL
        return ErrorCode.OK

    @property
    def count(self):
        return -(-self.imageSize // self.imageBlockSize)

    def getValue(self, settings, e):
        missing = [number for number in range(self.count) if number not in self.blocks]
        match e.index:
            case 3:
                self.imageTransferredBlocksStatus = "".join("01"[n in self.blocks] for n in range(self.count))
            case 4:
                self.imageFirstNotTransferredBlockNumber = missing[0] if missing else self.count
            case 7:
                e.byteArray = True  # it comes encoded from gurux
        return super().getValue(settings, e)
