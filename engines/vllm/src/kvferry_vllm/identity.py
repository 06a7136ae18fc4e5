"""What makes the KV of two engines the same: the weights, and how they are computed with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvferry import Identity, Seed

from .options import Options

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.request import Request

ELEMENTS = {
    "torch.bfloat16": "bf16",
    "torch.float16": "f16",
    "torch.float32": "f32",
    "torch.float8_e4m3fn": "f8_e4m3",
    "torch.float8_e5m2": "f8_e5m2",
    "torch.uint8": "u8",
}
#: Of each file of weights: its header, and pieces spread over the rest, so that a fine-tuned copy has another name.
HEADER_BYTES = 1 << 20
SAMPLE_BYTES = 4096
SAMPLES = 16


def identity_of(config: VllmConfig, options: Options, element: str, packing: str) -> Identity:
    """Equal on two hosts that have the same files, wherever they lie. `packing`: an arrangement of values that no layout describes."""
    model = config.model_config
    return Identity(
        model=options.model or weights_name(str(model.model), model.hf_config.to_dict()),
        revision=options.revision or str(model.revision or ""),
        element=element,
        rope=_canonical(_rope_of(model.hf_text_config)),
        profile="",
        extra=";".join(
            part for part in (f"quantization={model.quantization}" if model.quantization else "", packing) if part
        ),
    )


def weights_name(path: str, hf_config: dict[str, Any]) -> str:
    """The last part of the name, and a digest of the configuration and, for files that are here, of samples of the weights."""
    digest = hashlib.sha256(
        _canonical({key: value for key, value in hf_config.items() if not key.startswith("_")}).encode()
    )
    folder = Path(path)
    if folder.is_dir():
        for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.gguf")]):
            _sample(file, digest)
    return f"{folder.name}@{digest.hexdigest()[:32]}"


def _sample(file: Path, digest: hashlib._Hash) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name} {size}\n".encode())
    with file.open("rb") as weights:
        digest.update(weights.read(HEADER_BYTES))
        for sample in range(SAMPLES):
            weights.seek(size * sample // SAMPLES, os.SEEK_SET)
            digest.update(weights.read(SAMPLE_BYTES))


def seed_of(request: Request, options: Options) -> Seed:
    """What the KV depends on besides the model and the tokens."""
    lora = request.lora_request
    return Seed(
        tenant=options.tenant,
        lora="" if lora is None else f"{lora.lora_name}@{getattr(lora, 'lora_path', '')}",
        multimodal=",".join(f"{part.identifier}:{part.mm_position.offset}" for part in request.mm_features),
        salt=request.cache_salt or "",
    )


def _rope_of(config: Any) -> dict[str, Any]:
    names = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings", "partial_rotary_factor")
    return {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
