"""What each case of `cases.py` should do, as its ``expected.md`` says; a judge gives what falls short."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc
import pyarrow.parquet as pq
from served import Served

HEALTH_SECONDS, MOST_MIB, MOST_ANSWER = 0.5, 300, 10_000
MISSING = {"", "nan", "none", "null", "n", "n a", "na", "n/a", "#n/a", "\\n", "-"}
INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and all that it wrote."""

    status: int
    text: str

    def says(self, pattern: str) -> bool:
        """Look for a pattern, whatever the case."""
        return re.search(pattern, self.text, re.IGNORECASE) is not None


class Run(Protocol):
    """Runs a command."""

    def __call__(self, command: Any, seconds: float = ...) -> Outcome:
        """Give how it ended."""


@dataclass(frozen=True)
class Case:
    """One case, in a folder of its own."""

    folder: Path
    script: Path
    commands: Sequence[str]
    shell: Run
    python: Run
    server: Callable[..., Served]
    run: Path
    data: Path

    def all(self) -> list[Outcome]:
        """Run all commands, one after the other."""
        return [self.shell(command) for command in self.commands]

    def table(self, name: str) -> Any:
        """Read a table that was made."""
        return pq.read_table(self.folder / name)


def plain(outcome: Outcome, what: str = "") -> Iterator[str]:
    """Want a good end, or a message of ours."""
    if "Traceback" in outcome.text:
        yield f"{what}ends in a trace: {outcome.text.strip().splitlines()[-1]}"


def well(outcome: Outcome, what: str = "") -> Iterator[str]:
    """Want a good end."""
    yield from plain(outcome, what)
    if outcome.status:
        yield f"{what}ends with {outcome.status}: {outcome.text[-300:]}"


def refused(outcome: Outcome, pattern: str, what: str = "") -> Iterator[str]:
    """Want a message that says the cause."""
    yield from plain(outcome, what)
    if not outcome.status:
        yield f"{what}is accepted"
    elif not outcome.says(pattern):
        yield f"{what}is refused without the cause ({pattern}): {outcome.text[-300:]}"


def no_mistakes(case: Case) -> Iterator[str]:
    for outcome in case.all():
        yield from well(outcome)
    if not re.search(r"(?i)\bno (mistake|wrong|confus)", (case.folder / "run" / "report.html").read_text("utf-8")):
        yield "the report does not say that there is no mistake"


def tsv_quotes(case: Case) -> Iterator[str]:
    (outcome,) = case.all()
    if outcome.status:
        yield from refused(outcome, r"p\.tsv.*row")
    elif (rows := case.table("out/products.parquet").num_rows) != 28:
        yield f"{rows} of 28 products"


def duplicate_header(case: Case) -> Iterator[str]:
    yield from refused(case.all()[0], r"title.*(twice|more than one|two|2)|(twice|more than one|two|2) .*title")


def columns_ignored(case: Case) -> Iterator[str]:
    first, second = case.all()
    for outcome, out, column, name in (
        (first, "out", "product_title", "Title"),
        (first, "out", "product_brand", "Brand"),
        (second, "out2", "product_color", "product_color_name"),
    ):
        yield from well(outcome)
        cells = case.table(f"{out}/products.parquet")[column].to_pylist()
        if not any(cells) and name not in outcome.text:
            yield f"{name} is dropped without a word"


def locale_case(case: Case) -> Iterator[str]:
    prepared, ranked, served, scored = case.all()
    for outcome in (prepared, ranked, served, scored):
        yield from well(outcome)
    if (found := set(case.table("out/examples.parquet")["product_locale"].to_pylist())) != {"us"}:
        yield f"--locale US becomes {found}"
    lower = case.shell(case.commands[1].replace("US", "us"))
    if lower.text != ranked.text:
        yield "rank answers otherwise to US than to us"
    lower = case.shell(case.commands[2].replace('"US"', '"us"'))
    if re.sub(r'"id":"[^"]*"', "", lower.text) != re.sub(r'"id":"[^"]*"', "", served.text):  # of each answer its own
        yield "the server answers otherwise to US than to us"
    us, upper, _ = scored.text.split()[-3:]
    if us != upper:
        yield f"Scorer.score gives {upper} for US and {us} for us"


def null_words(case: Case) -> Iterator[str]:
    yield from well(case.all()[0])
    products = case.table("out/products.parquet")
    for column in ("product_brand", "product_color", "product_description"):
        kept = {cell for cell in products[column].to_pylist() if cell and cell.casefold() in MISSING}
        if kept:
            yield f"{column} keeps {sorted(kept)}"
    for name in ("brands", "colors"):
        table = pq.read_table(case.folder / "out" / "vocabulary" / f"{name}.parquet")
        words = {str(word).casefold() for word in table.column(0).to_pylist() if word}
        if words & MISSING:
            yield f"{name} have vectors of {sorted(words & MISSING)}"


def judges_disagree(case: Case) -> Iterator[str]:
    (outcome,) = case.all()
    yield from plain(outcome)
    if outcome.status and "--judges" not in outcome.text:
        yield f"no way to settle it is named: {outcome.text[-300:]}"
    for way in ("majority", "mean", "distribution"):
        settled = case.shell(case.commands[0].replace("prepare out", f"prepare {way} --judges {way}"))
        yield from well(settled, f"--judges {way} ")
        examples = case.table(f"{way}/examples.parquet")
        if examples.num_rows != 24:
            yield f"--judges {way} keeps {examples.num_rows} of 24 pairs"
        first = examples.filter(pc.equal(examples["product_id"], "P000"))["esci_label"].to_pylist()
        if first != ["E"]:
            yield f"--judges {way} of 3, 3, 2 gives {first}"
    strict = case.shell(case.commands[0].replace("prepare out", "prepare strict --judges strict"))
    yield from refused(strict, "--judges", "--judges strict ")


def unjudged(case: Case) -> Iterator[str]:
    graded = [line.split(",") for line in (case.folder / "j.csv").read_text("utf-8").splitlines()[1:]]
    judged = sum(cells[-1] in ("0", "1", "2", "3") and cells[0] != "" for cells in graded)
    for outcome, out in zip(case.all(), ("out", "out2"), strict=True):
        yield from well(outcome, f"{out} ")
        if not outcome.status:
            kept = case.table(f"{out}/examples.parquet").num_rows
            if kept != judged:
                yield f"{out} keeps {kept} of {judged} judged pairs"
            if not re.search(r"(?i)not judged|unjudged", (case.folder / out / "manifest.json").read_text("utf-8")):
                yield f"{out} does not count what is not judged"


def remedy_not_there(case: Case) -> Iterator[str]:
    before = {path.name for path in case.folder.iterdir()}
    helped = case.shell("zhichun rank --help").text
    for outcome in case.all():
        yield from plain(outcome)
        if not outcome.says("no such option"):
            for option in set(re.findall(r"--[a-z][a-z-]+", outcome.text)) if outcome.status else ():
                if option not in helped:
                    yield f"rank recommends {option}, which it does not have"
        left = {path.name for path in case.folder.iterdir()} - before
        if unnamed := sorted(name for name in left if name not in outcome.text):
            yield f"{unnamed} is left in the user's folder without a word"


def wrong_remedies(case: Case) -> Iterator[str]:
    causes = (
        r"separat|';'|semicolon",
        r"weight.*(number|point)",
        r"brand.*object|object.*brand",
        r"array|one object (a|per|on each) line",
        "gzip",
        "sep=",
        "utf-16",
    )
    for number, (command, cause) in enumerate(zip(case.commands, causes, strict=True), start=1):
        outcome = case.shell(f"rm -rf out out.*; {command}")
        yield from plain(outcome, f"command {number} ")
        if outcome.status and not outcome.says(cause):
            yield f"command {number} is refused without the cause ({cause}): {outcome.text[-300:]}"
        if not outcome.status and not case.table("out/examples.parquet").num_rows:
            yield f"command {number} keeps nothing"


def format_characters(case: Case) -> Iterator[str]:
    scored, prepared = case.all()
    yield from well(scored)
    scores = [float(number) for number in re.findall(r"\d\.\d+(?:e-?\d+)?", scored.text)][-5:]
    if len(set(scores[:4])) != 1:
        yield f"format characters change the score: {scores}"
    yield from plain(prepared)
    if prepared.status:
        if not prepared.says("empty|no text|nothing"):
            yield f"a query of invisible characters is refused without the cause: {prepared.text[-300:]}"
        prepared = case.shell(f"rm -rf out; {case.commands[1]} --on-bad-rows drop")
        yield from well(prepared)
    queries = set(case.table("out/examples.parquet")["query"].to_pylist())
    if odd := [query for query in queries if not query.strip(INVISIBLE + " \u3164")]:
        yield f"queries of nothing that shows are kept: {odd}"
    texts = "".join(text or "" for text in case.table("out/products.parquet")["product_title"].to_pylist())
    if found := sorted({f"U+{ord(letter):04X}" for letter in texts} & {f"U+{ord(letter):04X}" for letter in INVISIBLE}):
        yield f"titles keep {found}"


def python_scoring(case: Case) -> Iterator[str]:
    (outcome,) = case.all()
    yield from well(outcome)
    answers = dict(re.findall(r"^--- (.+?) (OK .*|\w+(?:Error|Exception).*)$", outcome.text, re.MULTILINE))
    if len(answers) < 16:
        yield f"only {len(answers)} answers: {outcome.text[-300:]}"
    for name, answer in answers.items():
        if not answer.startswith(("OK", "UserError")):
            yield f"{name}: {answer}"
    for name in ("query None", "query nan", "query empty"):
        if not answers[name].startswith("UserError"):
            yield f"{name} is scored: {answers[name]}"
    if answers["single str"].startswith("OK") and len(re.findall(r"\d\.\d+", answers["single str"])) != 1:
        yield f"a lone text is not one product: {answers['single str']}"


def serve_messages(case: Case) -> Iterator[str]:
    causes = (r"documents\W+1\b.*null.*text", "UTF-8", "Content-Encoding.*gzip|gzip.*Content-Encoding", r"/v2/rerank")
    for number, (outcome, cause) in enumerate(zip(case.all(), causes, strict=True), start=1):
        if not outcome.says(cause):
            yield f"request {number} is answered without the cause ({cause}): {outcome.text[-300:]}"
    gzip = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, _ = case.server().ask("POST", "/v1/rerank", (case.folder / "body.json.gz").read_bytes(), gzip)
    if status != 415:
        yield f"a compressed body is answered with {status}, not 415"


def unbalanced_quote(case: Case) -> Iterator[str]:
    outcome = case.python([])
    if outcome.status:
        if not outcome.says(r"p\.csv, row 500"):
            yield f"no refusal that names the file: {outcome.text[-300:]}"
    elif not outcome.says("1000 read 1000 kept"):
        yield outcome.text[-200:]


def two_readers(case: Case) -> Iterator[str]:
    outcome = case.python([])
    kept = re.search(r"products kept (\d+) of 1000", outcome.text)
    if kept and kept[1] != "1000":
        yield f"the catalogue keeps {kept[1]} of 1,000"
    if not kept and not outcome.says(r"c\.csv, row 500"):
        yield f"no refusal that names the file: {outcome.text[-300:]}"


def field_limit(case: Case) -> Iterator[str]:
    outcome = case.python([])
    yield from well(outcome)
    for kind in ("csv", "parquet"):
        if f"{kind} ok 1" not in outcome.text:
            yield f"{kind}: {outcome.text[-300:]}"


def replacing_race(case: Case) -> Iterator[str]:
    outcome = case.python([])
    yield from well(outcome)
    if not outcome.says("final name now: A{20}"):
        yield outcome.text[-200:]
    if "second writer" in outcome.text:
        yield f"the second writer fails: {outcome.text[-200:]}"


def id_lookup(case: Case) -> Iterator[str]:
    outcome = case.python([])
    yield from well(outcome)
    seconds = [float(number) for number in re.findall(r"1000 ids ([\d.]+)", outcome.text)]
    vectorised = re.search(r"ProductLookup cpu s ([\d.]+)", outcome.text)
    if not vectorised or not seconds or min(seconds) > 4 * float(vectorised[1]) + 0.01:
        yield f"1,000 ids take {seconds} s, the vectorised look-up {vectorised and vectorised[1]} s"


def int_title(case: Case) -> Iterator[str]:
    outcome = case.python([])
    yield from well(outcome)
    if "12345678901234567" not in outcome.text:
        yield outcome.text[-200:]


def nan_settings(case: Case) -> Iterator[str]:
    outcome = case.python([])
    yield from well(outcome)
    for setting in re.findall(r"^(\S+=(?:NaN|Infinity|true)) accepted", outcome.text, re.MULTILINE):
        yield f"{setting} is accepted"


def large_bodies(case: Case) -> Iterator[str]:
    served = case.server()
    for kind, mib in (("ints", 1), ("ints", 4), ("empties", 1), ("unknown", 1), ("manykeys", 4), ("long1", 4)):
        outcome = case.python([str(served.port), str(served.process.pid), kind, str(mib)], 150)
        found = re.search(r"worst +([\d.]+) s, RSS (\d+) -> peak (\d+) .*answer (\d+) B", outcome.text)
        if not found:
            yield f"{kind} {mib} MiB: {outcome.text[-200:]}"
            continue
        if float(found[1]) > HEALTH_SECONDS:
            yield f"{kind} {mib} MiB: /health takes {found[1]} s"
        if int(found[3]) - int(found[2]) > MOST_MIB:
            yield f"{kind} {mib} MiB: memory grows by {int(found[3]) - int(found[2])} MiB"
        if kind != "long1" and int(found[4]) > MOST_ANSWER:
            yield f"{kind} {mib} MiB: an answer of {found[4]} bytes"


def slow_readers(case: Case) -> Iterator[str]:
    served = case.server()
    outcome = case.python([str(served.port), str(served.process.pid), "20", "18"], 240)
    yield from well(outcome)
    resident = [
        int(number)
        for number in re.findall(r"RSS (\d+)|\) (\d+)$", outcome.text, re.MULTILINE)
        for number in number
        if number
    ]
    if resident and max(resident) - resident[0] > MOST_MIB:
        yield f"memory grows by {max(resident) - resident[0]} MiB"
    if not re.search(r"after they went: \(200", outcome.text):
        yield f"no answer after they went: {outcome.text[-200:]}"


def slow_heads(case: Case) -> Iterator[str]:
    served = case.server()
    outcome = case.python([str(served.port), "1000", "40"], 180)
    yield from well(outcome)
    for status, seconds in re.findall(r"(?:/health|went:) \('?(\w+)'?, ([\d.]+)\)", outcome.text):
        if status != "200" or float(seconds) > HEALTH_SECONDS:
            yield f"/health gives {status} after {seconds} s"
    closed = re.search(r"closed by the server: (\d+) of (\d+)", outcome.text)
    if not closed or closed[1] != closed[2]:
        yield f"half heads stay open: {closed and closed[0]}"


def workers(case: Case) -> Iterator[str]:
    served = case.server("--workers", "2")
    outcome = case.python([str(served.port), "4"], 100)
    yield from well(outcome)
    if not re.match(r"(4\d\d|503) ", outcome.text):
        yield outcome.text[-200:]
    if served.ask("GET", "/health", seconds=10)[0] != 200:
        yield "no /health afterwards"


JUDGES: dict[str, Callable[[Case], Iterator[str]]] = {
    "01-evaluate-crash-no-mistakes": no_mistakes,
    "02-tsv-quote-swallows-rows": tsv_quotes,
    "03-duplicate-header-first-wins": duplicate_header,
    "04-columns-ignored-silently": columns_ignored,
    "06-locale-upper-case-option": locale_case,
    "07-null-words-kept-as-values": null_words,
    "08-judges-disagree": judges_disagree,
    "09-unjudged-and-minus-one": unjudged,
    "11-remedy-that-is-not-there": remedy_not_there,
    "12-wrong-remedies-of-malformed": wrong_remedies,
    "14-format-characters-in-words": format_characters,
    "15-scorer-single-text-and-none": python_scoring,
    "17-serve-messages": serve_messages,
    "review/1_unbalanced_quote_halves_catalogue.py": unbalanced_quote,
    "review/1b_two_csv_readers_disagree.py": two_readers,
    "review/2_field_limit_depends_on_pairs_format.py": field_limit,
    "review/3_replacing_race.py": replacing_race,
    "review/4_id_lookup_cost.py": id_lookup,
    "review/5_int_title_corrupted.py": int_title,
    "review/6_nan_settings_accepted.py": nan_settings,
    "server/d1_event_loop.py": large_bodies,
    "server/d2_slow_reader.py": slow_readers,
    "server/d3_slowloris.py": slow_heads,
    "server/w5_workers.py": workers,
}
