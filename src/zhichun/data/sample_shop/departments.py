"""The product types of the sample shop: what they are called, what goes with what, what they can be asked for.

A department holds four types, in this order: two main products that can stand in for each other, and two accessories
that can stand in for each other and go with either main product. All relations of the shop follow from that order
(see :mod:`.rule`), so a type's number says everything: ``number // 4`` is its department, ``number // 2`` its family.
Neighbouring departments are alike, which makes the harder of the irrelevant candidates.
"""

from typing import Final, NamedTuple

TYPES_PER_DEPARTMENT: Final = 4
TYPES_PER_FAMILY: Final = 2


class ProductType(NamedTuple):
    """Names of a type in each locale; the first is the usual one, the others are synonyms.

    ``gender`` is that of the Spanish names: ``m`` or ``f``, then ``s`` (singular) or ``p`` (plural).
    """

    us: tuple[str, ...]
    es: tuple[str, ...]
    jp: tuple[str, ...]
    gender: str


class Department(NamedTuple):
    """Four types, and the lists of values that its main products and its accessories vary in, by facet."""

    types: tuple[ProductType, ProductType, ProductType, ProductType]
    main_facets: dict[str, str]
    accessory_facets: dict[str, str]


def _type(us: str, es: str, jp: str, gender: str) -> ProductType:
    """Read names that are separated by ``|``."""
    return ProductType(tuple(us.split("|")), tuple(es.split("|")), tuple(jp.split("|")), gender)


DEPARTMENTS: Final = (
    Department(
        (
            _type("headphones|headset|over ear headphones", "auriculares de diadema|cascos",
                  "ヘッドホン|ヘッドフォン", "mp"),
            _type("earbuds|earphones|ear buds", "auriculares de botón|auriculares in ear",
                  "イヤホン|イヤフォン", "mp"),
            _type("headphone stand|headset holder", "soporte para auriculares|soporte cascos",
                  "ヘッドホンスタンド", "ms"),
            _type("earphone case|earbud pouch", "estuche para auriculares|estuche cascos", "イヤホンケース", "ms"),
        ),
        {"feature": "audio", "audience": "people"},
        {"material": "rigid", "feature": "holder"},
    ),
    Department(
        (
            _type("running shoes|jogging shoes|running sneakers", "zapatillas running|zapatillas de correr",
                  "ランニングシューズ|ジョギングシューズ", "fp"),
            _type("hiking shoes|trekking shoes", "zapatillas de senderismo|zapatillas trekking",
                  "トレッキングシューズ|登山靴", "fp"),
            _type("sports socks|athletic socks", "calcetines deportivos|calcetines deporte",
                  "スポーツソックス|靴下", "mp"),
            _type("shoe insoles|insoles", "plantillas para zapatos|plantillas", "インソール|中敷き", "fp"),
        ),
        {"feature": "shoe", "audience": "people", "size": "shoe"},
        {"material": "fabric", "audience": "people", "size": "pack"},
    ),
    Department(
        (
            _type("frying pan|skillet", "sartén|sartén de cocina", "フライパン", "fs"),
            _type("wok|stir fry pan", "wok|sartén wok", "中華鍋|炒め鍋", "ms"),
            _type("pan lid|frying pan cover", "tapa de sartén|tapadera", "フライパン蓋|鍋蓋", "fs"),
            _type("splatter guard|grease screen", "protector antisalpicaduras|antisalpicaduras",
                  "油はねガード|油はね防止ネット", "ms"),
        ),
        {"material": "cookware", "feature": "cookware", "size": "diameter"},
        {"material": "cover", "size": "diameter"},
    ),
    Department(
        (
            _type("tent|camping tent", "tienda de campaña|tienda camping", "テント|キャンプテント", "fs"),
            _type("sun shelter|beach tent", "carpa de playa|refugio solar", "サンシェード|日よけテント", "fs"),
            _type("sleeping bag", "saco de dormir|saco dormir", "寝袋|シュラフ", "ms"),
            _type("camping blanket|outdoor blanket", "manta de camping|manta exterior",
                  "アウトドアブランケット|キャンプ毛布", "fs"),
        ),
        {"feature": "outdoor", "size": "persons"},
        {"feature": "outdoor", "material": "filling", "audience": "people"},
    ),
    Department(
        (
            _type("desk lamp|table lamp", "lámpara de escritorio|flexo", "デスクライト|卓上ライト", "fs"),
            _type("floor lamp|standing lamp", "lámpara de pie|lámpara pie salón",
                  "フロアライト|スタンドライト", "fs"),
            _type("led bulb|light bulb", "bombilla led|bombilla", "LED電球|電球", "fs"),
            _type("spotlight bulb|reflector bulb", "foco led|bombilla foco", "スポット電球", "ms"),
        ),
        {"material": "rigid", "feature": "lamp"},
        {"feature": "bulb", "size": "pack"},
    ),
    Department(
        (
            _type("smartphone|mobile phone|cell phone", "smartphone|teléfono móvil|móvil libre",
                  "スマートフォン|スマホ", "ms"),
            _type("flip phone|folding phone", "móvil con tapa|teléfono con tapa", "折りたたみ携帯|ガラケー", "ms"),
            _type("phone case|phone cover", "funda móvil|carcasa móvil", "スマホケース|携帯ケース", "fs"),
            _type("phone pouch|phone sleeve", "bolsa para móvil|bolsita móvil", "スマホポーチ|携帯ポーチ", "fs"),
        ),
        {"feature": "phone", "size": "storage"},
        {"material": "case", "feature": "protection"},
    ),
    Department(
        (
            _type("smartwatch|smart watch", "reloj inteligente|smartwatch", "スマートウォッチ|腕時計 スマート", "ms"),
            _type("fitness tracker|activity band", "pulsera de actividad|pulsera deporte",
                  "活動量計|フィットネストラッカー", "fs"),
            _type("watch strap|watch band", "correa de reloj|correa reloj", "時計ベルト|時計バンド", "fs"),
            _type("watch bracelet|bracelet band", "brazalete para reloj|armis", "時計ブレスレット", "ms"),
        ),
        {"feature": "watch", "audience": "people"},
        {"material": "case", "size": "width"},
    ),
    Department(
        (
            _type("laptop|notebook computer", "portátil|ordenador portátil", "ノートパソコン|ノートPC", "ms"),
            _type("tablet|tablet computer", "tablet|tableta", "タブレット|タブレットPC", "fs"),
            _type("laptop sleeve|laptop cover", "funda portátil|funda para portátil",
                  "パソコンケース|PCケース", "fs"),
            _type("laptop bag|computer bag", "maletín portátil|bolso para portátil", "パソコンバッグ|PCバッグ", "ms"),
        ),
        {"feature": "computer", "size": "screen"},
        {"material": "case", "feature": "protection", "size": "screen"},
    ),
    Department(
        (
            _type("office chair|desk chair", "silla de oficina|silla escritorio", "オフィスチェア|事務椅子", "fs"),
            _type("gaming chair|gamer chair", "silla gaming|silla gamer", "ゲーミングチェア", "fs"),
            _type("seat cushion|chair cushion", "cojín de asiento|cojín para silla", "シートクッション|座布団", "ms"),
            _type("footrest|foot stool", "reposapiés|apoyapiés", "フットレスト|足置き", "ms"),
        ),
        {"material": "seat", "feature": "chair"},
        {"material": "seat", "feature": "holder"},
    ),
    Department(
        (
            _type("espresso machine|espresso maker", "cafetera espresso|cafetera exprés", "エスプレッソマシン", "fs"),
            _type("coffee maker|drip coffee machine", "cafetera de goteo|cafetera americana",
                  "コーヒーメーカー", "fs"),
            _type("coffee mug|coffee cup", "taza de café|taza", "マグカップ|コーヒーカップ", "fs"),
            _type("espresso cup|demitasse", "taza espresso|tacita de café",
                  "エスプレッソカップ|デミタスカップ", "fs"),
        ),
        {"feature": "coffee", "material": "rigid"},
        {"material": "cover", "size": "pack"},
    ),
    Department(
        (
            _type("water bottle|drinking bottle", "botella de agua|botella agua", "水筒|ウォーターボトル", "fs"),
            _type("thermos flask|vacuum flask", "termo|termo de viaje", "魔法瓶|保温ボトル", "ms"),
            _type("bottle brush|bottle cleaner", "cepillo para botellas|cepillo botellas",
                  "ボトルブラシ|水筒ブラシ", "ms"),
            _type("drying rack|bottle rack", "escurridor de botellas|escurridor",
                  "ボトルスタンド|水切りラック", "ms"),
        ),
        {"material": "bottle", "feature": "bottle", "size": "volume"},
        {"material": "rigid", "size": "pack"},
    ),
    Department(
        (
            _type("yoga mat|pilates mat", "esterilla yoga|esterilla de yoga", "ヨガマット|ピラティスマット", "fs"),
            _type("exercise mat|gym mat", "colchoneta gimnasia|colchoneta",
                  "トレーニングマット|エクササイズマット", "fs"),
            _type("yoga block|yoga brick", "bloque de yoga|ladrillo yoga", "ヨガブロック", "ms"),
            _type("yoga cushion|yoga bolster", "cojín de yoga|cojín meditación",
                  "ヨガクッション|ヨガボルスター", "ms"),
        ),
        {"material": "mat", "feature": "mat"},
        {"material": "mat", "size": "pack"},
    ),
    Department(
        (
            _type("suitcase|luggage|carry on luggage", "maleta|maleta de viaje", "スーツケース|キャリーケース", "fs"),
            _type("duffel bag|travel bag", "bolsa de viaje|bolso viaje", "ボストンバッグ|旅行バッグ", "fs"),
            _type("packing cubes|luggage organizers", "organizadores de maleta|organizador maleta",
                  "トラベルポーチ|圧縮バッグ", "mp"),
            _type("toiletry bag|wash bag", "neceser|neceser de viaje", "洗面ポーチ|トイレタリーバッグ", "ms"),
        ),
        {"material": "case", "feature": "travel", "size": "trip"},
        {"material": "fabric", "feature": "travel", "audience": "people"},
    ),
    Department(
        (
            _type("duvet|comforter", "edredón|nórdico", "掛け布団|羽毛布団", "ms"),
            _type("weighted blanket|heavy blanket", "manta pesada|manta con peso", "加重ブランケット|重い毛布", "fs"),
            _type("duvet cover|comforter cover", "funda nórdica|funda de edredón", "掛け布団カバー|布団カバー", "fs"),
            _type("bed sheets|sheet set", "juego de sábanas|sábanas", "ベッドシーツ|シーツ", "fp"),
        ),
        {"material": "filling", "feature": "bedding", "size": "bed"},
        {"material": "fabric", "feature": "bedding", "size": "bed"},
    ),
)  # fmt: skip

TYPES: Final = tuple(kind for department in DEPARTMENTS for kind in department.types)


def facet_list(kind: int, facet: str) -> str | None:
    """Name the list of values that a type varies in.

    Parameters
    ----------
    kind
        Number of the type, an index of :data:`TYPES`.
    facet
        One of ``material``, ``feature``, ``size`` and ``audience``.

    Returns
    -------
    str or None
        The list's name in :mod:`.facets`; ``None`` where such products do not have the facet.
    """
    department = DEPARTMENTS[kind // TYPES_PER_DEPARTMENT]
    is_main = kind % TYPES_PER_DEPARTMENT < TYPES_PER_FAMILY
    return (department.main_facets if is_main else department.accessory_facets).get(facet)
