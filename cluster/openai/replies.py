"""From events to OpenAI's answers: one object, or the objects of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum

from cluster.errors import InternalError
from cluster.events import Chunk, Event, Finished, Started
from cluster.messages import FinishReason
from cluster.openai.logprobs import Json, chat_logprobs, completion_logprobs, joined
from cluster.openai.token_texts import TokenTexts
from cluster.streaming import Detokenizer
from cluster.text import Tokenizer

_FINISH = {
    FinishReason.EOS: "stop",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TIME_BUDGET: "length",  # OpenAI has no other; ours is told under `polydraft`
}


class Kind(Enum):
    """The two endpoints; values are their objects' names and the beginnings of their ids."""

    COMPLETION = ("text_completion", "text_completion", "cmpl-")
    CHAT = ("chat.completion", "chat.completion.chunk", "chatcmpl-")


@dataclass(slots=True)
class _Choice:
    """What one choice has told so far."""

    text: Detokenizer
    """Follows the tokens, for the offsets of a completion's log-probabilities."""
    num_characters: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    started: Started | None = None
    finished: Finished | None = None


class Reply:
    """Follows the choices of one request. Either `add` all events and take `whole`, or send what `chunks` makes."""

    def __init__(
        self,
        kind: Kind,
        reply_id: str,
        created: int,
        model: str,
        groups: Mapping[int, int],
        tokenizer: Tokenizer,
        texts: TokenTexts,
        *,
        includes_usage: bool = False,
        tells_sources: bool = False,
    ) -> None:
        """`groups`: the prompt's number of each choice. `includes_usage`: a stream tells it at its end.

        `tells_sources`: of each token its text and who wrote it.
        """
        self._kind, self._texts = kind, texts
        self._groups = groups
        self._includes_usage, self._tells_sources = includes_usage, tells_sources
        self._choices = {index: _Choice(Detokenizer(tokenizer)) for index in groups}
        self._common: Json = {"id": kind.value[2] + reply_id, "created": created, "model": model}

    @property
    def is_started(self) -> bool:
        """Whether every choice is."""
        return all(choice.started is not None for choice in self._choices.values())

    def add(self, index: int, event: Event) -> Json | None:
        """Take an event; the log-probabilities that it tells, in OpenAI's form."""
        choice = self._choices[index]
        match event:
            case Started():
                choice.started = event
                self._common["system_fingerprint"] = event.numerics_id
            case Chunk():
                choice.chunks.append(event)
                if event.logprobs:
                    choice.logprobs.append(self._logprobs(choice, event))
                    return choice.logprobs[-1]
            case Finished():
                choice.finished = event
        return None

    def whole(self) -> Json:
        """The answer as one object."""
        choices = [self._whole_choice(index, choice) for index, choice in sorted(self._choices.items())]
        return {
            **self._common,
            "object": self._kind.value[0],
            "choices": choices,
            "usage": self._usage(),
            "polydraft": self._details(*self._choices, with_tokens=self._tells_sources),
        }

    def chunks(self, index: int, event: Event, logprobs: Json | None) -> Iterator[Json]:
        """What a stream says of an event that was added."""
        match event:
            case Started():
                yield self._chunk(index, "", is_first=True) | {"polydraft": self._details(index)}
            case Chunk(text=text):
                tokens = _tokens(event) if self._tells_sources else []
                if text or logprobs or tokens:
                    told = self._chunk(index, text, logprobs)
                    yield told | {"polydraft": {"choices": [{"index": index, "tokens": tokens}]}} if tokens else told
            case Finished(finish_reason=reason):
                yield self._chunk(index, "", finish_reason=_FINISH[reason]) | {"polydraft": self._details(index)}

    def end(self) -> Iterator[Json]:
        """What a stream says when all choices have finished."""
        if self._includes_usage:
            yield {**self._common, "object": self._kind.value[1], "choices": [], "usage": self._usage()}

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
        *,
        is_first: bool = False,
    ) -> Json:
        if self._kind is Kind.COMPLETION:
            said: Json = {"text": text}
        elif finish_reason is not None:
            said = {"delta": {}}
        else:
            said = {"delta": {"role": "assistant", "content": text} if is_first else {"content": text}}
        choice = {"index": index, **said, "logprobs": logprobs, "finish_reason": finish_reason}
        usage: Json = {"usage": None} if self._includes_usage else {}
        return {**self._common, "object": self._kind.value[1], "choices": [choice], **usage}

    def _whole_choice(self, index: int, choice: _Choice) -> Json:
        text = "".join(chunk.text for chunk in choice.chunks)
        if self._kind is Kind.COMPLETION:
            said: Json = {"text": text}
        else:
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        reason = _FINISH[_finished(choice).finish_reason]
        return {"index": index, **said, "logprobs": joined(choice.logprobs), "finish_reason": reason}

    def _logprobs(self, choice: _Choice, chunk: Chunk) -> Json:
        if self._kind is Kind.CHAT:
            return chat_logprobs(chunk, self._texts)
        logprobs, choice.num_characters = completion_logprobs(chunk, self._texts, choice.text, choice.num_characters)
        return logprobs

    def _usage(self) -> Json:
        """Each prompt counts once, however many choices it has."""
        leaders = {group: index for index, group in sorted(self._groups.items(), reverse=True)}.values()
        read = [_finished(self._choices[index]) for index in leaders]
        prompt_tokens = sum(one.prompt_tokens for one in read)
        completion_tokens = sum(_finished(choice).completion_tokens for choice in self._choices.values())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(one.cached_prompt_tokens for one in read)},
        }

    def _details(self, *indices: int, with_tokens: bool = False) -> Json:
        """What OpenAI's fields have no place for."""
        choices: list[Json] = []
        target: Json = {}
        for index in sorted(indices):
            choice = self._choices[index]
            started = choice.started
            assert started is not None, index
            target = {"target_id": started.target_id, "numerics_id": started.numerics_id}
            details: Json = {
                "index": index,
                "request_id": started.request_id,
                "seed": started.effective_seed,
                "language": started.language,
                "drafter": started.drafter,
            }
            if choice.finished is not None:
                details |= {
                    "finish_reason": choice.finished.finish_reason.value,
                    "speculation": asdict(choice.finished.figures),
                }
            if with_tokens:
                details["tokens"] = [one for chunk in choice.chunks for one in _tokens(chunk)]
            choices.append(details)
        return {**target, "choices": choices}


def _tokens(chunk: Chunk) -> list[Json]:
    """The text of each, and who wrote it."""
    told = zip(chunk.pieces, chunk.sources, strict=True)
    return [{"text": text, "source": source.value} for text, source in told]


def _finished(choice: _Choice) -> Finished:
    if choice.finished is None:
        raise InternalError("the answer has no end")
    return choice.finished
