"""What the application must know of those who come: sessions, proxies, a provider."""

from dataclasses import dataclass, field

from producers.accounts.client_addresses import Proxies
from producers.accounts.openid import OpenIdClient
from producers.web.sessions_seen import Sessions


@dataclass(frozen=True, slots=True)
class Visitors:
    """How people and addresses are known.

    Attributes:
        sessions: How sessions are kept.
        proxies: Who is believed where a request comes from.
        provider: Where people log in by OpenID Connect.
    """

    sessions: Sessions
    proxies: Proxies = field(default_factory=Proxies)
    provider: OpenIdClient | None = None
