"""The floor under `cpu_per_block_us`: one block and its answer in as few steps as Python allows, by hand.

It makes the same octets as the gateway (`block` compares them) and looks at nothing but the frame check, the GCM tag
and the four octets that mean success: no state of a link, no policy, no time-out, no counter of the meter.
"""

from __future__ import annotations

from binascii import crc_hqx

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_TAG_OCTETS = 12


class Floor:
    """`counter`, `send_seq` and `receive_seq` are those of the first request; `addresses` and `meter_title` are as
    they stand in frames and answers."""

    def __init__(
        self,
        *,
        keys: tuple[bytes, bytes],
        own_title: bytes,
        meter_title: bytes,
        addresses: bytes,
        counter: int,
        invoke: int,
        send_seq: int,
        receive_seq: int,
        block_octets: int,
    ) -> None:
        encryption_key, authentication_key = keys
        self._aead, self._aes = AESGCM(encryption_key), AES(encryption_key)
        self._aad = b"\x30" + authentication_key
        self._own_title, self._meter_title = own_title, meter_title
        self._counter, self._invoke = counter, invoke
        self._send_seq, self._receive_seq = send_seq, receive_seq
        length = b"\x82" + block_octets.to_bytes(2, "big")
        self._before_number = bytes.fromhex("0012 00002c0000ff 02 01 0202 06")
        self._before_block = b"\x09" + length
        plain_octets = 3 + len(self._before_number) + 4 + len(self._before_block) + block_octets
        sealed_octets = plain_octets + 5 + _TAG_OCTETS
        self._before_counter = b"\xe6\xe6\x00\xcb\x82" + sealed_octets.to_bytes(2, "big") + b"\x30"
        frame_octets = 2 + len(addresses) + 1 + 2 + len(self._before_counter) + sealed_octets - 1 + 2
        self._before_control = (0xA000 | frame_octets).to_bytes(2, "big") + addresses
        self._answer_at = 1 + len(self._before_control) + 1 + 2 + 3

    def request(self, number: int, block: bytes) -> bytes:
        """The frame that carries `block`."""
        control = bytes((self._receive_seq << 5 | 0x10 | self._send_seq << 1,))
        counter = self._counter.to_bytes(4, "big")
        invoke = bytes((0xC0 | self._invoke,))
        plain = b"".join(
            (b"\xc3\x01", invoke, self._before_number, number.to_bytes(4, "big"), self._before_block, block)
        )
        sealed = self._aead.encrypt(self._own_title + counter, plain, self._aad)[:-4]
        header = self._before_control + control
        checked_header = header + _check(header)
        frame = b"".join((checked_header, self._before_counter, counter, sealed))
        self._counter += 1
        self._send_seq = self._send_seq + 1 & 7
        return b"".join((b"\x7e", frame, _check(frame), b"\x7e"))

    def succeeded(self, answer: bytes) -> bool:
        """The meter's frame says that it has the block."""
        if crc_hqx(answer[1:-1].translate(_REVERSED), 0xFFFF) != 0x1D0F:
            return False
        sealed_at = self._answer_at + 7
        iv = self._meter_title + answer[self._answer_at + 3 : sealed_at]
        text, tag = answer[sealed_at : -3 - _TAG_OCTETS], answer[-3 - _TAG_OCTETS : -3]
        decryptor = Cipher(self._aes, GCM(iv, tag, min_tag_length=_TAG_OCTETS)).decryptor()
        decryptor.authenticate_additional_data(self._aad)
        plain = decryptor.update(text)
        decryptor.finalize()
        good = plain == b"\xc7\x01" + bytes((0xC0 | self._invoke,)) + b"\x00\x00"
        self._invoke = self._invoke + 1 & 0x0F
        self._receive_seq = self._receive_seq + 1 & 7
        return good


def _check(octets: bytes) -> bytes:
    return (crc_hqx(octets.translate(_REVERSED), 0xFFFF) ^ 0xFFFF).to_bytes(2, "big").translate(_REVERSED)
