"""Made documents: Markdown, three in English for one in Turkish, about 10 kB each, no two alike.

Words are drawn by Zipf's law, so that a full-text index sees what it would see of real text: a few
words everywhere, real stems with real endings often, very many made-up names rarely.
"""

import random
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

CHARS = 9_600
WORDS = 30_000
# The first words of each are the commonest; the others are stems.
_WORDS = {
    "tr": """
        ve bir bu için ile da olarak daha çok en gibi sonra kadar olan her ne ise veya ancak göre
        belge veri sistem işlem kullanıcı hizmet kayıt sayfa bölüm sonuç zaman yıl gün dönem kurum
        ülke şehir deniz ırmak dağ köprü yol liman tarih savaş barış anlaşma yasa hak özgürlük
        eğitim okul öğretmen öğrenci kitap yazar roman şiir müzik sanat resim heykel mimari ev bahçe
        su hava toprak iklim yağmur orman ağaç çiçek hayvan kuş balık insan çocuk kadın aile toplum
        ekonomi ticaret üretim fabrika işçi ücret vergi banka para fiyat piyasa sanayi tarım enerji
        bilim deney ölçüm kuram hesap sayı ışık hız kuvvet madde hücre doktor hastane ilaç hastalık
        bilgisayar yazılım sunucu ağ kuyruk ileti anahtar güvenlik sürüm dosya ayar hata sınama
    """,
    "en": """
        the of and to in a is that for it as with on by at from this be or which not are was can
        document data system process user service record page section result time year day period
        country city sea river mountain bridge road harbour history war peace treaty law right
        freedom education school teacher student book author novel poem music art picture sculpture
        house garden water air earth climate rain forest tree flower animal bird fish human child
        woman family society economy trade product factory worker wage tax bank money price market
        industry farm energy science experiment measure theory number light speed force matter cell
        doctor hospital medicine disease computer software server network queue message key security
        version file setting error test window letter answer question morning winter summer engine
    """,
}
_ENDINGS = {
    "tr": ("", "", "lar", "ler", "da", "den", "nın", "ları", "dır", "lık", "sız", "ca", "ıyla"),
    "en": ("", "", "", "s", "ed", "ing", "er", "ly", "less", "ful", "ment", "ship", "like"),
}
_SYLLABLES = [
    *("ka", "le", "me", "ti", "ya", "ro", "su", "do", "ge", "be", "ser", "kan", "dal", "bel"),
    *("con", "ter", "ma", "lin", "vor", "tes", "pa", "ni"),
]


def documents(count: int, *, seed: int = 7) -> Iterator[str]:
    """Yield documents, every fourth in Turkish; the same for the same seed."""
    rng = random.Random(seed)
    draws = [_drawer(rng, language) for language in ("tr", "en", "en", "en")]
    for number in range(count):
        yield _document(rng, draws[number % len(draws)], number)


def write(folder: Path, count: int) -> list[Path]:
    """Write documents as files, so that making them is over before anything is measured."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, text in enumerate(documents(count)):
        paths.append(folder / f"{number:06}.md")
        paths[-1].write_text(text)
    return paths


def _drawer(rng: random.Random, language: str) -> Callable[[int], list[str]]:
    stems = _WORDS[language].split()
    words = dict.fromkeys(stems)
    while len(words) < WORDS:
        # Names and rare terms: what no dictionary holds.
        made = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))
        stem = rng.choice(stems[20:]) if len(words) < len(stems) * 8 else made
        words[stem + rng.choice(_ENDINGS[language])] = None
    known = list(words)
    weights = list(accumulate((rank + 3) ** -1.25 for rank in range(len(known))))
    return lambda k: rng.choices(known, cum_weights=weights, k=k)


def _document(rng: random.Random, draw: Callable[[int], list[str]], number: int) -> str:
    parts = [f"# {' '.join(draw(4)).title()} {number}"]
    length = 0
    while length < CHARS:
        part = _block(rng, draw)
        parts.append(part)
        length += len(part) + 2
    return "\n\n".join(parts) + "\n"


def _block(rng: random.Random, draw: Callable[[int], list[str]]) -> str:
    drawn = rng.random()
    if drawn < 0.14:
        return f"{'#' * rng.randint(2, 4)} {' '.join(draw(rng.randint(2, 6))).capitalize()}"
    if drawn < 0.22:
        return "\n".join(f"- {_sentence(rng, draw)}" for _ in range(rng.randint(3, 7)))
    if drawn < 0.27:
        rows = [f"| {' | '.join(draw(3))} | {rng.randrange(10**5)} |" for _ in range(6)]
        return "\n".join([f"| {' | '.join(draw(3))} | n |", "|---|---|---|---|", *rows])
    if drawn < 0.31:
        names = draw(4)
        lines = [f"    {name} = load({rng.random():.4f}, '{name}')" for name in names]
        return "\n".join(["```python", f"def {names[0]}():", *lines, "```"])
    return " ".join(_sentence(rng, draw) for _ in range(rng.randint(3, 9)))


def _sentence(rng: random.Random, draw: Callable[[int], list[str]]) -> str:
    words = draw(rng.randint(6, 22))
    if rng.random() < 0.2:
        words.insert(2, str(rng.randint(1, 2100)))
    return f"{' '.join(words).capitalize()}{rng.choice(('.', '.', '.', '?', '!'))}"
