"""How similar a sentence encoder finds query and product, each read alone: what the second stage may read beside words.

Equation   ``cos(u, v)``: ``u`` the mean over the query's tokens; ``v`` that of title with brand, or of all texts, where
           bullets and description weigh as much each; ``min_t cos(u_t, v)`` of the query's tokens ``u_t``, low where
           nothing of the product is like a word; and ``cos(v*, v)`` with the list's most similar product ``v*``
Reference  Reimers and Gurevych, 2019, *Sentence-BERT*; Khattab and Zaharia, 2020, *ColBERT*, for single words
Our number see experiments/LOG.md, 2026-11-26
Cost       a pass over the query, and over three texts of each product that is new; two vectors of it are remembered
Traps      the encoder is one whose means of tokens were trained to be compared (sentence-transformers', E5), without
           further layers; it is never trained here. E5 ranks much worse without its prompts, "query: " and "passage: ".
           A query is read in its folded form, so that its spellings are one

Legend: ``N`` products of one list, ``B`` texts, ``T`` tokens, ``D`` size of a vector.
"""

import importlib.util
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.console import say_aside
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import Floats
from zhichun.score.engine import required
from zhichun.text.features import hash_texts
from zhichun.text.fold import fold_query
from zhichun.text.pairs import Arrays, TextReader
from zhichun.text.tokenizer import PairTokenizer

NAME: Final = "similarity"  # of its folder
LONG: Final = (schema.BULLETS, schema.DESCRIPTION)
GRAPH: Final = "encoder.onnx"
LONGEST: Final = 64
BATCH: Final = 64
MOST_KNOWN: Final = 1 << 16  # two hundred megabytes of vectors of 384
PROMPTS: Final = "config_sentence_transformers.json"
READ: Final = ("input_ids", "attention_mask")
# Float sums differ in their last digits with the order of a list.
DIGITS: Final = 5
Product = tuple[str | None, ...]  # the cleaned texts, in the order of `schema.TEXT_COLUMNS`


@dataclass(frozen=True, eq=False)
class Similarity:
    """Cosines of queries and products.

    Parameters
    ----------
    reader
        Cuts texts into tokens.
    states_of
        Reads ``input_ids`` and ``attention_mask`` ``[B, T]``; returns a vector of each token, ``[B, T, D]``.
    encoder
        What `save` writes; ``None`` where a graph was loaded.
    prompts
        What stands before a query, and before a product.
    """

    reader: TextReader
    states_of: Callable[[Arrays], Floats]
    encoder: Any = None
    prompts: tuple[str, str] = ("", "")
    known: dict[bytes, Floats] = field(default_factory=dict)

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
        from zhichun.score.torch_engine import Sentences

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

    def of_products(self, products: Collection[Product]) -> dict[Product, Floats]:
        """Return two vectors of length 1 of each product, of title with brand and of all its texts, ``[2, D]``."""
        keys = {product: hash_texts(product) for product in products}
        found = {product: kept for product, key in keys.items() if (kept := self.known.get(key)) is not None}
        texts = {product: self._texts(product) for product in products if product not in found}
        vectors = self._read({text for each in texts.values() for text in each})
        for product, each in texts.items():
            of_text_BD = np.stack([vectors[text][0] for text in each])
            found[product] = self.known[keys[product]] = np.stack([of_text_BD[0], unit(of_text_BD.sum(axis=0))])
        while len(self.known) > MOST_KNOWN:
            self.known.pop(next(iter(self.known)), None)
        return found

    def of_list(self, query: str, products_N2D: Floats) -> Doubles:
        """Return the features of one list, ``[N, 4]``; see the equation above."""
        asked = self.prompts[0] + fold_query(query)
        query_TD = self._read({asked}, whole=False)[asked]
        title_N, all_N = (products_N2D @ query_TD[0]).T
        least_N = (products_N2D[:, 1] @ query_TD[1:].T).min(axis=1)
        # Of several that are most similar, their mean: in any order of the rows.
        top_D = products_N2D[np.round(all_N, DIGITS) == np.round(all_N.max(), DIGITS), 1].mean(axis=0)
        found_N4 = np.stack([title_N, all_N, least_N, products_N2D[:, 1] @ unit(top_D)], axis=1)
        return np.asarray(found_N4, np.float64).round(DIGITS)

    def _texts(self, product: Product) -> list[str]:
        """Give what is read of a product: title with brand, and the longer texts that it has."""
        read = dict(zip(schema.TEXT_COLUMNS, product, strict=True))
        first = " ".join(filter(None, (read[schema.TITLE], read[schema.BRAND])))
        return [self.prompts[1] + text for text in (first, *filter(None, map(read.get, LONG)))]

    def _read(self, texts: Collection[str], *, whole: bool = True) -> dict[str, Floats]:
        """Read texts: the mean over all tokens of each and, if not whole, each token of its own words; of length 1."""
        new, found = sorted(texts, key=lambda text: (len(text), text)), dict[str, Floats]()
        layout, prompt = self.reader.tokenizer.layout, self.reader.tokens([self.prompts[0].strip()])[0]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            arrays = self.reader.singles(self.reader.tokens(batch))
            states_BTD = self.states_of({name: arrays[name] for name in READ})
            for text, states_TD, mask_T in zip(batch, states_BTD, arrays["attention_mask"], strict=True):
                end = int(mask_T.sum())
                mean_1D = states_TD[:end].mean(axis=0, keepdims=True)
                own_TD = states_TD[len(layout.prefix) + len(prompt) : end - len(layout.suffix)]
                of_words = () if whole else (own_TD if len(own_TD) else mean_1D,)
                found[text] = unit(np.concatenate([mean_1D, *of_words]))
        return found


def unit(vectors: Floats) -> Floats:
    """Bring vectors to length 1; one of zeros stays."""
    made: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
    return made


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
