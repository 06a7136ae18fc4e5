"""Messages of the engine API as bytes (schemas/api.md): plain msgpack both ways, and the fields of answers checked by type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from .errors import KvferryError

#: A message that has arrived. Its values are untyped until one of the functions below has looked at them.
Message = Mapping[str, Any]

API_VERSION = 1
KEY_BYTES = 32
#: Until hello has said what the sidecar takes.
PENDING_MAX = 4_096
MESSAGE_BYTES_MAX = 8 << 20
#: The server lets this much wait for a client, so no message of it is longer.
RECEIVED_BYTES_MAX = 32 << 20
DEADLINE_MAX_S = 3_600.0


def encode(message: Message) -> bytes:
    data: bytes = msgpack.packb(message, use_bin_type=True)
    if len(data) > MESSAGE_BYTES_MAX:
        raise KvferryError(
            "message_too_large", f"{message.get('op')} of {len(data)} bytes; {MESSAGE_BYTES_MAX} at most"
        )
    return data


def decode(data: bytes | str) -> Message:
    if isinstance(data, str):
        raise KvferryError("protocol_error", "the server sent a text message")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_refuse_extension)
    except Exception as cause:
        raise KvferryError("protocol_error", f"the server sent no msgpack: {cause}") from cause
    if not isinstance(value, dict):
        raise KvferryError("protocol_error", f"the server sent a {type(value).__name__} instead of a map")
    return value


def _refuse_extension(kind: int, _data: bytes) -> object:
    raise ValueError(f"extension type {kind}")


def _wrong(name: str, what: str) -> KvferryError:
    return KvferryError("protocol_error", f"an answer's field {name} is no {what}")


def integer(message: Message, name: str) -> int:
    value = message.get(name)
    if type(value) is not int or value < 0:
        raise _wrong(name, "whole number")
    return value


def number(message: Message, name: str) -> float:
    value = message.get(name)
    if type(value) is not int and type(value) is not float:
        raise _wrong(name, "number")
    return float(value)


def text(message: Message, name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise _wrong(name, "text")
    return value


def boolean(message: Message, name: str) -> bool:
    value = message.get(name)
    if not isinstance(value, bool):
        raise _wrong(name, "boolean")
    return value


def binary(message: Message, name: str) -> bytes:
    value = message.get(name)
    if not isinstance(value, bytes):
        raise _wrong(name, "binary")
    return value


def mapping(message: Message, name: str) -> Message:
    value = message.get(name)
    if not isinstance(value, dict):
        raise _wrong(name, "map")
    return value


def mappings(message: Message, name: str) -> list[Message]:
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _wrong(name, "array of maps")
    return value


def words(message: Message, name: str) -> npt.NDArray[np.uint32]:
    data = binary(message, name)
    if len(data) % 4 != 0:
        raise _wrong(name, "binary of u32 values")
    return np.frombuffer(data, dtype="<u4").astype(np.uint32, copy=False)


def present(**fields: object) -> dict[str, object]:
    """Fields of a request: an optional one that is not wanted is absent, never nil."""
    return {name: value for name, value in fields.items() if value is not None}


def error_of(message: Message) -> KvferryError:
    error = message.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return KvferryError("protocol_error", "an answer with neither ok nor error")
    detail = error.get("detail")
    return KvferryError(error["code"], detail if isinstance(detail, str) else "")
