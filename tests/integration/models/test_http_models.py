"""/v1/models and its neighbours: everybody reads the catalogue, those above all change it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from producers.models import catalogue
from shared import db
from shared.db import Role
from tests.support.factories import make_user, rows
from tests.support.http_api import make_key
from tests.support.patience import until

NEW = {
    "provider": "acme-ai",
    "contextWindow": 8_000,
    "costIn": "0.0004",
    "costOut": "0.00160001",
    "capabilities": ["completion"],
}


@pytest.fixture
def root(pool):
    """A key of somebody above all tenants."""
    user = make_user(None, "root", role="SUPER_ADMIN")
    return make_key(None, user, "models:read", "models:write")


@pytest.fixture
def key(acme):
    """A key that reads."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "models:read")


def test_a_model_is_made_changed_and_disabled_with_its_provider(api, root, key):
    provider = api.ask("PUT", "/v1/providers/acme-ai", key=root, body={"name": "Acme"})
    made = api.ask("PUT", "/v1/models/acme-1", key=root, body=NEW)
    changed = api.ask("PUT", "/v1/models/acme-1", key=root, body={"costIn": "0.001"})
    slugs = [one["slug"] for one in api.ask("GET", "/v1/models", key=key).document["items"]]
    api.ask("PUT", "/v1/providers/acme-ai", key=root, body={"enabled": False})
    shown = api.ask("GET", "/v1/models/acme-1", key=key).document
    usable = api.ask("GET", "/v1/models?enabled=true", key=key).document["items"]

    assert provider.document == {
        "slug": "acme-ai",
        "name": "Acme",
        "baseUrl": None,
        "enabled": True,
    }
    assert (made.status, made.document["name"]) == (200, "acme-1")
    assert (made.document["costIn"], made.document["costOut"]) == ("0.00040000", "0.00160001")
    assert (changed.document["costIn"], changed.document["contextWindow"]) == ("0.00100000", 8_000)
    assert "acme-1" in slugs
    assert (shown["enabled"], shown["providerEnabled"]) == (True, False)
    assert "acme-1" not in [one["slug"] for one in usable]
    noted = rows("""
        SELECT "action", left("userId", 8) FROM "AuditLog"
        WHERE "action" LIKE 'model%' OR "action" LIKE 'provider%' ORDER BY "createdAt", "id" """)
    assert noted == [
        ("provider.put", "key:aly_"),
        ("model.put", "key:aly_"),
        ("model.put", "key:aly_"),
        ("provider.put", "key:aly_"),
    ]


def test_what_a_change_leaves_out_stays_as_another_has_made_it(api, root, pool):
    api.ask("PUT", "/v1/providers/acme-ai", key=root, body={"name": "Acme", "enabled": False})
    moved = api.ask("PUT", "/v1/providers/acme-ai", key=root, body={"baseUrl": "https://acme.org"})
    api.ask("PUT", "/v1/models/acme-1", key=root, body=NEW)
    threads = ThreadPoolExecutor(1)
    with db.transaction(None, role=Role.OWNER) as conn:
        catalogue.change_model(conn, "acme-1", {"enabled": False})
        price = {"costIn": "0.001"}
        priced = threads.submit(api.ask, "PUT", "/v1/models/acme-1", key=root, body=price)
        until(lambda: conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
    found = priced.result()

    assert (moved.document["enabled"], moved.document["baseUrl"]) == (False, "https://acme.org")
    assert (found.document["enabled"], found.document["costIn"]) == (False, "0.00100000")


def test_two_providers_have_two_names(api, root):
    assert api.ask("PUT", "/v1/providers/one", key=root, body={"name": "Acme"}).status == 200
    reply = api.ask("PUT", "/v1/providers/two", key=root, body={"name": "Acme"})

    assert (reply.status, reply.code) == (409, "provider_taken")
    assert rows("""SELECT "slug" FROM "AIProvider" WHERE "name" = 'Acme'""") == [("one",)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "model_incomplete"),
        (NEW | {"provider": "nobody"}, 404, "provider_not_found"),
        (NEW | {"costIn": "-1"}, 422, "invalid_request"),
        (NEW | {"costIn": "NaN"}, 422, "invalid_request"),
        (NEW | {"costIn": "0.000000001"}, 422, "invalid_request"),
        (NEW | {"contextWindow": 2**31}, 422, "invalid_request"),
        (NEW | {"enabled": "perhaps"}, 422, "invalid_request"),
        (NEW | {"enabled": 0}, 422, "invalid_request"),
    ],
)
def test_a_model_that_cannot_be_is_refused(api, root, body, status, code):
    reply = api.ask("PUT", "/v1/models/acme-1", key=root, body=body)

    assert (reply.status, reply.code) == (status, code)
    assert api.ask("GET", "/v1/models/acme-1", key=root).code == "model_not_found"


def test_who_reads_the_catalogue_does_not_change_it(api, key):
    for path in ("/v1/models/acme-1", "/v1/providers/acme-ai"):
        reply = api.ask("PUT", path, key=key, body={})
        assert (reply.status, reply.code) == (403, "scope_missing")
    assert api.ask("GET", "/v1/routes", key=key).document == {"items": []}
