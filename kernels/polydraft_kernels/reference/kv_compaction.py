"""Move KV from slots to slots in all layers: what is left of a tree when a path of it is accepted. N moves."""

from __future__ import annotations

from torch import Tensor

from polydraft_kernels.kv_pools import KVPools


def compact_kv(kv: KVPools, from_slots_N: Tensor, to_slots_N: Tensor) -> None:
    """Copy slots within every pool, in place. Slots int64.

    No target is the source of a later move, and no two moves have the same target, except a slot that is never read
    (the trash page, where padding goes). Accepted paths in order of depth fulfil that: a node moves to its own
    position or a lower one. A target may be the source of an earlier move, which still gets what was there before.
    """
    for pool_HSD in kv.pools:
        pool_HSD.index_copy_(1, to_slots_N, pool_HSD.index_select(1, from_slots_N))
