"""Every quirk that a meter is known to have, every lie that it may tell, and every setting that copes with one.

Most quirks have two rows: with the profile that the model needs, and with the default one, where it shows which code
and which words lead an engineer to the setting (docs/profiles.md). `did` is what the meter saw the gateway do.
"""

from dataclasses import fields, replace

import pytest
from support.quirks import (
    ALL,
    HEAD,
    NOTHING,
    UP_TO_BLOCKS,
    UP_TO_VERIFY,
    Did,
    Row,
    check,
    memory_disk,
    play,
    seen,
    states,
)
from support.world import ciphered

from gateway.model import (
    A7Policy,
    Authentication,
    BitmapOrder,
    HlsCounter,
    IdentifierSource,
    Match,
    MeterKeys,
    Profile,
    Security,
)
from gateway.model import ImageTransferStatus as S
from gateway.simulator import A4, A5, A7, Bitmap, Erasing, Faults, Mishap, Then, What

LOST = frozenset({3, 4, 11})
KEYED = {
    "keys": ciphered().keys, "authentication": Authentication.HLS_GMAC, "security": Security.BOTH,
}  # fmt: skip
MODEL = ("0-0:96.1.1.255", "X3 rev. 2")
X3 = {"name": "acme-x3", "match": Match(MODEL[0], "X3*")}


def restart_at(*blocks):
    """Power fails after so many blocks."""
    return tuple(Mishap(What.BLOCK, nth, Then.REBOOT) for nth in blocks)


IDENTIFIER = [
    Row("any identifier will do"),
    Row("the vendor's exact identifier, which was not ordered", meter={"image_identifier": b"ACM 4.1.7"},
        ends="T_IDENTIFIER", did=NOTHING, says="'FW'"),
    Row("the vendor's exact identifier, ordered", meter={"image_identifier": b"ACM 4.1.7"},
        order={"identifier": "ACM 4.1.7"}),
    Row("exactly 6 octets, others were ordered", meter={"image_identifier_octets": 6},
        ends="T_IDENTIFIER", did=NOTHING),
    Row("exactly 6 octets, ordered", meter={"image_identifier_octets": 6}, order={"identifier": "hex:41434d580301"}),
    Row("the one in the head of the file, not set", meter={"image_identifier": HEAD},
        ends="T_IDENTIFIER", did=NOTHING),
    Row("the one in the head of the file", meter={"image_identifier": HEAD},
        profile={"identifier": IdentifierSource.HEAD}),
    Row("the one in the head, missed at verification only", meter={"image_identifier_in": IdentifierSource.HEAD},
        ends="T_VERIFY", did=UP_TO_VERIFY),
    Row("the one in the head, and the file has none", meter={"image_identifier_in": IdentifierSource.HEAD},
        profile={"identifier": IdentifierSource.HEAD}, image=b"\0" * 1950, ends="T_IDENTIFIER", did=NOTHING,
        says="head"),
    Row("the MD5 of the image, not set", meter={"image_identifier_in": IdentifierSource.MD5},
        ends="T_VERIFY", did=UP_TO_VERIFY),
    Row("the MD5 of the image", meter={"image_identifier_in": IdentifierSource.MD5},
        profile={"identifier": IdentifierSource.MD5}),
    Row("the order's identifier, said so", profile={"identifier": IdentifierSource.GIVEN}),
]  # fmt: skip

ERASING = [
    Row("erases for 4 s in silence", meter={"erase_s": 4.0}),
    Row("erases for 60 s in silence", meter={"erase_s": 60.0}, tries=4),
    Row("erases for 60 s in silence, and is left alone", meter={"erase_s": 60.0}, profile={"after_initiate_s": 60.0}),
    Row("answers initiate only when it has erased", Faults(erasing=Erasing.LATE_REPLY), meter={"erase_s": 60.0},
        tries=4),
    Row("says temporary-failure while it erases", Faults(erasing=Erasing.TEMPORARY_FAILURE), meter={"erase_s": 60.0}),
    Row("says temporary-failure to initiate too", Faults(erasing=Erasing.BUSY_ANSWER), meter={"erase_s": 60.0}),
    Row("forgets that it was initiated", Faults(forgets_initiate=True), ends="T_INCOMPLETE", did=Did(2, 0, 0, 0)),
    Row("forgets it, and takes every block", Faults(forgets_initiate=True, drops_uninitiated_blocks=True),
        ends="T_INCOMPLETE", did=Did(2, 0, 0, 0)),
]  # fmt: skip

BLOCKS = [
    Row("a2 is not its block size: hardware-fault on the second block", Faults(a2=128, first_block_any_length=True),
        ends="T_BLOCK", did=UP_TO_BLOCKS, tries=6, says="block 1"),
    Row("a2 is not its block size, the profile says it", Faults(a2=128, first_block_any_length=True),
        profile={"block_size": 100}),
    Row("a profile with a block size of its own breaks a meter that needs none", Faults(first_block_any_length=True),
        profile={"block_size": 64}, ends="T_BLOCK", did=UP_TO_BLOCKS, tries=6, says="block_size"),
    Row("a2 is 0", Faults(a2=0), ends="T_BLOCK", did=NOTHING, says="profile"),
    Row("a2 is 0, the profile says it", Faults(a2=0), profile={"block_size": 100}),
    Row("a2 is larger than its PDU", meter={"block_size": 600, "max_pdu": 512}, ends="T_BLOCK", did=NOTHING,
        says="600"),
    Row("the last block must be padded", Faults(padded_last_block=True), ends="T_BLOCK", did=UP_TO_BLOCKS, tries=6,
        says="pad_last_block"),
    Row("the last block must be padded, and is", Faults(padded_last_block=True), profile={"pad_last_block": True}),
    Row("the last block must not be padded, and is", profile={"pad_last_block": True}, ends="T_BLOCK",
        did=UP_TO_BLOCKS, tries=6, says="pad_last_block"),
    Row("loses blocks that it acknowledged", Faults(blocks_lost_once=LOST), did=ALL._replace(resent=3)),
    Row("loses a fifth of them, again and again", Faults(blocks_lost=0.2), did=ALL._replace(resent=4)),
    Row("loses every block", Faults(blocks_lost=1.0), ends="T_INCOMPLETE", did=Did(1, 40, 0, 0)),
    Row("stores in order of arrival and loses blocks", Faults(stored_in_order_of_arrival=True, blocks_lost_once=LOST),
        ends="T_VERIFY", did=Did(1, 3, 1, 0)),
    Row("stores in order of arrival and once loses blocks, the profile says it",
        Faults(stored_in_order_of_arrival=True, blocks_lost_once=LOST, transfers_with_losses=1),
        profile={"in_order_only": True}, did=Did(2, 0, 1, 1)),
    Row("stores in order of arrival and always loses blocks",
        Faults(stored_in_order_of_arrival=True, blocks_lost_once=LOST), profile={"in_order_only": True},
        ends="T_INCOMPLETE", did=Did(2, 0, 0, 0), says="in order"),
    Row("a block's answer is lost, and repeated frames are rejected",
        Faults(mishaps=(Mishap(What.BLOCK, 7, Then.LOSE_REPLY),), ignores_poll=True, frmr_on_repeat=True), tries=2),
    Row("stores in order of arrival, an answer is lost, the block is not sent again",
        Faults(mishaps=(Mishap(What.BLOCK, 7, Then.LOSE_REPLY),), ignores_poll=True, frmr_on_repeat=True,
               stored_in_order_of_arrival=True), profile={"in_order_only": True}, tries=2),
    Row("forgets its transfer three times", Faults(mishaps=restart_at(5, 10, 15), transfer_lost_by_reboot=True),
        ends="T_INCOMPLETE", did=Did(2, 0, 0, 0), tries=3, says="max_initiates"),
    Row("forgets its transfer three times, and may", profile={"max_initiates": 4}, did=Did(4, 0, 1, 1), tries=4,
        faults=Faults(mishaps=restart_at(5, 10, 15), transfer_lost_by_reboot=True)),
]  # fmt: skip

BITMAP = [
    Row("a4 hides gaps", Faults(a4=A4.HIGHEST_PLUS_ONE, blocks_lost_once=LOST), did=ALL._replace(resent=3)),
    Row("a4 stuck after initiate", Faults(a4=A4.STUCK)),
    Row("a4 is complete from the beginning", Faults(a4=A4.COMPLETE, blocks_lost_once=LOST),
        did=ALL._replace(resent=3)),
    Row("bitmap from the other end of each octet", Faults(bitmap_lsb_first=True), ends="T_INCOMPLETE",
        did=Did(1, 12, 0, 0), says="bitmap"),
    Row("bitmap from the other end, read so", Faults(bitmap_lsb_first=True, blocks_lost_once=LOST),
        profile={"bitmap": BitmapOrder.LSB}, did=ALL._replace(resent=3)),
    Row("bitmap as usual, said so", profile={"bitmap": BitmapOrder.MSB}),
    Row("bitmap read from the wrong end", profile={"bitmap": BitmapOrder.LSB}, ends="T_INCOMPLETE",
        did=Did(1, 12, 0, 0)),
    Row("bitmap padded to whole octets", Faults(bitmap=Bitmap.PADDED, blocks_lost_once=LOST),
        did=ALL._replace(resent=3)),
    Row("bitmap empty after initiate, grows as blocks come", Faults(bitmap=Bitmap.GROWING, mishaps=restart_at(5)),
        tries=2),
    Row("bitmap short by three bits", Faults(bitmap_missing_bits=3), ends="T_INCOMPLETE", did=Did(1, 9, 0, 0),
        says="bitmap"),
    Row("bitmap short by three bits, ignored", Faults(bitmap_missing_bits=3), profile={"bitmap": BitmapOrder.IGNORE}),
    Row("bitmap always empty", Faults(bitmap=Bitmap.EMPTY), ends="T_INCOMPLETE", did=Did(1, 40, 0, 0)),
    Row("bitmap always empty, ignored", Faults(bitmap=Bitmap.EMPTY), profile={"bitmap": BitmapOrder.IGNORE}),
    Row("bitmap ignored, the association breaks", Faults(bitmap=Bitmap.EMPTY, mishaps=restart_at(5)),
        profile={"bitmap": BitmapOrder.IGNORE}, did=Did(2, 0, 1, 1), tries=2),
    Row("bitmap ignored, the association breaks twice", Faults(bitmap=Bitmap.EMPTY, mishaps=restart_at(5, 10)),
        profile={"bitmap": BitmapOrder.IGNORE}, ends="T_INCOMPLETE", did=Did(2, 0, 0, 0), tries=3,
        says="the association broke"),
    Row("bitmap ignored, and a block is lost", Faults(blocks_lost_once=LOST), profile={"bitmap": BitmapOrder.IGNORE},
        ends="T_VERIFY", did=UP_TO_VERIFY),
]  # fmt: skip

ENABLING = [
    Row("transfer is disabled", meter={"transfer_enabled": False}, ends="T_DISABLED", did=NOTHING,
        says="enable_transfer"),
    Row("transfer is disabled, enabled, and disabled again", meter={"transfer_enabled": False},
        profile={"enable_transfer": True}, also=lambda world: not world.meters["MTR1"].image.enabled),
    Row("TRUE only as FF", Faults(a5=A5.ONLY_FF), meter={"transfer_enabled": False},
        profile={"enable_transfer": True}, also=lambda world: not world.meters["MTR1"].image.enabled),
    Row("it may not be enabled", Faults(a5=A5.DENIED), meter={"transfer_enabled": False},
        profile={"enable_transfer": True}, ends="T_DISABLED", did=NOTHING),
    Row("it is enabled and stays disabled", Faults(a5=A5.IGNORED), meter={"transfer_enabled": False},
        profile={"enable_transfer": True}, ends="T_DISABLED", did=NOTHING),
    Row("disabled again after the meter refused the identifier",
        meter={"transfer_enabled": False, "image_identifier": HEAD}, profile={"enable_transfer": True},
        ends="T_IDENTIFIER", did=NOTHING, also=lambda world: not world.meters["MTR1"].image.enabled),
    Row("disabled again after the meter refused a block", Faults(padded_last_block=True),
        meter={"transfer_enabled": False}, profile={"enable_transfer": True}, ends="T_BLOCK", did=UP_TO_BLOCKS,
        tries=6, also=lambda world: not world.meters["MTR1"].image.enabled),
    Row("disabled again after it denied a7", Faults(a7=A7.DENIED), meter={"transfer_enabled": False},
        profile={"enable_transfer": True}, ends="T_IDENTIFIER", did=UP_TO_VERIFY,
        also=lambda world: not world.meters["MTR1"].image.enabled),
    Row("disabled again after the image was wrong", meter={"transfer_enabled": False, "image_sha256": "00" * 32},
        profile={"enable_transfer": True}, ends="T_VERIFY", did=UP_TO_VERIFY,
        also=lambda world: not world.meters["MTR1"].image.enabled),
]  # fmt: skip

VERIFYING = [
    Row("verifies for 28 minutes", meter={"verify_s": 28 * 60.0}),
    Row("verifies for an hour", meter={"verify_s": 3600.0}, ends="T_VERIFY", did=UP_TO_VERIFY, says="verify_timeout"),
    Row("verifies for an hour, and may", meter={"verify_s": 3600.0}, profile={"verify_timeout_s": 4000.0}),
    Row("verifies for 20 minutes in silence", Faults(mishaps=(Mishap(What.VERIFY, 1, Then.FALL_SILENT, 1200.0),)),
        meter={"verify_s": 1200.0}, tries=9),
    Row("answers verify with temporary-failure, and fails if asked again", Faults(fails_on_second_verify=True),
        meter={"verify_s": 120.0}),
    Row("a6 stays 1 for ten minutes while it verifies", Faults(a6={S.VERIFICATION_INITIATED: S.INITIATED}),
        meter={"verify_s": 600.0}),
    Row("answers verify with other-reason, and a6 stays 1", Faults(a6=dict.fromkeys(list(S)[1:], S.INITIATED),
        verify_result=250), ends="T_VERIFY", did=UP_TO_VERIFY, says="has not begun"),
    Row("answers verify with other-reason and is fine", Faults(verify_result=250), meter={"verify_s": 30.0}),
    Row("answers verify with success and fails", Faults(verify_result=0), meter={"image_sha256": "00" * 32},
        ends="T_VERIFY", did=UP_TO_VERIFY),
    Row("checks only the size, and a block was lost", Faults(verify_checks_size_only=True, blocks_lost_once=LOST),
        did=ALL._replace(resent=3)),
    Row("the answer to verify is lost, and the meter is asked once",
        Faults(mishaps=(Mishap(What.VERIFY, 1, Then.LOSE_REPLY),), ignores_poll=True, fails_on_second_verify=True),
        meter={"verify_s": 120.0}, tries=2),
]  # fmt: skip

TO_ACTIVATE = [
    Row("a7 is empty", Faults(a7=A7.EMPTY)),
    Row("a7 is denied", Faults(a7=A7.DENIED), ends="T_IDENTIFIER", did=UP_TO_VERIFY, says='a7 = "skip"'),
    Row("a7 is denied, and skipped", Faults(a7=A7.DENIED), profile={"a7": A7Policy.SKIP}),
    Row("a7 is checked, said so", profile={"a7": A7Policy.CHECK}),
    Row("a7 names another image", Faults(a7=A7.ANOTHER_IMAGE), ends="T_IDENTIFIER", did=UP_TO_VERIFY),
    Row("a7 names another size", Faults(a7=A7.ANOTHER_SIZE), ends="T_IDENTIFIER", did=UP_TO_VERIFY, says="1951"),
    Row("a7 names ours and another image", Faults(a7=A7.TWO_IMAGES), ends="T_IDENTIFIER", did=UP_TO_VERIFY,
        says="4711"),
]  # fmt: skip

ACTIVATING = [
    Row("answers activate with temporary-failure", Faults(activate_result=2)),
    Row("answers activate with other-reason, and does it", Faults(activate_result=250)),
    Row("answers activate, and does nothing", Faults(activation_ignored=True), ends="T_ACTIVATE"),
    Row("refuses to activate", Faults(activation_ignored=True, activate_result=3), ends="T_ACTIVATE"),
    Row("fails to activate", Faults(activation_fails=True), ends="T_ACTIVATE"),
    Row("silent for 25 s after activate", meter={"reboot_s": 25.0}, profile={"reconnect_after_s": 25.0}),
    Row("silent for 50 s after activate", meter={"reboot_s": 50.0}, also=lambda world: len(_knocks(world)) >= 1),
    Row("silent for 50 s after activate, and left alone", meter={"reboot_s": 50.0},
        profile={"reconnect_after_s": 60.0}, also=lambda world: not _knocks(world)),
    Row("silent for 20 minutes after activate", meter={"reboot_s": 1200.0},
        also=lambda world: "uncertain" in states(world)),
    Row("silent for 20 minutes after activate, and may be", meter={"reboot_s": 1200.0},
        profile={"activate_timeout_s": 1800.0}, also=lambda world: "uncertain" not in states(world)),
    Row("tells its old version for 15 minutes more", Faults(old_version_s=900.0), ends="T_ACTIVATE",
        says="activate_timeout"),
    Row("tells its old version for 15 minutes more, and may", Faults(old_version_s=900.0),
        profile={"activate_timeout_s": 1800.0}),
    Row("comes back at its default association", Faults(default_association_s=300.0),
        also=lambda world: "uncertain" not in states(world)),
    Row("stays at its default association for 15 minutes", Faults(default_association_s=900.0),
        also=lambda world: "uncertain" in states(world)),
    Row("a6 is 0 after the restart", Faults(status_after_activation=S.NOT_INITIATED)),
    Row("a6 is 1 after the restart", Faults(status_after_activation=S.INITIATED)),
    Row("a6 is still 3 after the restart", Faults(status_after_activation=S.VERIFICATION_SUCCESSFUL)),
    Row("runs a third version afterwards", meter={"new_version": "2.0.1"}, ends="T_VERSION", says="2.0.1"),
]  # fmt: skip


def _knocks(world):
    """Times that a meter which restarts was looked for in vain."""
    return [sentence for sentence in world.sentences if "cannot be read yet" in sentence]


LINK = [
    Row("refuses an SNRM with parameters", Faults(refuses_snrm_parameters=True)),
    Row("refuses an SNRM with parameters, and gets none", Faults(refuses_snrm_parameters=True),
        profile={"snrm_parameters": False}),
    Row("does not hear an SNRM with parameters", Faults(ignores_snrm_parameters=True), ends="T_SILENT", did=NOTHING,
        tries=6),
    Row("does not hear an SNRM with parameters, and gets none", Faults(ignores_snrm_parameters=True),
        profile={"snrm_parameters": False}),
    Row("repeats its own defaults in the UA, larger ones", Faults(ua_repeats_own=True),
        meter={"max_info": 64, "window": 3}, profile={"window": 1, "max_info": 50}),
    Row("repeats its own defaults in the UA, smaller ones", Faults(ua_repeats_own=True),
        meter={"max_info": 128, "window": 1}),
    Row("agrees to 512 octets and hears 128", Faults(hears_info_octets=128),
        meter={"block_size": 300}, tries=3, also=lambda world: world.store.tuning("MTR1").max_info == 128),
    Row("agrees to 512 octets and hears 128, as the profile says", Faults(hears_info_octets=128),
        meter={"block_size": 300}, profile={"max_info": 128}),
    Row("agrees to a window of 7 and hears one frame", Faults(hears_one_of_window=True),
        meter={"block_size": 300, "max_info": 128, "window": 7}, also=lambda world: world.now_s > 60),
    Row("agrees to a window of 7 and falls silent on two frames", Faults(wedges_on_window=True),
        meter={"block_size": 300, "max_info": 128, "window": 7}, tries=3,
        also=lambda world: world.store.tuning("MTR1").window == 1),
    Row("agrees to a window of 7 and hears one frame, as the profile says", Faults(hears_one_of_window=True),
        meter={"block_size": 300, "max_info": 128, "window": 7}, profile={"window": 1},
        also=lambda world: world.now_s < 60),
    Row("ignores polls", Faults(ignores_poll=True)),
]  # fmt: skip

SECURITY = [
    Row("wants the counter of the proof below that of its APDU", meter={**KEYED, "hls_counter": HlsCounter.INNER_FIRST},
        profile={"hls_counter": HlsCounter.INNER_FIRST}),
    Row("wants the counter of the proof above that of its APDU", meter={**KEYED, "hls_counter": HlsCounter.OUTER_FIRST},
        ends="T_SECURITY", did=NOTHING, says="hls_counter"),
    Row("wants the counter of the proof above that of its APDU, and gets it",
        meter={**KEYED, "hls_counter": HlsCounter.OUTER_FIRST}, profile={"hls_counter": HlsCounter.OUTER_FIRST}),
    Row("its counter is elsewhere", meter={**KEYED, "counter_object": "0-0:43.1.3.255", "client_counter": 70_000},
        ends="T_SECURITY", did=NOTHING, says="counter_object"),
    Row("its counter is elsewhere, as the profile says",
        meter={**KEYED, "counter_object": "0-0:43.1.3.255", "client_counter": 70_000},
        profile={"counter_object": "0-0:43.1.3.255"}),
    Row("locks out after a wrong password: it is asked once", Faults(lockout_s=255.0),
        meter={"authentication": Authentication.LLS, "keys": MeterKeys(password=b"right")},
        site={"keys": MeterKeys(password=b"wrong")}, ends="T_SECURITY", did=NOTHING,
        also=lambda world: seen(world, What.REJECTED) == 1),
    Row("locks out after a wrong key: it is asked once", Faults(lockout_s=255.0), meter=KEYED,
        site={"keys": MeterKeys(b"another key 1234", KEYED["keys"].authentication_key)}, ends="T_SECURITY",
        did=NOTHING, also=lambda world: seen(world, What.REJECTED) == 1),
    Row("names the counter that it expects in an exception", site={"keys": replace(KEYED["keys"], initial_counter=10)},
        meter={**KEYED, "counter_object": "0-0:43.1.3.255", "client_counter": 70_000},
        also=lambda world: seen(world, What.SECURITY) == 1),
    Row("says nothing where it refuses a tag or a counter", Faults(silent_refusals=True), meter=KEYED),
]  # fmt: skip

IDENTITY = [
    Row("is of the model that the profile is for", meter={"texts": (MODEL,)}, profile=X3),
    Row("is of another model", meter={"texts": ((MODEL[0], "Y9"),)}, profile=X3, ends="T_IDENTITY", did=NOTHING,
        says="profile acme-x3 wants 'X3*'"),
    Row("does not tell its model", profile=X3, ends="T_IDENTITY", did=NOTHING, says="match"),
    Row("calls itself otherwise than configured", site={"expect_name": "ACM0000000001"}, ends="T_IDENTITY",
        did=NOTHING, says="SIM0000000000001"),
    Row("may call itself anything", site={"expect_name": False}),
    Row("is exchanged for another while it verifies",
        Faults(mishaps=(Mishap(What.VERIFY, 1, Then.EXCHANGE),), exchanged={"0-0:42.0.0.255": "SIM0000000000002"}),
        ends="T_IDENTITY", did=UP_TO_VERIFY, says="SIM0000000000002"),
    Row("is exchanged for another model while it verifies",
        Faults(mishaps=(Mishap(What.VERIFY, 1, Then.EXCHANGE),), exchanged={MODEL[0]: "Y9"}),
        meter={"texts": (MODEL,)}, profile=X3, ends="T_IDENTITY", did=UP_TO_VERIFY, says="Y9"),
    Row("is exchanged for another while blocks go",
        Faults(mishaps=(Mishap(What.BLOCK, 5, Then.EXCHANGE), *restart_at(5)),
               exchanged={"0-0:42.0.0.255": "SIM0000000000002"}),
        ends="T_IDENTITY", did=UP_TO_BLOCKS, tries=2),
]  # fmt: skip

OBJECTS = [
    Row("Image Transfer is elsewhere", meter={"image_object": "0-1:44.0.0.255"}, ends="T_ASSOCIATION", did=NOTHING,
        says="image_object"),
    Row("Image Transfer is elsewhere, as the profile says", meter={"image_object": "0-1:44.0.0.255"},
        profile={"image_object": "0-1:44.0.0.255"}),
    Row("its version is elsewhere", meter={"firmware_object": "1-1:0.2.0.255"}, ends="T_VERSION", did=NOTHING,
        says="firmware_object"),
    Row("its version is elsewhere, as the profile says", meter={"firmware_object": "1-1:0.2.0.255"},
        profile={"firmware_object": "1-1:0.2.0.255"}),
    Row("its version is elsewhere, as the order says", meter={"firmware_object": "1-1:0.2.0.255"},
        order={"firmware_object": "1-1:0.2.0.255"}),
]  # fmt: skip

FOREIGN = [
    Row("somebody else initiated it", Faults(left_by_others=S.INITIATED), ends="T_FOREIGN", did=NOTHING),
    Row("somebody else initiated it, taken over", Faults(left_by_others=S.INITIATED), order={"take_over": True}),
    Row("somebody else verified his image in it", Faults(left_by_others=S.VERIFICATION_SUCCESSFUL), ends="T_FOREIGN",
        did=NOTHING),
    Row("somebody else verified his image in it, taken over", Faults(left_by_others=S.VERIFICATION_SUCCESSFUL),
        order={"take_over": True}),
    Row("somebody else activates his image, not to be taken over", Faults(left_by_others=S.ACTIVATION_INITIATED),
        order={"take_over": True}, ends="T_FOREIGN", did=NOTHING),
    Row("somebody else's image failed", Faults(left_by_others=S.VERIFICATION_FAILED)),
]  # fmt: skip

LIARS = [
    Row("a3 is all ones although blocks are missing", Faults(bitmap=Bitmap.ALL_ONES, blocks_lost_once=LOST),
        ends="T_VERIFY", did=UP_TO_VERIFY),
    Row("a3 is all ones, and the transfer broke: begun anew, and the bitmap is not believed",
        Faults(bitmap=Bitmap.ALL_ONES, mishaps=restart_at(2)), did=Did(2, 0, 1, 1), tries=2),
    Row("a3 shows blocks that were never sent", Faults(bitmap_adds=frozenset({19}), mishaps=restart_at(2)),
        did=Did(2, 0, 1, 1), tries=2),
    Row("a3 shows a block that is about to be sent", Faults(bitmap_adds=frozenset({5}), mishaps=restart_at(2)),
        did=Did(2, 0, 1, 1), tries=2),
    Row("a3 shows a block that it lost", Faults(bitmap_adds=LOST, blocks_lost_once=LOST), ends="T_VERIFY",
        did=UP_TO_VERIFY),
    Row("a6 is 3 from the beginning", Faults(a6={S.NOT_INITIATED: S.VERIFICATION_SUCCESSFUL}), ends="T_FOREIGN",
        did=NOTHING),
    Row("a6 is 3 without verification", Faults(a6={S.INITIATED: S.VERIFICATION_SUCCESSFUL}), ends="T_FOREIGN",
        did=UP_TO_BLOCKS),
    Row("a6 is 3 without verification, taken over", Faults(a6={S.INITIATED: S.VERIFICATION_SUCCESSFUL}),
        order={"take_over": True}, ends="T_INCOMPLETE", did=Did(2, 0, 0, 0)),
    Row("a6 is 3 although verification failed", Faults(a6={S.VERIFICATION_FAILED: S.VERIFICATION_SUCCESSFUL}),
        meter={"image_sha256": "00" * 32}, ends="T_ACTIVATE"),
    Row("a6 is 6 after initiate", Faults(a6={S.INITIATED: S.ACTIVATION_SUCCESSFUL}), ends="T_INCOMPLETE",
        did=Did(2, 0, 0, 0)),
    Row("a6 is 6 before activation", Faults(a6={S.VERIFICATION_SUCCESSFUL: S.ACTIVATION_SUCCESSFUL}),
        ends="T_INCOMPLETE", did=Did(2, 0, 2, 0)),
    Row("a6 is 1 for ever", Faults(a6=dict.fromkeys(S, S.INITIATED)), ends="T_FOREIGN", did=NOTHING),
    Row("a6 is 1 for ever after initiate", Faults(a6=dict.fromkeys(list(S)[1:], S.INITIATED)), ends="T_VERIFY",
        did=Did(1, 0, 3, 0), says="ordered 3 times"),
    Row("a6 is 2 for ever after verify",
        Faults(a6={S.VERIFICATION_SUCCESSFUL: S.VERIFICATION_INITIATED}), ends="T_VERIFY", did=UP_TO_VERIFY),
    Row("a6 is 5 before activation", Faults(a6={S.VERIFICATION_SUCCESSFUL: S.ACTIVATION_INITIATED}),
        ends="T_FOREIGN", did=UP_TO_VERIFY),
]  # fmt: skip

ROWS = [
    *IDENTIFIER, *ERASING, *BLOCKS, *BITMAP, *ENABLING, *VERIFYING, *TO_ACTIVATE, *ACTIVATING, *LINK, *SECURITY,
    *IDENTITY, *OBJECTS, *FOREIGN, *LIARS,
]  # fmt: skip

ELSEWHERE = {
    "to_meter", "to_gateway", "cuts_at_octet", "read_chunk_octets", "replies_lost", "unplugged", "echo",
    "turnaround_s", "talks", "answers_as", "frames_missed",
    "broadcasts_missed",
    "clock_off_s", "schedule_refused", "clearing_refused", "script_denied", "schedule_drops_minutes",
}  # fmt: skip
"""Faults of the line and of chance: test_simulation.py, test_bad_lines.py, test_broadcast.py, and the simulator's own
tests; those of a meter's own schedule: test_schedule.py."""

OF_OTHER_STORIES = ("optical_", "broadcast", "activation_", "health_")
"""Settings for optical heads, a whole bus at once, a meter's own schedule and health checks:
tests/link/test_optical.py, test_broadcast.py, test_schedule.py, test_health.py."""


@pytest.fixture
def disk():
    with memory_disk() as directory:
        yield directory


@pytest.mark.parametrize("row", ROWS, ids=[row.story for row in ROWS])
def test_a_meter_with_this_quirk(row, disk):
    world = play(row, disk)
    try:
        check(row, world)
    except AssertionError:
        print("\n".join(sentence for sentence in world.sentences if "uplink" not in sentence)[-4000:])
        raise


def test_every_setting_of_a_profile_is_in_a_row():
    quirks = {field.name for field in fields(Profile) if not field.name.startswith(OF_OTHER_STORIES)}
    assert {name for row in ROWS for name in row.profile} == quirks


def test_every_quirk_that_the_simulator_plays_is_in_a_row():
    played = {
        field.name for row in ROWS for field in fields(Faults)
        if getattr(row.faults, field.name) != getattr(Faults(), field.name)
    }  # fmt: skip
    assert played == {field.name for field in fields(Faults)} - ELSEWHERE
