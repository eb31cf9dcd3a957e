"""The processes of one target: how they find each other, agree, and hear what rank 0 does next.

All of them are on one machine and find each other over loopback, so nothing that they exchange can be reached from
elsewhere: torch's process groups know neither keys nor encryption.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from engine.attention_plan import Ints

HOST = "127.0.0.1"
FRAME = 2_048
"""Numbers of the one broadcast that most steps take; what is longer takes a second one."""
STEP_S = 30.0
"""A rank that waits for another within a step for so long gives up: a step takes no time like that."""
_FOREVER = timedelta(days=30)
"""The others wait for rank 0's next step as long as there is none."""


def listen() -> socket.socket:
    """Where the ranks of one target will find each other; for rank 0 to `join` with."""
    return socket.create_server((HOST, 0))


@dataclass(frozen=True, slots=True)
class ShardGroup:
    """This process among the ranks of a target."""

    rank: int
    size: int
    device: torch.device
    steps: dist.ProcessGroup
    """For what ranks exchange within a step."""
    told: dist.ProcessGroup
    """For what rank 0 tells the others, through host memory."""

    @classmethod
    def join(
        cls, rank: int, size: int, port: int, device: torch.device, listening: socket.socket | None = None
    ) -> ShardGroup:
        """Wait until all ranks are there. Rank 0 brings the socket that listens at `port`, which this takes over.

        Sets what torch reads from the environment to find loopback, and transformers to find its device.
        """
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        # Each rank sees only its own device, if it has one.
        os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback, "LOCAL_RANK": "0"}
        store = dist.TCPStore(  # type: ignore[attr-defined]  # torch does not list it
            HOST,
            port,
            size,
            is_master=rank == 0,
            timeout=_FOREVER,
            wait_for_workers=False,
            master_listen_fd=None if listening is None else listening.detach(),
        )
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_FOREVER)
        steps = dist.new_group(timeout=timedelta(seconds=STEP_S))
        told = dist.new_group(backend="gloo", timeout=_FOREVER)
        return cls(rank, size, device, steps, told)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def name(self) -> str:
        """By which torch's operators find the ranks."""
        return self.steps.group_name

    def tell(self, message: Ints) -> None:
        """Rank 0: send numbers to all others, in one broadcast if they are at most `FRAME - 1`."""
        frame = np.zeros(FRAME, dtype=np.int64)
        frame[0] = len(message)
        frame[1 : 1 + len(message)] = message[: FRAME - 1]
        dist.broadcast(torch.from_numpy(frame), src=0, group=self.told)
        if len(message) >= FRAME:
            dist.broadcast(torch.from_numpy(message[FRAME - 1 :]), src=0, group=self.told)

    def hear(self) -> Ints:
        """The others: wait for what rank 0 tells. RuntimeError if it has gone."""
        frame = torch.empty(FRAME, dtype=torch.int64)
        dist.broadcast(frame, src=0, group=self.told)
        length = int(frame[0])
        message = torch.empty(length, dtype=torch.int64)
        message[: FRAME - 1] = frame[1 : 1 + length]
        if length >= FRAME:
            dist.broadcast(message[FRAME - 1 :], src=0, group=self.told)
        heard: Ints = message.numpy()
        return heard

    def wait_for_all(self) -> None:
        """Until every rank is here, however long that takes: at load ranks do the same at their own pace."""
        dist.barrier(group=self.told)

    def most(self, value: int) -> int:
        """The largest value of any rank."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def all_true(self, flags: list[bool]) -> list[bool]:
        """Which of some questions every rank answers with yes."""
        answers: list[int] = self._reduced(torch.tensor(flags, dtype=torch.int32), dist.ReduceOp.MIN).tolist()
        return [bool(answer) for answer in answers]

    def leave(self) -> None:
        """End the group in this process."""
        dist.destroy_process_group()

    def _reduced(self, values: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
        on_device = values.to(self.device)
        dist.all_reduce(on_device, op, group=self.steps)
        return on_device.cpu()
