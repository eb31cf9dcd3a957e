"""transformers' `generate` behind a pipe: a line of JSON in, a line out, both with lists of token ids.

    in:  {"prompts": [[...], ...], "language": "de"}     the language of the assistant, where there are any
    out: {"answers": [[...], ...]}

Before the first line it writes {} as soon as it is ready.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel


def load_assistants(folders: list[str], num_draft_tokens: int) -> dict[str, PreTrainedModel]:
    """The drafters by language, from words such as `de=DIR`."""
    assistants = {}
    for language, _, folder in (word.partition("=") for word in folders):
        assistant = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval()
        # The longest chain. transformers also ends one where the drafter is less than 40 % sure, its default: faster
        # than without, and than with its default of 20 tokens.
        assistant.generation_config.num_assistant_tokens = num_draft_tokens
        assistant.generation_config.num_assistant_tokens_schedule = "constant"
        assistants[language] = assistant
    return assistants


def answer(
    generate: Callable[..., Tensor], prompts: list[list[int]], max_tokens: int, eos: int, options: dict[str, Any]
) -> list[list[int]]:
    """Greedy answers; prompts of unequal length are padded on the left."""
    length = max(map(len, prompts))
    ids_BT = torch.tensor([[eos] * (length - len(prompt)) + prompt for prompt in prompts])
    mask_BT = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output_BT = generate(
        ids_BT,
        attention_mask=mask_BT,
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=eos,
        **options,
    )
    answers: list[list[int]] = output_BT[:, length:].tolist()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--assistant", action="append", default=[], metavar="LANGUAGE=DIR")
    parser.add_argument("--lookup", action="store_true", help="draft by looking the prompt up")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16, local_files_only=True).eval()
    eos = model.generation_config.eos_token_id
    assistants = load_assistants(args.assistant, args.draft_tokens)
    options: dict[str, Any] = {"prompt_lookup_num_tokens": args.draft_tokens} if args.lookup else {}
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if assistants:
            options["assistant_model"] = assistants[request["language"]]
        answers = answer(model.generate, request["prompts"], args.max_tokens, eos, options)
        print(json.dumps({"answers": answers}), flush=True)


if __name__ == "__main__":
    main()
