"""Write a checkpoint of random weights for a folder that has only a ``config.json``.

    python benchmarks/write_checkpoint.py quire/bench/shapes/qwen3-0.6b benchmarks/.scratch/qwen3-0.6b

The reference implementation makes and saves it, so the extra ``dev`` is needed. The weights are the same each time.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", type=Path, help="folder with a config.json")
    parser.add_argument("target", type=Path, help="folder to write; made if need be")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    args = parser.parse_args()
    config = AutoConfig.from_pretrained(args.shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))
    model.save_pretrained(args.target)
    size = sum(path.stat().st_size for path in args.target.glob("*.safetensors"))
    print(f"{args.target}: {model.num_parameters():,} parameters, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
