"""Names for what a text depends on: weights, tokenizer, numerics."""

from __future__ import annotations

import hashlib
import json
import platform
import struct
from importlib import metadata
from pathlib import Path

import torch
from tokenizers import Tokenizer

from engine.dtypes import bf16_features

ENGINE_VERSION = 5
"""Raised when a change of the engine may change the bits of a text."""

_SAMPLES = (
    "Translate German to English: Wo ist der Bahnhof?\n",
    "Il fait tr\u00e8s beau aujourd'hui, n'est-ce pas\u00a0?",
    "\u041f\u043e\u0433\u043e\u0434\u0430 "
    "\u0441\u0435\u0433\u043e\u0434\u043d\u044f \u0445\u043e\u0440\u043e\u0448\u0430\u044f.",
    "\u99c5\u306f\u3069\u3053\u3067\u3059\u304b\u3002",
    "\u8f66\u7ad9\u5728\u54ea\u91cc\uff1f",
    "  two  spaces\tand a tab\r\n",
    "1234567890 3.14159 1,000,000",
    "</s><s><pad> {{ braces }} \U0001f600 e\u0301",
)
PROBES = tuple(f"{sample[offset:]}{offset}" for offset in range(8) for sample in _SAMPLES)
"""64 strings that the tokenizers of two tiers must encode alike. `cluster.probes` holds the same ones."""


def target_id(directory: Path) -> str:
    """Hash of the files that decide what the model computes: config, weights, tokenizer."""
    digest = hashlib.sha256()
    names = ("config.json", "tokenizer.json")
    for path in sorted([*(directory / name for name in names), *directory.glob("*.safetensors")]):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]


def eos_ids(directory: Path) -> frozenset[int]:
    """Token ids that end an answer: those of generation_config.json, else of config.json."""
    for name in ("generation_config.json", "config.json"):
        if (directory / name).is_file():
            found = json.loads((directory / name).read_text(encoding="utf-8")).get("eos_token_id")
            if found is not None:
                return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def tokenizer_hash(tokenizer_json: Path) -> str:
    """Hash of the ids that the probe strings encode to, without special tokens."""
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.encode_special_tokens = True
    digest = hashlib.sha256()
    for probe in PROBES:
        ids = tokenizer.encode(probe, add_special_tokens=False).ids
        digest.update(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids))
    return digest.hexdigest()[:16]


def numerics_id(
    target: str, tokenizer: str, dtype: torch.dtype, device: torch.device, mode: str, num_shards: int
) -> str:
    """Identity of a text is promised within one of these."""
    if device.type == "cuda":
        architecture = f"{torch.cuda.get_device_name(device)}/triton {metadata.version('triton')}"
    else:
        features = (torch.backends.cpu.get_cpu_capability(), *bf16_features())
        architecture = "/".join((platform.machine(), *features))
    facts = (target, tokenizer, str(dtype), architecture, mode, num_shards, torch.__version__, ENGINE_VERSION)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
