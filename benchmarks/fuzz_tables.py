"""Generate broken tables of every format and read them: no row may be lost, and nothing but a `UserError` may come.

    python benchmarks/fuzz_tables.py

makes 10,000 tables from a seed, each broken in one to three ways, and counts by kind what came of them. Of each it is
held that

* every row that was not touched is read with its values, or is on the list of refused rows: none vanishes;
* the numbers of rows read and rows refused are those from 1 to the last, each once: read = kept + refused; and there
  are as many as were written, unless bytes were overwritten or the file was cut;
* what is broken in a row costs that row alone, and only what breaks a whole file is answered for the whole file;
* `read_chunks`, which refuses a file at its first bad row, agrees; and so does `read_catalogue`, by its own counts.

It exits with 1 where any of it fails, and writes `benchmarks/results/fuzz_tables.json`.
"""

import argparse
import csv
import gzip
import io
import json
import random
import string
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers import delimited
from zhichun.data.readers.pair_tables import read_chunks
from zhichun.data.readers.rejected import Refusal
from zhichun.data.readers.sources import open_table

RESULT: Final = Path(__file__).parent / "results" / "fuzz_tables.json"
TABLES: Final = 10_000
# A reader takes the same rows out whatever it reads at once.
BLOCKS: Final = (delimited.BLOCK, 300, 2000)
COLUMNS: Final = ("product_id", "title", "brand", "color", "description")
WORDS: Final = ("lamp", "shoe", "27", "inch", "O'Neill", "café", "ランプ", "x-large", "1,000", "<br>", "&amp;", "(set)")
Row = dict[str, str]
Rng = random.Random


@dataclass
class Table:
    """A table that is being broken.

    Attributes
    ----------
    rows
        Its rows as they should be read.
    touched
        Places of rows that are broken, which may be refused.
    lines
        The rows as they are written, each with its line end; the header is the first.
    """

    rows: list[Row]
    separator: str
    lines: list[bytes] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    whole_file: bool = False
    tail_lost: bool = False

    def touch(self, rng: Rng, most: int = 3) -> list[int]:
        """Choose some rows to break."""
        places = rng.sample(range(len(self.rows)), min(len(self.rows), rng.randint(1, most)))
        self.touched.update(places)
        return places

    def body(self, place: int) -> bytes:
        """Give a row without its line end."""
        return self.lines[place + 1].rstrip(b"\r\n")

    def put(self, place: int, body: bytes) -> None:
        """Write a row anew with its line end."""
        old = self.lines[place + 1]
        self.lines[place + 1] = body + old[len(old.rstrip(b"\r\n")) :]


def make(rng: Rng, *, separator: str = ",", quoted: bool = True) -> Table:
    """Make a table of separated values that is whole."""
    columns = COLUMNS[: rng.randint(2, len(COLUMNS))]

    def text() -> str:
        words = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
        return words if quoted else words.replace(separator, " ")

    rows = [
        {name: f"id{number:05d}" if name == "product_id" else text() for name in columns}
        for number in range(rng.randint(1, 60))
    ]
    table = Table(rows, separator)
    end, style = rng.choice(("\n", "\r\n", "\r")), rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for values in (columns, *(row.values() for row in rows)):
        if quoted:
            out = io.StringIO()
            csv.writer(out, delimiter=separator, lineterminator=end, quoting=style).writerow(values)
            line = out.getvalue()
        else:
            line = separator.join(values) + end
        table.lines.append(line.encode())
    return table


def an_open_quote(table: Table, rng: Rng) -> None:
    """Begin a value with a quote that nothing closes."""
    for place in table.touch(rng):
        values = [value.replace(table.separator, " ") for value in table.rows[place].values()]
        at = rng.randrange(1, len(values))
        values[at] = '"' + values[at]
        table.put(place, table.separator.join(values).encode())


def a_quote_closed_far_away(table: Table, rng: Rng) -> None:
    """Open a quote in one row and close it at the end of a later one, which makes one valid field of all between."""
    if len(table.rows) < 2:
        return
    first, last = sorted(rng.sample(range(len(table.rows)), 2))
    table.touched.update((first, last))
    for place in range(first, last + 1):  # no quote in between, which would close it
        plain = [value.replace(table.separator, " ") for value in table.rows[place].values()]
        table.rows[place] = dict(zip(table.rows[place], plain, strict=True))
        table.put(place, table.separator.join(plain).encode())
    values = list(table.rows[first].values())
    table.put(first, table.separator.join([*values[:-1], '"' + values[-1]]).encode())
    table.put(last, table.body(last) + b'"')


def text_after_a_quote(table: Table, rng: Rng) -> None:
    """Write inch marks into a quoted value without doubling them."""
    for place in table.touch(rng):
        values = list(table.rows[place].values())
        values[1] = '"27" monitor"'
        table.put(place, table.separator.join(values).encode())


def a_ragged_row(table: Table, rng: Rng) -> None:
    """Leave a value out, or put more in."""
    for place in table.touch(rng):
        more = table.separator.encode() * rng.randint(1, 3)
        body = table.body(place)
        table.put(place, body + more if rng.random() < 0.5 else table.rows[place]["product_id"].encode())


def bad_utf8(table: Table, rng: Rng) -> None:
    """Put bytes in that are no UTF-8."""
    for place in table.touch(rng):
        body = table.body(place)
        at = rng.randrange(len(body) + 1)
        table.put(place, body[:at] + rng.choice((b"\xff", b"\xe9", b"\xc3\x28", b"\xed\xa0\x80")) + body[at:])


def nul_bytes(table: Table, rng: Rng) -> None:
    """Put NUL bytes in."""
    for place in table.touch(rng):
        body = table.body(place)
        at = rng.randrange(len(body) + 1)
        table.put(place, body[:at] + b"\0" * rng.randint(1, 5) + body[at:])


def mixed_line_ends(table: Table, rng: Rng) -> None:
    """End each line as another system does."""
    table.lines = [line.rstrip(b"\r\n") + rng.choice((b"\n", b"\r\n", b"\r")) for line in table.lines]


def blank_lines(table: Table, rng: Rng) -> None:
    """Put blank lines between rows."""
    table.lines = [line + b"\n" * (rng.random() < 0.2) for line in table.lines]


def no_last_line_end(table: Table, rng: Rng) -> None:
    """Leave the last line end out."""
    table.lines[-1] = table.lines[-1].rstrip(b"\r\n")


def a_huge_field(table: Table, rng: Rng) -> None:
    """Make a text of a few hundred kB, in quotes or not."""
    place = rng.randrange(len(table.rows))
    if place in table.touched:
        return
    text = "huge " * rng.randint(30_000, 100_000) + "text"
    table.rows[place]["title"] = text
    values = list(table.rows[place].values())
    values = [f'"{value}"' if table.separator in value else value for value in values]
    values[1] = f'"{text}"' if rng.random() < 0.5 and table.separator != "\t" else text
    table.put(place, table.separator.join(values).encode())


def text_with_line_breaks(table: Table, rng: Rng) -> None:
    """Make a quoted text of several lines of prose."""
    place = rng.randrange(len(table.rows))
    if place in table.touched:
        return
    text = "\n".join(" and, what is more, ".join(rng.choices(WORDS, k=3)) for _ in range(rng.randint(2, 8)))
    name = rng.choice(list(table.rows[place])[1:])
    table.rows[place][name] = text
    out = io.StringIO()
    csv.writer(out, delimiter=table.separator, lineterminator="\n").writerow(table.rows[place].values())
    table.put(place, out.getvalue().rstrip("\n").encode())


def random_bytes(table: Table, rng: Rng) -> None:
    """Overwrite bytes with quotes, separators, line ends and others."""
    for place in table.touch(rng, 2):
        body = bytearray(table.body(place))
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.choice(b'",;\t\r\n\0\\' + string.ascii_letters.encode())
        table.put(place, bytes(body))


def a_cut_end(table: Table, rng: Rng) -> None:
    """Cut the file somewhere after its header."""
    data = b"".join(table.lines[1:])
    kept = data[: rng.randrange(len(data) + 1)]
    ends, at = [], 0
    for line in table.lines[1:]:
        at += len(line)
        ends.append(at)
    table.touched.update(place for place, end in enumerate(ends) if end > len(kept))
    table.tail_lost = True
    table.lines = [table.lines[0], *([kept] if kept else [])]


OF_ROWS: Final = (
    an_open_quote,
    a_quote_closed_far_away,
    text_after_a_quote,
    a_ragged_row,
    bad_utf8,
    nul_bytes,
    random_bytes,
    a_huge_field,
    text_with_line_breaks,
    mixed_line_ends,
    blank_lines,
    no_last_line_end,
)
# Quotes of several kinds in one table close each other, and which row is to blame is then anybody's guess.
OF_QUOTES: Final = (an_open_quote, a_quote_closed_far_away, text_after_a_quote, random_bytes, text_with_line_breaks)
OF_TSV: Final = (a_ragged_row, bad_utf8, nul_bytes, a_huge_field, mixed_line_ends, blank_lines, no_last_line_end)


@dataclass(frozen=True)
class Case:
    """One file, and what must come of it.

    Attributes
    ----------
    kinds
        What was broken.
    rows
        All rows as they should be read.
    untouched
        Those that nothing happened to.
    may_refuse_file
        Whether the whole file may be refused.
    is_counted
        Whether what was broken left as many rows as there were.
    """

    path: Path
    kinds: tuple[str, ...]
    rows: list[Row]
    untouched: list[Row]
    may_refuse_file: bool = False
    is_counted: bool = False


def separated(rng: Rng, folder: Path) -> Case:
    """Make a broken CSV or TSV."""
    tabs = rng.random() < 0.25
    separator = "\t" if tabs else rng.choice(",,,;|")
    table = make(rng, separator=separator, quoted=not tabs)
    pool = list(OF_TSV if tabs else OF_ROWS)
    kinds: list[str] = []
    for _ in range(rng.randint(0, 3)):
        kind = rng.choice(pool)
        kind(table, rng)
        kinds.append(kind.__name__)
        pool = [each for each in pool if each is not kind and not (kind in OF_QUOTES and each in OF_QUOTES)]
    if rng.random() < 0.15:
        a_cut_end(table, rng)
        kinds.append("a_cut_end")
    data = b"".join(table.lines)
    encoding = rng.choice(("", "", "", "bom", "utf-16", "utf-16-le", "utf-16-be"))
    if encoding == "bom":
        data = b"\xef\xbb\xbf" + data
    elif encoding and not {"bad_utf8", "nul_bytes", "random_bytes", "a_cut_end"} & set(kinds):
        data = data.decode().encode(encoding)
    else:
        encoding = ""
    packed = rng.random() < 0.15
    path = folder / f"t{'.tsv' if tabs else '.csv'}{'.gz' * packed}"
    cut = packed and rng.random() < 0.3
    data = gzip.compress(data, 1) if packed else data
    path.write_bytes(data[: rng.randrange(1, len(data))] if cut else data)
    kinds += [encoding] * bool(encoding) + ["gzip"] * packed + ["cut gzip"] * cut
    untouched = [row for place, row in enumerate(table.rows) if place not in table.touched]
    # A row that is both short and open may be taken for the beginning of the next.
    joined = {"random_bytes", "a_cut_end"} & set(kinds) or (
        "a_ragged_row" in kinds and {each.__name__ for each in OF_QUOTES} & set(kinds)
    )
    return Case(path, tuple(kinds) or ("whole",), table.rows, untouched, may_refuse_file=cut, is_counted=not joined)


def json_rows(rng: Rng, folder: Path) -> Case:
    """Make broken JSON Lines, or a JSON array."""
    table = make(rng)
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in table.rows]
    array, kinds = rng.random() < 0.25, []
    breaks: dict[str, Callable[[str], str]] = {
        "an object for a text": lambda line: line.replace('"title": "', '"title": {"x": 1}, "was": "'),
        "no object": lambda line: rng.choice(("[1, 2]", "3", '"x"', "null")),
        "a key twice": lambda line: line[:-1] + ', "title": "again"}',
        "half a line": lambda line: line[: len(line) // 2],
        "a lone surrogate": lambda line: line.replace('"title": "', '"title": "\\ud800'),
    }
    if rng.random() < 0.8:
        kind = rng.choice(list(breaks))
        kinds.append(kind)
        for place in table.touch(rng):
            lines[place] = breaks[kind](lines[place])
    text = "[" + ", ".join(lines) + "]" if array else "\n".join(lines) + "\n" * (rng.random() < 0.5)
    data = text.encode()
    if cut := rng.random() < 0.1:
        whole = len(data)
        data = data[: rng.randrange(2, len(data))]
        at = 0
        for place, line in enumerate(lines):
            at += len(line.encode()) + 1
            if at >= len(data) or whole == len(data):
                table.touched.add(place)
    path = folder / rng.choice(("t.jsonl", "t.ndjson", "t.json"))
    path.write_bytes(data)
    kinds += ["array"] * array + ["cut JSON"] * cut
    untouched = [row for place, row in enumerate(table.rows) if place not in table.touched]
    broken = array and ("half a line" in kinds or cut)
    return Case(path, tuple(kinds) or ("whole JSON",), table.rows, untouched, may_refuse_file=broken or cut)


def parquet(rng: Rng, folder: Path) -> Case:
    """Make a Parquet file that is whole, cut short, or no Parquet at all."""
    table, path = make(rng), folder / "t.parquet"
    pq.write_table(pa.Table.from_pylist(table.rows), path, compression=rng.choice(("snappy", "zstd", "none")))
    data, kind = path.read_bytes(), rng.choice(("whole Parquet", "cut Parquet", "no Parquet"))
    if kind == "cut Parquet":
        path.write_bytes(data[: rng.randrange(1, len(data))])
    elif kind == "no Parquet":
        path.write_bytes(b"".join(table.lines))
    is_whole = kind == "whole Parquet"
    return Case(path, (kind,), table.rows, table.rows if is_whole else [], may_refuse_file=not is_whole)


def odd_headers(rng: Rng, folder: Path) -> Case:
    """Make a file whose header is broken, or that is no table at all."""
    table, path = make(rng), folder / "t.csv"
    odd = {
        "a name twice": b"title,Title,product_id\r\n",
        "an open quote in the header": b'product_id,"title\r\n',
        "a header that is not UTF-8": b"product_id,t\xeftle\r\n",
        "no header": b"\r\n",
        "a web page": b"<html>",
        "an archive": b"PK\x03\x04",
    }
    kind = rng.choice(list(odd))
    path.write_bytes(odd[kind] + b"".join(table.lines[1:]))
    return Case(path, (kind,), table.rows, [], may_refuse_file=True)


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Give tables one after the other; each is made anew of its own seed."""
    for number in range(count):
        rng = Rng(f"{seed} {number}")
        kind = rng.choices((separated, json_rows, parquet, odd_headers), (80, 12, 4, 4))[0]
        for old in folder.iterdir():
            old.unlink()
        yield kind(rng, folder)


class Refused:
    """Keeps refused rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.records: list[Any] = []

    def add(self, refusal: Refusal, record: Any) -> None:
        """Take one row."""
        self.rows.append(refusal.row)
        self.records.append(record)


def check(case: Case) -> tuple[str, list[str]]:
    """Read a table in all three ways; give what came of it and what is wrong with that."""
    refused, wrong = Refused(), []
    try:
        table = open_table(case.path)
        columns = {name: name for name in table.names if name in COLUMNS}
        batches = list(table.batches(columns, refused))
    except UserError as error:
        return "file refused", [] if case.may_refuse_file and error.remedy else [f"whole file refused: {error}"]
    numbers = [row for batch in batches for row in batch.rows_N.tolist()]
    kept = [
        dict(zip(columns, values, strict=True))
        for batch in batches
        for values in zip(*(batch.columns[name].to_pylist() for name in columns), strict=True)
    ]
    read = sorted([*numbers, *refused.rows])
    if read != list(range(1, len(read) + 1)) and not case.path.name.endswith((".jsonl", ".ndjson", ".json")):
        wrong.append(f"rows are numbered {read}")
    if case.is_counted and len(read) != len(case.rows):
        wrong.append(f"{len(numbers)} rows kept and {len(refused.rows)} refused, of {len(case.rows)}")
    if len(set(read)) < len(read):
        wrong.append("a row is both kept and refused")
    found = {row["product_id"]: row for row in kept if row.get("product_id")}
    shown = json.dumps(refused.records)
    for row in case.untouched:
        if row["product_id"] not in found:
            problem = "refused" if row["product_id"] in shown else "lost"
            wrong.append(f"{row['product_id']}, which nothing happened to, is {problem}")
        elif found[row["product_id"]] != row:
            wrong.append(f"{row['product_id']} has other values: {found[row['product_id']]}")
    wrong += agree(case, table.names, len(numbers), refused)
    return "rows refused" if refused.rows else "read", wrong


def agree(case: Case, names: Any, kept: int, refused: Refused) -> list[str]:
    """Hold the reader that stops at the first bad row, and that of whole catalogues, against what was read."""
    wrong = []
    try:
        rows = sum(chunk.num_rows for chunk in read_chunks(case.path, 1000))
        if refused.rows or rows != kept:
            wrong.append(f"read_chunks reads {rows} rows, of which {kept} are kept and {len(refused.rows)} refused")
    except UserError as error:
        if error.row not in refused.rows:
            wrong.append(f"read_chunks refuses row {error.row}: {error}")
    if {"product_id", "title"} <= set(names) and kept:
        said: list[str] = []
        try:
            products = read_catalogue(case.path, on_bad_rows="drop", say=said.append).num_rows
        except UserError as error:
            products, said = 0, [str(error)]
        dropped = sum(
            int(part.split()[0].replace(",", ""))
            for line in said
            if "left out:" in line
            for part in line.split("left out:")[1].split(", ")
        )
        if products + dropped != kept + len(refused.rows) and "no product has an id and a text" not in said[0]:
            wrong.append(f"read_catalogue keeps {products} and drops {dropped} of {kept + len(refused.rows)}")
    return wrong


def run(seed: int, count: int) -> tuple[dict[str, Any], list[str]]:
    """Read so many tables; give the counts by kind, and every failure."""
    by_kind: dict[str, Counter[str]] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-tables-") as name:
        for number, case in enumerate(cases(seed, count, Path(name))):
            delimited.BLOCK = BLOCKS[number % len(BLOCKS)]
            try:
                outcome, wrong = check(case)
            except Exception:
                outcome, wrong = "trace", [traceback.format_exc()]
            failures += [f"table {number} ({', '.join(case.kinds)}, {case.path.name}): {each}" for each in wrong]
            for kind in case.kinds:
                counts = by_kind.setdefault(kind, Counter())
                counts.update({"tables": 1, outcome: 1, "rows": len(case.rows)})
    delimited.BLOCK = BLOCKS[0]
    kinds = {kind: dict(sorted(counts.items())) for kind, counts in sorted(by_kind.items())}
    return {"seed": seed, "tables": count, "failures": len(failures), "kinds": kinds}, failures


def main() -> None:
    """Read the tables, print the counts and write the result."""
    from machine import circumstances

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=TABLES, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same tables")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file to write")
    given = parser.parse_args()
    begun = time.perf_counter()
    result, failures = run(given.seed, given.tables)
    for line in failures[:50]:
        print(line)
    seconds = round(time.perf_counter() - begun, 1)
    command = "python " + " ".join(["benchmarks/fuzz_tables.py", *sys.argv[1:]])
    result = {"command": command, **circumstances("zhichun", "pyarrow"), "seconds": seconds, **result}
    for kind, counts in result["kinds"].items():
        print(f"{kind}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    print(f"{given.tables:,} tables, {len(failures)} failures, {seconds} s")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, result)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
