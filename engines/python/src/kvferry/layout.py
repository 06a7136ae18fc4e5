"""How the blocks of a pool are divided: strides in bytes over (block, head, token, channel), as schemas/api.md says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .arguments import integer, integers
from .errors import expected

Element = Literal["bf16", "f16", "f32", "f8_e4m3", "f8_e5m2", "u8"]
ComponentName = Literal["k", "v", "kv", "latent", "state"]

ELEMENT_BYTES: Mapping[str, int] = MappingProxyType(
    {"bf16": 2, "f16": 2, "f32": 4, "f8_e4m3": 1, "f8_e5m2": 1, "u8": 1}
)


@dataclass(frozen=True, slots=True)
class Component:
    """The value of (block b, head h, token t, channel c) in the i-th layer of the group lies, in the pool's data area, at
    offsets[i] + b * block_stride + t * token_stride + h * head_stride + c * channel_stride."""

    name: ComponentName
    element: Element
    heads: int
    channels: int
    offsets: tuple[int, ...]
    block_stride: int
    token_stride: int
    head_stride: int
    channel_stride: int
    first_head: int = 0

    def __post_init__(self) -> None:
        integers(
            self, "heads", "channels", "block_stride", "token_stride", "head_stride", "channel_stride", "first_head"
        )
        object.__setattr__(self, "offsets", tuple(integer(offset, "offsets") for offset in self.offsets))

    def to_message(self) -> dict[str, object]:
        return {
            "name": self.name,
            "element": self.element,
            "heads": self.heads,
            "firstHead": self.first_head,
            "channels": self.channels,
            "offsets": list(self.offsets),
            "blockStride": self.block_stride,
            "tokenStride": self.token_stride,
            "headStride": self.head_stride,
            "channelStride": self.channel_stride,
        }


@dataclass(frozen=True, slots=True)
class Group:
    #: Tokens of a block; 0 for a group of fixed-size state.
    block_tokens: int
    #: Model layer numbers, in the order of the components' offsets.
    layers: tuple[int, ...]
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        integers(self, "block_tokens")
        object.__setattr__(self, "layers", tuple(integer(layer, "layers") for layer in self.layers))

    def to_message(self) -> dict[str, object]:
        return {
            "blockTokens": self.block_tokens,
            "layers": list(self.layers),
            "components": [component.to_message() for component in self.components],
        }


@dataclass(frozen=True, slots=True)
class Layout:
    block_count: int
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        integers(self, "block_count")

    def to_message(self) -> dict[str, object]:
        return {"blockCount": self.block_count, "groups": [group.to_message() for group in self.groups]}


@dataclass(frozen=True, slots=True)
class Part:
    """One component of `packed`, without its place."""

    name: ComponentName
    element: Element
    heads: int
    channels: int
    first_head: int = 0

    def __post_init__(self) -> None:
        integers(self, "heads", "channels", "first_head")


def packed(
    block_bytes: int,
    block_tokens: int,
    layers: Sequence[int],
    parts: Sequence[Part],
    order: Literal["NHD", "HND"] = "NHD",
) -> Group:
    """A group whose blocks lie in one piece: layer by layer, in each its parts, in each the tokens with their heads (NHD)
    or the heads with their tokens (HND). So a block is one run, and a layer of it is one run too."""
    block_bytes, block_tokens = integer(block_bytes, "block_bytes"), integer(block_tokens, "block_tokens")
    tokens = max(block_tokens, 1)
    sizes = [tokens * part.heads * part.channels * ELEMENT_BYTES[part.element] for part in parts]
    layer_bytes = sum(sizes)
    if layer_bytes * len(layers) > block_bytes:
        raise expected(
            f"at least {layer_bytes * len(layers)} bytes (all layers of a block)", "block_bytes", block_bytes
        )
    components = []
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        value = ELEMENT_BYTES[part.element]
        row = part.channels * value
        components.append(
            Component(
                name=part.name,
                element=part.element,
                heads=part.heads,
                first_head=part.first_head,
                channels=part.channels,
                offsets=tuple(index * layer_bytes + start for index in range(len(layers))),
                block_stride=block_bytes,
                token_stride=(row * part.heads if order == "NHD" else row) if block_tokens else 0,
                head_stride=row if order == "NHD" else row * tokens,
                channel_stride=value,
            )
        )
        start += size
    return Group(block_tokens=block_tokens, layers=tuple(layers), components=tuple(components))
