"""How similar a sentence encoder finds query and product, each read alone: what the second stage may read beside words.

Equation   ``cos(u, v)`` of the means over the tokens of the query, and of the product's title and brand
Reference  Reimers and Gurevych, 2019, *Sentence-BERT*
Our number see experiments/LOG.md, 2026-11-26
Cost       a pass over the query, and over each product that is new; a vector of each is remembered
Traps      the encoder is one whose means of tokens were trained to be compared (sentence-transformers', E5), without
           further layers; it is never trained here. E5 ranks much worse without its prompts, "query: " and "passage: ".
           A query is read in its folded form, so that its spellings are one

Legend: ``P`` pairs, ``B`` texts, ``T`` tokens, ``D`` size of a vector.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.console import say_aside
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import Floats
from zhichun.score.engines.engine import required
from zhichun.text.features import readable
from zhichun.text.fold import fold_query
from zhichun.text.pairs import Arrays, Columns, TextReader
from zhichun.text.tokenizer import PairTokenizer

NAME: Final = "similarity"
GRAPH: Final = "encoder.onnx"
LONGEST: Final = 64
BATCH: Final = 64
MOST_KNOWN: Final = 1 << 16  # a hundred megabytes of vectors of 384
PROMPTS: Final = "config_sentence_transformers.json"
READ: Final = ("input_ids", "attention_mask")


@dataclass(frozen=True, eq=False)
class Similarity:
    """The cosine of queries and products.

    Parameters
    ----------
    reader
        Cuts texts into tokens.
    vectors_of
        Reads ``input_ids`` and ``attention_mask`` ``[B, T]``; returns vectors of length 1, ``[B, D]``.
    encoder
        What `save` writes; ``None`` where a graph was loaded.
    prompts
        What stands before a query, and before a product.
    """

    reader: TextReader
    vectors_of: Callable[[Arrays], Floats]
    encoder: Any = None
    prompts: tuple[str, str] = ("", "")
    known: dict[str, Floats] = field(default_factory=dict)

    @classmethod
    def load(cls, place: Path | str) -> "Similarity":
        """Load an encoder by name or folder, or what `save` or an export wrote.

        Raises
        ------
        UserError
            When there is none.
        """
        if (graph := Path(place) / GRAPH).is_file():
            return cls(_reader(PairTokenizer.load(graph.parent)), _run(graph), None, _prompts(graph.with_name(PROMPTS)))
        from zhichun.model.encoder import file_of, load_encoder, load_tokenizer
        from zhichun.score.engines.torch_engine import Sentences

        encoder, prompts = Sentences(load_encoder(str(place))), _prompts(file_of(str(place), PROMPTS))
        if not any(prompts) and "e5-" in str(place).lower():
            say_aside(
                f"{place} ranks much worse without its prompts, and has none in {PROMPTS}: write "
                '{"prompts": {"query": "query: ", "passage": "passage: "}} to that file in a folder of it.'
            )
        return cls(_reader(load_tokenizer(str(place))), encoder.of_arrays, encoder, prompts)

    def save(self, folder: Path) -> None:
        """Write tokenizer, prompts and encoder, as an encoder's folder has them."""
        from zhichun.model.encoder import save_encoder

        self.save_reader(folder)
        save_encoder(self.encoder.encoder, folder)

    def save_reader(self, folder: Path) -> None:
        """Write all but the encoder."""
        folder.mkdir()
        self.reader.tokenizer.save(folder)
        write_json(folder / PROMPTS, {"prompts": dict(zip(("query", "passage"), self.prompts, strict=True))})

    def of(self, queries: Sequence[str], products: Columns) -> Doubles:
        """Return the cosine of each pair, ``[P]``."""
        columns = (products.get(name) or [None] * len(queries) for name in (schema.TITLE, schema.BRAND))
        before, above = self.prompts
        texts = [above + " ".join(readable(text) for text in both if text) for both in zip(*columns, strict=True)]
        folded = {query: before + fold_query(query) for query in set(queries)}
        asked, sold = self._vectors({*folded.values()}), self._vectors({*texts})
        pairs = zip((folded[query] for query in queries), texts, strict=True)
        return np.asarray([asked[query] @ sold[text] for query, text in pairs], np.float64)

    def _vectors(self, texts: set[str]) -> dict[str, Floats]:
        found = {text: vector for text in texts if (vector := self.known.get(text)) is not None}
        new = sorted(texts - found.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            arrays = self.reader.singles(self.reader.tokens(batch))
            found |= zip(batch, self.vectors_of({name: arrays[name] for name in READ}), strict=True)
        for text in new:
            self.known[text] = found[text]
        while len(self.known) > MOST_KNOWN:
            self.known.pop(next(iter(self.known)), None)
        return found


def _prompts(path: Path) -> tuple[str, str]:
    """Read the prompts of sentence-transformers; none where it names none."""
    known = read_json(path, dict).get("prompts") or {} if path.is_file() else {}
    products = (known[name] for name in ("passage", "document", "corpus") if name in known)
    return known.get("query", ""), next(products, "")


def _reader(tokenizer: PairTokenizer) -> TextReader:
    return TextReader(tokenizer, ("title",), LONGEST)


def _run(graph: Path) -> Callable[[Arrays], Floats]:
    """Open a graph with whichever runtime is there."""
    if importlib.util.find_spec("onnxruntime") is None:
        compiled = required("openvino").compile_model(graph, "CPU")
        return lambda arrays: np.array(compiled([arrays[name] for name in READ])[0])
    options = required("onnxruntime").SessionOptions()
    options.log_severity_level = 3
    session = required("onnxruntime").InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda arrays: np.asarray(session.run(None, arrays)[0], np.float32)
