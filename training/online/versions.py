"""The versions of one drafter for one tenant on disk: a drafter directory each, and `versions.json` with their history.

Version 0 is the drafter as configured and has no directory here. A version's directory is written beside its place and
renamed, and the history names it only afterwards: a kill at any moment leaves the history true. No text is kept.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from transformers import LlamaForCausalLM

from engine.drafters.checkpoint import DrafterManifest, read_manifest
from training.drafter import TrimmedVocabulary, write_drafter
from training.files import write_whole
from training.online.gate import Judgement

HISTORY = "versions.json"
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Version:
    """One promotion."""

    number: int
    """From 1; never used again."""
    parent: int
    promoted_at: str
    """UTC, ISO 8601."""
    num_updates: int
    """Since its parent."""
    num_positions: int
    """Overruled places that these updates counted."""
    agreement: float
    """On the held-out answers, and the parent's on the same."""
    parent_agreement: float
    tokens_per_round: float
    num_held_out_tokens: int
    is_rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What `versions.json` holds."""

    base: str
    """Hash of the configured drafter, which all versions descend from."""
    key: str
    """Parts held-out prompts from others, the same ones after a restart; hexadecimal."""
    current: int = 0
    versions: tuple[Version, ...] = ()


class VersionStore:
    """Reads and writes one folder. One process writes; others may read at any time."""

    def __init__(self, directory: Path, base: Path, num_kept: int) -> None:
        """`num_kept`: so many of the newest versions can be gone back to; the weights of older ones are deleted.

        Raises ValueError if `directory` holds versions of another drafter than `base`.
        """
        self._directory, self._base, self._num_kept = directory, base, num_kept
        identity = _identity(base)
        self.history = read_history(directory) or History(identity, secrets.token_hex(16))
        if self.history.base != identity:
            raise ValueError(
                f"{directory} holds versions of another drafter than {base}; move it away or configure another folder"
            )
        directory.mkdir(parents=True, exist_ok=True)
        known = {str(version.number) for version in self.history.versions}
        for path in directory.iterdir():  # what a kill left behind
            is_version = path.stem.isdecimal() and path.suffix in ("", _PARTIAL)
            if is_version and path.is_dir() and path.name not in known:
                shutil.rmtree(path)
        self._keep(self.history)

    @property
    def current(self) -> int:
        return self.history.current

    def path(self, number: int) -> Path:
        """The drafter directory of a version."""
        return version_path(self._directory, self._base, number)

    def promote(
        self,
        model: LlamaForCausalLM,
        vocabulary: TrimmedVocabulary,
        judgement: Judgement,
        num_updates: int,
        num_positions: int,
    ) -> Version:
        """Write the next version and make it current."""
        number = max((version.number for version in self.history.versions), default=0) + 1
        self._write(number, model, vocabulary, read_manifest(self._base))
        version = Version(
            number=number,
            parent=self.current,
            promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            num_updates=num_updates,
            num_positions=num_positions,
            agreement=round(judgement.shadow.agreement, 4),
            parent_agreement=round(judgement.current.agreement, 4),
            tokens_per_round=round(judgement.shadow.tokens_per_round, 3),
            num_held_out_tokens=judgement.shadow.num_tokens,
        )
        self._keep(replace(self.history, current=number, versions=(*self.history.versions, version)))
        for old in self.history.versions[: -self._num_kept]:
            shutil.rmtree(self.path(old.number), ignore_errors=True)
        return version

    def roll_back(self, number: int) -> None:
        """Make an earlier version current; those after it stay in the history, marked. ValueError if it is gone."""
        earlier = [0, *(v.number for v in self.history.versions if self.path(v.number).is_dir())]
        earlier = [other for other in earlier if other < self.current]
        if number not in earlier:
            told = ", ".join(map(str, earlier)) or "none"
            raise ValueError(f"version {number} is not before the current one, {self.current}; earlier ones: {told}")
        versions = tuple(
            replace(
                version,
                is_rolled_back=version.number != number and (version.is_rolled_back or version.number > number),
            )
            for version in self.history.versions
        )
        self._keep(replace(self.history, current=number, versions=versions))

    def _write(
        self, number: int, model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, manifest: DrafterManifest
    ) -> None:
        partial = self.path(number).with_suffix(_PARTIAL)
        write_drafter(model, vocabulary, manifest.language, manifest.target_id, manifest.tokenizer_hash, partial)
        partial.rename(self.path(number))

    def _keep(self, history: History) -> None:
        write_whole(self._directory / HISTORY, asdict(history))
        self.history = history


def read_history(directory: Path) -> History | None:
    """The history in a folder; None if there is none yet. ValueError if it cannot be read."""
    path = directory / HISTORY
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        versions = tuple(Version(**item) for item in fields["versions"])
        return History(fields["base"], fields["key"], fields["current"], versions)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); move the folder away") from None


def version_path(directory: Path, base: Path, number: int) -> Path:
    """The drafter directory of a version of the drafter at `base`."""
    return directory / str(number) if number else base


def _identity(drafter: Path) -> str:
    """Hash of a drafter's directory."""
    digest = hashlib.sha256()
    for name in ("config.json", "drafter.json", "model.safetensors"):
        digest.update(name.encode() + b"\0" + (drafter / name).read_bytes())
    return digest.hexdigest()[:16]
