"""The end of an intake, for sources that may have got octets of more than one file."""

from __future__ import annotations

from gateway.errors import DigestError
from gateway.model import Image
from gateway.supply.intake import Intake


class DoubtfulDigestError(DigestError):
    """The digest is wrong, and the octets came in several answers, or in one whose end nobody could tell."""

    retryable = True


def finish(intake: Intake, *, doubtful: bool) -> Image:
    """The image. Raises what `Intake.finish` raises; where it is doubtful whose octets these are, DoubtfulDigestError
    in place of DigestError."""
    try:
        return intake.finish()
    except DigestError as error:
        if doubtful:
            raise DoubtfulDigestError(
                f"{error.message}; it is fetched once more, from the beginning"
            ) from error
        raise
