"""Two engines have the same name for their weights exactly if they have the same weights, wherever these lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kvferry_vllm.identity import HEADER_BYTES, SAMPLE_BYTES, SAMPLES, weights_name

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "_name_or_path": "/somewhere"}
SIZE = HEADER_BYTES + 8 * SAMPLE_BYTES * SAMPLES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "one" / "model"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(index % 251 for index in range(SIZE)))
    (made / "tokenizer.json").write_text("{}")
    return made


def change(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def test_copies_are_equal_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "two" / "elsewhere" / "model"
    shutil.copytree(folder, copy)
    name = weights_name(str(folder), CONFIG)
    assert weights_name(str(copy), {**CONFIG, "_name_or_path": "/elsewhere"}) == name
    assert name.startswith("model@")


@pytest.mark.parametrize("at", [0, 100, HEADER_BYTES - 1, SIZE * (SAMPLES - 1) // SAMPLES])
def test_one_other_byte_of_the_header_or_of_a_sample_is_another_name(folder: Path, at: int) -> None:
    before = weights_name(str(folder), CONFIG)
    change(folder / "model.safetensors", at)
    assert weights_name(str(folder), CONFIG) != before


def test_fine_tuned_weights_of_the_same_shape_are_another_name(folder: Path) -> None:
    """All weights differ a little, as after training; header, size and configuration do not."""
    before = weights_name(str(folder), CONFIG)
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[HEADER_BYTES:] = bytes(value ^ 1 for value in data[HEADER_BYTES:])
    file.write_bytes(bytes(data))
    assert weights_name(str(folder), CONFIG) != before


def test_other_sizes_files_and_configurations_are_other_names(folder: Path) -> None:
    names = {weights_name(str(folder), CONFIG), weights_name(str(folder), {**CONFIG, "hidden_size": 577})}
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    names.add(weights_name(str(folder), CONFIG))
    shutil.copy(folder / "model.safetensors", folder / "model-2.safetensors")
    names.add(weights_name(str(folder), CONFIG))
    assert len(names) == 4


def test_a_name_without_files_is_a_name() -> None:
    assert weights_name("org/model", CONFIG) == weights_name("org/model", CONFIG)
    assert weights_name("org/model", CONFIG) != weights_name("org/other", CONFIG)
