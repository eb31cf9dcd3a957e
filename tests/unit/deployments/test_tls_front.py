"""The front under TLS: who gets in, and certificates that change while it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import trustme

from benchmarks.certificates import write_certificate
from cluster.tls import PemFile, PemFiles
from polydraft import AsyncClient, Chunk, Finished, Started, Unavailable
from tests.certificates import caller, first_in, shown_at
from tests.unit.deployments.fronts import serving

OURS, CALLERS, FOREIGN = trustme.CA(), trustme.CA(), trustme.CA()
HOST = "127.0.0.1"


def files(directory: Path, *, client_authority: trustme.CA | None = None) -> PemFiles:
    """What a front reads; certificates of callers are asked for if their authority is given."""
    paths = write_certificate(directory, OURS, HOST)
    if client_authority is not None:
        client_authority.cert_pem.write_to_path(paths["authority"])
    named = {name: PemFile(name, Path(path)) for name, path in paths.items()}
    return PemFiles(named["certificate"], named["key"], named["authority"] if client_authority is not None else None)


async def test_callers_who_trust_it_are_answered(tmp_path: Path) -> None:
    async with serving(files(tmp_path)) as (_, _, address), AsyncClient(address, credentials=caller(OURS)) as client:
        assert (await client.generate("x")).text == "\u00e9"


async def test_callers_with_a_certificate_of_their_authority_are_answered(tmp_path: Path) -> None:
    async with (
        serving(files(tmp_path, client_authority=CALLERS)) as (_, _, address),
        AsyncClient(address, credentials=caller(OURS, CALLERS)) as client,
    ):
        assert (await client.generate("x")).text == "\u00e9"


@pytest.mark.parametrize(
    ("client_authority", "credentials"),
    [
        (None, None),
        (None, caller(FOREIGN)),
        (CALLERS, None),
        (CALLERS, caller(OURS)),
        (CALLERS, caller(OURS, FOREIGN)),
        (CALLERS, caller(FOREIGN, CALLERS)),
    ],
    ids=["plaintext", "distrusts", "mutual-plaintext", "mutual-no-certificate", "mutual-foreign", "mutual-distrusts"],
)
async def test_nobody_else_reaches_the_service_or_is_told_why(
    tmp_path: Path, client_authority: trustme.CA | None, credentials: grpc.ChannelCredentials | None
) -> None:
    async with (
        serving(files(tmp_path, client_authority=client_authority)) as (service, _, address),
        AsyncClient(address, credentials=credentials) as client,
    ):
        with pytest.raises(Unavailable, match="under TLS, the certificates") as raised:
            await client.generate("x")

    assert not service.calls
    assert HOST not in str(raised.value) and "SSL" not in str(raised.value)


async def test_a_caller_under_tls_is_told_nothing_of_a_server_without(tmp_path: Path) -> None:
    async with serving() as (service, _, address), AsyncClient(address, credentials=caller(OURS)) as client:
        with pytest.raises(Unavailable, match="no server answers"):
            await client.generate("x")

    assert not service.calls


async def test_an_exchanged_certificate_is_shown_to_new_connections_and_old_streams_go_on(tmp_path: Path) -> None:
    async with (
        serving(files(tmp_path)) as (service, _, address),
        AsyncClient(address, credentials=caller(OURS)) as client,
    ):
        events = client.stream("hang")
        kinds = [type(await anext(events))]
        before = await asyncio.to_thread(shown_at, address)
        write_certificate(tmp_path, OURS, HOST)
        after = await asyncio.to_thread(shown_at, address)
        service.go_on.set()
        kinds += [type(event) async for event in events]

    assert before != after == first_in(tmp_path / "certificate.pem")
    assert kinds == [Started, Chunk, Finished]
    assert len(service.calls) == 1, "the stream broke and was resumed"


async def test_callers_of_an_exchanged_authority_get_in_and_those_of_the_old_one_do_not(tmp_path: Path) -> None:
    async def is_let_in(credentials: grpc.ChannelCredentials) -> bool:
        async with AsyncClient(address, credentials=credentials) as client:
            try:
                await client.generate("x")
            except Unavailable:
                return False
            return True

    theirs = files(tmp_path, client_authority=CALLERS)
    async with serving(theirs) as (_, _, address):
        assert (await is_let_in(caller(OURS, CALLERS)), await is_let_in(caller(OURS, FOREIGN))) == (True, False)
        assert theirs.authority is not None
        FOREIGN.cert_pem.write_to_path(theirs.authority.path)
        assert (await is_let_in(caller(OURS, CALLERS)), await is_let_in(caller(OURS, FOREIGN))) == (False, True)


@pytest.mark.parametrize("harm", ["half", "gone", "garbage"])
async def test_a_pair_that_does_not_fit_changes_nothing_until_it_does(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(files(tmp_path)) as (_, _, address):
        before = first_in(tmp_path / "certificate.pem")
        write_certificate(tmp_path / "new", OURS, HOST)
        (tmp_path / "new" / "certificate.pem").replace(tmp_path / "certificate.pem")
        key = tmp_path / "key.pem"
        match harm:
            case "half":
                key.write_bytes((tmp_path / "new" / "key.pem").read_bytes()[:100])
            case "gone":
                key.unlink()
            case "garbage":
                key.write_text("s3cret")

        assert [await asyncio.to_thread(shown_at, address) for _ in range(2)] == [before, before]
        (tmp_path / "new" / "key.pem").replace(key)
        assert await asyncio.to_thread(shown_at, address) == first_in(tmp_path / "certificate.pem") != before

    (told,) = [record.getMessage() for record in caplog.records if "stay as they are" in record.getMessage()]
    assert str(key) in told and "BEGIN" not in told and "s3cret" not in told
