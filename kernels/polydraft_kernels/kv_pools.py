"""The KV pools of all layers as one argument. P pools, H KV heads, S slots of a pool, D head size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POOL_FIELDS = 5


@dataclass(frozen=True, slots=True)
class KVPools:
    """Pools [H, S, D], keys and values of every layer alike; heads, head size and dtype may differ between them.

    Built once: a table of addresses on the device lets one launch reach them all, and costs a copy to make.
    """

    pools: tuple[Tensor, ...]
    """Held, so that the addresses stay true."""
    table_PF: Tensor
    """int64: address, heads, and in units of `unit_bytes` the stride of heads, that of slots and the size of a row."""
    unit_bytes: int
    """1, 2, 4 or 8: the largest number that divides every address, stride and size."""
    max_heads: int
    max_row_units: int

    @classmethod
    def of(cls, pools: Sequence[Tensor]) -> KVPools:
        """ValueError if rows are not contiguous, or for no pools."""
        if not pools:
            raise ValueError("there are no KV pools; give the keys and values of at least one layer")
        if any(pool.stride(2) != 1 for pool in pools):
            raise ValueError(
                "the last dimension of a KV pool is not contiguous; allocate pools as [heads, slots, size]"
            )
        in_bytes = [
            [number * pool.element_size() for number in (pool.stride(0), pool.stride(1), pool.shape[2])]
            for pool in pools
        ]
        addresses = [pool.data_ptr() for pool in pools]
        unit_bytes = math.gcd(8, *addresses, *(number for numbers in in_bytes for number in numbers))
        table = [
            [address, pool.shape[0], *(number // unit_bytes for number in numbers)]
            for address, pool, numbers in zip(addresses, pools, in_bytes, strict=True)
        ]
        return cls(
            pools=tuple(pools),
            table_PF=torch.tensor(table, dtype=torch.int64, device=pools[0].device),
            unit_bytes=unit_bytes,
            max_heads=max(pool.shape[0] for pool in pools),
            max_row_units=max(row[-1] for row in table),
        )
