"""AES-256-GCM as kernels call it: OpenSSL's own functions, the cryptography package that stands in for them, and FileCipher are one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lsmsql.engine.storage.encryption import NONCE_BYTES, FileCipher

from .stream_world import needs_compiled

PLACE = 1, 7, 2, 0xFEDCBA98
PROGRAM = """
import sys
sys.modules["_hashlib"] = None  # As where the interpreter has no OpenSSL.
from lsmsql.engine.kernel import aes_gcm_cy
assert not aes_gcm_cy.direct()
from lsmsql.engine.storage.encryption import FileCipher
import lsmsql
for key in "k" * 32, None:
    with lsmsql.open(":memory:", key=key) as engine:
        tree = engine.tree("t")
        tree.put_many([(b"%05d" % n, b"v" * n) for n in range(1000)])
        engine.flush()
        tree.put_many([(b"%05d" % n, b"w" * n) for n in range(0, 1000, 2)])
        engine.compact()
        assert [*tree.scan()] == [(b"%05d" % n, (b"v" if n % 2 else b"w") * n) for n in range(1000)]
print("done")
"""


@pytest.fixture(params=[True, False], ids=["OpenSSL", "stand-ins"])
def native(request: pytest.FixtureRequest) -> Iterator[Any]:
    from lsmsql.engine.kernel import aes_gcm_cy

    if request.param and not aes_gcm_cy.direct():
        pytest.skip("the interpreter brings no OpenSSL that can be called")
    was = aes_gcm_cy.direct()
    aes_gcm_cy.bind(request.param)
    try:
        yield aes_gcm_cy
    finally:
        aes_gcm_cy.bind(was)


def cipher_of(key: bytes = bytes(range(32)), file_id: int = 12, epoch: int = 3) -> FileCipher:
    return FileCipher(key, bytes(range(50, 66)), file_id, epoch)


def native_of(native: Any, cipher: FileCipher) -> Any:
    return native.NativeCipher(cipher.key, cipher.database_id, cipher.file_id, cipher.epoch)


@needs_compiled
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100, 4096, 70_001])
def test_a_piece_is_the_same_whoever_seals_it(native: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(size)
    cipher = cipher_of(rng.randbytes(32), rng.randrange(1 << 63), rng.randrange(1, 1 << 16))
    nonce, plain = rng.randbytes(NONCE_BYTES), rng.randbytes(size)
    monkeypatch.setattr("lsmsql.engine.storage.encryption.new_nonce", lambda: nonce)
    sealed = cipher.seal(*PLACE, plain)
    assert native_of(native, cipher).seal(nonce, *PLACE, plain) == sealed
    assert native_of(native, cipher).open(*PLACE, sealed) == plain


@needs_compiled
def test_the_specification_s_known_answer(native: Any) -> None:
    """Test case 14 of the GCM specification (McGrew, Viega), all zero. It has no associated data, so that only the ciphertext is to be compared."""
    cipher = FileCipher(bytes(32), bytes(16), 0, 0)
    sealed = native_of(native, cipher).seal(bytes(12), 0, 0, 0, 0, bytes(16))
    assert sealed[12:28].hex() == "cea7403d4d606b6e074ec5d3baf39d18"


@needs_compiled
def test_a_piece_opens_in_its_place_alone_and_whole(native: Any) -> None:
    cipher = cipher_of()
    one, sealed = native_of(native, cipher), cipher.seal(*PLACE, b"something secret")
    places = [tuple(number + (n == changed) for n, number in enumerate(PLACE)) for changed in range(4)]
    others = [cipher_of(bytes(32)), cipher_of(file_id=13), cipher_of(epoch=4)]
    for opener, place in [*((one, place) for place in places), *((native_of(native, other), PLACE) for other in others)]:
        with pytest.raises(ValueError, match="tag does not match"):
            opener.open(*place, sealed)
    for at in range(len(sealed)):
        with pytest.raises(ValueError):
            one.open(*PLACE, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        with pytest.raises(ValueError):
            one.open(*PLACE, sealed[:at])
    assert one.open(*PLACE, sealed) == b"something secret"


@needs_compiled
def test_a_failure_leaves_nothing_behind_for_the_interpreter_s_ssl(native: Any) -> None:
    import ssl

    cipher = native_of(native, cipher_of())
    with pytest.raises(ValueError):
        cipher.open(*PLACE, bytes(100))
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):  # A stale error of the thread would be taken for its own.
        context.wrap_bio(incoming, outgoing, server_hostname="example.org").do_handshake()


@needs_compiled
def test_arguments_that_make_no_key_are_refused(native: Any) -> None:
    for key, database_id, nonce in ((bytes(31), bytes(16), bytes(12)), (bytes(32), bytes(17), bytes(12)), (bytes(32), bytes(16), bytes(13))):
        with pytest.raises(ValueError):
            native.NativeCipher(key, database_id, 1, 1).seal(nonce, *PLACE, b"")


@needs_compiled
def test_an_interpreter_without_openssl_works_by_the_stand_ins() -> None:
    environment = {**os.environ, "PYTHONPATH": "."}
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=120)
    assert run.stdout == "done\n", run.stderr
