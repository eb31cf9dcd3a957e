"""Whether the model gave numbers, so that a sequence without them fails alone.

A row is unsound if one of its logits is NaN or +inf, or all are -inf; single ones may be -inf, as some models forbid
tokens so. A row that is NaN in one layer is NaN in all layers behind it, and so is every later row that reads it.

Shape letters: R logit rows, V vocabulary, T slots, E elements of a slot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.attention_plan import Ints
from engine.kv_cache import KVCache


def row_peaks(logits_RV: Tensor) -> Tensor:
    """The largest logit of each row, [R]; finite if the row is sound: it is NaN if any logit is."""
    return logits_RV.amax(dim=1)


def sound_slots(cache: KVCache, slots: Sequence[Ints]) -> list[bool]:
    """Whether all of each sequence's slots hold numbers. The last layer tells it of those before it."""
    if not slots:
        return []
    slots_T = torch.from_numpy(np.concatenate(slots)).to(cache.slots[-1].device)
    kv_TE = cache.slots[-1].index_select(0, slots_T)
    is_sound_T = kv_TE.sum(dim=1, dtype=torch.float32).isfinite().cpu().numpy()
    ends = np.cumsum([len(of_sequence) for of_sequence in slots])
    return [bool(part.all()) for part in np.split(is_sound_T, ends[:-1])]
