"""The answer so far: tokens, text, figures. Verdicts go in, chunks come out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.events import Chunk, DrafterUse, Figures, Finished, TokenSource
from cluster.messages import FinishReason, Verdict
from cluster.request import Request, Resume
from cluster.streaming import Detokenizer, StopStrings
from cluster.text import Tokenizer


@dataclass(frozen=True, slots=True)
class _Told:
    """Tokens of a verdict that belong to the answer, and their text."""

    pieces: tuple[str, ...]
    """One a token."""
    stopped: bool

    @property
    def num_tokens(self) -> int:
        return len(self.pieces)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Answer:
    """State of one answer, rebuilt from the resumed tokens if there are any.

    What is told of the text before the answer's end is a function of the tokens alone, however they were grouped; so a
    resumed answer continues where the first router stopped. What the end told is known by the length of all text.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer) -> None:
        self._request = request
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(request.stop)
        self.token_ids: list[int] = []
        self.next_round = 0
        self.finish_reason: FinishReason | None = None
        self.figures = Figures()
        self.cached_prompt_tokens = 0
        self._num_resumed = 0
        self._told_ahead = 0
        """Bytes of text that an earlier router told although the tokens alone would still withhold them."""
        if request.resume is not None:
            self._resume(request.resume)
            self.next_round = request.resume.next_round

    @property
    def length(self) -> int:
        """Of the whole sequence: prompt and committed tokens."""
        return len(self._request.prompt_ids) + len(self.token_ids)

    @property
    def sequence(self) -> tuple[int, ...]:
        return (*self._request.prompt_ids, *self.token_ids)

    def can_take(self, verdict: Verdict) -> bool:
        """Whether nothing is missing before the verdict, or of it."""
        is_complete = self._request.logprobs is None or len(verdict.logprobs) == len(verdict.token_ids)
        return verdict.base_length <= self.length and verdict.is_consistent and is_complete

    def take(self, verdict: Verdict, *, is_prefill: bool) -> Chunk | None:
        """Append a verdict that begins where the answer ends. None when there is nothing to tell."""
        assert verdict.base_length == self.length, (verdict.base_length, self.length)
        first = len(self.token_ids)
        told = self._append(verdict.token_ids)
        self.next_round = verdict.round
        self._count(verdict, is_prefill=is_prefill)
        rest = ""
        if told.stopped:
            self.finish_reason = FinishReason.STOP
        elif verdict.finish_reason is not None or len(self.token_ids) >= self._request.max_tokens:
            self.finish_reason = verdict.finish_reason or FinishReason.LENGTH
            rest = self._rest()
        pieces = [self._untold(piece) for piece in told.pieces]
        rest = self._untold(rest)
        if pieces:
            pieces[-1] += rest
        text = "".join(pieces) or rest
        if not told.num_tokens and not text:
            return None
        num_drafted = min(verdict.num_accepted, told.num_tokens)
        sources = (TokenSource.DRAFTER,) * num_drafted + (TokenSource.TARGET,) * (told.num_tokens - num_drafted)
        logprobs = verdict.logprobs[: told.num_tokens] if self._request.logprobs is not None else ()
        ids = tuple(self.token_ids[first:])
        return Chunk(first, ids, text, sources, self.next_round, logprobs, tuple(pieces))

    def cut(self, reason: FinishReason) -> Chunk | None:
        """End the answer here; tells text that was withheld."""
        self.finish_reason = reason
        text = self._untold(self._rest())
        return Chunk(len(self.token_ids), (), text, (), self.next_round) if text else None

    def count_failover(self) -> None:
        self.figures = replace(self.figures, failovers=self.figures.failovers + 1)

    def drafted_by(self, version: str) -> None:
        """A drafter has told the version of its weights; the last one counts."""
        self.figures = replace(self.figures, drafter_version=version)

    def chose(self, drafters: tuple[DrafterUse, ...], num_changes: int) -> None:
        """Between these drafters, and changed so often."""
        self.figures = replace(self.figures, drafters=drafters, drafter_changes=num_changes)

    def finished(self) -> Finished:
        """The last event; the answer must have ended."""
        assert self.finish_reason is not None
        num_prompt = len(self._request.prompt_ids)
        num_sent = len(self.token_ids) - self._num_resumed
        return Finished(self.finish_reason, num_prompt, num_sent, self.figures, self.cached_prompt_tokens)

    def _resume(self, resume: Resume) -> None:
        told = self._append(resume.token_ids)
        self._num_resumed = told.num_tokens
        self._told_ahead = max(resume.text_bytes - len(told.text.encode()), 0)
        if told.stopped:
            self.finish_reason = FinishReason.STOP
        elif len(self.token_ids) >= self._request.max_tokens:
            self.finish_reason = FinishReason.LENGTH

    def _append(self, token_ids: tuple[int, ...]) -> _Told:
        """Take tokens one by one up to the first that completes a stop string or the answer's length."""
        pieces: list[str] = []
        room = self._request.max_tokens - len(self.token_ids)
        for token_id in token_ids[:room]:
            self.token_ids.append(token_id)
            matched = self._stops.push(self._detokenizer.push(token_id))
            pieces.append(matched.text)
            if matched.stopped:
                return _Told(tuple(pieces), stopped=True)
        return _Told(tuple(pieces), stopped=False)

    def _rest(self) -> str:
        """Text that was held back in case it went on."""
        return self._stops.push(self._detokenizer.flush()).text + self._stops.flush()

    def _untold(self, text: str) -> str:
        """`text` without what an earlier router told of it."""
        encoded = text.encode()
        ahead = min(self._told_ahead, len(encoded))
        self._told_ahead -= ahead
        return encoded[ahead:].decode(errors="ignore")

    def _count(self, verdict: Verdict, *, is_prefill: bool) -> None:
        if is_prefill:
            self.cached_prompt_tokens = verdict.cached_prompt_tokens
            return
        self.figures = replace(
            self.figures,
            rounds=self.figures.rounds + 1,
            drafted=self.figures.drafted + verdict.num_drafted,
            accepted=self.figures.accepted + verdict.num_accepted,
            late_drafts=self.figures.late_drafts + verdict.late_draft,
        )
