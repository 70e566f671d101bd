"""The brands of the sample shop, put together from syllables.

A name that belongs to somebody does so by chance.
"""

from typing import Final

from zhichun.data.sample_shop.facets import Wording

# A brand is one of each, with its sound in Japanese.
_FIRST: Final = (
    "Vel:ヴェル Kas:カス Bron:ブロン On:オン Mir:ミル Tal:タル Zen:ゼン Lor:ロル Fen:フェン Gal:ガル "
    "Hal:ハル Jas:ジャス Pel:ペル Quin:クイン Ros:ロス Sil:シル Tor:トル Ul:ウル Wen:ウェン Yor:ヨル "
    "Ard:アルド Bel:ベル Cor:コル Dal:ダル El:エル Fal:ファル Gor:ゴル Hem:ヘム Is:イス Jun:ジュン "
    "Kel:ケル Lum:ルム Mon:モン Nor:ノル Or:オル Pra:プラ Rin:リン Stel:ステル"
)
_MIDDLE: Final = "ta:タ do:ド vi:ヴィ ra:ラ mo:モ ne:ネ lo:ロ si:シ ku:ク pe:ペ ba:バ ri:リ zu:ズ fe:フェ"
_LAST: Final = (
    "ra:ラ no:ノ va:ヴァ ro:ロ mi:ミ x:ックス n:ン co:コ ti:ティ lia:リア dex:デックス quo:クオ sta:スタ vek:ヴェク"
)
# No divisor in common with the number of names: counting in such strides meets each once, and scatters them.
_STRIDE: Final = 2_969


def _make_up() -> tuple[Wording, ...]:
    first, middle, last = ([part.split(":") for part in line.split()] for line in (_FIRST, _MIDDLE, _LAST))
    total = len(first) * len(middle) * len(last)
    names = []
    for step in range(total):
        place, a = divmod(step * _STRIDE % total, len(first))
        c, b = divmod(place, len(middle))
        latin, kana = ("".join(part[script] for part in (first[a], middle[b], last[c])) for script in (0, 1))
        # In Japan every other brand writes itself in katakana.
        names.append(Wording(latin, latin, kana if step % 2 else latin))
    return tuple(names)


BRANDS: Final = _make_up()
