"""The texts of a dataset on its summary page: lengths, empty fields, tokens, brands and colors."""

from typing import Any, Final

from zhichun.measure.report.html import Html, bar_cell, beside, section, table, tag
from zhichun.measure.report.lengths import COLUMNS, length_cells, length_plots, length_table
from zhichun.measure.report.names import in_order, language

WORDS: Final = (
    "A run of letters and digits counts as one word, and so does each Chinese or Japanese character, which no spaces "
    "part."
)
TAIL: Final = "Under “95 %” is the length that 95 of 100 do not exceed."


def queries_section(summary: dict[str, Any]) -> Html:
    """Show how long queries are."""
    lengths = summary["lengths"]["query"]
    rows = [(unit, lengths[unit]) for unit in ("characters", "bytes", "words")]
    return section(
        "Queries",
        tag("p", f"Each query counts once, however many products are judged for it. {TAIL}"),
        beside(
            length_plots(lengths["characters"], "queries", "characters"),
            length_table("Lengths of queries; bytes are those of UTF-8", "length in", rows),
        ),
        tag("p", WORDS),
    )


def products_section(summary: dict[str, Any]) -> Html:
    """Show which fields are empty, and how long the others are."""
    characters = {part: units["characters"] for part, units in summary["lengths"].items() if "words" in units}
    characters.pop("query")
    rows = []
    for part, described in characters.items():
        words = summary["lengths"][part]["words"]["by_locale"]
        for locale in in_order(described["by_locale"]):
            in_words = words.get(locale)
            cells = ["–", "–"] if in_words is None else [f"{in_words[name]:,}" for name in ("median", "p95")]
            rows.append([f"{part}, {locale}", *length_cells(described["by_locale"][locale]), *cells])
    columns = ["characters of", *COLUMNS, "median in words", "95 % in words"]
    return section(
        "Products",
        beside(length_plots(characters["product"], "products", "characters"), _empty_table(summary["products"])),
        table("Lengths of fields that are there, and of all fields of a product together", columns, rows),
        tag("p", f"{WORDS} {sampled(summary, 'Words are counted in')}"),
    )


def tokens_section(summary: dict[str, Any]) -> Html:
    """Show how many tokens a pair has and how many pairs are cut, or how to have that counted."""
    if summary["tokens"] is None:
        how = tag("code", "zhichun summary DIR --tokenizer NAME_OR_FOLDER")
        said = "Not counted yet. This counts them, and says how many pairs are cut at which length: "
        return section("Tokens", tag("p", said, how))
    tokens, lengths = summary["tokens"], summary["lengths"]
    rows = [(part, lengths[part]["tokens"]) for part in ("query", "product", "pair")]
    name = f"Tokenizer {tokens['tokenizer']} (fingerprint {tokens['fingerprint']})."
    counted = sampled(summary, "Products are", "; the pairs are all judged pairs of these")
    return section(
        "Tokens",
        tag("p", f"{name} {counted} A pair is the query, all fields of the product, and special tokens."),
        beside(length_plots(lengths["pair"]["tokens"], "pairs", "tokens"), _cut_table(tokens["cut"])),
        length_table("Lengths in tokens", "tokens of", rows),
    )


def values_section(summary: dict[str, Any]) -> Html:
    """List the most frequent brands and colors of each locale."""
    note = tag("p", "In lower case, and otherwise as they stand in the catalogue. Bars compare with the first.")
    tables = [
        beside(*(_values_table(summary, kind, locale) for locale in in_order(summary[kind])))
        for kind in ("brands", "colors")
    ]
    return section("Brands and colors", note, *tables)


def sampled(summary: dict[str, Any], begin: str, end: str = "") -> str:
    """Say of how many products figures are, in a sentence."""
    drawn, total = summary["sample"]["products"], summary["sample"]["of"]
    which = f"all {total:,} products" if drawn == total else f"{drawn:,} of the {total:,} products, drawn evenly"
    return f"{begin} {which}{end}."


def _values_table(summary: dict[str, Any], kind: str, locale: str) -> Html:
    found, products = summary[kind][locale], summary["products"]["by_locale"][locale]
    rows = []
    for value, count in found["top"]:
        share = bar_cell(f"{count / products:.2%}", count / found["top"][0][1])
        rows.append([tag("span", value, lang=language(locale)), f"{count:,}", share])
    caption = f"{locale}: {found['values']:,} different {kind}; share of its products"
    return table(caption, [kind.removesuffix("s"), "products", "share"], rows)


def _empty_table(products: dict[str, Any]) -> Html:
    """Show the share of products without a field, by locale."""
    by_locale = products["by_locale"]
    locales = in_order(by_locale)
    rows = []
    for field, without in products["without"].items():
        shares = [sum(without.values()) / sum(by_locale.values())]
        shares += [without.get(locale, 0) / by_locale[locale] for locale in locales]
        rows.append([field, *(bar_cell(f"{share:.1%}", share) for share in shares)])
    counts = ["products", f"{sum(by_locale.values()):,}", *(f"{by_locale[locale]:,}" for locale in locales)]
    return table("Share of products whose field is empty, by locale", ["field", "all", *locales], [*rows, counts])


def _cut_table(cut: list[dict[str, Any]]) -> Html:
    """Show the share of pairs that are longer than each length, by locale."""
    locales = in_order(row["locale"] for row in cut)
    rows = []
    for length in sorted({row["max_length"] for row in cut}):
        cells = []
        for within in ({*locales}, *({locale} for locale in locales)):
            chosen = [row for row in cut if row["max_length"] == length and row["locale"] in within]
            share = sum(row["cut"] for row in chosen) / sum(row["pairs"] for row in chosen)
            cells.append(bar_cell(f"{share:.1%}", share))
        rows.append([f"{length}", *cells])
    caption = "Share of pairs that are longer than model.max_length, and cut"
    return table(caption, ["max_length", "all", *locales], rows)
