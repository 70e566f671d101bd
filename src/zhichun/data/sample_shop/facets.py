"""What the products of the sample shop vary in: materials, features, sizes, audiences and colours."""

from typing import Final, NamedTuple

FACETS: Final = ("material", "feature", "size", "audience")


class Wording(NamedTuple):
    """One thing as written in each locale."""

    us: str
    es: str
    jp: str


# facet -> list -> "us|es|jp" separated by ";", the most common value first.
_LISTS: Final = {
    "material": {
        "rigid": "wood|de madera|木製; aluminum|de aluminio|アルミ; plastic|de plástico|プラスチック",
        "fabric": "cotton|de algodón|コットン; polyester|de poliéster|ポリエステル; wool|de lana|ウール",
        "filling": "down|de plumas|ダウン; microfiber|de microfibra|マイクロファイバー; fleece|de forro polar|フリース",
        "case": "leather|de cuero|レザー; silicone|de silicona|シリコン; nylon|de nailon|ナイロン",
        "seat": "mesh|de malla|メッシュ; faux leather|de polipiel|合成皮革; velvet|de terciopelo|ベルベット",
        "cookware": "cast iron|de hierro fundido|鉄製; stainless steel|de acero inoxidable|ステンレス; "
        "ceramic|de cerámica|セラミック",
        "cover": "glass|de vidrio|ガラス; stainless steel|de acero inoxidable|ステンレス; porcelain|de porcelana|磁器",
        "bottle": "stainless steel|de acero inoxidable|ステンレス; glass|de vidrio|ガラス; tritan|de tritán|トライタン",
        "mat": "cork|de corcho|コルク; natural rubber|de caucho natural|天然ゴム; foam|de espuma|フォーム",
    },
    "feature": {
        "audio": "wireless|sin cable|ワイヤレス; noise cancelling|con cancelación de ruido|ノイズキャンセリング; "
        "with microphone|con micrófono|マイク付き; waterproof|a prueba de agua|防水",
        "holder": "adjustable|ajustable|調整可能; foldable|plegable|折りたたみ; with storage|con almacenaje|収納付き",
        "shoe": "waterproof|con membrana impermeable|防水; wide fit|de horma ancha|幅広; "
        "lightweight|de peso ligero|軽量; slip resistant|con suela antideslizante|滑りにくい",
        "cookware": "nonstick|con antiadherente|焦げ付かない; induction|para inducción|IH対応; "
        "with detachable handle|con mango desmontable|取っ手が取れる",
        "outdoor": "waterproof|a prueba de agua|防水; ultralight|ultraligero|超軽量; windproof|cortaviento|防風; "
        "quick setup|de montaje rápido|ワンタッチ",
        "lamp": "dimmable|con regulador|調光; with USB port|con puerto USB|USBポート付き; "
        "with remote|con mando a distancia|リモコン付き",
        "bulb": "dimmable|regulable|調光対応; warm light|de luz cálida|電球色; daylight|de luz fría|昼光色",
        "phone": "dual SIM|con doble SIM|デュアルSIM; 5G|con 5G|5G対応; "
        "with big buttons|con teclas grandes|大きいボタン",
        "protection": "shockproof|antigolpes|耐衝撃; magnetic|con imán|マグネット; "
        "with card holder|con tarjetero|カード収納",
        "watch": "GPS|con GPS|GPS搭載; with heart rate monitor|con pulsómetro|心拍計; "
        "with sleep tracking|con control de sueño|睡眠計測",
        "computer": "touchscreen|con pantalla táctil|タッチパネル; lightweight|de peso ligero|軽量; "
        "with backlit keyboard|con teclado iluminado|バックライトキーボード",
        "chair": "ergonomic|con diseño ergonómico|人間工学; with headrest|con reposacabezas|ヘッドレスト付き; "
        "reclining|con respaldo reclinable|リクライニング",
        "coffee": "with milk frother|con espumador|ミルクフォーマー付き; with grinder|con molinillo|ミル付き; "
        "programmable|con temporizador|タイマー付き",
        "bottle": "insulated|con aislamiento|保温保冷; leakproof|antigoteo|漏れない; "
        "with straw|con pajita|ストロー付き",
        "mat": "non slip|antideslizante|滑り止め; extra thick|extra grueso|極厚; foldable|plegable|折りたたみ",
        "travel": "lightweight|de peso ligero|軽量; expandable|extensible|拡張; waterproof|a prueba de agua|防水",
        "bedding": "summer|de verano|夏用; winter|de invierno|冬用; hypoallergenic|antialérgico|抗アレルギー",
    },
    "size": {
        "shoe": "size 9|talla 42|27cm; size 8|talla 41|26cm; size 10|talla 43|28cm; size 7|talla 39|25cm",
        "pack": "2 pack|pack de 2|2個セット; 4 pack|pack de 4|4個セット; 6 pack|pack de 6|6個セット",
        "diameter": "28 cm|28 cm|28cm; 24 cm|24 cm|24cm; 20 cm|20 cm|20cm",
        "persons": "2 person|para 2 personas|2人用; 4 person|para 4 personas|4人用; 6 person|para 6 personas|6人用",
        "storage": "128GB|128GB|128GB; 256GB|256GB|256GB; 64GB|64GB|64GB",
        "width": "22mm|22mm|22mm; 20mm|20mm|20mm; 18mm|18mm|18mm",
        "screen": "15.6 inch|15,6 pulgadas|15.6インチ; 14 inch|14 pulgadas|14インチ; 11 inch|11 pulgadas|11インチ",
        "volume": "1 liter|1 litro|1リットル; 500 ml|500 ml|500ml; 750 ml|750 ml|750ml",
        "trip": "medium|tamaño mediano|Mサイズ; large|tamaño grande|Lサイズ; small|tamaño pequeño|Sサイズ",
        "bed": "queen size|cama 150|ダブル; twin size|cama 90|シングル; king size|cama 180|キング",
    },
    "audience": {
        "people": "for women|para mujer|レディース; for men|para hombre|メンズ; for kids|para niños|キッズ",
    },
}


def _read(line: str) -> tuple[Wording, ...]:
    return tuple(Wording(*value.strip().split("|")) for value in line.split(";"))


_VALUES: Final = {facet: {name: _read(line) for name, line in lists.items()} for facet, lists in _LISTS.items()}

# All values of a facet, list after list; products and queries hold a value as its place here.
WORDS: Final = {facet: tuple(value for values in _VALUES[facet].values() for value in values) for facet in FACETS}


def value_range(facet: str, name: str) -> tuple[int, int]:
    """Find a list's first place in :data:`WORDS`, and its length."""
    names = list(_VALUES[facet])
    start = sum(len(_VALUES[facet][before]) for before in names[: names.index(name)])
    return start, len(_VALUES[facet][name])


class Color(NamedTuple):
    """A colour as shops write it, and as Japanese customers say it."""

    us: str
    es: str
    jp: str
    jp_spoken: str


COLORS: Final = (
    Color("black", "negro", "ブラック", "黒"),
    Color("white", "blanco", "ホワイト", "白"),
    Color("blue", "azul", "ブルー", "青"),
    Color("gray", "gris", "グレー", "灰色"),
    Color("red", "rojo", "レッド", "赤"),
    Color("green", "verde", "グリーン", "緑"),
    Color("pink", "rosa", "ピンク", "ピンク"),
    Color("brown", "marrón", "ブラウン", "茶色"),
    Color("yellow", "amarillo", "イエロー", "黄色"),
    Color("purple", "morado", "パープル", "紫"),
    Color("orange", "naranja", "オレンジ", "オレンジ色"),
    Color("beige", "beige", "ベージュ", "ベージュ"),
    Color("turquoise", "turquesa", "ターコイズ", "ターコイズ"),
    Color("burgundy", "burdeos", "ワインレッド", "えんじ色"),
)

# How the colour field and the title name them; a plain name is the most common.
SHADES: Final = {
    "us": ("{}", "{}", "{}", "Matte {}", "Deep {}", "{} (Solid)"),
    "es": ("{}", "{}", "{}", "{} mate", "{} intenso", "{} liso"),
    "jp": ("{}", "{}", "{}", "マット{}", "ディープ{}", "{}(無地)"),
}
