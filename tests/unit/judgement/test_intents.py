"""Intents of sentences that are no examples; thresholds were chosen on TUNED alone."""

import pytest

from shared.judgement import intents
from shared.judgement.intents import UNKNOWN

TUNED = [
    ("How much does the premium plan cost?", "question"),
    ("Kargo ücreti ne kadar?", "question"),
    ("Please sum up the attached minutes.", "summarise"),
    ("Bu haberi kısaca özetler misin?", "summarise"),
    ("Translate the following letter to English", "translate"),
    ("Bunu Almancaya çevirir misin?", "translate"),
    ("My Python script raises a KeyError, help me debug it.", "code"),
    ("Bu C# kodunda hata nerede?", "code"),
    ("Compare iPhone and Pixel cameras.", "compare"),
    ("Bu iki sigorta poliçesini kıyaslar mısın?", "compare"),
    ("Draft an email to my landlord about the heating.", "write"),
    ("Ev sahibime bir dilekçe yazar mısın?", "write"),
    ("Extract the dates from this contract.", "extract"),
    ("Metinden şehir adlarını çıkar.", "extract"),
    ("Hi there, how is it going?", "chitchat"),
    ("Çok sağ ol, görüşürüz!", "chitchat"),
    ("asdf qwer zxcv", UNKNOWN),
    ("42 17 9 3.5", UNKNOWN),
]
HELD_OUT = [
    ("Who signed the treaty?", "question"),
    ("Which documents do I need for the visa?", "question"),
    ("Müşteri hizmetleri saat kaçta açılıyor?", "question"),
    ("Sigorta hangi hasarları karşılar?", "question"),
    ("Summarize the following paragraph for me.", "summarise"),
    ("Give a short summary of the chapter.", "summarise"),
    ("Şu yazıyı iki cümlede özetle.", "summarise"),
    ("Belgenin ana fikirlerini kısaca yaz.", "summarise"),
    ("Translate this to German, please.", "translate"),
    ("What is the Turkish word for bridge?", "translate"),
    ("Bu metni İngilizceye tercüme et.", "translate"),
    ("Write a bash script that renames all files.", "code"),
    ("Why is my React component rendering twice?", "code"),
    ("Python'da dosya okuma kodu yazar mısın?", "code"),
    ("Bu SQL sorgusunu optimize et.", "code"),
    ("What are the differences between the Pro and Enterprise tiers?", "compare"),
    ("İki teklif arasındaki farkları göster.", "compare"),
    ("Write a thank-you note to our customers.", "write"),
    ("Compose a poem about autumn.", "write"),
    ("Müşteriye özür e-postası yaz.", "write"),
    ("Sonbahar hakkında bir şiir yaz.", "write"),
    ("List all the prices mentioned in the text.", "extract"),
    ("Pull out every person's name from the article.", "extract"),
    ("Yazıdaki tüm tarihleri listele.", "extract"),
    ("Good evening! How are you?", "chitchat"),
    ("Thank you so much!", "chitchat"),
    ("Selam, bugün nasılsın?", "chitchat"),
    ("Bana komik bir şey anlat.", "chitchat"),
    ("zxq vbn plok mnb", UNKNOWN),
    ("000 111 222 333", UNKNOWN),
]


@pytest.mark.parametrize(
    ("sentences", "least"), [(TUNED, 0.9), (HELD_OUT, 0.9)], ids=["tuned", "held out"]
)
def test_sentences_that_are_no_examples_get_their_intent(sentences, least):
    found = intents.intents_of([text for text, _ in sentences])

    right = [one.name == wanted for one, (_, wanted) in zip(found, sentences, strict=True)]
    wrong = [
        (text, one) for ok, one, (text, _) in zip(right, found, sentences, strict=True) if not ok
    ]
    assert sum(right) / len(right) >= least, wrong


def test_a_blank_text_has_no_intent():
    assert intents.intent_of("  \n").name == UNKNOWN


def test_what_is_wanted_may_stand_at_the_end_of_a_long_text():
    long = "The harbour was built in 1871 by two brothers. " * 200

    wanted = long + "\n\n" + "Summarise this text in three sentences."

    assert intents.intent_of(wanted).name == "summarise"
