"""The keys that sign checkpoints of the audit log."""

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from producers.operations import audit_verifier
from shared.errors import ConfigurationBroken
from shared.servers import embedded
from shared.settings import Settings

SECRET_CHARS_MIN = 32


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The key that signs, and the public keys whose checkpoints are trusted, as hex digits."""

    signing: Ed25519PrivateKey = field(repr=False)
    trusted: tuple[str, ...]


def audit_keys(settings: Settings) -> AuditKeys:
    """Return the keys of this installation.

    Args:
        settings: `audit_key` is one secret, or several by comma: the first signs, all are trusted.
            Unset, the key comes from the signing key.

    Raises:
        ConfigurationBroken: A secret is too short, or there is none.
    """
    if settings.audit_key is None:
        secrets = [hmac.digest(embedded.signing_key(settings), b"audit log", "sha256").hex()]
    else:
        secrets = [one.strip() for one in settings.audit_key.get_secret_value().split(",")]
    if any(len(one) < SECRET_CHARS_MIN for one in secrets):
        raise ConfigurationBroken(
            f"AILYDIAN_AUDIT_KEY: each secret must have at least {SECRET_CHARS_MIN} characters, "
            "for example from `openssl rand -hex 32`."
        )
    seeds = [hashlib.sha256(b"ailydian audit key\n" + one.encode()).digest() for one in secrets]
    keys = [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]
    return AuditKeys(keys[0], tuple(map(audit_verifier.public_key, keys)))
