"""Every system that can be measured. A new one is a line here and a file beside."""

from __future__ import annotations

from benchmarks.peers.contract import System
from benchmarks.peers.llama_cpp import LlamaCpp
from benchmarks.peers.ours import Ours
from benchmarks.peers.transformers_generate import Drafting, Transformers
from benchmarks.peers.vllm import Method, Vllm

_ALL: tuple[System, ...] = (
    Ours("polydraft", drafted=True),
    Ours("polydraft-off", drafted=False),
    # Without the promise that a text does not depend on what else is in the batch, which no peer gives.
    Ours("polydraft-fast", drafted=True, settings=("target.numerics=fast",)),
    Ours("polydraft-fast-off", drafted=False, settings=("target.numerics=fast",)),
    Transformers("transformers", Drafting.NONE),
    Transformers("transformers-assisted", Drafting.ASSISTED),
    Transformers("transformers-lookup", Drafting.LOOKUP),
    Vllm("vllm", Method.NONE),
    Vllm("vllm-draft", Method.DRAFT_MODEL),
    Vllm("vllm-ngram", Method.NGRAM),
    LlamaCpp("llama.cpp", drafted=False),
    LlamaCpp("llama.cpp-draft", drafted=True),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _ALL}
