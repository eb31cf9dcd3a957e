"""Errors cross the wire under their codes; what comes from the transport is told without its internals."""

from __future__ import annotations

import grpc
import pytest

from cluster import errors as cluster_errors
from polydraft import AsyncClient, Cancelled, InternalError, InvalidRequest, Overloaded, PolydraftError, Unavailable
from polydraft.errors import ERRORS
from protos.v1 import types_pb2
from tests.fakes_server import Failure, FakeGeneration, serving

CODES = [
    name.removeprefix("ERROR_CODE_") for name, _ in types_pb2.ErrorCode.items() if not name.endswith("UNSPECIFIED")
]


async def fail_with(failure: Failure) -> PolydraftError:
    with serving(FakeGeneration({b"p": failure})) as address:
        async with AsyncClient(address) as client:
            with pytest.raises(PolydraftError) as raised:
                await client.generate(b"p")
    return raised.value


@pytest.mark.parametrize("code", CODES)
async def test_each_code_of_the_contract_comes_back_as_its_error(code: str) -> None:
    error = await fail_with(Failure(code, grpc.StatusCode.UNKNOWN, f"what happened: {code}"))

    assert type(error) is ERRORS[code]
    assert error.code == code
    assert str(error) == f"what happened: {code}"


def test_codes_are_exactly_those_of_the_contract() -> None:
    assert sorted(ERRORS) == sorted(CODES)


def test_the_cluster_has_the_same_tree_under_the_same_codes() -> None:
    def tree(base: type[Exception]) -> dict[str, tuple[str, str]]:
        found = {sub.__name__: (str(getattr(sub, "code", "")), base.__name__) for sub in base.__subclasses__()}
        for sub in base.__subclasses__():
            found |= tree(sub)
        return found

    assert tree(PolydraftError) == tree(cluster_errors.PolydraftError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.CANCELLED, Cancelled),
        (grpc.StatusCode.DATA_LOSS, InternalError),
    ],
)
async def test_a_status_without_our_code_hides_the_transports_text(
    status: grpc.StatusCode, kind: type[PolydraftError]
) -> None:
    error = await fail_with(Failure("", status, "recvmsg: /tmp/x pid 7 ipv4:127.0.0.1:5"))

    assert type(error) is kind
    assert "127.0.0.1" not in str(error)
    assert "/tmp" not in str(error)


async def test_a_code_of_a_later_server_falls_back_to_the_status() -> None:
    error = await fail_with(Failure("TOO_SUNNY", grpc.StatusCode.RESOURCE_EXHAUSTED, "sun"))

    assert type(error) is Overloaded


async def test_nobody_at_the_address_is_unavailable_at_once() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="check the address"):
            await client.generate("hello")
