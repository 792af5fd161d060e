"""Mood, subject and tags of conversations, Turkish and English."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import labelled_sentences
from tests.support.patience import cpu_patience
from workers.domain.messages import conversations, sentiment
from workers.judgement import topics
from workers.judgement.english_sentiment import english


def english_mood(text):
    return sentiment.mean(english(sentiment.sentences(text)))


def sign(score):
    return (score >= 0.05) - (score <= -0.05)


def share_right(labelled, mood):
    pairs = [(label, text) for label, texts in labelled.items() for text in texts.splitlines()]
    return sum(sign(mood(text)) == label for label, text in pairs) / len(pairs)


@pytest.mark.parametrize(
    "text",
    [
        "Ürün harika, çok memnun kaldım.",
        "Hiç sorun yaşamadım.",
        "Sorun yok.",
        "Uygulama sorunsuz çalışıyor.",
        "Pişman olmadım, tavsiye ederim.",
        "Kötü değil, hatta güzel.",
        "cok guzel olmus begendim",  # typed without the marks of the letters
        "ÇOK İYİ, BAYILDIM",
        "Başta zorlandım ama sonunda harika oldu.",
        "Hata vermiyor.",
        "İşe yaradı 👍",
    ],
)
def test_what_pleases_in_turkish_is_positive(text):
    assert sentiment.turkish(text) > 0.05


@pytest.mark.parametrize(
    "text",
    [
        "Hiç memnun kalmadım.",
        "Memnun değilim.",
        "Beğenmedim, tavsiye etmiyorum.",
        "Beğenemedim.",
        "Faydası yok.",
        "Kalitesiz bir malzeme.",
        "Bu kadar kötü bir hizmet görmedim.",
        "Güzel görünüyor ama hiçbir işe yaramıyor.",
        "Uygulama çalışmıyor.",
        "Giriş yapamıyorum.",
        "hic begenmedim",
        "KÖTÜ, IŞIKLARI BOZUK",
        "Teslimat 😡",
    ],
)
def test_what_displeases_in_turkish_is_negative(text):
    assert sentiment.turkish(text) < -0.05


@pytest.mark.parametrize(
    "text",
    [
        "Faturamı nereden görebilirim?",
        "Seviye üç sınavı ne zaman?",
        "Sınırlı sayıda katılımcı alınacak.",
        "Bu gece geçerli adres hangisi?",
        "Toplantıya katılmayacağım.",
        "",
    ],
)
def test_what_tells_no_mood_is_neutral(text):
    assert sentiment.turkish(text) == 0.0


def test_a_degree_strengthens_and_weakens():
    mild, usual, strong = map(sentiment.turkish, ("Biraz pahalı.", "Pahalı.", "Çok pahalı."))

    assert strong < usual < mild < 0


def test_what_stands_after_but_weighs_more():
    assert sentiment.turkish("Güzel ama pahalı.") < sentiment.turkish("Pahalı ama güzel.")


def test_held_out_sentences_are_told_apart():
    assert share_right(labelled_sentences.TURKISH, sentiment.turkish) >= 0.88
    assert share_right(labelled_sentences.ENGLISH, english_mood) >= 0.83


def test_held_out_questions_find_their_topic():
    pairs = [(topic, text) for topic, texts in labelled_sentences.TOPICS.items() for text in texts]
    rows = topics.similarities(topics.embedded([text for _, text in pairs]))

    found = [topics.topic_of(row[None], np.ones(1, np.float32)) for row in rows]

    right = sum(topic == wanted for topic, (wanted, _) in zip(found, pairs, strict=True))
    assert right / len(pairs) >= 0.88


@given(st.text(max_size=300))
def test_a_mood_stays_within_its_bounds(text):
    assert -1 <= sentiment.turkish(text) <= 1


@given(st.text(max_size=300))
def test_an_english_mood_stays_within_its_bounds(text):
    assert -1 <= english_mood(text) <= 1


@given(st.lists(st.floats(-1, 1), max_size=50))
def test_the_mood_of_a_conversation_lies_between_those_of_its_messages(scores):
    found = conversations.sentiment(scores)

    if scores:
        assert min(scores) - 1e-9 <= found <= max(scores) + 1e-9
    else:
        assert found is None


def test_newer_messages_weigh_more():
    assert conversations.sentiment([-1.0, 1.0]) > 0
    assert conversations.sentiment([1.0, -1.0]) < 0
    assert conversations.weights(6)[0] == 0.5


def test_a_long_text_is_read_in_bounded_time():
    began = time.process_time()
    for text in ("a" * 200_000, "iyi " * 50_000, "ylalala" * 30_000, ":" * 200_000):
        sentiment.turkish(text)
        conversations.keywords([(text[:4_000], 1.0)], language="tr")

    assert time.process_time() - began < cpu_patience(2.0)


def test_keywords_are_what_is_said_most_without_endings_and_courtesies():
    said = [
        ("Merhaba, faturamı göremiyorum. Faturada tutar yanlış.", 1.0),
        ("Fatura numarası nedir, lütfen?", 0.5),
        ("Numarayı bilmiyorum, teşekkürler.", 1.0),
    ]

    found = conversations.keywords(said, language="tr")

    assert found[:2] == ["fatura", "numara"]
    assert "merhaba" not in found
    assert len(found) <= conversations.KEYWORDS_MAX


def test_keywords_of_english_join_the_forms_of_a_word():
    said = [("My deliveries are late. Where is the delivery?", 1.0), ("Which parcel?", 0.5)]

    found = conversations.keywords(said, language="en")

    assert found[0] == "delivery"
    assert "where" not in found


@pytest.mark.parametrize(
    ("word", "bare"),
    [
        ("siparişlerimizden", "sipariş"),
        ("faturanın", "fatura"),
        ("kargolar", "kargo"),
        ("adresimi", "adres"),
        ("masa", "masa"),
        ("telefon", "telefon"),
    ],
)
def test_turkish_endings_go_where_enough_is_left(word, bare):
    assert conversations.keywords([(word, 1.0)], language="tr") == [bare]


def test_tags_name_the_language_and_the_commonest_intent():
    found = conversations.tags(
        ["fatura"], language="tr", intents=[None, "question", "translate", "question", "unknown"]
    )

    assert found == ["fatura", "language:tr", "intent:question"]
    assert conversations.tags([], language="en", intents=["unknown"]) == ["language:en"]


def test_a_dotted_capital_in_an_english_text_stays_one_word():
    found = conversations.keywords([("İstanbul is far from İstanbul", 1.0)], language="en")

    assert found == ["istanbul", "far"]


def test_greetings_are_the_topic_only_where_nothing_else_is():
    asked = ["Merhaba, nasılsın?", "Kargom nerede, ne zaman teslim edilecek?", "Teşekkürler!"]
    weights = conversations.weights(3).astype(np.float32)

    mixed = topics.topic_of(topics.similarities(topics.embedded(asked)), weights)
    polite = topics.topic_of(topics.similarities(topics.embedded(asked[::2])), weights[1:])

    assert (mixed, polite) == ("delivery", "smalltalk")


def test_what_nobody_can_name_is_other():
    rows = topics.similarities(topics.embedded(["asdf qwer zxcv"]))

    assert topics.topic_of(rows, np.ones(1, np.float32)) == topics.OTHER
    assert topics.topic_of(rows[:0], np.ones(0, np.float32)) == topics.OTHER
