"""What the client holds of a running answer: enough to go on with it at another router, without gap or repeat."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace

from polydraft._wire import to_event
from polydraft.answers import Chunk, Event, Finished, Started
from polydraft.errors import InternalError, TargetChanged
from protos.v1 import generate_pb2 as pb


class Progress:
    """Follows one answer over all its calls. `accept` takes the messages of the present call in order."""

    def __init__(self, request: pb.GenerateRequest) -> None:
        self.token_ids: list[int] = []
        self.finished = False
        self._request = request
        self._started: Started | None = None
        self._next_round = 0
        self._text_bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def request(self, elapsed_s: float) -> pb.GenerateRequest:
        """The message of the next call: the request itself, or with `resume` once the answer began."""
        if self._started is None:
            return self._request
        request = pb.GenerateRequest()
        request.CopyFrom(self._request)
        request.resume.CopyFrom(
            pb.Resume(
                token_ids=self.token_ids,
                effective_seed=self._started.effective_seed,
                numerics_id=self._started.numerics_id,
                next_round=self._next_round,
                text_bytes=self._text_bytes,
            )
        )
        if self._request.time_budget_s > 0:
            # Zero means no limit, so a spent budget asks for the shortest.
            request.time_budget_s = max(self._request.time_budget_s - elapsed_s, 1e-3)
        return request

    def accept(self, message: pb.GenerateEvent) -> Iterator[Event]:
        """The events that the application sees; raises InternalError on a gap, TargetChanged on other numerics."""
        event = to_event(message, self._decoder)
        if isinstance(event, Started):
            yield from self._accept_started(event)
        elif isinstance(event, Chunk):
            self._check_place(event)
            self.token_ids.extend(event.token_ids)
            self._next_round = max(self._next_round, message.chunk.next_round)
            self._text_bytes += len(message.chunk.text)
            yield event
        else:
            yield from self._accept_finished(event)

    def _accept_started(self, started: Started) -> Iterator[Event]:
        if self._started is None:
            self._started = started
            yield started
        elif started.numerics_id != self._started.numerics_id:
            raise TargetChanged("the answer cannot go on: the model behind the server has changed; ask again")

    def _check_place(self, chunk: Chunk) -> None:
        if chunk.token_ids and chunk.first_token_index != len(self.token_ids):
            raise InternalError(
                f"the stream jumped: token {chunk.first_token_index} came where {len(self.token_ids)} was due"
            )

    def _accept_finished(self, finished: Finished) -> Iterator[Event]:
        self.finished = True
        rest = self._decoder.decode(b"", final=True)
        if rest:
            yield Chunk(len(self.token_ids), (), rest, ())
        # A resumed call counts its own tokens; the application asked for one answer.
        yield replace(finished, usage=replace(finished.usage, completion_tokens=len(self.token_ids)))
