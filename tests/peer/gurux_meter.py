"""A meter that is not ours: gurux-dlms reads our octets and writes the answers.

What stands here is what the meter *does*: whom it lets in, what it stores, when it verifies and activates. Frames,
A-XDR, AARQ and AARE, GET and ACTION, AES-GCM and the HLS proof are gurux's own. Its server side (1.0.203) does not
run as published; what is overridden here mends it through its classes:

- `handleRequest` calls what does not exist and deciphers requests with shifted arguments: replaced by `receive`;
- the answers to SNRM and DISC read an object that is None, the RLRE has wrong lengths: built here;
- the AARE has wrong lengths where there is a system title or a challenge, and an association sets the counter of the
  cipher back;
- the dispatch of ACTION makes a list of what is none, and the objects behind it (association, Image Transfer) make
  numbers of octet-strings: invoked here;
- GET asks the server for methods, and its settings for a name, that are not there: they are given here.

gurux never looks at the tag of what is authenticated *and* encrypted: here its own cipher computes the tag again, so
that a wrong one of ours is noticed. What it cannot do even so, and what this peer therefore says nothing about: HDLC
windows above 1, repair of lost or repeated frames (it drops what it does not expect), ACTION in pblocks.
"""

import sys
from collections import Counter

from gurux_dlms import (
    GXDLMS,
    AesGcmParameter,
    ConnectionState,
    GetCommandType,
    GXByteBuffer,
    GXCiphering,
    GXDLMSChippering,
    GXDLMSLNCommandHandler,
    GXDLMSLNParameters,
    ValueEventArgs,
    _HDLCInfo,
)
from gurux_dlms._GXAPDU import _GXAPDU
from gurux_dlms.enums import (
    AccessMode,
    AssociationResult,
    Authentication,
    Command,
    Conformance,
    DataType,
    ErrorCode,
    InterfaceType,
    ObjectType,
    RequestTypes,
    Security,
    SourceDiagnostic,
)
from gurux_dlms.GXSecure import GXSecure
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSData,
)
from gurux_dlms.objects.enums import AssociationStatus
from gurux_dlms.secure import GXDLMSSecureServer
from peer.gurux_image import Model, StoredImage

# It prints a line for each APDU that it deciphers.
sys.modules[GXDLMSChippering.__module__].print = lambda *_: None

PUBLIC_CLIENT = 16

CALLING_TITLE = 0xA6
CHALLENGE = 0xAA
USER_INFORMATION = 0xBE

RELEASE_RESPONSE = bytes.fromhex("6303800100")
NOT_ASSOCIATED = bytes.fromhex("D80101")  # service not allowed, operation not possible
DECIPHERING_FAILED = bytes.fromhex("D80105")  # service not allowed, deciphering error

CIPHERED_REQUESTS = frozenset({
    Command.GLO_GET_REQUEST, Command.GLO_SET_REQUEST, Command.GLO_METHOD_REQUEST,
    Command.DED_GET_REQUEST, Command.DED_SET_REQUEST, Command.DED_METHOD_REQUEST,
    Command.GENERAL_GLO_CIPHERING, Command.GENERAL_DED_CIPHERING,
})  # fmt: skip


class Cipher(GXCiphering):
    """Keeps its invocation counter over associations: gurux begins again at 0 and repeats its IVs."""

    def reset(self):
        self.security = Security.NONE
        self.dedicatedKey = None


class AareBuffer(GXByteBuffer):
    """What `generateAARE` writes into. It leaves the length out of `A4 08 04 <here> title`, and makes the outer lengths
    of the title and of the challenge (`AA 10 80 10 ...`) two too short."""

    def setUInt8(self, *args):
        before = len(self) - 2
        if not args:
            length = self.getUInt8(before)
            super().setUInt8(2 + length, before)
            super().setUInt8(length)
            return
        if args == (0x80,) and self.getUInt8(before) == CHALLENGE:
            super().setUInt8(2 + self.getUInt8(before + 1), before + 1)
        super().setUInt8(*args)


class GuruxMeter(GXDLMSSecureServer):
    """The server side of one meter; feed it octets with `receive` and send what it returns."""

    def __init__(self, model: Model, interface: InterfaceType):
        """`interface`: `InterfaceType.HDLC` or `InterfaceType.WRAPPER`."""
        super().__init__(True, interface)
        self.model = model
        self.settings.cipher = Cipher(model.system_title)
        self.settings.cipher.blockCipherKey = model.encryption_key
        self.settings.cipher.authenticationKey = model.authentication_key
        self.settings.gbtWndowSize = 1  # the name it looks for when a GET goes on with the next block
        self.settings.proposedConformance = (
            Conformance.GET
            | Conformance.SET
            | Conformance.ACTION
            | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
        )
        self.image = StoredImage(model)
        self.association = GXDLMSAssociationLogicalName()
        self.firmware = _data("1.0.0.2.0.255", DataType.OCTET_STRING, model.version)
        self.counter = _data("0.0.43.1.1.255", DataType.UINT32, 0)
        name = _data("0.0.42.0.0.255", DataType.OCTET_STRING, model.logical_device_name)
        for item in (self.association, self.image, self.firmware, self.counter, name):
            self.items.append(item)
        self.rebooting = False
        """Activated: the line is to be cut, and `restart` called."""
        self.refusals = 0
        """Wrong passwords, proofs, tags and counters that were offered."""
        self.used_counters = set()
        self.seen = Counter()
        """How often a message did not fit ("segments in" and "segments out" of HDLC, "blocks out" of GET), and how
        often the "dedicated key" deciphered one."""
        self.initialized = True  # its `initialize` appends a list to a list of objects

    # -- octets in, octets out ------------------------------------------------------------------------------------

    def receive(self, octets):
        """What the meter answers to `octets`, which may be part of a message or several."""
        self.receivedData.set(octets)
        answers = b""
        while self.receivedData.available() and (frame := self.next_frame()) is not None:
            answers += bytes(self.answer(frame))
        return answers

    def restart(self):
        """The end of a reboot: what was activated runs now, nobody is connected."""
        self.rebooting = False
        self.firmware.value = self.model.next_version
        self.reset()

    def next_frame(self):
        """Take one frame in; its HDLC control octet (0 for the wrapper), None while it is not all there."""
        hdlc = self.settings.interfaceType == InterfaceType.HDLC
        if hdlc:
            control = GXDLMS.getHdlcData(True, self.settings, self.receivedData, self.info, None)
        else:
            control = 0
            self.forget_wrapper_addresses()
            GXDLMS._GXDLMS__getTcpData(self.settings, self.receivedData, self.info, None)
        if not self.info.complete:
            return None
        GXDLMS.getDataFromFrame(self.receivedData, self.info, hdlc)
        self.receivedData.trim()
        return control

    def forget_wrapper_addresses(self):
        """gurux holds on to the first client's address; the AARQ of another one (tag 60 after 8 octets) is welcome."""
        if self.receivedData.available() > 8 and self.receivedData.getUInt8(8) == Command.AARQ:
            self.settings.clientAddress = self.settings.serverAddress = 0

    def answer(self, control):
        match control:
            case Command.SNRM:
                return self.set_up_link()
            case Command.DISCONNECT_REQUEST:
                return self.take_down_link()
            case _ if control & 0x03 == 0x01:  # RR: the next segment of our answer, or just alive
                if len(self.replyData):
                    self.seen["segments out"] += 1
                    return GXDLMS.getHdlcFrame(
                        self.settings, self.settings.getNextSend(False), self.replyData
                    )
                return GXDLMS.getHdlcFrame(self.settings, self.settings.getReceiverReady(), None)
            case _ if self.info.moreData & RequestTypes.FRAME:
                self.seen["segments in"] += 1
                return GXDLMS.getHdlcFrame(self.settings, self.settings.getReceiverReady(), None)
        return self.answer_apdu()

    # -- HDLC link ------------------------------------------------------------------------------------------------

    def set_up_link(self):
        """UA with what this meter can do, bounded by what the client can (IEC 62056-46, 6.4.4.4.3.2)."""
        limits = self.settings.hdlc
        limits.maxInfoTX = limits.maxInfoRX = 128
        limits.windowSizeTX = limits.windowSizeRX = 1
        GXDLMS.parseSnrmUaResponse(self.info.data, limits)
        self.reset(True)
        limits.maxInfoTX = min(limits.maxInfoTX, self.model.max_info)
        limits.maxInfoRX = min(limits.maxInfoRX, self.model.max_info)
        limits.windowSizeTX = limits.windowSizeRX = 1
        parameters = GXByteBuffer()
        for number, value in (
            (_HDLCInfo.MAX_INFO_TX, limits.maxInfoTX),
            (_HDLCInfo.MAX_INFO_RX, limits.maxInfoRX),
        ):
            parameters.setUInt8(number)
            GXDLMS.appendHdlcParameter(parameters, value)
        for number in (_HDLCInfo.WINDOW_SIZE_TX, _HDLCInfo.WINDOW_SIZE_RX):
            parameters.setUInt8(number)
            parameters.setUInt8(4)
            parameters.setUInt32(1)
        self.replyData.set(bytes((0x81, 0x80, len(parameters))))
        self.replyData.set(parameters)
        self.settings.connected = ConnectionState.HDLC
        self.info.clear()
        return GXDLMS.getHdlcFrame(self.settings, Command.UA, self.replyData)

    def take_down_link(self):
        was_up = self.settings.connected != ConnectionState.NONE
        self.replyData.clear()
        answer = GXDLMS.getHdlcFrame(self.settings, Command.UA if was_up else Command.DISCONNECT_MODE, None)
        self.reset()
        return answer

    # -- application layer ----------------------------------------------------------------------------------------

    def answer_apdu(self):
        """Handle the whole APDU in `info.data`; the first frame of the answer, the rest waits in `replyData`."""
        self.replyData.clear()
        data, command = self.info.data, self.info.data.getUInt8(0)
        ciphered = command in CIPHERED_REQUESTS
        if ciphered:
            command = self.decipher()
        data.position = 0
        self.info.command = Command.NONE
        if command is None:
            self.say(DECIPHERING_FAILED)
        elif command == Command.AARQ:
            self.associate()
        elif command == Command.RELEASE_REQUEST:
            self.say(RELEASE_RESPONSE)
        elif ciphered != self.settings.cipher.isCiphered():
            self.say(NOT_ASSOCIATED)
        else:
            GXDLMS.getPdu(self.settings, self.info)
            self.serve(command, data)
        self.info.clear()
        if self.settings.interfaceType == InterfaceType.WRAPPER:
            answer = GXDLMS.getWrapperFrame(self.settings, command, self.replyData)
        else:
            answer = GXDLMS.getHdlcFrame(self.settings, 0, self.replyData)
        if command == Command.RELEASE_REQUEST:
            self.end_association()
        return answer

    def say(self, apdu):
        """Answer with an APDU that goes out as it is."""
        self.replyData.set(apdu)
        if self.settings.interfaceType == InterfaceType.HDLC:
            GXDLMS.addLLCBytes(self.settings, self.replyData)

    def decipher(self):
        """Put the plain request in place of the ciphered one; its command, None if it is not genuine."""
        key = self.settings.cipher.dedicatedKey or self.model.encryption_key
        self.seen["dedicated key"] += key is self.settings.cipher.dedicatedKey
        plain = self.genuine(self.info.data.array(), key)
        if plain is None:
            return None
        self.info.data.clear()
        self.info.data.set(plain)
        return plain[0]

    def genuine(self, octets, key):
        """The plain text of the client's ciphered APDU, None if its tag is wrong or its counter did not rise."""
        parameters = AesGcmParameter(0, self.settings.sourceSystemTitle, key, self.model.authentication_key)
        plain = GXCiphering.decrypt(self.settings, parameters, GXByteBuffer(octets))
        GXDLMSChippering.encryptAesGcm(parameters, plain)  # sets `countTag`
        risen = parameters.invocationCounter >= self.counter.value
        protected = parameters.security == Security.AUTHENTICATION_ENCRYPTION
        if not (protected and risen and bytes(parameters.countTag) == bytes(octets[-12:])):
            self.refusals += 1
            return None
        self.counter.value = parameters.invocationCounter + 1
        self.used_counters.add(parameters.invocationCounter)
        return plain

    def associate(self):
        fields = _fields(self.info.data)
        self.settings.sourceSystemTitle = fields.get(CALLING_TITLE, b"")[2:]
        initiate = fields[USER_INFORMATION][2:]
        self.replyData = AareBuffer()
        ciphered = initiate[0] == Command.GLO_INITIATE_REQUEST
        if ciphered and self.genuine(initiate, self.model.encryption_key) is None:
            if self.settings.interfaceType == InterfaceType.HDLC:
                self.replyData.set(_GXCommon.LLC_REPLY_BYTES)
            _GXAPDU.generateAARE(
                self.settings, self.replyData, AssociationResult.PERMANENT_REJECTED,
                SourceDiagnostic.AUTHENTICATION_FAILURE, None, None, None,
            )  # fmt: skip
        else:
            self.handleAarqRequest(self.info.data, None)
        if self.settings.cipher.isCiphered():
            self.settings.cipher.invocationCounter += 1  # the initiate-response has used one
        self.replyData = GXByteBuffer(self.replyData.array())

    def end_association(self):
        self.association.associationStatus = AssociationStatus.NON_ASSOCIATED
        self.settings.connected &= ~ConnectionState.DLMS
        self.settings.cipher.reset()

    def serve(self, command, data):
        """GET by gurux's own handler, ACTION by `act`; nothing before the association is whole."""
        status = self.association.associationStatus
        self.settings.invokeId = data.getUInt8(data.position + 1) & 0x0F  # for answers without an object
        if command == Command.METHOD_REQUEST:
            self.act(data, pending=status == AssociationStatus.ASSOCIATION_PENDING)
        elif command == Command.GET_REQUEST and status == AssociationStatus.ASSOCIATED:
            self.seen["blocks out"] += data.getUInt8(data.position) == GetCommandType.NEXT_DATA_BLOCK
            GXDLMSLNCommandHandler.handleGetRequest(self.settings, self, data, self.replyData, None)
        else:
            self.say(NOT_ASSOCIATED)

    def act(self, data, *, pending):
        kind, invoke = data.getUInt8(), data.getUInt8()
        class_id, instance = data.getUInt16(), bytearray(6)
        data.get(instance)
        method, has_parameters = data.getUInt8(), data.getUInt8()
        parameters = _GXCommon.getData(self.settings, data, _GXDataInfo()) if has_parameters else None
        target = self.items.findByLN(ObjectType(class_id), _GXCommon.toLogicalName(instance))
        if kind != 1 or pending != (target is self.association):
            self.say(NOT_ASSOCIATED)
            return
        answer = GXByteBuffer()
        if target is self.association:
            error, proof = self.reply_to_hls(parameters)
            answer.set(b"\x01\x00" if proof else b"\x00")
            if proof:
                _GXCommon.setData(self.settings, answer, DataType.OCTET_STRING, proof)
        else:
            event = ValueEventArgs(self, target, method, 0, parameters)
            target.invoke(self.settings, event)
            error = event.error
            self.rebooting = method == 4 and error == ErrorCode.OK
            answer.setUInt8(0)
        response = GXDLMSLNParameters(self.settings, invoke, Command.METHOD_RESPONSE, 1, None, answer, error)
        GXDLMS.getLNPdu(response, self.replyData)

    def reply_to_hls(self, proof):
        """Check the client's proof; the meter's own, with a counter that nothing else uses."""
        settings, cipher = self.settings, self.settings.cipher
        counter = GXByteBuffer(proof).getUInt32(1)
        expected = GXSecure.secure(
            settings, cipher, counter, settings.stoCChallenge, settings.sourceSystemTitle
        )
        if bytes(proof) != bytes(expected) or counter in self.used_counters:
            self.refusals += 1
            self.association.associationStatus = AssociationStatus.NON_ASSOCIATED
            return ErrorCode.READ_WRITE_DENIED, None
        self.used_counters.add(counter)
        own = GXSecure.secure(
            settings, cipher, cipher.invocationCounter, settings.ctoSChallenge, cipher.systemTitle
        )
        cipher.invocationCounter += 1
        self.association.associationStatus = AssociationStatus.ASSOCIATED
        settings.connected |= ConnectionState.DLMS
        return ErrorCode.OK, own

    # -- what gurux asks the meter --------------------------------------------------------------------------------

    def onValidateAuthentication(self, authentication, password):
        """Whom this meter lets in; asked between the AARQ and the AARE, where the PDU size is settled as well."""
        self.settings.maxPduSize = min(self.settings.maxPduSize, self.model.max_pdu)
        public = self.settings.clientAddress == PUBLIC_CLIENT
        expected = Authentication.NONE if public else self.model.authentication
        ciphered = self.model.ciphered and not public
        if authentication != expected or self.settings.cipher.isCiphered() != ciphered:
            return SourceDiagnostic.MECHANISM_NAME_REGUIRED
        if expected == Authentication.LOW and bytes(password) != self.model.password:
            self.refusals += 1
            return SourceDiagnostic.AUTHENTICATION_FAILURE
        return SourceDiagnostic.NONE

    def onGetAttributeAccess(self, e):
        hidden = self.settings.clientAddress == PUBLIC_CLIENT and e.target is self.image
        return AccessMode.NO_ACCESS if hidden else AccessMode.READ

    def onFindObject(self, *_):
        return None

    def onPreRead(self, *_):
        pass

    def onPostRead(self, *_):
        pass

    def notifyRead(self, *_):
        pass

    def onInvalidConnection(self, *_):
        pass

    def getTransaction(self):
        return self.transaction

    def setTransaction(self, transaction):
        self.transaction = transaction

    def reset(self, connect=False):
        super().reset(connect)
        if self.initialized:
            self.end_association()


def _data(name, data_type, value):
    item = GXDLMSData(name)
    item.value = value
    item.setDataType(2, data_type)
    return item


def _fields(aarq):
    """The fields of an AARQ by their tags (it leaves the position at the start)."""
    fields = {}
    buffer = GXByteBuffer(aarq.array())
    buffer.getUInt8()
    _GXCommon.getObjectCount(buffer)
    while buffer.available():
        tag, value = buffer.getUInt8(), bytearray(_GXCommon.getObjectCount(buffer))
        buffer.get(value)
        fields[tag] = bytes(value)
    return fields
