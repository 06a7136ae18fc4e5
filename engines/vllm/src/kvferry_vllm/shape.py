"""What the workers tell the scheduler's half once, when their caches are there: who they are and how their KV is cut."""

from __future__ import annotations

from dataclasses import dataclass

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorHandshakeMetadata

from kvferry import Group, Identity, KvferryError, Layout


@dataclass(frozen=True, slots=True)
class CacheShape:
    """How the pool is cut for this worker's KV."""

    groups: tuple[Group, ...]
    #: Blocks of the pool for each of the scheduler's, by group.
    splits: tuple[int, ...]
    block_bytes: int

    @property
    def block_tokens(self) -> tuple[int, ...]:
        """Of the scheduler's blocks; 0 for fixed-size state."""
        return tuple(group.block_tokens * split for group, split in zip(self.groups, self.splits, strict=True))

    def bytes_of(self, tokens: int) -> int:
        """About what so many tokens take in the pool: whole blocks."""
        blocks = sum(-(-tokens // group.block_tokens) if group.block_tokens else 1 for group in self.groups)
        return blocks * self.block_bytes

    def layout(self, data_bytes: int, block_count: int) -> Layout:
        """For a pool of that many bytes and blocks. Raises invalid_config if it cannot hold one block."""
        count = min(block_count, data_bytes // self.block_bytes)
        if count < 1:
            raise KvferryError(
                "invalid_config",
                f"the sidecar's pool is smaller than one block of {self.block_bytes} bytes; raise --pool-bytes",
            )
        return Layout(block_count=count, groups=self.groups)


@dataclass(frozen=True)
class Handshake(KVConnectorHandshakeMetadata):
    identity: Identity
    shape: CacheShape
    first_head: int
    heads: int
