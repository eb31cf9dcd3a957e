"""Writes our models in the forms that the peers read.

The target is a transformers checkpoint already; llama.cpp wants GGUF. A drafter becomes a plain Llama over the target's
whole vocabulary, because no peer knows a trimmed one: tokens without a row of their own read the unknown row, and the
head, tied no more, gives every token that the drafter may not propose the mean of the rows that it may. Such a token
scores the mean of the head's scores, so it never beats the best of them: greedily both forms draft the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.peers.install import llama_source
from engine.drafters.checkpoint import EMBEDDING, DrafterCheckpoint, load_checkpoint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")

# For the Llama family the converter looks for a sentencepiece model first, and it knows a pre-tokenizer by a hash of
# what it does, which ours is not among. Ours is byte-level BPE with GPT-2's pattern.
CONVERT = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
from conversion.llama import LlamaModel
LlamaModel.set_vocab = LlamaModel._set_vocab_gpt2
LlamaModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
runpy.run_module("convert_hf_to_gguf", run_name="__main__")
"""


def full_vocabulary(checkpoint: DrafterCheckpoint, vocab_size: int) -> tuple[Tensor, Tensor]:
    """The embedding and the head over the target's vocabulary, [V, D] each, in the dtype stored."""
    rows_RD = checkpoint.weights[EMBEDDING]
    head_HD = rows_RD[: checkpoint.manifest.num_head_tokens]
    embedding_VD = rows_RD[torch.tensor(checkpoint.row_of_token(vocab_size))]
    full_head_VD = head_HD.float().mean(0).to(rows_RD.dtype).repeat(vocab_size, 1)
    full_head_VD[list(checkpoint.token_ids[: checkpoint.manifest.num_head_tokens])] = head_HD
    return embedding_VD, full_head_VD


def plain_drafter(drafter: Path, target: Path) -> LlamaForCausalLM:
    """The drafter as a Llama of transformers over the target's vocabulary."""
    target_config = LlamaConfig.from_pretrained(target)
    config = LlamaConfig.from_json_file(drafter / "config.json")
    config.update(
        {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": target_config.vocab_size,
            "tie_word_embeddings": False,
            "bos_token_id": target_config.bos_token_id,
            "eos_token_id": target_config.eos_token_id,
            "pad_token_id": target_config.pad_token_id,
            "dtype": "bfloat16",
        }
    )
    checkpoint = load_checkpoint(drafter)
    embedding_VD, head_VD = full_vocabulary(checkpoint, target_config.vocab_size)
    model = LlamaForCausalLM(config)
    model.load_state_dict({**checkpoint.weights, EMBEDDING: embedding_VD, "lm_head.weight": head_VD}, assign=True)
    return model


def export_drafter(drafter: Path, target: Path, output: Path) -> Path:
    """Write the plain drafter with the target's tokenizer as a transformers checkpoint, unless it is there."""
    if not (output / "tokenizer.json").is_file():
        plain_drafter(drafter, target).save_pretrained(output)
        for name in TOKENIZER_FILES:  # the tokenizer last: with it the folder is whole
            shutil.copy(target / name, output / name)
    return output


def export_gguf(checkpoint: Path, output: Path, work: Path) -> Path:
    """Write a checkpoint as GGUF in bf16 with llama.cpp's own converter, unless it is there."""
    if not output.is_file():
        unfinished = output.with_suffix(".part")
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", CONVERT, str(llama_source(work)), str(checkpoint)]
        subprocess.run([*command, "--outtype", "bf16", "--outfile", str(unfinished)], check=True)
        unfinished.rename(output)
    return output
