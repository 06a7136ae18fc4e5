"""The first request of a connection, and what a client must find out before it dares to say who it was."""

from __future__ import annotations

from dataclasses import dataclass

from . import wire
from .channel import Channel, Target, dial
from .errors import KvferryError


@dataclass(frozen=True, slots=True)
class Welcome:
    incarnation: str
    #: Names this session on the next connection; "" where it must not be said any more.
    resume: str
    resumed: bool
    pending_max: int
    message_bytes_max: int

    @classmethod
    def from_message(cls, message: wire.Message) -> Welcome:
        version = wire.integer(message, "version")
        if version != wire.API_VERSION:
            detail = f"the sidecar answers in version {version}, this side speaks {wire.API_VERSION}"
            raise KvferryError("version_unsupported", detail)
        limits = wire.mapping(message, "limits")
        return cls(
            incarnation=wire.text(message, "incarnation"),
            resume=wire.text(message, "resume"),
            resumed=wire.boolean(message, "resumed"),
            pending_max=wire.integer(limits, "pendingMax"),
            message_bytes_max=wire.integer(limits, "messageBytes"),
        )


async def say_hello(
    channel: Channel,
    client: str,
    process_id: int,
    token: str | None,
    timeout_s: float,
    unanswered: tuple[int, ...] = (),
) -> Welcome:
    """`unanswered`: requests of the connection before. Raises what the sidecar refuses it with, or version_unsupported."""
    fields = wire.present(version=wire.API_VERSION, client=client, processId=process_id, resume=token)
    if unanswered:
        fields["unanswered"] = list(unanswered)
    welcome = await channel.request("hello", fields, Welcome.from_message, timeout_s)
    channel.limit(welcome.pending_max, welcome.message_bytes_max)
    return welcome


async def probe(target: Target, client: str, timeout_s: float) -> str:
    """The incarnation that answers now, asked by a client that holds nothing. A hello with a token cannot be taken back, and to
    a restarted sidecar it is a promise."""
    channel = await dial(target, timeout_s, lambda _: None, lambda _channel, _detail: None)
    try:
        return (await say_hello(channel, client, 0, None, timeout_s)).incarnation
    finally:
        await channel.close()
