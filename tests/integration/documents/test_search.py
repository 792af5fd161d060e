"""Search on real Postgres: what is found, whose it is, where it stands, and what is refused."""

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector import Bit

from shared import db
from shared.db import Role
from shared.documents import quantization
from shared.documents.search import QUESTION_CHARS_MAX, QueryRefused, search, search_many
from shared.ids import TenantId
from shared.models import providers
from shared.queries.documents import retrieval
from shared.queries.documents.retrieval import SearchQuestion
from shared.text import letters
from tests.retrieval import evaluate
from tests.retrieval.passages import Passage, regression_sets
from tests.support.thoroughness import examples

ACME, OTHER = TenantId("acme"), TenantId("other")
RNG = np.random.Generator(np.random.PCG64(11))

PASSAGES = [
    Passage("light", "Gece boyunca ışık yanan evler ılık görünürdü.", "tr"),
    Passage("city", "İstanbul'un iskelelerinde martılar bekler.", "tr"),
    Passage("backup", "Nightly backups of the database are kept for thirty days.", "en"),
    Passage("bread", "The bakery sells warm bread and olives every morning.", "en"),
    Passage("paths", "Settings are read from conf/httpd.conf and applied at start.", "en"),
]


@pytest.fixture
def conn(database_url, pool):
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def acme(conn):
    fill(conn, ACME, PASSAGES)
    return conn


def fill(conn, tenant_id, passages, *, vectors=True):
    """Add a tenant with passages and the live model's vectors of them."""
    embedder = providers.embedder()
    evaluate.add_tenant(conn, tenant_id)
    evaluate.add_passages(conn, tenant_id, passages)
    if vectors:
        rows = embedder.embed([passage.text for passage in passages])
        evaluate.add_vectors(conn, tenant_id, embedder.model, passages, rows)


def sources(hits):
    return [hit.source for hit in hits]


@pytest.mark.parametrize("each", regression_sets("check"), ids=lambda each: each.name)
def test_hybrid_is_as_good_as_the_better_of_text_and_vectors(database_url, pool, each):
    verdict = evaluate.judge(database_url, each, providers.live_model())

    assert verdict.loss <= evaluate.LOSS_MAX, verdict


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
def test_each_mode_finds_the_passage_that_answers(acme, mode):
    hits = search(ACME, "How long are database backups kept?", mode=mode)

    assert hits[0].source == "backup"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_question_finds_the_answer_in_the_other_language(acme):
    hits = search(ACME, "Veritabanı yedekleri ne kadar süre saklanır?", k=1)

    assert sources(hits) == ["backup"]


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("IŞIK", "light"),
        ("ILIK", "light"),
        ("Işıklar", "light"),
        ("İSTANBUL", "city"),
        ("İskeleler", "city"),
        ("istanbul’da", "city"),
        ("BAKERY", "bread"),
        ("httpd", "paths"),
        ("conf/httpd.conf", "paths"),
    ],
)
def test_words_are_found_in_any_case_and_with_any_suffix(acme, word, source):
    language = "tr" if source in {"light", "city"} else "en"

    assert sources(search(ACME, word, mode="text", language=language)) == [source]


def test_stop_words_alone_find_nothing_by_text(acme):
    assert search(ACME, "the of are and", mode="text") == []


def test_a_hit_quotes_its_document_by_code_points(conn):
    evaluate.add_tenant(conn, ACME)
    text = "Bir 👩‍👩‍👧 İ ş.\n\nBackups are kept. Ğ"
    conn.execute(
        """INSERT INTO "Document" ("id", "tenantId", "title", "content", "source")
           VALUES ('d', 'acme', 'Guide', %s, 'a/guide.md')""",
        [text],
    )
    start, end = text.index("Backups"), text.index(" Ğ")
    conn.execute(
        """INSERT INTO "DocumentChunk" ("id", "documentId", "content", "chunkIndex", "startOffset",
               "endOffset", "headings")
           VALUES ('c', 'd', %s, 0, %s, %s, ARRAY['Guide', 'Safety'])""",
        [text[start:end], start, end],
    )
    conn.execute(
        """INSERT INTO "ChunkText" VALUES ('acme', 'c', 'd', 'en',
               ailydian_words('en', 'Guide Safety', 'Backups are kept.'))"""
    )

    (hit,) = search(ACME, "safety", mode="text")

    assert text[hit.start : hit.end] == hit.content == "Backups are kept."
    assert (hit.document_id, hit.title, hit.source) == ("d", "Guide", "a/guide.md")
    assert hit.headings == ("Guide", "Safety")


def test_a_chunk_without_a_vector_is_found_by_its_words(acme):
    late = Passage("late", "Zeppelin maintenance happens on Tuesdays.", "en")
    evaluate.add_passages(acme, ACME, [late])

    assert search(ACME, "zeppelin maintenance", k=1)[0].source == "late"


def test_vectors_of_another_model_are_never_mixed_in(acme):
    stray = Passage("stray", "Xylophone.", "en")
    evaluate.add_passages(acme, ACME, [stray])
    row = providers.embedder().embed(["Database backups kept"])
    evaluate.add_vectors(acme, ACME, "another@1", [stray], row)

    assert "stray" not in sources(search(ACME, "Database backups kept", mode="vector"))


def test_several_questions_at_once_get_the_hits_of_each_alone(acme):
    questions = ["warm bread", "İstanbul'da martılar", "httpd settings"] * 9

    together = search_many(ACME, questions, k=3)

    assert together == [search(ACME, question, k=3) for question in questions]


def test_no_tenant_ever_sees_the_hits_of_another(acme):
    fill(acme, OTHER, [Passage("theirs", "Nightly backups of the database are secret.", "en")])

    for mode in ("hybrid", "vector", "text"):
        assert "theirs" not in sources(search(ACME, "nightly database backups", mode=mode))
        assert sources(search(OTHER, "nightly database backups", mode=mode)) == ["theirs"]


@pytest.mark.parametrize("tenant_id", [None, TenantId("")])
def test_text_search_without_a_tenant_is_refused(acme, tenant_id):
    question = SearchQuestion(["backups"], "en", "", np.zeros(1536), np.zeros(192, dtype=np.uint8))

    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"app\.tenant_id"),
        db.transaction(tenant_id) as conn,
    ):
        retrieval.select_by_words(conn, question, hits_max=10)


@pytest.mark.parametrize("role", [Role.AUDIT_READER, Role.RELAY])
def test_other_roles_may_not_call_text_search(acme, role):
    question = SearchQuestion(["backups"], "en", "", np.zeros(1536), np.zeros(192, dtype=np.uint8))

    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        db.transaction(ACME, role=role) as conn,
    ):
        retrieval.select_by_words(conn, question, hits_max=10)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0", "\ud800", "a" * (QUESTION_CHARS_MAX + 1)])
def test_a_blank_or_endless_question_is_refused(text):
    with pytest.raises(QueryRefused):
        search(ACME, text)


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(QueryRefused, match="k must be"):
        search(ACME, "bread", k=k)


def test_an_unknown_mode_is_refused():
    with pytest.raises(QueryRefused, match="mode"):
        search(ACME, "bread", mode="exact")


def test_k_bounds_the_hits(acme):
    assert len(search(ACME, "bread", k=1)) == 1
    assert len(search(ACME, "bread", k=1000, mode="vector")) == len(PASSAGES)


HOSTILE = [
    "bread & | ! ( ) :* <-> <3>",
    "'bread' ''olives'' \"warm\" \\ \\'",
    "bread\0olives \ud83d \udfff",
    "%s %(words)s {} ; DROP TABLE x --",
    "a'b’c''' ’’ '",
    "\u200b\u202e bread \ufffe",
    "ǅ ß ﬁ İ ı I i̇",
    "x" * QUESTION_CHARS_MAX,
    " ".join(f"w{n}" for n in range(2000)),
    "!!!",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_question_breaks_the_search(acme, text):
    assert len(search(ACME, text)) == len(PASSAGES)


@given(st.text(min_size=1, max_size=60))
@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_text_breaks_text_search(acme, text):
    question = "bread " + text

    assert "bread" in sources(search(ACME, question, mode="text"))


def test_words_of_too_many_chunks_still_find_the_chunk_that_holds_them_all(conn):
    fillers = [Passage(f"f{n}", f"Alpha number {n}.", "en") for n in range(60)]
    fillers += [Passage(f"g{n}", f"Beta number {n}.", "en") for n in range(60)]
    fill(conn, ACME, [*fillers, Passage("both", "Alpha and beta.", "en")], vectors=False)

    with db.transaction(ACME) as inside:
        ranked = inside.execute(
            "SELECT * FROM ailydian_search_text(ARRAY['alpha', 'beta'], 'en', 10, 20)"
        ).fetchall()

    assert ranked[0][0] == "acme/both"
    assert len(ranked) == 10


def test_a_tenant_with_one_row_in_a_hundred_finds_its_own_and_scans_no_others(conn):
    models = {"m@1": 384, "n@1": 1536}
    sizes = {TenantId("large"): 3000, TenantId("little"): 30}
    stored = {}
    for tenant_id, size in sizes.items():
        passages = [Passage(str(n), f"passage {n}", "en") for n in range(size)]
        fill(conn, tenant_id, passages, vectors=False)
        for model, width in models.items():
            stored[tenant_id, model] = rows = clustered(size, width)
            evaluate.add_vectors(conn, tenant_id, model, passages, rows)
    conn.execute('ANALYZE "ChunkVector"')

    for (tenant_id, model), rows in stored.items():
        found = 0
        for row in rows[:: max(1, len(rows) // 30)]:
            vector = unit(row + 0.02 * RNG.standard_normal(1536).astype(np.float32) * (row != 0))
            question = SearchQuestion([], "en", model, vector, quantization.bits(vector[None])[0])
            with db.transaction(tenant_id) as inside:
                near = retrieval.select_nearest(
                    inside, tenant_id, question, scanned=400, hits_max=10
                )
            exact = np.argsort(-rows @ vector, kind="stable")[:10]
            found += len({c.chunk_id for c in near} & {f"{tenant_id}/{n}" for n in exact})
        assert found / (10 * len(rows[:: max(1, len(rows) // 30)])) >= 0.99, (tenant_id, model)

    with db.transaction(TenantId("little")) as inside:
        values = retrieval._vector(question) | {"tenant_id": "little", "scanned": 400}
        values |= {"hits_max": 10, "bits": Bit(question.bits.tobytes())}
        plan = inside.execute("EXPLAIN " + retrieval.SELECT_NEAREST, values).fetchall()
    assert "ChunkVector_pkey" in str(plan)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def clustered(count, width):
    """Vectors as models make them: near to some, far from most; zero-padded."""
    rows = np.zeros((count, 1536), dtype=np.float32)
    centres = RNG.standard_normal((max(2, count // 15), width))
    picked = RNG.integers(0, len(centres), count)
    rows[:, :width] = centres[picked] + 0.6 * RNG.standard_normal((count, width))
    return unit(rows)


def test_postgres_and_letters_agree_on_capitals(conn):
    alphabets = {"tr": "abcçdefgğhıijklmnoöprsştuüvyz", "en": "abcdefghijklmnopqrstuvwxyz"}
    capitals = str.maketrans({"i": "İ", "ı": "I"})
    rng = np.random.Generator(np.random.PCG64(5))
    for language, alphabet in alphabets.items():
        words = ["".join(rng.choice(list(alphabet), size=7)) for _ in range(300)]
        # In English text both capitals are read as an i.
        typed = [word.translate(capitals).upper() for word in words]
        if language == "en":
            typed += [word.upper() for word in words]

        rows = conn.execute(
            """SELECT ailydian_lexemes(%(language)s, "word")::text,
                      ailydian_lexemes(%(language)s, "folded")::text
               FROM unnest(%(words)s::text[], %(folded)s::text[]) AS typed ("word", "folded")""",
            {
                "language": language,
                "words": typed,
                "folded": [letters.fold(word, language) for word in typed],
            },
        ).fetchall()

        assert [(one, other) for one, other in rows if one != other] == []
        assert [letters.fold(word, language) for word in typed[: len(words)]] == words
