"""Names of content (schemas/keys.md): fingerprints of models, keys of pages of tokens, keys of fixed-size state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from .arguments import integer, words
from .errors import expected
from .wire import KEY_BYTES

PAGE_TOKENS = 16

#: Token ids: a sequence of integers or a one-dimensional array of any integer type.
Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes the KV of two nodes the same. Anything that changes the KV changes one of these."""

    model: str
    revision: str = ""
    element: str = ""
    rope: str = ""
    profile: str = ""
    extra: str = ""

    def to_message(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("model", "revision", "element", "rope", "profile", "extra")}

    @property
    def fingerprint(self) -> str:
        return _digest("kvferry.fingerprint/1", *self.to_message().values()).hex()


@dataclass(frozen=True, slots=True)
class Seed:
    """What, besides model and tokens, must be the same for KV to be shared."""

    tenant: str = ""
    lora: str = ""
    multimodal: str = ""
    salt: str = ""


NO_SEED = Seed()


def page_tokens(block_tokens: int) -> int:
    """Tokens of a page: 16 where blocks are a multiple of it, else a block."""
    block_tokens = integer(block_tokens, "block_tokens", 1)
    return PAGE_TOKENS if block_tokens % PAGE_TOKENS == 0 else block_tokens


class KeyChain:
    """Keys of the whole pages of a growing sequence of tokens: `extend` hashes only what is new."""

    __slots__ = ("_keys", "_last", "_rest", "block_tokens", "page_tokens", "token_count")

    def __init__(self, fingerprint: str, block_tokens: int, seed: Seed = NO_SEED) -> None:
        self.block_tokens = integer(block_tokens, "block_tokens", 1)
        self.page_tokens = page_tokens(self.block_tokens)
        self.token_count = 0
        self._keys = bytearray()
        self._last = _seeded("kvferry.pages/1", fingerprint, self.page_tokens, seed)
        #: Bytes of tokens behind the last whole page.
        self._rest = b""

    def extend(self, tokens: Tokens) -> bytes:
        """The keys of the pages that these tokens complete."""
        new = _token_bytes(tokens)
        data = self._rest + new
        page_bytes = 4 * self.page_tokens
        whole = len(data) - len(data) % page_bytes
        added = bytearray()
        last = self._last
        for start in range(0, whole, page_bytes):
            last = sha256(last + data[start : start + page_bytes]).digest()
            added += last
        self._last = last
        self._rest = data[whole:]
        self._keys += added
        self.token_count += len(new) // 4
        return bytes(added)

    @property
    def keys(self) -> bytes:
        """All so far, 32 bytes each."""
        return bytes(self._keys)

    def of_blocks(self, first: int, count: int) -> bytes:
        """The keys of these whole blocks' pages, as `publish` and `push` want them."""
        first, count = integer(first, "first"), integer(count, "count")
        pages = self.block_tokens // self.page_tokens
        start, end = first * pages * KEY_BYTES, (first + count) * pages * KEY_BYTES
        if end > len(self._keys):
            raise expected(f"whole blocks among the first {self.block_count}", "blocks", (first, count))
        return bytes(self._keys[start:end])

    @property
    def block_count(self) -> int:
        """Whole blocks."""
        return self.token_count // self.block_tokens


def page_keys(fingerprint: str, block_tokens: int, tokens: Tokens, seed: Seed = NO_SEED) -> bytes:
    """Keys of the whole pages of these tokens, 32 bytes each."""
    return KeyChain(fingerprint, block_tokens, seed).extend(tokens)


def state_key(fingerprint: str, tokens: Tokens, seed: Seed = NO_SEED) -> bytes:
    """The one key of fixed-size state after exactly these tokens."""
    return sha256(_seeded("kvferry.state/1", fingerprint, 0, seed) + _token_bytes(tokens)).digest()


def _seeded(tag: str, fingerprint: str, tokens: int, seed: Seed) -> bytes:
    return _digest(tag, fingerprint, str(tokens), seed.tenant, seed.lora, seed.multimodal, seed.salt)


def _digest(*fields: str) -> bytes:
    digest = sha256()
    for field in fields:
        data = field.encode("utf-8")
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return digest.digest()


def _token_bytes(tokens: Tokens) -> bytes:
    return words(tokens, "tokens").astype("<u4", copy=False).tobytes()
