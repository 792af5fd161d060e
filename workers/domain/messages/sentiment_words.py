"""Turkish words that carry a mood, as stems in ASCII, and how strongly: our own list.

Values are as in VADER's lexicon, from -4 to 4. Stems are written as `sentiment` folds words: lower
case, without the marks of Turkish letters, so that what is typed without them is found as well.
"""

from typing import Final


def _words(text: str) -> list[str]:
    return text.split()


def _valued(lists: dict[float, str]) -> dict[str, float]:
    return {word: value for value, words in lists.items() for word in _words(words)}


# Nouns, adjectives and what behaves like them; -siz turns them round: `sorun`, `sorunsuz`.
NOMINALS: Final = _valued(
    {
        3.0: "harika mukemmel muhtesem sahane efsane enfes nefis kusursuz bayildi minnettar super "
        "olaganustu muazzam fevkalade",
        2.0: "iyi guzel basari basarili memnun memnuniyet mutlu mutluluk sevinc sevincli keyif "
        "keyifli keyf huzur kalite kaliteli guvenilir tesekkur tesekkurler sagol sagolun bravo "
        "aferin tebrik tebrikler hos nazik kibar yardimsever etkileyici verimli ideal favori "
        "ozenli zevk zevkli sevimli lezzet lezzetli olumlu eksiksiz gurur tavsiye sevgi takdir "
        "titiz profesyonel sevindirici tatmin samimi guleryuz guleryuzlu begeni",
        1.5: "fayda faydali yarar yararli guven guvenli degerli umut umutlu saglam yardimci "
        "tatli ilgi ilgili sukur iyilik nitelikli kullanisli isabetli",
        1.0: "rahat kolay kolaylik hizli pratik etkili temiz ferah sans sansli anlasilir uygun "
        "ucuz saygi saygili dogru cozum net eyvallah yeterli duzenli basit",
        -1.0: "eksik karmasik maalesef malesef keske gec",
        -1.5: "pahali yavas zor zorluk karisik gereksiz kirik kusur kayip yorucu uzak bekletme "
        "tutarsiz ilgisiz ilgisizlik",
        -2.0: "kotu hata hatali yanlis sorun sorunlu problem problemli ariza arizali bozuk kirli "
        "pis sikayet sikayetci pisman pismanlik sacma sacmalik yetersiz yetersizlik anlamsiz kaba "
        "umursamaz ozensiz dikkatsiz mutsuz uzgun uzucu kizgin ofke ofkeli stres stresli endise "
        "endiseli kaygi kaygili korku tehlike tehlikeli zarar zararli yazik caresiz cirkin sikici "
        "ayip utanc haksiz haksizlik adaletsiz sikinti sikintili dert cile cop olumsuz gecikme "
        "gecikmeli magdur magduriyet kizginlik hayalkirik vakitkayb zamankayb bikkin "
        "kalitesiz rahatsiz rahatsizlik verimsiz",
        -3.0: "berbat rezalet rezil igrenc felaket fiyasko skandal korkunc aptal salak gerizekali "
        "nefret lanet iskence kabus sahtekar dolandirici paratuzag yalanci saygisiz saygisizlik",
    }
)

# Verbs: how a stem is meant when it stands, and when it is negated (`begendim`, `begenmedim`).
VERBS: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("begen", "hoslan", "sev", "sevin", "rahatla", "iseyara"), (2.0, -2.0)),
    **dict.fromkeys(("bayil", "hayranol"), (3.0, -2.0)),
    **dict.fromkeys(("cozul", "duzel", "basar", "kolaylas", "hizlan", "guven"), (2.0, -2.0)),
    **dict.fromkeys(("coz", "kazan", "iyiles", "guzelles"), (1.5, -2.0)),
    # Only their failing tells a mood.
    **dict.fromkeys(("calis", "acil", "yukle", "yuklen", "baglan", "tatminet"), (0.0, -2.0)),
    **dict.fromkeys(("ulas", "gir", "gelis", "donus", "kayded", "kaydet"), (0.0, -1.5)),
    **dict.fromkeys(("bul", "kullan", "gel", "anlas", "anla", "gonder", "gorun"), (0.0, -1.0)),
    **dict.fromkeys(("bozul", "kaybol", "kaybet", "yanilt", "usan", "gecik"), (-2.0, 1.0)),
    **dict.fromkeys(("uzul", "uzdu", "uzuyor", "kizdi", "kiziyor", "sinirlen"), (-2.0, 1.0)),
    **dict.fromkeys(("sikil", "bik", "coktu", "cokuyor", "cokme", "kotules"), (-2.0, 1.0)),
    **dict.fromkeys(("pismanol", "endiselen", "korkut", "sinirboz", "yavasla"), (-2.0, 1.0)),
    **dict.fromkeys(("aldat", "kandir", "dolandir", "batir", "mahvet", "mahvol"), (-3.0, 1.0)),
    **dict.fromkeys(("aksa", "patla", "reddet", "zorlan", "ertelen", "beklet"), (-1.5, 1.0)),
}

# Words that begin like one of the stems and mean something else.
OTHERS: Final = frozenset(
    _words(
        "sevk sevkiyat seviye kizlar zorunlu zorunda zorunluluk gecen gece geceleri gecerli gecici "
        "gecis guvenlik basarak temizlik dogrudan dogrulama uygunluk uygulama uzakta uzaktan "
        "cozunurluk gelistir gelistirme gelisme gelismis basitce duzenle duzenleme ilgilenen"
    )
)

# Before a word that carries a mood.
STRONGER: Final = {
    **dict.fromkeys(("cok", "asiri", "inanilmaz", "acayip", "en", "tamamen", "kesinlikle"), 1.3),
    **dict.fromkeys(("gercekten", "fazla", "fazlasiyla", "cidden", "hic", "bayagi"), 1.3),
    **dict.fromkeys(("oldukca", "gayet", "epey", "derece", "son"), 1.2),
    **dict.fromkeys(("biraz", "az", "azicik", "kismen", "hafif", "pek", "sanki"), 0.6),
}

# After a word that carries a mood, these turn it round: `memnun değilim`, `sorun yok`.
TURNING: Final = ("degil", "yok", "olabilirdi", "sayilmaz", "denemez")
BUT: Final = frozenset(_words("ama fakat ancak lakin yalniz oysa"))
# Before it a negated verb strengthens: `bu kadar kötüsünü görmedim`.
SO_MUCH: Final = frozenset(_words("kadar boyle boylesi boylesine"))

SIGNS: Final = {
    **dict.fromkeys("😊😀😃😄😁🙂❤♥👍🎉😍🥰👏🙏💯", 2.0),
    **dict.fromkeys("😞😡😠👎😢😭💔🤬😤🙁☹😒🤮", -2.0),
}
SMILES: Final = {":)": 1.5, ":-)": 1.5, ":d": 2.0, ";)": 1.0, ":(": -1.5, ":-(": -1.5, ":/": -1.0}

# Several words that are one, written together before words are told apart.
TOGETHER: Final = {
    "ise yara": "iseyara",
    "hayran ol": "hayranol",
    "hayal kirik": "hayalkirik",
    "vakit kayb": "vakitkayb",
    "zaman kayb": "zamankayb",
    "para tuzag": "paratuzag",
    "sinir boz": "sinirboz",
    "ne yazik ki": "maalesef",
    "el insaf": "rezalet",
}
