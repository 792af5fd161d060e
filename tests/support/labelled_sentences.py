"""Sentences with the mood and the topic that a person gave them, written after the rules were."""

TURKISH = {
    1: """\
Ekibinize teşekkür ederim, sorunumu beş dakikada çözdünüz.
Yemekler enfesti, personel de çok güler yüzlüydü.
Beklediğimden daha kaliteli çıktı.
Arayüzü kullanmak çok kolay, bayıldım.
Bugüne kadar aldığım en iyi ayakkabı.
Hiç hata vermedi, gayet hızlı.
Emeğinize sağlık, mükemmel bir çalışma olmuş.
Fiyatı biraz yüksek ama her kuruşuna değdi, memnunum.
İlk kez bu kadar anlaşılır bir cevap aldım.
Kızım hediyesini çok sevdi.
Endişelerim boşunaymış, her şey yolunda gitti.
tavsiye ederim cok begendik""",
    -1: """\
İki haftadır bekliyorum, hâlâ ses yok.
Paketin içinden kırık ürün çıktı.
Müşteri temsilcisi çok kabaydı.
Söz verdiğiniz özelliklerin hiçbiri yok, kandırıldım.
Hesabıma giremiyorum, delireceğim.
Bu sürüm öncekinden beter.
Paramı boşa harcadım, pişmanım.
Oda temiz değildi, klima da çalışmıyordu.
Üç kez aradım, kimse dönmedi, bıktım artık.
Açıklamalar yetersiz ve karışık.
Bir daha asla almam.
hizmet cok yavas hic memnun degilim""",
    0: """\
Kargom hangi şubede?
Sözleşmenin süresi iki yıl.
Yarın saat onda arayabilirsiniz.
Kullanıcı adımı e-posta adresimle değiştirmek istiyorum.
Ödemeyi havale ile yaptım.
Tablonun ikinci sütununda tarihler var.
Bursa şubeniz cumartesi açık mı?
Bu metni İngilizceye çevir.
Faturanın bir kopyasını gönderir misiniz?
Toplantıya altı kişi katılacak.
Python'da listeyi nasıl sıralarım?
Cihazın seri numarası kutunun altında yazıyor.""",
}
ENGLISH = {
    1: """\
Thanks a lot, you fixed it in five minutes.
The food was delicious and the staff were friendly.
It turned out better than I expected.
The interface is so easy to use, love it.
Best pair of shoes I have ever bought.
Not a single error so far, and it is fast.
Excellent work, congratulations to the team.
A bit pricey, but worth every penny, I am happy.
Finally an answer I can understand, great.
My daughter loves her present.
My worries were unfounded, everything went well.
would recommend, we really enjoyed it""",
    -1: """\
I have been waiting for two weeks and still nothing.
The item arrived broken.
The agent was very rude.
None of the promised features exist, I feel cheated.
I can't log in and it is driving me crazy.
This version is worse than the last one.
A waste of money, I regret buying it.
The room was not clean and the heating failed.
I called three times, nobody called back, I am fed up.
The instructions are confusing and incomplete.
I will never buy this again.
terrible service, not happy at all""",
    0: """\
Which branch is my parcel at?
The contract runs for two years.
You can call tomorrow at ten.
I want to change my user name to my e-mail address.
I paid by bank transfer.
The second column of the table holds dates.
Is the Bursa branch open on Saturday?
Translate this text into Turkish.
Could you send a copy of the invoice?
Six people will attend the meeting.
How do I sort a list in Python?
The serial number is printed under the box.""",
}
TOPICS = {
    "billing": [
        "Neden kredi kartımdan iki defa para çekildi?",
        "The amount on last month's bill is wrong.",
    ],
    "delivery": [
        "Paketim üç gündür dağıtımda görünüyor.",
        "My package has been in transit for a week.",
    ],
    "returns": [
        "Aldığım kazak küçük geldi, geri göndermek istiyorum.",
        "I'd like my money back for the broken kettle.",
    ],
    "account": [
        "Parolamı sıfırlama bağlantısı gelmiyor.",
        "The password reset link never arrives.",
    ],
    "technical": ["Program kurulurken donuyor.", "The screen stays black after the update."],
    "pricing": ["Yıllık üyelik ne kadar?", "Can I downgrade to the free plan?"],
    "legal": ["İhbar süresi sözleşmede kaç gün yazıyor?", "Is this clause enforceable in court?"],
    "privacy": [
        "Kişisel verilerimin silinmesini talep ediyorum.",
        "Who has access to my personal data?",
    ],
    "people": ["Doğum izni kaç hafta?", "How do I request parental leave?"],
    "programming": [
        "Bu döngü neden sonsuza kadar çalışıyor, kodum nerede hatalı?",
        "Why does my JavaScript promise never resolve?",
    ],
    "writing": [
        "Bu metni daha resmi bir dille yazar mısın?",
        "Make this cover letter shorter and more polite.",
    ],
    "travel": [
        "İzmir'den Paris'e en ucuz uçak bileti hangi gün?",
        "Is breakfast included at the hotel in Lisbon?",
    ],
    "health": [
        "Boğazım ağrıyor, hangi doktora gitmeliyim?",
        "Can I take ibuprofen with antibiotics?",
    ],
    "education": [
        "Üniversite sınavına nasıl çalışmalıyım?",
        "Explain the French Revolution for my exam.",
    ],
    "finance": ["Konut kredisi faizleri düşer mi?", "Which fund has the best return this year?"],
    "food": ["Pilav neden lapa oluyor?", "What can I cook with chicken and rice?"],
    "smalltalk": ["Selam, nasıl gidiyor?", "Thanks, bye!"],
    "other": [
        "Kırmızı bisiklet köprünün altında duruyor.",
        "The mountains are older than the river.",
        "asdf qwer zxcv",
        "42",
    ],
}
