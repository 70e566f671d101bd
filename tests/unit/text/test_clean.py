import json
import subprocess
import sys
import unicodedata

import pytest

from zhichun.text.clean import clean_text

HOSTILE = [
    "&amp;" * 9000,
    "&" * 9000 + "lt;" * 9000,
    "<!--" * 9000,
    "<a b=" * 9000,
    '<b x="' * 9000,
    "a" + "\u0301\u0323" * 50_000,
    "&#x301;&#x323;" * 7000,
    "\u0344\u0323" * 120 + "a\u0301" * 300,
]


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("<p>Soft</p><p>Warm</p>", "Soft Warm"),
        ("H<sub>2</sub>O un<b>believ</b>able", "H2O unbelievable"),
        ("<A HREF=\"x.html\" target=_blank>Link</A><br/>next<IMG src='a>b'>", "Link next"),
        ("<div\n class='a'>x</div ><input disabled>", "x"),
        ("<o:p></o:p>Word <!-- a > b --> text<style type='x'>p {}</style><script>if (a<b) {}</script>", "Word text"),
        ("one< br />two<br / >three< BR>four", "one two three four"),
        ("Salt &Amp; Pepper &Quot;x&Quot; &Eacute;", 'Salt & Pepper "x" É'),
        ("<!DOCTYPE html><?xml version='1.0'?><![CDATA[x]]>", "x"),
        ("&lt;b&gt;once&lt;/b&gt; &amp;lt;i&amp;gt;twice&amp;lt;/i&amp;gt;", "once twice"),
        ("R&amp;D &eacute;t&#233; &#x30AB; &quot;a&quot;&nbsp;b", 'R&D été カ "a" b'),
    ],
)
def test_markup_goes_and_entities_are_decoded(given, cleaned):
    assert clean_text(given) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "screen < 10 inch, weight > 2 kg",
        "A<B",
        "if A<B and C>D",
        "x <3 you",
        "<Limited edition> shirt",
        "手袋 <LL>",
        "<Table and Chair> set",
        "AT&T, Rock&region, &copy2020 & more; R&D",
        "cut <br",
        "a < b > c",
        "< DURABLE METAL > hoops",
        "&unknown; &;",
        "iPhone CASE",
    ],
)
def test_what_is_no_markup_stays(text):
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("  a\r\n\tb\u00a0c\u3000d\u2028e\x85f  ", "a b c d e f"),
        ("a\x00b\x1fc\x7fd\u2800e", "a b c d e"),
        ("e\u0301", "\u00e9"),
        ("a\ud800b", "a\ufffdb"),
        ("&#xD800;", "\ufffd"),
        (" \n ", ""),
        ("<br><br>", ""),
    ],
)
def test_white_space_control_characters_and_unicode_take_one_form(given, cleaned):
    assert clean_text(given) == cleaned


UNSEEN = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069"
UNSEEN += "\u206f\u3164\ufe00\ufe0e\ufe0f\ufeff\uffa0\ufff9\U000e0001\U000e0100"


@pytest.mark.parametrize("sign", UNSEEN, ids=lambda sign: f"U+{ord(sign):04X}")
def test_unseen_characters_vanish_within_words_and_leave_nothing_alone(sign):
    assert clean_text(f"trail{sign}shoe{sign} {sign}red") == "trailshoe red"
    assert clean_text(f"&#{ord(sign)};靴{sign}下") == "靴下"
    assert clean_text(f"cafe{sign}\u0301") == "café"
    assert clean_text(sign * 3) == clean_text(f" {sign}\u2800<br>{sign}") == ""


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👧\u200d👦 shirt",
        "❤\ufe0f\u200d🔥",
        "👍🏽",
        "1\ufe0f\u20e3 size",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می\u200cخواهم",
        "क्\u200dष",
    ],
)
def test_emoji_of_several_characters_and_joiners_that_spell_stay(text):
    assert clean_text(text) == text


def test_hostile_text_costs_little():
    """All of it in a process that may compute for 20 seconds: text of which one alone once took as long."""
    code = (
        "import json, resource, sys; from zhichun.text.clean import clean_text\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "print(json.dumps([clean_text(text) for text in json.load(sys.stdin)]))"
    )
    given = json.dumps(HOSTILE)
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True)
    for cleaned in json.loads(done.stdout):
        assert clean_text(cleaned) == cleaned


def test_marks_are_cut_only_where_nobody_could_have_written_them():
    stacked = "z\u0323" + "\u0301" * 200
    assert clean_text(stacked) == unicodedata.normalize("NFC", stacked)
    accented = unicodedata.normalize("NFD", "ñandú está aquí ") * 100
    assert clean_text(accented) == "ñandú está aquí " * 99 + "ñandú está aquí"
    assert clean_text("a" + "\u0323" * 5000 + "b") == "\u1ea1" + "\u0323" * 29 + "b"


def test_text_that_never_settles_still_comes_out_settled():
    deep = "<" * 30 + "b>" * 30 + " end"  # each removal uncovers one more tag
    assert clean_text(clean_text(deep)) == clean_text(deep)
    assert clean_text(deep).endswith(" end")
