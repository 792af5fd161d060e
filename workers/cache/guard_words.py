"""Words that the cache's guard knows, Turkish and English: what they ask, deny, oppose or measure.

Words are folded to lower case. A `~` at the end stands for any suffix, which Turkish needs.
"""

from collections.abc import Mapping
from typing import Final

from shared.text import stop_words

# Question words. A question with none of these asks for "what", or for yes or no.
ASKS: Final[Mapping[str, str]] = {
    "who": "who whom whose kim kime kimin kimi kimler~ kimse~ kimdir kiminle kimden",
    "when": "when",
    "where": "where nere~",
    "why": "why reason reasons neden niçin niye nedeni nedenleri sebebi",
    "how": "nasıl",
    "count": "kaç kaçı kaçıncı",
}

# Opposites: a text that has one of them does not paraphrase one that has the other.
OPPOSITES: Final[tuple[tuple[str, str], ...]] = (
    ("increase~ raise~ grow~ artır~ arttır~ yükselt~", "decrease~ reduce~ lower~ azalt~ düşür~"),
    ("before önce~", "after sonra~"),
    ("enable~ activat~ etkinleştir~", "disable~ deactivat~ devre~"),
    ("open~ aç açar~ açıl~ açab~ açtı~", "close~ closing kapa~ kapat~"),
    ("best iyi iyisi", "worst kötü~"),
    ("most more çok~ fazla~", "least fewer less az azı azami~"),
    ("max~ highest yüksek~ üst", "min~ lowest düşük~ alt asgari~"),
    ("cheap~ ucuz~", "expensive pahalı~"),
    ("big~ large~ büyük~", "small~ küçük~"),
    ("first ilk birinci", "last son sonuncu final"),
    ("start~ begin~ başla~", "stop~ end ends ended finish~ dur durdur~ bit bitir~"),
    ("import~ içe", "export~ dışa"),
    ("add~ ekle~", "remov~ delet~ çıkar~ sil siler~ sili~ silme~"),
    ("advantage~ benefit~ pros avantaj~", "disadvantage~ drawback~ cons dezavantaj~"),
    ("encrypt~ şifrele~", "decrypt~ çöz~"),
    ("internal~ inside iç içeri~", "external~ outside dış dışarı~"),
    ("buy~ purchas~ satın", "sell~ sold satan satar~ satı~ satış~"),
    ("allow~ permit~ izinli", "forbid~ prohibit~ ban banned yasak~"),
    ("login enter~ giriş~", "logout exit~ leav~ çıkış~"),
    ("accept~ approv~ onay~ kabul", "reject~ refus~ den~ ret reddet~ reddi~"),
    ("above over üstünde", "below under altında"),
    ("always her", "never asla"),
    ("early earlier erken~", "late later geç"),
    ("up yukarı", "down aşağı"),
    ("left sol~", "right sağ~"),
    ("old older eski~", "new newer yeni~"),
    ("public açık", "private gizli~ özel"),
    ("lock~ kilitle~", "unlock~ kilidi~"),
    ("short~ kısa~", "long longer longest uzun~"),
    ("upload~ yükle~", "download~ indir indiri~ indirme~ indirir~"),
    ("win~ won kazan~", "lose~ lost kaybet~"),
    ("income revenue gelir gelirler~ geliri~", "expense~ gider gider~"),
    ("send~ sent gönder~", "receiv~ al alır~ alın~"),
    ("true doğru~", "false yanlış~"),
    ("with", "without"),
)

# Direction is a word in English and a suffix of the name in Turkish.
FROM: Final = "from den dan ten tan nden ndan"
FUTURE: Final = "will tomorrow yarın gelecek"
PAST: Final = "did was were had"
BY: Final = "by tarafından"
MUST: Final = "must need needs required obliged mandatory zorunlu zorunda gerek~ lazım şart mecbur~"
PRICE: Final = "price prices cost costs"

DENIALS: Final = (
    "not no never none nobody nothing nowhere neither nor without cannot except unless excluding "
    "değil değildir yok yoktur hiç hiçbir hiçbiri asla sakın hariç dışında"
)

# Measures of time, money, size; a group is one meaning.
MEASURES: Final[tuple[str, ...]] = (
    "second seconds saniye~",
    "minute minutes dakika~",
    "hour hours hourly saat saatte saatlik",
    "day days daily gün günde günlük günü",
    "week weeks weekly hafta haftada haftalık",
    "month months monthly ay ayda aylık",
    "year years yearly yıl yılda yıllık sene~",
    "gram grams gr",
    "kilogram~ kilo kilos kg",
    "pound pounds lb",
    "ounce ounces",
    "ton tons tonne~",
    "millimet~ mm",
    "centimet~ santimet~ cm",
    "met metre~ meter meters",
    "kilomet~ km",
    "mile miles mil",
    "inch inches inç",
    "litre~ liter~ lt",
    "euro euros avro eur €",
    "dollar dollars dolar~ usd $",
    "lira~ try tl ₺",
    "percent yüzde %",
    "celsius",
    "fahrenheit",
    "kb kilobyte~",
    "mb megabyte~",
    "gb gigabyte~",
    "tb terabyte~",
    "monday pazartesi~",
    "tuesday salı~",
    "wednesday çarşamba~",
    "thursday perşembe~",
    "friday cuma",
    "saturday cumartesi~",
    "sunday pazar",
    "january ocak~",
    "february şubat~",
    "march mart",
    "april nisan~",
    "may mayıs~",
    "june haziran~",
    "july temmuz~",
    "august ağustos~",
    "september eylül~",
    "october ekim",
    "november kasım~",
    "december aralık",
    "today bugün~",
    "yesterday dün dünkü",
    "tomorrow yarın~",
)

NUMBERS: Final[Mapping[str, str]] = {
    word: number
    for number, words in {
        "0": ("zero", "sıfır"),
        "1": ("one", "bir"),
        "2": ("two", "iki"),
        "3": ("three", "üç"),
        "4": ("four", "dört"),
        "5": ("five", "beş"),
        "6": ("six", "altı"),
        "7": ("seven", "yedi"),
        "8": ("eight", "sekiz"),
        "9": ("nine", "dokuz"),
        "10": ("ten", "on"),
        "11": ("eleven",),
        "12": ("twelve",),
        "20": ("twenty", "yirmi"),
        "30": ("thirty", "otuz"),
        "40": ("forty", "kırk"),
        "50": ("fifty", "elli"),
        "60": ("sixty", "altmış"),
        "70": ("seventy", "yetmiş"),
        "80": ("eighty", "seksen"),
        "90": ("ninety", "doksan"),
        "100": ("hundred", "yüz"),
    }.items()
    for word in words
}
# "one" and "bir" are articles more often than numbers, "on" is an English preposition.
NOT_NUMBERS: Final = frozenset({"one", "bir", "on"})

# Synonyms; the first stands for them.
ALIKE: Final[tuple[str, ...]] = (
    "delete remove erase",
    "change update modify edit",
    "login log sign",
    "buy purchase",
    "make produce create",
    "finish complete completed",
    "often frequently",
    "get receive obtain",
    "find locate",
    "start begin",
    "stop halt",
    "show display",
    "help support assist",
    "salary earn wage",
    "big large",
    "enable activate turn",
    "değiştir~ güncelle~",
    "durum hal",
    "yap yapıl~ yapar~ yapab~ yaptı~",
    "aç açar~ açıl~ açab~ açtı~ etkinleştir~",
    "kapa~ kapat~",
    "sil siler~ sili~ silme~ silin~",
    "çalış çalışı~ çalışır",
    "kur kurar~ kuru~ kurma~",
    "demek anlam~ gelir",
)

# Filler words.
EMPTY: Final = (
    stop_words.FUNCTION_TR
    | stop_words.FUNCTION_EN
    | stop_words.ASKING_TR
    | stop_words.ASKING_EN
    | stop_words.listed(
        # English
        "am done shall i we us me i'm it's there's what's so if able possible ways explain kindly "
        # Turkish
        "mıyım miyim muyum müyüm musun müsün neler nelerdir neleri neye hangisi hangileri kimdir "
        "nelerdi neydi kadardı bulunuyor mümkün mümkündür işe yarar karşı edebilirim"
    )
)
