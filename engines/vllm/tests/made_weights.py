"""A load format of vLLM's for models that are a configuration alone: every weight is made up, the same in every engine.

vLLM has one of its own, "dummy", whose weights are a thousandth at most: what a prompt says then moves the logits by less than they are
rounded by, and two different prompts are answered alike. These are as large as a trained model's, so that attention matters."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

if TYPE_CHECKING:
    from vllm.config import ModelConfig

FORMAT = "made"


@register_model_loader(FORMAT)
class MadeWeights(BaseModelLoader):
    def download_model(self, model_config: ModelConfig) -> None:
        """There is nothing to fetch."""

    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
        for name, weight in model.named_parameters():
            # Vectors scale norms; their layers have made them as they should be.
            if weight.dim() < 2:
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            made = torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[-1])
            weight.data.copy_(made)
