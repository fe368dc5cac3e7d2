"""Passwords, stored as scrypt hashes with their parameters.

scrypt (RFC 7914) is slow and uses memory on purpose, because a person's password can be guessed. N=2^14,
r=8, p=5 is a setting that OWASP's Password Storage Cheat Sheet recommends: 16 MiB and about 0.2 s.
"""

import hashlib
import hmac
import secrets
import unicodedata
from threading import BoundedSemaphore

from model_service.storage.access.documents import PasswordHash

MIN_LENGTH = 12
MAX_LENGTH = 1024

_N, _R, _P = 2**14, 8, 5
_SALT_BYTES = 16
# Limits concurrent hashes, however many users sign in: each occupies a core and 16 MiB.
_computing = BoundedSemaphore(2)


def hashed(password: str) -> PasswordHash:
    """Return what is stored for a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return {"scrypt": _scrypt(password, salt, _N, _R, _P), "salt": salt, "n": _N, "r": _R, "p": _P}


def matches(password: str, stored: PasswordHash | None) -> bool:
    """Return whether the password is correct. If none is stored, take as long and return False."""
    kept = stored or _NOBODYS
    found = _scrypt(password, kept["salt"], kept["n"], kept["r"], kept["p"])
    return hmac.compare_digest(found, kept["scrypt"]) and stored is not None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # Keyboards differ: some write 'é' as one character, others as two.
    text = unicodedata.normalize("NFKC", password).encode()
    with _computing:
        # Twice the memory of the algorithm (128·N·r), since OpenSSL counts its own overhead too.
        return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r + 2**20, dklen=32)


_NOBODYS: PasswordHash = {"scrypt": bytes(32), "salt": bytes(_SALT_BYTES), "n": _N, "r": _R, "p": _P}
