"""kvferry.cuda over a stand-in for torch: what is pinned, on which stream copies go and behind what, and that they are bounded.
Where torch is installed, kvferry.torch is tried with it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kvferry import KvferryError, Layout, Part, Pool, PoolInfo, packed

BLOCKS, BLOCK_BYTES = 4, 4096


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    path = tmp_path / "pool"
    path.write_bytes(bytes(BLOCKS * BLOCK_BYTES))
    return Pool(PoolInfo(str(path), BLOCKS * BLOCK_BYTES, 0, BLOCK_BYTES, BLOCKS, "0" * 32))


class FakeTensor:
    def __init__(self, name: str, log: list[Any], contiguous: bool = True, shape: tuple[int, ...] = (8,)) -> None:
        self.name, self.log, self.contiguous, self.shape, self.dtype = name, log, contiguous, shape, "u8"

    def is_contiguous(self) -> bool:
        return self.contiguous

    def stride(self) -> tuple[int, ...]:
        return (1,)

    def copy_(self, source: FakeTensor, non_blocking: bool) -> None:
        assert non_blocking
        self.log.append(
            ("copy", source.name, self.name, self.log[-1][1] if self.log[-1][0] == "enter" else "same stream")
        )


class FakeCuda(ModuleType):
    """Copies end when the test says so."""

    def __init__(self, register: int = 0) -> None:
        super().__init__("torch")
        self.log: list[Any] = []
        self.finished = 0
        self.events = 0
        cuda = self
        log = self.log

        class Event:
            def __init__(self) -> None:
                self.number = cuda.events
                cuda.events += 1

            def record(self, stream: Any) -> None:
                log.append(("record", stream.name, self.number))

            def query(self) -> bool:
                return self.number < cuda.finished

        class Stream:
            def __init__(self, device: object = None, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Any) -> None:
                log.append(("wait", self.name, other.name))

            def wait_event(self, event: Event) -> None:
                log.append(("wait event", self.name, event.number))

            def __enter__(self) -> None:
                log.append(("enter", self.name))

            def __exit__(self, *_: object) -> None:
                log.append(("leave", self.name))

        class Runtime:
            @staticmethod
            def cudaHostRegister(address: int, size: int, flags: int) -> int:
                log.append(("pin", address, size, flags))
                return register

            @staticmethod
            def cudaHostUnregister(address: int) -> int:
                log.append(("unpin", address))
                return 0

        current = Stream(name="engine")
        names: Any = ModuleType("torch.cuda")
        names.Event, names.Stream, names.cudart = Event, Stream, Runtime
        names.current_stream = lambda: current
        names.stream = lambda stream: stream
        self.cuda = names
        self.Tensor = FakeTensor
        self.device = str


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.delitem(sys.modules, "kvferry.cuda", raising=False)
    yield fake
    sys.modules.pop("kvferry.cuda", None)


def pinned(pool: Pool, **options: Any) -> Any:
    return importlib.import_module("kvferry.cuda").PinnedPool(pool, **options)


def test_copies_go_beside_the_engine_and_behind_what_it_did(torch: FakeCuda, pool: Pool) -> None:
    ours = pinned(pool)
    address = pool.view.ctypes.data
    assert torch.log == [("pin", address, BLOCKS * BLOCK_BYTES, 0)]
    torch.log.clear()
    gpu, host = FakeTensor("gpu", torch.log), FakeTensor("host", torch.log)
    saved = ours.to_pool([(gpu, host)])
    order = ["wait", "enter", "copy", "record", "leave"]
    assert [entry[0] for entry in torch.log] == order
    assert torch.log[0] == ("wait", "side", "engine")
    assert torch.log[2] == ("copy", "gpu", "host", "side")
    assert torch.log[3] == ("record", "side", 0)
    torch.log.clear()
    loaded = ours.to_gpu([(host, gpu)])
    assert torch.log[2] == ("copy", "host", "gpu", "side")
    assert not saved.done()
    loaded.before()
    assert torch.log[-1] == ("wait event", "engine", 1)
    torch.finished = 1
    assert saved.done()
    assert not loaded.done()
    with pytest.raises(KvferryError) as caught:
        ours.quiesce(0.01)
    assert caught.value.code == "deadline_exceeded"
    torch.finished = 2
    ours.close()
    ours.close()
    assert [entry for entry in torch.log if entry[0] == "unpin"] == [("unpin", address)]
    with pytest.raises(KvferryError) as caught:
        ours.to_pool([(gpu, host)])
    assert caught.value.code == "closed"


def test_copies_under_way_are_bounded(torch: FakeCuda, pool: Pool) -> None:
    ours = pinned(pool, under_way_max=2, timeout_s=0.01)
    pair = (FakeTensor("gpu", torch.log), FakeTensor("host", torch.log))
    ours.to_pool([pair])
    ours.to_pool([pair])
    with pytest.raises(KvferryError) as caught:
        ours.to_pool([pair])
    assert caught.value.code == "deadline_exceeded"
    assert torch.events == 2
    torch.finished = 1
    ours.to_pool([pair])
    assert torch.events == 3


def test_what_cannot_be_copied_beside_is_refused(torch: FakeCuda, pool: Pool) -> None:
    ours = pinned(pool)
    whole = FakeTensor("whole", torch.log)
    for other in (FakeTensor("strided", torch.log, contiguous=False), FakeTensor("longer", torch.log, shape=(9,))):
        with pytest.raises(KvferryError) as caught:
            ours.to_pool([(whole, other)])
        assert caught.value.code == "invalid_argument"
    pool.valid = False
    with pytest.raises(KvferryError) as caught:
        ours.to_pool([(whole, whole)])
    assert caught.value.code == "incarnation_mismatch"
    assert torch.events == 0


def test_memory_that_cannot_be_pinned_is_an_error(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeCuda(register=2))
    monkeypatch.delitem(sys.modules, "kvferry.cuda", raising=False)
    with pytest.raises(KvferryError, match="CUDA error 2"):
        pinned(pool)
    sys.modules.pop("kvferry.cuda", None)


def test_the_package_does_not_need_torch() -> None:
    import subprocess

    code = "import sys; sys.modules['torch'] = None; import kvferry; kvferry.connect"
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, env={"PYTHONPATH": "src"}, cwd=Path(__file__).parents[1]
    )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("element", ["bf16", "f16", "f32", "f8_e4m3", "f8_e5m2", "u8"])
def test_torch_tensors_are_the_memory_itself(pool: Pool, element: Any) -> None:
    import torch

    tensors = importlib.import_module("kvferry.torch")
    layout = Layout(BLOCKS, (packed(BLOCK_BYTES, 16, [0, 1], [Part("k", element, 2, 8), Part("v", element, 2, 8)]),))
    tensor = tensors.tensor(pool, layout, 0, 1)
    assert tensor.dtype == tensors.DTYPES[element]
    assert tuple(tensor.shape) == (BLOCKS, 2, 2, 16, 8)
    tensor[3, 1, 1, 2, 5] = 1.0
    raw = pool.array(layout, 0, 1)[3, 1, 1, 2, 5]
    assert torch.equal(tensor[3, 1, 1, 2, 5].float(), torch.tensor(1.0))
    assert raw != 0
    assert np.count_nonzero(pool.array(layout, 0, 1)) == 1
