"""Weights in a file for a model that is a configuration alone, for engines that cut them among several workers.

    made_checkpoint.py FOLDER

As large as a trained model's, see made_weights.py."""

from __future__ import annotations

import math
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main(folder: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    for weight in model.parameters():
        if weight.dim() >= 2:
            torch.nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[-1]))
    model.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
