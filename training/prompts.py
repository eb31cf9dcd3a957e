"""Texts as token ids, the way the target is asked when it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from engine.identity import eos_ids
from training.data import Text
from training.examples import Example


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A prompt, and the reference answer with EOS behind it if there is one."""

    id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids or ())


class PromptEncoder:
    """The target's tokenizer and chat template."""

    def __init__(self, target_dir: Path, chat: bool | None) -> None:
        """Raises ValueError if there is no EOS, or no chat template where one is asked for."""
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(target_dir, local_files_only=True)
        has_template = self._tokenizer.chat_template is not None
        if chat and not has_template:
            raise ValueError(f"{target_dir}: the target has no chat template; set chat: false")
        self._chat = has_template if chat is None else chat
        ends = eos_ids(target_dir)
        if not ends:
            raise ValueError(f"{target_dir}: no eos_token_id in generation_config.json or config.json; add one")
        self.eos_ids = tuple(sorted(ends))
        self.num_tokens = len(self._tokenizer)
        self._specials = [token for token in self._tokenizer.all_special_tokens if token]

    def encode(self, texts: Sequence[Text]) -> list[EncodedText]:
        """Texts that hold the text of a special token are left out: a served request cannot mean one."""
        usable = [text for text in texts if not self._holds_special(text)]
        if len(usable) < len(texts):
            print(f"{len(texts) - len(usable):,} texts hold special tokens such as {self._specials[0]}; left out")
        backend = self._tokenizer.backend_tokenizer
        prompts = backend.encode_batch([self._render(text) for text in usable], add_special_tokens=not self._chat)
        answers = backend.encode_batch([text.answer or "" for text in usable], add_special_tokens=False)
        return [
            EncodedText(text.id, tuple(prompt.ids), None if text.answer is None else (*answer.ids, self.eos_ids[0]))
            for text, prompt, answer in zip(usable, prompts, answers, strict=True)
        ]

    def examples(self, texts: Sequence[Text]) -> list[Example]:
        """For pretraining: the loss counts answers; a text without one is learned whole, as it stands."""
        answered = self.encode([text for text in texts if text.answer is not None])
        examples = [Example(text.prompt_ids, text.answer_ids) for text in answered if text.answer_ids is not None]
        plain = ["\n".join(turn.content for turn in text.turns) for text in texts if text.answer is None]
        for encoding in self._tokenizer.backend_tokenizer.encode_batch(plain, add_special_tokens=True):
            ids = (*encoding.ids, self.eos_ids[0])
            examples.append(Example(ids[:1], ids[1:]))
        return examples

    def byte_tokens(self) -> list[int]:
        """Ids of byte-fallback tokens, which spell what the vocabulary has no word for; often none."""
        ids = (self._tokenizer.get_vocab().get(f"<0x{byte:02X}>") for byte in range(256))
        return [token for token in ids if token is not None]

    def _render(self, text: Text) -> str:
        if not self._chat:
            if len(text.turns) != 1:
                raise ValueError(f"text {text.id} has {len(text.turns)} turns, which takes a chat template")
            return text.turns[0].content
        turns = [{"role": turn.role, "content": turn.content} for turn in text.turns]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _holds_special(self, text: Text) -> bool:
        contents = [*(turn.content for turn in text.turns), text.answer or ""]
        return any(special in content for special in self._specials for content in contents)
