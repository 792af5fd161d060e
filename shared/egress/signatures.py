"""Signatures of what we post: a receiver proves with them who sent it, and when.

Source: Stripe's scheme of webhook signatures.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from pydantic import SecretStr


def signature(secrets: Sequence[SecretStr], body: bytes, at: int) -> str:
    """Return the value of `X-Ailydian-Signature`: `t=<unix time>,v1=<hex>`, a v1 for each secret.

    A receiver computes HMAC-SHA256 of `<t>.<body>` with its secret, compares it with each v1 in
    constant time, and rejects a `t` that is some minutes old.

    Args:
        secrets: The keys that both sides know; two while a new one takes over.
        body: The bytes of the body, as they are sent.
        at: Seconds since 1970.
    """
    signed = b"%d.%s" % (at, body)
    keys = [secret.get_secret_value().encode() for secret in secrets]
    digests = [hmac.new(key, signed, hashlib.sha256).hexdigest() for key in keys]
    return ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])


def webhook_secret(signing_key: bytes, webhook_id: str, number: int) -> SecretStr:
    """Return the secret of a webhook, which is stored nowhere.

    Args:
        signing_key: Of this installation.
        webhook_id: The webhook.
        number: 1 for its first secret, one more after each rotation.
    """
    of = f"webhook\n{webhook_id}\n{number}".encode()
    digest = hmac.new(signing_key, of, hashlib.sha256).digest()
    return SecretStr("whsec_" + base64.urlsafe_b64encode(digest).decode().rstrip("="))
