"""An LLM as a judge of pairs: what it will cost, the asking, and the table of its judgements.

Every answer is kept in an SQLite file the moment it comes, under a hash of model, prompt, query and product, so that
none is paid for twice: a kill costs at most the calls in flight. The table has one row for each distinct pair, in the
columns that `zhichun agreement` and `zhichun prepare --judgements` read; a pair without a judgement has the reason.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import NotWritten
from zhichun.core.settings import require_range
from zhichun.data.readers.pair_tables import kind_of, write_tables
from zhichun.data.readers.rejected import FirstRefusal, OnBadRows, Say, silent
from zhichun.data.readers.sources import PAIRS, describe_columns, match_pairs, open_table
from zhichun.data.readers.table import Batch, Table
from zhichun.judgements.chat import Answer, Chat, Message, Prompt, about_tokens
from zhichun.score.parts import look_up, of_pairs
from zhichun.score.rank import ProductLookup
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locales, fold_query, trim_ids

NO_TEXT: Final = "the product has no text"
NOT_ASKED: Final = "not asked"
# So many failures in a row are no accident: of the server, or of all answers so far.
MOST_IN_A_ROW: Final = 5
# Rows whose texts are held at once.
_ROWS: Final = 256
_TEXTS: Final = (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.JUDGE, "label", "reason", "failure")
_GO_ON: Final = "What was answered is kept: the same command goes on."


class Asked(NamedTuple):
    """A pair of the table, and the key of what is asked of it; none where its product has no text."""

    query: str
    product_id: str
    locale: str
    key: bytes | None


@dataclass(frozen=True)
class Plan:
    """What is going to be asked.

    Attributes
    ----------
    pairs
        All distinct pairs, in the order of the table.
    counts
        ``repeated`` rows of pairs that came before; pairs ``judged`` before, and that ``failed`` before or have no
        text; ``calls`` to make, and about how many ``tokens`` they send.
    """

    pairs: list[Asked]
    counts: Counter[str]


@dataclass
class Outcome:
    """What came of it: pairs by label, failures by reason, and the tokens of all answers."""

    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    tokens_out: int = 0


class Answers:
    """The answers that are kept, in an SQLite file that several processes may share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._naming():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL)")

    def get(self, key: bytes | None) -> Answer | None:
        """Look an answer up."""
        with self._naming():
            found = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            return None if found is None else Answer(**json.loads(found[0]))

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        with self._naming():
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(asdict(answer))))

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, ValueError, TypeError) as error:
            remedy = f"Free some space, or name another file with --cache. {_GO_ON}"
            raise NotWritten(f"the answers cannot be kept ({error}).", file=self._path, remedy=remedy) from error


@dataclass(frozen=True, kw_only=True)
class JudgingJob:
    """Has the pairs of a table judged.

    Attributes
    ----------
    chat, prompt
        Who judges, and how it is asked.
    pairs
        CSV, TSV, JSON Lines or Parquet with query and product_id, and the product's texts or ``catalogue``.
    out
        CSV, TSV, JSON Lines or Parquet to write.
    cache
        SQLite file of answers.
    catalogue
        Table or folder to look products up in.
    columns
        Own column names; those of the catalogue with ``products.`` before the key.
    locale
        Locale of rows without one.
    limit
        Distinct pairs that are judged at most, the first ones.
    concurrency
        Calls at once.
    retry_failed
        Whether to ask again where an answer was kept that cannot be used.
    on_bad_rows
        Whether products of the catalogue that cannot be used stop the work (``fail``) or are left out (``drop``).
    say
        Called with lines for the user.
    """

    chat: Chat
    prompt: Prompt
    pairs: Path
    out: Path
    cache: Path
    catalogue: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    locale: str = schema.LOCALES[0]
    limit: int | None = None
    concurrency: int = 8
    retry_failed: bool = False
    on_bad_rows: OnBadRows = "fail"
    say: Say = silent

    def __post_init__(self) -> None:
        require_range(self, "limit", "concurrency", least=1)

    def plan(self) -> Plan:
        """Read all pairs, and find what is to be asked; nothing is asked yet.

        Raises
        ------
        UserError
            For a file that cannot be read or written, a missing column, an empty query or an unknown product.
        """
        kind_of(self.out)
        if self.out.is_dir():
            raise UserError("is a folder, not a file.", file=self.out, remedy="Name a file.")
        pairs, counts, asking = list[Asked](), Counter[str](), set[bytes]()
        for pair, messages in self._read(counts):
            pairs.append(pair)
            known = self._answers.get(pair.key)
            if pair.key is None or not self.is_open(known):
                counts["judged" if known and known.label else "failed"] += 1
            elif pair.key not in asking:
                asking.add(pair.key)
                counts.update(calls=1, tokens=about_tokens(messages))
        return Plan(pairs, counts)

    def run(self, plan: Plan, progress: Callable[[], None] = lambda: None) -> Outcome:
        """Ask what is not answered yet, and write the table.

        Raises
        ------
        UserError
            When the server cannot be reached, refuses all, or no answer can be kept; what was answered before is.
        """
        asking = _Asking(self.chat, self._answers, plan.counts["judged"], progress)
        asyncio.run(asking.all(self._open_pairs(), self.concurrency))
        # By key: pairs of one content have one answer, which was paid for once.
        answers = {pair.key: self._answers.get(pair.key) for pair in plan.pairs}
        outcome = Outcome()
        for answer in filter(None, answers.values()):
            outcome.tokens_in += answer.tokens_in
            outcome.tokens_out += answer.tokens_out
        rows = [self._row(pair, answers[pair.key], asking.unanswered, outcome) for pair in plan.pairs]
        kinds = [(name, pa.string()) for name in _TEXTS]
        kinds += [(name, pa.float64()) for name in schema.PROBABILITIES if self.prompt.letter]
        table = pa.Table.from_pylist(rows, pa.schema(kinds))
        write_tables([table], table.schema, self.out)
        return outcome

    def _row(
        self, pair: Asked, answer: Answer | None, unanswered: Mapping[bytes, str], outcome: Outcome
    ) -> dict[str, Any]:
        if answer is None:
            answer = Answer(failure=NO_TEXT if pair.key is None else unanswered.get(pair.key, NOT_ASKED))
        outcome.labels[answer.label or ""] += 1
        if answer.failure:
            outcome.failures[answer.failure.partition(":")[0]] += 1
        said = (self.chat.model, answer.label, answer.reason, answer.failure)
        shares = zip(schema.PROBABILITIES, answer.probabilities or (), strict=False)
        return {**dict(zip(_TEXTS, (*pair[:3], *said), strict=True)), **dict(shares)}

    def is_open(self, known: Answer | None) -> bool:
        """Tell whether a pair has still to be asked for."""
        return known is None or (self.retry_failed and bool(known.failure))

    def _open_pairs(self) -> Iterator[tuple[bytes, list[Message]]]:
        """Give each request that is not answered once, looked up when its turn has come."""
        given = set[bytes]()
        for pair, messages in self._read(Counter()):
            if pair.key is not None and pair.key not in given and self.is_open(self._answers.get(pair.key)):
                given.add(pair.key)
                yield pair.key, messages

    def _read(self, counts: Counter[str]) -> Iterator[tuple[Asked, list[Message]]]:
        """Read each distinct pair, with what is asked of it."""
        seen = set[tuple[str, str, str]]()
        for batch in self._table.batches(self._columns, FirstRefusal(self.pairs), _ROWS):
            queries = batch.columns[schema.QUERY].to_pylist()
            locales = fold_locales(batch.columns.get(schema.LOCALE), self.locale, len(queries))
            ids = trim_ids(batch.columns[schema.PRODUCT_ID])
            texts = self._texts(batch, ids, locales)
            where = zip(queries, ids.to_pylist(), locales.to_pylist(), batch.rows_N.tolist(), strict=True)
            for place, (query, product_id, locale, row) in enumerate(where):
                if not (clean_text(query or "") and product_id):
                    problem = "the query or the product id is empty."
                    raise UserError(problem, file=self.pairs, row=row, remedy="Fill it in, or drop the row.")
                pair = fold_query(query), product_id, locale
                if pair in seen:
                    counts["repeated"] += 1
                    continue
                if len(seen) == self.limit:
                    return
                seen.add(pair)
                messages = self.prompt.messages(query, {name: of[place] for name, of in texts.items()}, locale)
                key = self.chat.key(messages) if messages else None
                yield Asked(clean_text(query), product_id, locale, key), messages

    def _texts(self, batch: Batch, ids: pa.Array, locales: pa.Array) -> dict[str, list[str | None]]:
        if self._products is None:
            return {name: batch.columns[name].to_pylist() for name in schema.TEXT_COLUMNS if name in batch.columns}
        rows = self._products.rows(locales, ids)
        if (rows < 0).any():
            place = int((rows < 0).argmax())
            problem = f"there is no product {ids[place].as_py()!r} in the locale {locales[place].as_py()!r}."
            remedy = "Add it to the catalogue given with --products."
            raise UserError(problem, file=self.pairs, row=int(batch.rows_N[place]), remedy=remedy)
        return self._products.texts(rows)

    @cached_property
    def _answers(self) -> Answers:
        return Answers(self.cache)

    @cached_property
    def _table(self) -> Table:
        return open_table(self.pairs)

    @cached_property
    def _columns(self) -> dict[str, str]:
        own = of_pairs(self.columns)
        columns = match_pairs(own, self._table, catalogue=True)
        if self.catalogue is None:
            columns |= match_pairs(own, self._table, catalogue=False)
        for line in describe_columns(PAIRS, columns, self._table, keep=()):
            self.say(line)
        return columns

    @cached_property
    def _products(self) -> ProductLookup | None:
        if self.catalogue is None:
            return None
        return look_up(self.catalogue, self.columns, self.locale, self.on_bad_rows, (), self.say)


@dataclass
class _Asking:
    """The calls of one run, several at once; it stops where going on would help nobody."""

    chat: Chat
    answers: Answers
    judged: int  # pairs of which an answer could be read
    progress: Callable[[], None]
    in_a_row: int = 0
    stopped: UserError | None = None
    unanswered: dict[bytes, str] = field(default_factory=dict)

    async def all(self, waiting: Iterator[tuple[bytes, list[Message]]], concurrency: int) -> None:
        """Ask all; the first alone and without retries, so that what is wrong for all is found by one call."""
        try:
            for key, messages in waiting:
                answer = await self.chat.ask(messages, retries=0)
                self._keep(key, answer if answer.is_final else await self.chat.ask(messages))
                break
            await asyncio.gather(*(self._work(waiting) for _ in range(concurrency)))
        finally:
            await self.chat.close()
        if self.stopped is not None:
            raise self.stopped

    async def _work(self, waiting: Iterator[tuple[bytes, list[Message]]]) -> None:
        # After a stop no call begins, but those in flight are paid for, and end.
        while self.stopped is None and (one := next(waiting, None)) is not None:
            try:
                self._keep(one[0], await self.chat.ask(one[1]))
            except UserError as error:
                self.stopped = self.stopped or error

    def _keep(self, key: bytes, answer: Answer) -> None:
        if answer.is_final:
            self.answers.put(key, answer)
        else:
            self.unanswered[key] = answer.failure
        self.progress()
        self.judged += not answer.failure
        self.in_a_row = self.in_a_row + 1 if answer.failure else 0
        if self.in_a_row >= MOST_IN_A_ROW and not (answer.is_final and self.judged):
            problem = f"{self.in_a_row} calls in a row failed, the last one so: {answer.failure}."
            raise UserError(problem, remedy=f"Change the request with --request, or see to the server. {_GO_ON}")
