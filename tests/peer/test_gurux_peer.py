"""The mended gurux server is a meter: its own client converses with it, and it notices what is not genuine."""

import os

import pytest

if not os.environ.get("CI"):  # there a missing peer is a failure
    pytest.importorskip("gurux_dlms", reason="the optional extra `peer` is not installed")

from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, ErrorCode, InterfaceType, Security
from gurux_dlms.GXDLMSException import GXDLMSException
from gurux_dlms.GXDLMSExceptionResponse import GXDLMSExceptionResponse
from gurux_dlms.objects import GXDLMSData, GXDLMSImageTransfer
from gurux_dlms.secure import GXDLMSSecureClient
from peer.gurux_image import Model
from peer.gurux_meter import PUBLIC_CLIENT, GuruxMeter

NONE = Model()
LLS = Model(authentication=Authentication.LOW, password=b"12345678")
GMAC = Model(authentication=Authentication.HIGH_GMAC, ciphered=True)


class GuruxClient:
    """gurux's client side, in the same call as the meter."""

    def __init__(self, meter, *, sap=1, password=b"", key=b"", counter=100):
        model, public = meter.model, sap == PUBLIC_CLIENT
        authentication = Authentication.NONE if public else model.authentication
        self.meter = meter
        self.tamper = lambda octets: octets
        self.client = GXDLMSSecureClient(
            True, sap, 1, authentication, password or model.password, meter.settings.interfaceType
        )
        self.client.ciphering.systemTitle = b"CLI\x00\x00\x00\x00\x01"
        self.client.ciphering.invocationCounter = counter
        if model.ciphered and not public:
            self.client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
            self.client.ciphering.blockCipherKey = key or model.encryption_key

    def exchange(self, messages):
        reply = GXReplyData()
        for message in messages if isinstance(messages, list) else [messages]:
            self._one(message, reply)
            while reply.isMoreData():
                self._one(self.client.receiverReady(reply), reply)
        return reply

    def _one(self, message, reply):
        answer = self.meter.receive(self.tamper(bytes(message)))
        assert self.client.getData(GXByteBuffer(answer), reply, None)

    def connect(self):
        client = self.client
        if self.meter.settings.interfaceType == InterfaceType.HDLC:
            client.parseUAResponse(self.exchange(client.snrmRequest()).data)
        client.parseAareResponse(self.exchange(client.aarqRequest()).data)
        if client.authentication == Authentication.HIGH_GMAC:
            reply = self.exchange(client.getApplicationAssociationRequest())
            client.parseApplicationAssociationResponse(reply.data)
        return self

    def read(self, item, attribute):
        return self.exchange(self.client.read(item, attribute)).value


@pytest.mark.parametrize("interface", [InterfaceType.WRAPPER, InterfaceType.HDLC], ids=["wrapper", "hdlc"])
@pytest.mark.parametrize("model", [NONE, LLS, GMAC], ids=["none", "lls", "hls-gmac"])
def test_its_own_client_updates_it(model, interface):
    meter = GuruxMeter(model, interface)
    peer = GuruxClient(meter).connect()
    firmware, image = GXDLMSData("1.0.0.2.0.255"), GXDLMSImageTransfer()
    content = bytes(range(256)) * 5 + b"end"
    assert peer.read(firmware, 2) == model.version
    image.imageBlockSize = peer.read(image, 2)
    peer.exchange(image.imageTransferInitiate(peer.client, model.identifier.decode(), len(content)))
    for block in image.imageBlockTransfer(peer.client, content, []):
        assert not peer.exchange(block).error
    assert str(peer.read(image, 3)) == "111111"
    peer.exchange(image.imageVerify(peer.client))
    assert peer.read(image, 6) == 3
    assert peer.read(image, 7) == [[len(content), model.identifier, b""]]
    peer.exchange(image.imageActivate(peer.client))
    assert meter.image.content == content
    meter.restart()
    assert GuruxClient(meter, counter=1000).connect().read(firmware, 2) == model.next_version
    assert meter.refusals == 0


def test_the_public_client_reads_the_counter_and_not_the_image():
    peer = GuruxClient(GuruxMeter(GMAC, InterfaceType.WRAPPER), sap=PUBLIC_CLIENT).connect()
    assert peer.read(GXDLMSData("0.0.43.1.1.255"), 2) == 0
    assert peer.exchange(peer.client.read(GXDLMSImageTransfer(), 2)).error == ErrorCode.READ_WRITE_DENIED


def _with_one_bit_changed(octets):
    return octets[:-1] + bytes([octets[-1] ^ 1])


def test_a_request_with_a_wrong_tag_is_noticed():
    meter = GuruxMeter(GMAC, InterfaceType.WRAPPER)
    peer = GuruxClient(meter).connect()
    peer.tamper = _with_one_bit_changed
    with pytest.raises(GXDLMSExceptionResponse, match="Ciphering failed"):
        peer.read(GXDLMSData("1.0.0.2.0.255"), 2)
    assert meter.refusals == 1


def test_a_request_that_comes_twice_is_noticed():
    meter = GuruxMeter(GMAC, InterfaceType.WRAPPER)
    peer = GuruxClient(meter).connect()
    message = bytes(peer.client.read(GXDLMSData("1.0.0.2.0.255"), 2)[0])
    assert meter.receive(message)[8] == 0xCC
    assert meter.receive(message)[8:] == bytes.fromhex("D80105")
    assert meter.refusals == 1


@pytest.mark.parametrize(
    "model, wrong", [(LLS, {"password": b"12345679"}), (GMAC, {"key": bytes(16)})], ids=["lls", "gmac"]
)
def test_a_wrong_secret_lets_nobody_in(model, wrong):
    meter = GuruxMeter(model, InterfaceType.HDLC)
    with pytest.raises(GXDLMSException):
        GuruxClient(meter, **wrong).connect()
    assert meter.refusals == 1
