"""Words that tell no subject, in Turkish and English, as `letters.plain` writes them: our own."""

from typing import Final

_TURKISH: Final = (
    "acaba ama ancak artik asla aslinda ayni bana baska bazi belki ben benden beni benim beri "
    "bey bile bir biraz bircok biri birkac birsey biz bize bizi bizim boyle bugun bunda bundan "
    "bunlar bunlari bunu bunun burada buradan buraya cok cunku daha dahi degil diger diye "
    "dolayi dun eder ederim ediyor eger elbette en etmek etti evet fakat falan fazla felan gene "
    "gerek gibi gore gun hala halen hangi hani hanim hatta hayir hem henuz hep hepsi her herkes "
    "hic hicbir icin icinde iki ile ise iste istedim istiyorum itibaren iyi kadar kaldi kendi "
    "kez kim kime kimi kimse lazim lutfen madem merhaba mesela mi midir misin misiniz mu mudur "
    "musunuz nasil ne neden nedeniyle nerede nereden nereye nicin niye o olabilir olan olarak "
    "oldu oldugu oldugunu olmak olmaz olsa olsun olur ona once ondan onlar onlari onun orada "
    "oyle oysa rica saat sadece sana sanki selam sen senden seni senin sey seyi seyler simdi "
    "siz size sizi sizin sonra soyle su suna sunu surekli tabii tam tamam tek tesekkur "
    "tesekkurler tum tumu uzere uzerinde var vardi ve verdi verir veya ya yani yapar yapiyor "
    "yapmak yaptim yarin yerine yine yok yoksa yuzden zaman zaten "
)
_ENGLISH: Final = (
    "about above after again against all also always and any are aren back because been before "
    "being below between both but can cannot could day dear did didn does doesn doing don down "
    "during each even ever every few for from further get gets getting give got had has hasn "
    "have haven having hello help her here hers hey him his how however into isn its itself "
    "just know let like made make many may maybe might more most much must need never new not "
    "now off once one only other our ours out over own please put really said same say see she "
    "should since some still such sure take tell than thank thanks that the their them then "
    "there these they thing things this those through today tomorrow too two under until upon "
    "use used using very want wants was wasn way well were what when where which while who whom "
    "why will with without won work would yes yesterday yet you your yours "
)

STOP_WORDS: Final = frozenset((_TURKISH + _ENGLISH).split())
