"""Attention over the paged KV in which each row names the slots that it sees.

    out = sum_l softmax_l(cap(scale q k_l)) v_l  over the visible positions l of the row,  cap(x) = c tanh(x / c)

Shape letters: Q query heads = H KV heads times G, T packed rows, S slots of the pool, L positions, D head size (values
may have another than keys).
"""

from __future__ import annotations

import torch
from torch import Tensor


def tree_attention(
    query_QTD: Tensor,
    keys_HSD: Tensor,
    values_HSD: Tensor,
    slots_TL: Tensor,
    lengths_T: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of all rows, float32 [T, Q, D]; query, keys and values of any float dtype.

    `slots_TL[t, l]` is the slot of the key at position l of row t's sequence (ancestors in depth order for a tree
    node), valid for l < lengths_T[t], which is at least 1; other entries may be any slot. A window counts positions:
    the last `window` ones are visible. Query heads hG to hG + G - 1 read KV head h. The order of additions is free, but
    it may depend on nothing except the row's own length.
    """
    num_heads, num_rows, key_size = keys_HSD.shape[0], *query_QTD.shape[1:]
    query_HGTD = query_QTD.float().reshape(num_heads, -1, num_rows, key_size)
    keys_HTLD, values_HTLD = keys_HSD[:, slots_TL].float(), values_HSD[:, slots_TL].float()
    scores_HGTL = torch.einsum("hgtd,htld->hgtl", query_HGTD, keys_HTLD) * scale
    if softcap is not None:
        scores_HGTL = torch.tanh(scores_HGTL / softcap) * softcap
    visible_TL = visible_positions(slots_TL, lengths_T, window)
    weights_HGTL = scores_HGTL.masked_fill(~visible_TL, float("-inf")).softmax(dim=-1)
    # What an invisible slot holds may be anything, and 0 times NaN is NaN.
    values_HTLD = values_HTLD.masked_fill(~visible_TL[:, :, None], 0.0)
    return torch.einsum("hgtl,htld->thgd", weights_HGTL, values_HTLD).flatten(1, 2)


def visible_positions(slots_TL: Tensor, lengths_T: Tensor, window: int | None) -> Tensor:
    """Which positions each row sees, bool [T, L]."""
    positions_L = torch.arange(slots_TL.shape[1], device=slots_TL.device)
    visible_TL = positions_L < lengths_T[:, None]
    if window is not None:
        visible_TL &= positions_L >= lengths_T[:, None] - window
    return visible_TL
