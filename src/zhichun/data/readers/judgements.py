"""Grades of any scale as the four labels, and judgements in the TREC format.

Quepid's CSV (``query,docid,rating``) is an ordinary table (`zhichun.data.readers.columns` knows its names). A TREC
qrels file (``qid 0 docid grade``) holds no query texts: they come from a file of topics (``qid<TAB>query``).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Final

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import LABEL_NAMES
from zhichun.data.readers.table import require_file
from zhichun.data.readers.text_table import Row, TextTable
from zhichun.text.fold import fold_grade

_KNOWN: Final = {fold_grade(label): label for label in LABEL_NAMES}


def grade_labels(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Say which grade stands for which label.

    Parameters
    ----------
    given
        The user's grades to labels, such as ``{"3": "E", "2": "S", "1": "C", "0": "I"}``.

    Returns
    -------
    dict
        Folded grade to label. E, S, C, I and their names are in it, unless the user means something else by them.

    Raises
    ------
    UserError
        If a label is none of the four.
    """
    labels = dict(_KNOWN)
    for grade, label in (given or {}).items():
        if fold_grade(label) not in _KNOWN:
            raise UserError(
                f"grade {grade!r} is mapped to {label!r}, which is no label", remedy=suggest(label, LABEL_NAMES)
            )
        labels[fold_grade(grade)] = _KNOWN[fold_grade(label)]
    return labels


class QrelsTable(TextTable):
    """Judgements in the TREC format, with the query texts from a file of topics.

    Parameters
    ----------
    path
        The qrels: ``qid``, an unused number, ``docid`` and grade, with white space between them.
    topics
        Query texts by id; see `read_topics`. A query that is not in it has no text.
    """

    suffixes = (".qrels", ".qrel", ".trec")
    _columns: ClassVar[tuple[str, ...]] = ("query_id", "product_id", "label", "query")

    def __init__(self, path: Path, topics: Mapping[str, str]) -> None:
        self._topics = topics
        super().__init__(path)

    def _read_names(self) -> list[str]:
        return list(self._columns)

    def _rows(self, stream: IO[str], names: Sequence[str]) -> Iterator[Row]:
        for number, line in enumerate(stream, start=1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != 4:
                yield Row(number, [line.rstrip("\r\n")], f"{len(parts)} values where a judgement has 4")
                continue
            qid, _, docid, grade = parts
            values = dict(zip(self._columns, (qid, docid, grade, self._topics.get(qid)), strict=True))
            yield Row(number, [values[name] for name in names])


def read_topics(path: Path) -> dict[str, str]:
    """Read query texts by id: one ``qid<TAB>query`` a line, without a header.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Id to text.

    Raises
    ------
    UserError
        If a line is something else, is not UTF-8 or gives an id a second text.
    """
    require_file(path)
    topics: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError("is not UTF-8", remedy="Save the file as UTF-8.", file=path, row=number) from error
        qid, tab, query = text.partition("\t")
        if not text.strip():
            continue
        if not tab:
            raise UserError("has no tab", remedy="Write an id, a tab and the query on a line.", file=path, row=number)
        if topics.setdefault(qid.strip(), query) != query:
            raise UserError(f"a second text for query {qid!r}", remedy="Keep one of them.", file=path, row=number)
    return topics
