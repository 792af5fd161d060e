"""The regression sets and the demo documents hold together."""

import json

import pytest

from producers.demo import QUESTIONS, documents
from tests.retrieval.passages import QUESTIONS as QUESTIONS_FILE
from tests.retrieval.passages import regression_sets


def test_each_question_has_its_answer_among_the_passages() -> None:
    for split in ("dev", "check"):
        for evaluation in regression_sets(split):
            ids = {passage.id for passage in evaluation.passages}

            assert len(ids) == len(evaluation.passages)
            for query in evaluation.queries:
                assert query.relevant, query.id
                assert ids.issuperset(query.relevant)


def test_no_topic_is_in_both_splits_and_none_is_lost() -> None:
    topics = {
        split: {query.id[3:] for each in regression_sets(split) for query in each.queries}
        for split in ("dev", "check")
    }

    lines = QUESTIONS_FILE.read_text("utf-8").splitlines()
    assert topics["dev"] | topics["check"] == {json.loads(line)["topic"] for line in lines}
    assert not topics["dev"] & topics["check"]
    assert min(len(topics["dev"]), len(topics["check"])) >= 25


@pytest.mark.parametrize("name", ["tr_tr", "tr_en", "en_tr", "en_en"])
def test_a_set_asks_in_its_first_language_for_passages_of_its_second(name: str) -> None:
    question_language, passage_language = name.split("_")

    evaluation = next(each for each in regression_sets("check") if each.name == name)

    assert {query.language for query in evaluation.queries} == {question_language}
    assert {passage.language for passage in evaluation.passages} == {passage_language}


def test_the_demo_ships_every_kind_within_its_size() -> None:
    paths = documents()

    kinds = {path.suffix for path in paths}
    assert kinds == {".md", ".html", ".txt", ".csv", ".pdf", ".docx", ".xlsx", ".eml"}
    assert 150_000 <= sum(path.stat().st_size for path in paths) <= 300_000


def test_the_demo_asks_in_both_languages_and_across_them() -> None:
    names = {path.name for path in documents()}

    assert names.issuperset(question.expected for question in QUESTIONS)
    assert {question.language for question in QUESTIONS} == {"tr", "en"}
    assert {q.language for q in QUESTIONS if q.across} == {"tr", "en"}


def test_every_demo_document_has_its_source_noted() -> None:
    sources = (documents()[0].parent.parent / "SOURCES.md").read_text("utf-8")

    assert [path.name for path in documents() if f"`{path.name}`" not in sources] == []
