"""Stop words, Turkish and English, in groups that each reader of texts combines.

Turkish words are written here with their letters; the sets at the end hold them as
`letters.plain` writes them, for texts that were typed without. Our own lists.
"""

from typing import Final

from shared.text.letters import plain


def listed(words: str) -> frozenset[str]:
    """The words of a list that is written as prose."""
    return frozenset(words.split())


# Stop words for every reader.
FUNCTION_TR: Final = listed(
    "bir bu şu o da de ki ve ile için gibi olan olarak var ne nedir hangi mı mi mu mü"
)
FUNCTION_EN: Final = listed(
    "a an the and of to in on at as for about than then it its this that these those is are was "
    "were be been can could do does did has have had would how what which"
)
# Of people who ask, and whom they ask: empty as well, unless a sentence is about them.
ASKING_TR: Final = listed(
    "acaba ben bana benim biz bize bizim sen sana siz ederim kadar lütfen olur üzerinde zaman "
    "mıdır midir mudur müdür mısın misin"
)
ASKING_EN: Final = listed(
    "being give here know let many may might much please say tell there use used way you"
)
# They name no subject, but they change what a sentence says.
_TURNING_TR: Final = listed(
    "ama fakat veya çok daha en her ise eğer kaç kim nasıl neden nerede yok"
)
_TURNING_EN: Final = listed("no not or by from with into should will when where who why")
# Filler of conversations.
_SMALL_TALK_TR: Final = listed(
    "ancak artık asla aslında aynı başka bazı belki benden beni beri bey bile biraz birçok biri "
    "birkaç birşey bizi böyle bugün bunda bundan bunlar bunları bunu bunun burada buradan buraya "
    "çünkü dahi değil diğer diye dolayı dün eder ediyor elbette etmek etti evet falan fazla felan "
    "gene gerek göre gün hala halen hani hanım hatta hayır hem henüz hep hepsi herkes hiç hiçbir "
    "içinde iki işte istedim istiyorum itibaren iyi kaldı kendi kez kime kimi kimse lazım madem "
    "merhaba mesela mısınız misiniz musunuz nedeniyle nereden nereye niçin niye olabilir oldu "
    "olduğu olduğunu olmak olmaz olsa olsun ona önce ondan onlar onları onun orada öyle oysa rica "
    "saat sadece sanki selam senden seni senin şey şeyi şeyler şimdi size sizi sizin sonra söyle "
    "şuna şunu sürekli tabii tam tamam tek teşekkür teşekkürler tüm tümü üzere vardı verdi verir "
    "ya yani yapar yapıyor yapmak yaptım yarın yerine yine yoksa yüzden zaten"
)
_SMALL_TALK_EN: Final = listed(
    "above after again against all also always any aren back because before below between both "
    "but cannot day dear didn doesn doing don down during each even ever every few further get "
    "gets getting got hasn haven having hello help her hers hey him his however isn itself just "
    "like made make maybe more most must need never new now off once one only other our ours out "
    "over own put really said same see she since some still such sure take thank thanks their "
    "them they thing things through today tomorrow too two under until upon using very want "
    "wants wasn well while whom without won work yes yesterday yet your yours"
)


def _plain(*groups: frozenset[str]) -> frozenset[str]:
    return frozenset(plain(word) for group in groups for word in group)


# What a sentence is not compared by.
GRAMMAR: Final = _plain(FUNCTION_TR, FUNCTION_EN, _TURNING_TR, _TURNING_EN)
# What no conversation is about.
TURKISH: Final = _plain(FUNCTION_TR, ASKING_TR, _TURNING_TR, _SMALL_TALK_TR)
ENGLISH: Final = _plain(FUNCTION_EN, ASKING_EN, _TURNING_EN, _SMALL_TALK_EN)
STOP_WORDS: Final = TURKISH | ENGLISH
