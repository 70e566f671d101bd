"""Sentences for the product texts of the sample shop, in each locale; ``{}`` stands for a value or a type."""

from typing import Final

# Said of one attribute, in the bullet points: two ways in short texts, two in long ones.
ABOUT: Final = {
    "us": {
        "material": (
            "Material: {}",
            "Made of {}",
            "Durable material: {} of high quality that keeps its shape and looks good for years.",
            "Quality you can feel: carefully finished {}, tested for everyday use and easy to clean.",
        ),
        "feature": (
            "Feature: {}",
            "Special: {}",
            "What makes it special: {}, so that it fits into your day at home as well as on the go.",
            "Designed with customers: {}, improved again and again until every detail was right.",
        ),
        "size": (
            "Offered in {}",
            "Your choice: {}",
            "Offered in {} - please compare with your own measurements before ordering, see the table.",
            "The right choice for you: {}, other versions are available in our shop as well.",
        ),
        "audience": (
            "Designed {}",
            "Made {}",
            "Designed {}: comfortable, practical and a welcome gift for birthdays and holidays.",
            "Made {}, with attention to fit and comfort from the first day on.",
        ),
    },
    "es": {
        "material": (
            "Hecho {}",
            "Fabricado {}",
            "Fabricado {} de alta calidad, mantiene la forma y luce bien durante muchos años.",
            "Calidad que se nota: hecho {}, probado para el uso diario y muy fácil de limpiar.",
        ),
        "feature": (
            "Característica: {}",
            "Especial: {}",
            "Lo que lo hace especial: {}, para que te acompañe tanto en casa como fuera de ella.",
            "Diseñado con nuestros clientes: {}, mejorado una y otra vez hasta cuidar cada detalle.",
        ),
        "size": (
            "Formato: {}",
            "Medida: {}",
            "Formato: {}. Por favor, compara con tus medidas antes de comprar y consulta la tabla.",
            "La medida adecuada: {}, disponible también en otras versiones, elige la que mejor te vaya.",
        ),
        "audience": (
            "Diseñado {}",
            "Pensado {}",
            "Diseñado {}: cómodo, práctico y un buen regalo para cumpleaños y fiestas.",
            "Pensado {}, con atención al ajuste y a la comodidad desde el primer día.",
        ),
    },
    "jp": {
        "material": (
            "素材:{}",
            "材質:{}",
            "【素材】{}を使用し、丈夫で長くお使いいただけます。",
            "【品質】仕上げにこだわった{}で、お手入れも簡単です。",
        ),
        "feature": (
            "特徴:{}",
            "機能:{}",
            "【特徴】{}なので、ご自宅でも外出先でも便利にお使いいただけます。",
            "【機能】お客様の声から生まれた{}タイプです。",
        ),
        "size": (
            "サイズ:{}",
            "規格:{}",
            "【サイズ】{}。ご購入前にサイズをご確認ください。",
            "【規格】{}。他のサイズもございます。",
        ),
        "audience": (
            "対象:{}",
            "{}用",
            "【対象】{}向け。プレゼントにも喜ばれます。",
            "【{}】着け心地と使いやすさを大切にしました。",
        ),
    },
}
WAYS: Final = 2

# Said of the type, after the brand, at the beginning of a description.
INTRODUCTIONS: Final = {
    "us": (
        "{}: a good choice for every day.",
        "{}: simple, solid and ready to use.",
        "{}: made for people who want something reliable.",
        "{}: our new edition with many improvements.",
    ),
    "es": (
        "{}: una buena elección para cada día.",
        "{}: sencillez y calidad listas para usar.",
        "{}: para quienes buscan algo fiable.",
        "{}: nuestra nueva edición con muchas mejoras.",
    ),
    "jp": (
        "{}。毎日の暮らしにぴったりです。",
        "{}。シンプルで使いやすい定番モデル。",
        "{}。安心してお使いいただけます。",
        "{}。さらに便利になった新モデル。",
    ),
}

# Said of anything, in short texts.
REMARKS: Final = {
    "us": (
        "Easy to use and easy to clean.",
        "A great gift for family and friends.",
        "Two year warranty included.",
        "Ships in plain packaging.",
        "Questions? Write to us.",
    ),
    "es": (
        "Fácil de usar y de limpiar.",
        "Un gran regalo para familia y amigos.",
        "Incluye dos años de garantía.",
        "Se envía en embalaje neutro.",
        "¿Preguntas? Escríbenos.",
    ),
    "jp": (
        "お手入れ簡単です。",
        "ギフトにも最適。",
        "2年保証付き。",
        "簡易包装でお届けします。",
        "お気軽にご連絡ください。",
    ),
}

# Said of anything, in long texts: any beginning goes with any end. There are eight of each.
BEGINNINGS: Final = {
    "us": (
        "Thanks to careful workmanship,",
        "Whether at home or on the go,",
        "Even after many hours of use,",
        "Developed by a small team of experts,",
        "As many customers tell us,",
        "Tested in our own laboratory,",
        "Without any complicated setup,",
        "In every season of the year,",
    ),
    "es": (
        "Gracias a una fabricación cuidada,",
        "Tanto en casa como de viaje,",
        "Incluso después de muchas horas de uso,",
        "Desarrollado por un pequeño equipo de expertos,",
        "Como nos cuentan muchos clientes,",
        "Probado en nuestro propio laboratorio,",
        "Sin ninguna instalación complicada,",
        "En cualquier época del año,",
    ),
    "jp": (
        "丁寧な仕上げで、",
        "ご自宅でも外出先でも、",
        "長時間の使用でも、",
        "専門チームの設計により、",
        "多くのお客様の声を受けて、",
        "自社でのテストを重ね、",
        "面倒な設定なしで、",
        "一年を通して、",
    ),
}
ENDS: Final = {
    "us": (
        "it stays in good shape and is easy to clean with a damp cloth.",
        "it takes little space and is stored away in a few seconds.",
        "it makes a welcome gift for family, friends and colleagues.",
        "it feels solid in the hand and looks like new for a long time.",
        "it does what it promises and asks for very little care.",
        "it arrives in recyclable packaging with a printed quick guide.",
        "it comes with a two year warranty and friendly customer service.",
        "it fits into small rooms, bags and cars without any effort.",
    ),
    "es": (
        "conserva su forma y se limpia fácilmente con un paño húmedo.",
        "ocupa poco espacio y se guarda en unos pocos segundos.",
        "es un buen regalo para la familia, los amigos y los compañeros.",
        "resulta sólido en la mano y parece nuevo durante mucho tiempo.",
        "cumple lo que promete y necesita muy pocos cuidados.",
        "llega en un embalaje reciclable con una guía rápida impresa.",
        "incluye dos años de garantía y un servicio de atención amable.",
        "cabe en habitaciones, bolsas y coches pequeños sin esfuerzo.",
    ),
    "jp": (
        "形が崩れにくく、お手入れも布で拭くだけです。",
        "場所を取らず、すぐに収納できます。",
        "ご家族やご友人への贈り物にも喜ばれます。",
        "手になじみ、長くきれいにお使いいただけます。",
        "期待どおりの性能で、手間がかかりません。",
        "環境に優しい包装と説明書付きでお届けします。",
        "二年間の保証と丁寧なサポートが付いています。",
        "狭い部屋やバッグ、車の中でも快適に使えます。",
    ),
}

# Ends of titles.
OCCASIONS: Final = {
    "us": ("for Home and Office", "Perfect Gift Idea", "Indoor and Outdoor Use", "New Edition", "Upgraded Version"),
    "es": ("para Casa y Oficina", "Idea de Regalo", "Interior y Exterior", "Nueva Edición", "Versión Mejorada"),
    "jp": ("自宅 オフィス", "ギフト プレゼント", "屋内 屋外 兼用", "最新版", "改良モデル"),
}

# Before them, in long titles.
PROMISES: Final = {
    "us": ("Easy to Clean and Long Lasting", "High Quality and Great Comfort", "Simple and Modern Design"),
    "es": ("Fácil de Limpiar y Duradero", "Alta Calidad y Gran Comodidad", "Diseño Sencillo y Moderno"),
    "jp": ("お手入れ簡単 長持ち", "高品質 快適", "シンプル おしゃれ"),
}

# How a description is marked up: before it, after its first sentence, between the others, after it.
MARKUP: Final = (
    ("", " ", " ", ""),
    ("<p>", "</p><p>", " ", "</p>"),
    ("", "<br>", "<br>", ""),
    ("<b>", "</b><br />", " ", ""),
    ("<p><b>", "</b>&nbsp;", " &amp; ", "</p>"),
)
# Six in ten are plain.
MARKUP_SHARES: Final = (0.60, 0.14, 0.12, 0.08, 0.06)


def remarks(locale: str, length: str) -> list[str]:
    """List what can be said of anything.

    Parameters
    ----------
    locale
        One of :data:`zhichun.core.schema.LOCALES`.
    length
        ``short`` or ``esci``.

    Returns
    -------
    list of str
        Long ones are ordered so that neighbours share neither their beginning nor their end.
    """
    if length == "short":
        return list(REMARKS[locale])
    beginnings, ends = BEGINNINGS[locale], ENDS[locale]
    space = "" if locale == "jp" else " "
    return [
        f"{beginnings[place % len(beginnings)]}{space}{ends[(place + place // len(beginnings)) % len(ends)]}"
        for place in range(len(beginnings) * len(ends))
    ]
