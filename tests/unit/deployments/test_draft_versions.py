"""What a drafter replica tells its trainer, and which weights its sessions get."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from cluster.messages import Observe, Open, Sampling
from deployments import draft_versions
from deployments.corrections import correction_from_bytes, correction_to_bytes
from deployments.draft_versions import DraftVersions, Transcripts, version_name
from engine.corrections import Correction, LikelyTokens
from engine.drafters import Drafter
from engine.drafters.base import DraftSession
from engine.drafters.ngram import NGramDrafter
from engine.drafters.versioned import VersionedDrafter
from engine.sampling import SamplingParams
from tests.tiny_targets import VOCAB_SIZE

LIKELY = LikelyTokens((7, 8), (0.75, 0.125))


class FakeTrainer:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.current: dict[str, int] | None = {"acme": 0}
        self.got: list[Transcripts] = []

    async def exchange(self, transcripts: Transcripts) -> Mapping[str, int] | None:
        if self.current is not None and transcripts:
            self.got.append(transcripts)
        return self.current


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def drafter() -> VersionedDrafter:
    return VersionedDrafter(NGramDrafter([1], max_nodes=4))


@pytest.fixture
def versions(trainer: FakeTrainer, drafter: VersionedDrafter) -> DraftVersions:
    def load(tenant: str, number: int) -> Drafter:
        if number == 13:
            raise ValueError("the file is broken")
        return NGramDrafter([1], max_nodes=4)

    return DraftVersions("de", ["acme"], drafter, load, trainer, VOCAB_SIZE)


def opened(tenant: str = "acme") -> Open:
    return Open((5, 6, 7), 2, Sampling(), 1, 0, 50, tenant)


def observed(base_length: int, *token_ids: int, position: int = 0) -> Observe:
    correction = correction_to_bytes(Correction(position, LIKELY)) if position else b""
    return Observe(base_length, token_ids, 0, 4, correction=correction)


async def test_a_finished_session_goes_to_the_trainer_with_its_corrections(
    versions: DraftVersions, trainer: FakeTrainer
) -> None:
    versions.open(1, opened())
    versions.observe(1, observed(3, 8, 9, position=4))
    versions.observe(1, observed(5, 10))
    versions.observe(1, observed(6, position=6))  # the end of sequence is no token
    await versions.exchange()
    assert trainer.got == []

    versions.close(1)
    await versions.exchange()
    await versions.exchange()

    (transcripts,) = trainer.got
    (transcript,) = transcripts["acme"]
    assert transcript.token_ids == (5, 6, 7, 8, 9, 10)
    assert transcript.prompt_length == 2
    assert transcript.corrections == (Correction(4, LIKELY), Correction(6, LIKELY))


@pytest.mark.parametrize("gap", [Observe(4, (8,), 0, 4), observed(3, 8, position=9), observed(3, 8, position=1)])
async def test_what_does_not_fit_is_not_learned(versions: DraftVersions, trainer: FakeTrainer, gap: Observe) -> None:
    versions.open(1, opened())
    versions.observe(1, gap)
    versions.close(1)
    await versions.exchange()

    assert all(not t.corrections for got in trainer.got for t in got["acme"])


async def test_tenants_that_do_not_adapt_are_not_followed(versions: DraftVersions, trainer: FakeTrainer) -> None:
    trainer.current = {"acme": 1, "other": 4}
    await versions.exchange()

    assert versions.open(1, opened("other")) == ""
    versions.observe(1, observed(3, 8, position=3))
    versions.close(1)
    await versions.exchange()

    assert trainer.got == []


async def test_open_sessions_keep_their_weights_and_the_old_ones_go_with_the_last(
    versions: DraftVersions, trainer: FakeTrainer, drafter: VersionedDrafter
) -> None:
    for session_id, number in ((1, 0), (2, 1), (3, 2)):
        trainer.current = {"acme": number}
        await versions.exchange()
        version = versions.open(session_id, opened())
        assert version_name("de", version) == ("de@0" if number == 0 else f"de@acme.{number}")
        drafter.open([DraftSession(session_id, (5, 6), SamplingParams(), version)])
    assert drafter.versions == ["acme.1", "acme.2"]

    versions.close(2)
    drafter.close([2])
    await versions.exchange()

    assert drafter.versions == ["acme.2"]
    trainer.current = {"acme": 0}  # rolled back
    await versions.exchange()
    assert versions.open(4, opened()) == ""
    assert drafter.versions == ["acme.2"]  # session 3


async def test_a_version_that_cannot_be_loaded_changes_nothing(
    versions: DraftVersions, trainer: FakeTrainer, drafter: VersionedDrafter
) -> None:
    trainer.current = {"acme": 13}
    await versions.exchange()

    assert versions.open(1, opened()) == ""
    assert drafter.versions == []


async def test_answers_are_dropped_and_counted_while_the_trainer_is_away_or_slow(
    versions: DraftVersions, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_versions, "MAX_WAITING", 2)
    trainer.current = None
    for session_id in range(3):
        versions.open(session_id, opened())
        versions.close(session_id)
    assert versions.num_dropped == 1

    await versions.exchange()

    assert versions.num_dropped == 3
    trainer.current = {"acme": 0}
    await versions.exchange()
    assert trainer.got == []


async def test_following_exchanges_again_and_again(
    versions: DraftVersions, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_versions, "EXCHANGE_S", 0.0)
    following = asyncio.create_task(versions.follow())
    versions.open(1, opened())
    versions.close(1)

    async with asyncio.timeout(5):
        while not trainer.got:
            await asyncio.sleep(0)

    following.cancel()


@pytest.mark.parametrize(
    "likely",
    [
        LikelyTokens((), ()),
        LikelyTokens((7,), ()),
        LikelyTokens((7, VOCAB_SIZE), (0.5, 0.25)),
        LikelyTokens((7,), (float("nan"),)),
        LikelyTokens((7,), (-0.5,)),
        LikelyTokens((7,), (float("inf"),)),
    ],
)
def test_corrections_that_are_none_teach_nothing(likely: LikelyTokens) -> None:
    assert correction_from_bytes(correction_to_bytes(Correction(4, likely)), VOCAB_SIZE) is None
    assert correction_from_bytes(b"\xff" * 9, VOCAB_SIZE) is None
