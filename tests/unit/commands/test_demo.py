"""`polydraft demo` on a running server: what it asks, shows and saves, and that it fails loudly on another text."""

from __future__ import annotations

from pathlib import Path

import pytest

from polydraft.cli import main
from polydraft.commands.demo_sentences import LANGUAGE_NAMES, PACKS, SENTENCES, demo_prompts, source_of
from tests.fakes_server import FakeGeneration, Script, serving

PNG = b"\x89PNG\r\n\x1a\n"


def scripted() -> FakeGeneration:
    scripts = {
        prompt.prompt.encode(): Script((b"It", b" is", b" fine", b" today", b"."), language)
        for language in LANGUAGE_NAMES
        for prompt in demo_prompts(language)
    }
    return FakeGeneration({**scripts})


def test_demo_shows_five_languages_a_table_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servicer = scripted()
    with serving(servicer) as address:
        status = main(["demo", "--address", address, "--output", str(tmp_path / "out")])
    out = capsys.readouterr().out

    assert status == 0
    for language, name in LANGUAGE_NAMES.items():
        assert f"\n{name}\n  {SENTENCES[language][0]}\n  -> It is fine today.\n" in out
        assert f"\n{language}         lm-{language} " in out
    assert "Every answer was the same with drafting on and off." in out
    assert (tmp_path / "out" / "speedup.png").read_bytes().startswith(PNG)
    assert {request.speculation for request in servicer.requests} == {"", "off"}


def test_demo_fails_loudly_when_drafting_changes_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servicer = scripted()
    servicer.differs_when_drafted = True
    with serving(servicer) as address:
        status = main(["demo", "--address", address, "--output", str(tmp_path)])

    assert status == 1
    assert "FAILED: with drafting on the text of de, fr, ru, ja, zh differs" in capsys.readouterr().err


def test_a_missing_configuration_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("language", LANGUAGE_NAMES)
def test_prompts_pack_one_to_four_sentences_in_the_trained_form(language: str) -> None:
    prompts = demo_prompts(language)

    assert [len(pack) for pack in PACKS] == [1, 2, 3, 4]
    assert sorted(index for pack in PACKS for index in pack) == list(range(len(SENTENCES[language])))
    assert all(
        prompt.prompt == f"Translate {LANGUAGE_NAMES[language]} to English: {source_of(prompt)}\n" for prompt in prompts
    )
