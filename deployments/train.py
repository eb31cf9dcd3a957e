"""Stages of a recipe in several processes through Ray Train: gradients are averaged, prompts are shared out.

Every process reads and writes the recipe's own `work`, so machines need a file system in common. `training/` knows no
Ray: it finds the process group that Ray Train has set up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployments.own_ray import connected_ray  # before Ray itself: it sets what Ray reads

# isort: split
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from training.pipeline import STAGES, run_distil
from training.recipe import load_recipe
from training.run import Run

IN_PARALLEL = ("pretrain", "distil", "finetune")
"""What several processes make faster; the other stages take seconds."""
_MAX_FAILURES = 1


def run_in_parallel(
    recipe_path: Path, stages: Sequence[str], languages: Sequence[str], num_processes: int, address: str | None
) -> None:
    """Run `stages` in their order, each in `num_processes` where that helps.

    `address` is that of a running Ray; None starts one on this machine. A process that dies is started again once,
    and all go on from the last checkpoint. Raises ValueError as the stages do.
    """
    recipe = load_recipe(recipe_path)
    Run(recipe, languages)  # refuses what is wrong before Ray starts
    on_cuda = recipe.device == "cuda"
    with connected_ray(address, num_cpus=num_processes * recipe.threads) as directory:
        for stage in stages:
            if stage not in IN_PARALLEL:
                STAGES[stage](Run(recipe, languages))
                continue
            trainer = TorchTrainer(
                _work,
                train_loop_config={"recipe": str(recipe_path.resolve()), "stage": stage, "languages": [*languages]},
                scaling_config=ScalingConfig(
                    num_workers=num_processes,
                    use_gpu=on_cuda,
                    resources_per_worker={"GPU": 1} if on_cuda else {"CPU": recipe.threads},
                ),
                torch_config=TorchConfig(backend="nccl" if on_cuda else "gloo"),
                run_config=RunConfig(
                    storage_path=str(directory), failure_config=FailureConfig(max_failures=_MAX_FAILURES)
                ),
            )
            try:
                trainer.fit()
            except WorkerGroupError as error:
                raise _for_the_caller(error) from None


def _for_the_caller(error: WorkerGroupError) -> Exception:
    """What a stage itself refused, as if it had run in this process; anything else as Ray Train tells it."""
    for failure in error.worker_failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, ValueError | OSError):
            return ValueError(str(cause))
    return error


def _work(settings: dict[str, Any]) -> None:
    """In each process."""
    import torch

    recipe = load_recipe(Path(settings["recipe"]))
    torch.set_num_threads(recipe.threads)
    run = Run(recipe, settings["languages"])
    if settings["stage"] == "distil":
        context = get_context()
        run_distil(run, context.get_world_rank(), context.get_world_size())
        return
    STAGES[settings["stage"]](run)
