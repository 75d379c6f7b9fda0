"""A Qwen3 or Llama checkpoint as a GGUF file for llama.cpp, and that file with 8 or 4 bits.

    python benchmarks/peers/write_gguf.py CHECKPOINT BF16_FILE [--quantise q8_0|q4_k_m FILE]

Runs in llama.cpp's environment. The file has no vocabulary: a race gives and takes token ids.

Not here: when it is called (setup.sh).
"""

from __future__ import annotations

import argparse
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray

_ARCHITECTURES = {"qwen3": "qwen3", "llama": "llama"}
_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """What llama.cpp calls a tensor of the checkpoint.

    Raises: ValueError for a tensor that neither family has.
    """
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".", 3)
    if parts[:2] == ["model", "layers"] and len(parts) == 4:
        kind = parts[3].removesuffix(".weight")
        if kind in _LAYER:
            return f"blk.{parts[2]}.{_LAYER[kind]}.weight"
    raise ValueError(f"There is no place for the tensor {name!r} in a GGUF file of these families.")


def bf16_tensors(file: Path) -> Iterator[tuple[str, ndarray]]:
    """Names and values (uint16, the bits of bf16) of a safetensors file, in its order, mapped and not read.

    Raises: ValueError when a tensor is of another type.
    """
    import numpy

    with open(file, "rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    header_bytes = int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8 : 8 + header_bytes])
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] != "BF16":
            raise ValueError(f"{name} is {about['dtype']}; this writes checkpoints in BF16.")
        start, end = about["data_offsets"]
        flat = numpy.frombuffer(mapped, numpy.uint16, (end - start) // 2, 8 + header_bytes + start)
        yield name, flat.reshape(about["shape"])


def write(checkpoint: Path, target: Path) -> None:
    """The checkpoint as a bf16 GGUF; norms become float32, as llama.cpp wants them."""
    import gguf  # type: ignore[import-not-found, unused-ignore]  # the peer's environment
    import numpy

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    family = _ARCHITECTURES[config["model_type"]]
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer = gguf.GGUFWriter(target, family)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    for file in sorted(checkpoint.glob("*.safetensors")):
        for name, bits in bf16_tensors(file):
            if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
                bits = _interleave(bits, head_size)
            if bits.ndim == 1:
                writer.add_tensor(gguf_name(name), (bits.astype(numpy.uint32) << 16).view(numpy.float32))
            else:
                writer.add_tensor(gguf_name(name), bits.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(bits: ndarray, head_size: int) -> ndarray:
    """Rotary pairs side by side: llama.cpp rotates Llama's neighbours where the checkpoint rotates halves."""
    heads = bits.reshape(-1, 2, head_size // 2, bits.shape[1])
    return heads.swapaxes(1, 2).reshape(bits.shape)


def quantise(source: Path, target: Path, form: str, num_threads: int) -> None:
    """The bf16 file with fewer bits. Raises: RuntimeError when llama.cpp refuses."""
    import llama_cpp  # type: ignore[import-not-found, unused-ignore]

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}[form]
    params.nthread = num_threads
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params)
    if status:
        raise RuntimeError(f"llama.cpp could not write {target.name}: status {status}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with config.json and *.safetensors")
    parser.add_argument("bf16_file", type=Path, help="written unless it exists")
    parser.add_argument("--quantise", nargs=2, metavar=("FORM", "FILE"), help="also write this form: q8_0 or q4_k_m")
    parser.add_argument("--num-threads", type=int, default=2)
    args = parser.parse_args()
    if not args.bf16_file.exists():
        part = args.bf16_file.with_suffix(".part")
        write(args.checkpoint, part)
        part.rename(args.bf16_file)
    if args.quantise:
        form, target = args.quantise
        part = Path(target).with_suffix(".part")
        quantise(args.bf16_file, part, form, args.num_threads)
        part.rename(target)


if __name__ == "__main__":
    main()
