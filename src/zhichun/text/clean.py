"""Plain text from catalogue text: without markup, in one Unicode form, on one line.

Sellers' texts hold HTML, often escaped once or twice (``&amp;lt;br&amp;gt;``), entities, line breaks and control
characters. The authors of the paper removed tags from descriptions only; here every field and every query goes through
one function, so that training and serving see the same texts.

Other text is kept: ``screen < 10 inch``, ``A<B`` and ``<Limited edition>`` keep every character, because only
the names of HTML elements followed by well-formed attributes count as a tag. Case is kept (docs/method.md: lower-casing
cost 0.1 %).

Whole columns take a fraction of the time. Most texts of a catalogue are clean already except for their line breaks;
most of the others hold simple markup, such as ``<br>`` and ``&nbsp;``. Arrow does both for all texts at once; then a
regular expression finds the clean texts, and only the others are cleaned one by one.
"""

import html
import itertools
import re
import unicodedata
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

# Elements that a browser draws within a word: `H<sub>2</sub>O` is one word. Every other tag is a gap between words.
_INLINE: Final = (
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|"
    "time|tt|u|var|wbr"
)
# The last are names with a prefix, such as the `<o:p>` of word processors.
_BLOCK: Final = (
    "address|applet|area|article|aside|audio|base|basefont|blockquote|body|br|button|canvas|caption|center|col|"
    "colgroup|dd|del|details|dialog|dir|div|dl|dt|embed|fieldset|figcaption|figure|footer|form|frame|frameset|"
    "h1|h2|h3|h4|h5|h6|head|header|hgroup|hr|html|iframe|img|input|label|legend|li|link|main|map|marquee|menu|meta|"
    "nav|nobr|noframes|noscript|object|ol|optgroup|option|p|param|picture|pre|progress|ruby|rb|rp|rt|script|section|"
    "select|source|style|summary|svg|table|tbody|td|template|textarea|tfoot|th|thead|title|tr|track|ul|video|"
    r"[a-z]\w*:[a-z]\w*"
)

# Words without a value are attributes only if HTML knows them as such, so that `<Table and Chair>` stays.
_ATTRIBUTES: Final = r"""
    (?:\s+(?:
        [a-z_:@][-\w:.@]*+ \s*+=\s*+ (?:"[^"]*+" | '[^']*+' | [^\s"'<>]++)
        | (?:allowfullscreen|async|autoplay|border|checked|compact|controls|defer|disabled|hidden|loop|multiple|muted
            |noshade|nowrap|readonly|required|selected)
    ))*+ \s*+ /? \s*+
"""


def _tag(names: str) -> re.Pattern[str]:
    # The names are tried only where there is a name: a text of only `<` takes no longer than another.
    return re.compile(rf"</?(?=[a-z][\w:]*[\s/>])(?:{names})(?=[\s/>]){_ATTRIBUTES}>", re.IGNORECASE | re.VERBOSE)


_INLINE_TAG: Final = _tag(_INLINE)
_BLOCK_TAG: Final = _tag(_BLOCK)
# Declarations and processing instructions; and the line break that sellers write with a space, `< br />`, which no
# browser knows. (Other names with a space before them are text: `< DURABLE METAL >`, `a < b > c`.)
_DECLARATION: Final = re.compile(
    r"<!doctype\b[^<>]*>|<\?[a-z][^<>]*>|<!\[CDATA\[|\]\]>|<\s+/?br\s*/?\s*>", re.IGNORECASE
)
# Parts of which the contents go too: where one opens and how it closes.
_HIDDEN: Final = (
    (re.compile(r"<!--"), re.compile(r"-->")),
    (re.compile(r"<script\b[^<>]*>", re.IGNORECASE), re.compile(r"</script\s*>", re.IGNORECASE)),
    (re.compile(r"<style\b[^<>]*>", re.IGNORECASE), re.compile(r"</style\s*>", re.IGNORECASE)),
)
# Only entities that end with a semicolon: `html.unescape` alone would read `Rock&region` as `Rock®ion`.
_ENTITY: Final = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,7}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_NESTED_AMPERSAND: Final = re.compile(r"&(?:(?:[aA][mM][pP]|#0*38|#[xX]0*26);)+")
# Control characters that `str.split` does not take for white space, and a sign that looks like a space.
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\u2800]")
# Characters that nobody sees: hyphens and breaks that are possible, marks of direction, fillers, variation selectors.
# Within a word they would make another word of it, so they vanish, except for those that make an emoji of several
# characters and the joiners of scripts that spell with them (Arabic, Hebrew and those of India).
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_EMOJI: Final = "\xa9\xae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_PART: Final = f"[{_EMOJI}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]?"
_UNSEEN: Final = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
    f"|{_PART}(?:\u200d{_PART})*"
    "|[#*0-9]\ufe0f\u20e3"
    "|[\u0590-\u1aff\ua800-\uabff\ufb1d-\ufdff\ufe70-\ufefc\U00010a00-\U00011fff][\u200c\u200d])"
    f"|[{_INVISIBLE}]+"
)
_ANY_INVISIBLE: Final = re.compile(f"[{_INVISIBLE}]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# To put marks in their order takes the square of how many follow each other: a text of 100,000 takes 20 seconds. No
# script stacks so many; of a longer run as many are kept as Unicode's Stream-Safe Text Format has (UAX #15).
_MOST_MARKS: Final = 250
_KEPT_MARKS: Final = 30
# Real text is settled in two or three passes; what is not after so many was made to be unsettled.
_PASSES: Final = 16


def clean_text(text: str) -> str:
    """Remove markup, invisible and control characters, decode entities, and fold white space.

    Parameters
    ----------
    text
        Any text; markup may be escaped any number of times.

    Returns
    -------
    str
        Unicode NFC on one line, words one space apart, case kept. ``clean_text(clean_text(x)) == clean_text(x)``, and
        it can always be encoded: a lone surrogate becomes U+FFFD.
    """
    text = _fold(text)
    if "<" not in text and "&" not in text:
        return text
    for _ in range(_PASSES):
        cleaned = _fold(_decode_entities(_remove_tags(text)))
        if cleaned == text:
            return text
        text = cleaned
    return _fold(text.replace("<", " ").replace("&", " "))


def _fold(text: str) -> str:
    if not text.isascii():
        # First, for marks that an unseen character kept apart from their letter; what it joins is as it will stay.
        if _ANY_INVISIBLE.search(text):
            text = _CONTROL.sub(" ", unicodedata.normalize("NFC", _cut_marks(text)))
            text = _UNSEEN.sub(r"\1", text)
        text = _cut_marks(_SURROGATE.sub("\ufffd", text))
        if not unicodedata.is_normalized("NFC", text):
            text = _cut_marks(unicodedata.normalize("NFC", text))
    return " ".join(_CONTROL.sub(" ", text).split())


def _cut_marks(text: str) -> str:
    """Shorten runs of too many combining marks; checking every `_MOST_MARKS`-th character finds them."""
    if not any(map(unicodedata.combining, text[_MOST_MARKS - 1 :: _MOST_MARKS])):
        return text
    runs = ("".join(run) for _, run in itertools.groupby(text, lambda letter: unicodedata.combining(letter) > 0))
    return "".join(
        run[:_KEPT_MARKS] if len(run) >= _MOST_MARKS and unicodedata.combining(run[0]) else run for run in runs
    )


def _remove_tags(text: str) -> str:
    if "<" not in text:
        return text
    for opening, closing in _HIDDEN:
        text = _remove_parts(text, opening, closing)
    text = _DECLARATION.sub(" ", text)
    return _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", text))


def _remove_parts(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    kept, start = [], 0
    while (first := opening.search(text, start)) and (last := closing.search(text, first.end())):
        kept += [text[start : first.start()], " "]
        start = last.end()
    return "".join(kept) + text[start:] if kept else text


def _decode_entities(text: str) -> str:
    return _ENTITY.sub(_decode_entity, _NESTED_AMPERSAND.sub("&", text)) if "&" in text else text


def _decode_entity(found: re.Match[str]) -> str:
    entity = found[0]
    decoded = html.unescape(entity)
    # Titles were put into title case with their entities: `&Quot;`.
    return html.unescape(entity.lower()) if decoded == entity else decoded


# Characters that cleaning never touches by themselves: no start of a tag, no white space, no control character, and
# normal in Unicode NFC whatever stands beside them. What is missing (combining marks) costs time, not correctness.
PLAIN_RANGES: Final = (
    "21-3B 3D-7E A1-AC AE-2FF 386-386 388-482 48A-52F 1E00-1EFF 2010-2027 2030-205E 20A0-20BF 2100-2125 2150-2328 "
    "2460-27FF 2801-2ADB 2B00-2BFF 3001-3029 3030-3098 309B-30FF 3200-9FFF AC00-D7A3 FF01-FF9F FFA1-FFEE 1F000-1FAFF"
)
_PLAIN: Final = re.sub(r"(\w+)-(\w+) ?", r"\\x{\1}-\\x{\2}", PLAIN_RANGES)
# Or, of characters that are plain, what may be an entity or the end of a declaration; and spaces that are too many.
_UNSETTLED: Final = rf"[^ {_PLAIN}]|&[^ ;]*;|\]\]>|  |^ | $"

# Tags of which only the name matters, in the order in which `clean_text` removes them. One that holds more than
# that, or lies in another, leaves a `<` behind, and its text is cleaned by itself.
_SIMPLE_INLINE_TAG: Final = r"</?(?:a|b|em|font|i|span|strong|u)>"
_SIMPLE_BLOCK_TAG: Final = r"<(?:/?(?:div|h[1-6]|li|ol|p|td|tr|ul)|br ?/?)>"
# The ampersand comes last: it may make an entity of what follows, which is then cleaned by itself.
_SIGNS: Final = {"&nbsp;": " ", "&quot;": '"', "&#39;": "'", "&amp;": "&", "\u00a0": " ", "\u3000": " "}


def clean_column(column: Any) -> Any:
    """Clean every text of a column.

    Parameters
    ----------
    column
        A ``pyarrow`` array or chunked array of strings.

    Returns
    -------
    pyarrow.Array
        The cleaned texts as ``large_string``, in order; null stays null.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    texts = pc.replace_substring(column.cast(pa.large_string()), "\n", " ")
    unsettled = _unsettled(texts)
    left = texts.filter(unsettled)
    if not len(left):
        return texts
    simple = _without_simple_markup(left)
    still_unsettled = _unsettled(simple)
    each = [clean_text(text) for text in left.filter(still_unsettled).to_pylist()]
    simple = pc.replace_with_mask(simple, still_unsettled, pa.array(each, pa.large_string()))
    return pc.replace_with_mask(texts, unsettled, simple)


def _unsettled(texts: Any) -> Any:
    return pc.fill_null(pc.match_substring_regex(texts, _UNSETTLED), False)


def _without_simple_markup(texts: Any) -> Any:
    """Remove simple tags, decode simple entities and fold spaces."""
    texts = pc.replace_substring_regex(texts, _SIMPLE_INLINE_TAG, "")
    texts = pc.replace_substring_regex(texts, _SIMPLE_BLOCK_TAG, " ")
    for sign, text in _SIGNS.items():
        texts = pc.replace_substring(texts, sign, text)
    return pc.utf8_trim(pc.replace_substring_regex(texts, " {2,}", " "), " ")
