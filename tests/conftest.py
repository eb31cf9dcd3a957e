"""The environment of every test, GPU tests skipped where there is none, and the corpus where it is at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Set before torch, tokenizers or Ray are imported; child processes inherit it.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # several processes share two cores
        "OMP_WAIT_POLICY": "passive",  # a waiting OpenMP thread would otherwise spin
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
)

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"


_EXIT_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_EXIT_STATUS] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End without taking the interpreter down.

    Its libraries' threads (Arrow's, gRPC's) still run then, and one of them once crashed a run that had passed.
    """
    if _EXIT_STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_EXIT_STATUS])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests on machines without enough CUDA devices; torch is asked only if there are such tests."""
    needs = {id(item): 2 for item in items if item.get_closest_marker("multi_gpu")}
    needs = {id(item): 1 for item in items if item.get_closest_marker("gpu")} | needs
    if not needs:
        return
    import torch

    num_devices = torch.cuda.device_count()
    for item in items:
        if needs.get(id(item), 0) > num_devices:
            item.add_marker(pytest.mark.skip(reason=f"needs {needs[id(item)]} CUDA device(s), found {num_devices}"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder with train/, valid/ and test/ of sentence pairs; the test is skipped where it is not at hand."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not at ../shared/corpus")
    return CORPUS
