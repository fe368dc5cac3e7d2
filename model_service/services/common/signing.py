"""Signatures that replace a credential: HMAC-SHA256, with an expiry and for one purpose.

Each purpose has its own key, derived from one secret, so that a signature for one purpose (a download) is
never valid for another (a session). The secret is SIGNING_SECRET, or is generated once and stored in MongoDB.
"""

import base64
import hmac
import json
import time
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256

from model_service.errors import SignatureInvalid
from model_service.storage.common.secrets import Secrets


class Signing:
    def __init__(self, secrets: Secrets, configured: str | None) -> None:
        self._secrets = secrets
        self._configured = configured

    @cached_property
    def _secret(self) -> bytes:
        return self._configured.encode() if self._configured else self._secrets.get("signing")

    def key(self, purpose: str) -> bytes:
        """Return the 32-byte key of a purpose, which is the same in every process."""
        return hmac.digest(self._secret, f"model-service {purpose}".encode(), "sha256")

    def sign(self, purpose: str, fields: Sequence[str | int], expires_at: int) -> str:
        """Return the signature of the fields, in order, until ``expires_at`` (seconds since 1970)."""
        # JSON, because joining the fields would let different fields give the same text.
        signed = json.dumps([*fields, expires_at]).encode()
        digest = hmac.new(self.key(purpose), signed, sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def verify(self, purpose: str, fields: Sequence[str | int], expires_at: int, signature: str) -> None:
        """Check a signature. Raises: SignatureInvalid: it is wrong or has expired."""
        expected = self.sign(purpose, fields, expires_at)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise SignatureInvalid(
                "The URL's signature does not fit this request: use the URL unchanged, with the method that "
                "it was created for."
            )
        if time.time() >= expires_at:
            raise SignatureInvalid("The URL has expired: request a new one.", expired_at=expires_at)
