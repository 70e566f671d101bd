"""Bodies of requests, read whole and in bounded memory and time."""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive

from zhichun.serve.api.refusal import Refusal, overloaded, too_large
from zhichun.serve.http.limits import Limits

# A client that is told that its body is too large should be able to read so, for which it must have sent it.
DISCARDED_TIMES: Final = 4


class BodyReader:
    """Reads bodies; belongs to one event loop.

    Parameters
    ----------
    limits
        Of one body, and of all that are held.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Read a body, whose memory counts as held until `free` is called.

        Raises
        ------
        Refusal
            When it is too large, is too slow, or all together hold too much.
        """
        most = self.limits.body_bytes
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > most * DISCARDED_TIMES:
            raise too_large(f"the body has more than {most} bytes.")
        parts: list[bytes] = []
        size = seen = 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "Validation", "the client went.")  # noqa: TRY301
                    part, more = message.get("body", b""), message.get("more_body", False)
                    seen += len(part)
                    if seen <= most and self.held + len(part) <= self.limits.held_bytes:
                        parts.append(part)
                        size += len(part)
                        self.held += len(part)
                    elif seen > most * DISCARDED_TIMES:
                        break
        except TimeoutError:
            self.free(size)
            raise Refusal(408, "Validation", f"the body was not there after {self.limits.body_seconds:g} s.") from None
        except BaseException:
            self.free(size)
            raise
        if seen > size:
            self.free(size)
            if seen > most:
                raise too_large(f"the body has more than {most} bytes.")
            raise overloaded(f"the bodies of all requests have more than {self.limits.held_bytes} bytes.", 1.0)
        return b"".join(parts)

    def free(self, size: int) -> None:
        """Say that so many bytes are held no more."""
        self.held -= size
