"""Values that every implementation of the noise must produce, in whatever language."""

from __future__ import annotations

from typing import NamedTuple


class NoiseVector(NamedTuple):
    key: int
    stream: int
    round_index: int
    position: int
    token_id: int
    bits: int


NOISE_VECTORS = (
    NoiseVector(0x0, 0, 0, 0, 0, 0x987FEB3461821C08),
    NoiseVector(0x0, 0, 0, 0, 1, 0x1823C5E9037F5C5E),
    NoiseVector(0x0, 0, 0, 1, 0, 0xDE6429A39A7C6DCF),
    NoiseVector(0x0, 0, 1, 0, 0, 0xAAC263D83C59B221),
    NoiseVector(0x0, 1, 0, 0, 0, 0x2435F4089E3661B5),
    NoiseVector(0x1, 0, 0, 0, 0, 0x2CE134E85225963D),
    NoiseVector(0x2A, 0, 0, 17, 8191, 0x418FB91B0299371D),
    NoiseVector(0x2A, 1, 3, 17, 4611686018427387904, 0x88CAFEB40845D95C),
    NoiseVector(0x2A, 2, 1000, 123456, 151935, 0x02816C3A97DB3654),
    NoiseVector(0x8000000000000000, 0, 0, 5, 7, 0x04F7E9AB0B4A4E25),
    NoiseVector(0xFFFFFFFFFFFFFFFF, 0, 0, 2047, 31999, 0xEC963C87077DF843),
    NoiseVector(0xFFFFFFFFFFFFFFFF, 2, 70000, 2147483649, 3, 0xADDA98B386AADAAB),
    NoiseVector(0xAB54A98CEB1F0AD2, 0, 0, 100, 1, 0x923559849D0AE5AE),
)
