"""The sessions of people that this process has seen in the last second."""

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from producers.accounts import request_rules, scopes, session_tokens, sessions
from producers.accounts.scopes import Scope
from producers.accounts.sessions import ClientPlace, SessionPolicy
from producers.queries.accounts.request_rules import HeldRules
from producers.queries.accounts.sessions import HeldSession
from producers.web.principals import (
    KNOWN_MAX,
    PRESENTED_CHARS_MAX,
    PersonSession,
    Principal,
    Recent,
)

# So many changes of a session's address or agent are noted: a caller can make any number.
MOVES_MAX, MOVES_IN_S = 10, 60.0
# Everybody sees and ends their own sessions, whatever their role.
OF_PEOPLE: Final = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
_UNKNOWN: Final = "Unknown session: log in again."


@dataclass(slots=True)
class Sessions:
    """How sessions are looked up, and those that were."""

    policy: SessionPolicy
    recent: Recent[tuple[str, ClientPlace]] = field(default_factory=Recent)
    _moves: dict[str, list[tuple[float, ClientPlace]]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accepts(self, bearer: str) -> bool:
        """Whether what is presented as a bearer is a session's token and not a key."""
        return session_tokens.is_ours(bearer)

    def look_up(self, token: str, place: ClientPlace) -> Principal | str:
        """Look a session up and keep what was found for a second. Blocks."""
        if len(token) > PRESENTED_CHARS_MAX:
            return _UNKNOWN
        found = sessions.look_up(self.policy, token, place, noted=self._is_noted(token, place))
        by = _UNKNOWN if found is None else self._person(token, *found)
        self.recent.keep((token, place), by)
        return by

    def _is_noted(self, token: str, place: ClientPlace) -> bool:
        """Whether it may be noted where a session is used: of many changes the first ones."""
        now = time.monotonic()
        with self._lock:
            moves = [one for one in self._moves.get(token, ()) if one[0] > now - MOVES_IN_S]
            if moves and moves[-1][1] == place:
                return True
            if len(moves) >= MOVES_MAX:
                return False
            self._moves.pop(token, None)
            if len(self._moves) >= KNOWN_MAX:
                self._moves.clear()
            # They are in the order in which they moved last.
            while self._moves and next(iter(self._moves.values()))[-1][0] <= now - MOVES_IN_S:
                del self._moves[next(iter(self._moves))]
            self._moves[token] = [*moves, (now, place)]
        return True

    def _person(self, token: str, held: HeldSession, rules: HeldRules) -> Principal | str:
        if held.state != "live":
            return f"The session is {held.state}: log in again."
        tenant_id = sessions.acts_for(held)
        if tenant_id is None and held.role != "SUPER_ADMIN":
            return f"{held.email} belongs to no tenant."
        csrf = session_tokens.csrf(self.policy.pepper, token)
        return Principal(
            held.id,
            f"user:{held.user_id}",
            f"session of {held.email}",
            held.role,
            tenant_id,
            scopes.of_role(held.role) | OF_PEOPLE,
            request_rules.bounds(rules, tenant_id, None),
            PersonSession(held.id, held.user_id, held.email, csrf),
        )
