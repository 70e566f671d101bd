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

Legend: ``N`` products of one list, ``B`` texts, ``T`` tokens, ``D`` size of a vector; of many lists: ``L`` lists, ``U``
candidates, ``V`` products, ``F`` features.
"""

import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Doubles, Int64
from zhichun.core.console import say_aside
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import Floats
from zhichun.score.engine import required
from zhichun.score.folders import fingerprint
from zhichun.text.features import hash_texts
from zhichun.text.fold import fold_query
from zhichun.text.pairs import Arrays, TextReader
from zhichun.text.tokenizer import PairTokenizer

if TYPE_CHECKING:
    from zhichun.score.index.vectors import KeptVectors

NAME: Final = "similarity"  # of its folder
LONG: Final = (schema.BULLETS, schema.DESCRIPTION)
GRAPH: Final = "encoder.onnx"
LONGEST: Final = 64
BATCH: Final = 64
MOST_KNOWN: Final = 1 << 16  # two hundred megabytes of vectors of 384
PROMPTS: Final = "config_sentence_transformers.json"
READ: Final = ("input_ids", "attention_mask")
SOME: Final = 1 << 12  # candidates that are compared element by element at once
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
    fingerprint
        Of the encoder that `save` wrote, or an export of that.
    kept
        The index that vectors are taken from, if any.
    """

    reader: TextReader
    states_of: Callable[[Arrays], Floats]
    encoder: Any = None
    prompts: tuple[str, str] = ("", "")
    fingerprint: str = ""
    kept: "KeptVectors | None" = None
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
            reader, said = _reader(PairTokenizer.load(graph.parent)), _said(graph.with_name(PROMPTS))
            return cls(reader, _run(graph), None, *said)
        from zhichun.model.encoder import file_of, load_encoder, load_tokenizer
        from zhichun.score.torch_engine import Sentences

        encoder, said = Sentences(load_encoder(str(place))), _said(file_of(str(place), PROMPTS))
        if not any(said[0]) and "e5-" in str(place).lower():
            say_aside(
                f"{place} ranks much worse without its prompts, and has none in {PROMPTS}: write "
                '{"prompts": {"query": "query: ", "passage": "passage: "}} to that file in a folder of it.'
            )
        return cls(_reader(load_tokenizer(str(place))), encoder.of_arrays, encoder, *said)

    @classmethod
    def of_stack(cls, folder: Path) -> "Similarity | None":
        """Load that of a stack's folder, if it has one."""
        return cls.load(folder / NAME) if (folder / NAME).is_dir() else None

    def save(self, folder: Path) -> None:
        """Write tokenizer, prompts and encoder, as an encoder's folder has them."""
        from zhichun.model.encoder import save_encoder

        self.save_reader(folder)
        save_encoder(self.encoder.encoder, folder)
        replace(self, fingerprint=fingerprint(folder, but=PROMPTS)).save_prompts(folder)

    def save_reader(self, folder: Path) -> None:
        """Write all but the encoder."""
        folder.mkdir()
        self.reader.tokenizer.save(folder)
        self.save_prompts(folder)

    def save_prompts(self, folder: Path) -> None:
        """Write the prompts, and whose they are."""
        prompts = dict(zip(("query", "passage"), self.prompts, strict=True))
        write_json(folder / PROMPTS, {"prompts": prompts, "fingerprint": self.fingerprint})

    def of_products(self, products: Collection[Product]) -> dict[Product, Floats]:
        """Return two vectors of length 1 of each product, of title with brand and of all its texts, ``[2, D]``."""
        keys = {product: hash_texts(product) for product in products}
        found = {product: known for product, key in keys.items() if (known := self.known.get(key)) is not None}
        if self.kept is not None and (others := [product for product in products if product not in found]):
            kept = zip(others, self.kept.find([keys[product] for product in others]), strict=True)
            found |= {product: vectors for product, vectors in kept if vectors is not None}
        texts = {product: self._texts(product) for product in products if product not in found}
        vectors = self._read({text for each in texts.values() for text in each})
        for product, each in texts.items():
            of_text_BD = np.stack([vectors[text][0] for text in each])
            made_2D = np.stack([of_text_BD[0], unit(of_text_BD.sum(axis=0))])
            made_2D = made_2D if self.kept is None else self.kept.rounded(made_2D)
            found[product] = self.known[keys[product]] = made_2D
        while len(self.known) > MOST_KNOWN:
            self.known.pop(next(iter(self.known)), None)
        return found

    def of_lists(self, lists: Sequence[tuple[str, Sequence[Product]]]) -> tuple[list[Doubles], "PairVectors"]:
        """Return the features of each list, ``[N, 4]``; see the equation above. And the vectors of all, in order."""
        vectors = self.of_products({product for _, products in lists for product in products})
        place_of = {product: place for place, product in enumerate(vectors)}
        places = [np.asarray([place_of[product] for product in products]) for _, products in lists]
        products_V2D, made, queries = np.stack([*vectors.values()]), [], []
        for (query, _), places_N in zip(lists, places, strict=True):
            asked = self.prompts[0] + fold_query(query)
            query_TD = self._read({asked}, whole=False)[asked]
            queries.append(query_TD[0])
            made.append(_similar(query_TD, products_V2D[places_N]))
        list_U = np.repeat(np.arange(len(lists)), [len(products) for _, products in lists])
        return made, PairVectors(np.stack(queries), products_V2D, list_U, np.concatenate(places))

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


@dataclass(frozen=True, eq=False)
class PairVectors:
    """What the encoder says of candidates, each query and each product once.

    Parameters
    ----------
    queries_LD
        The query's vector of each list.
    products_V2D
        Of each product, as `Similarity.of_products` gives them.
    list_U, product_U
        Whose each candidate has.
    """

    queries_LD: Floats
    products_V2D: Floats
    list_U: Int64
    product_U: Int64

    def select(self, chosen_U: Int64) -> "PairVectors":
        """Take some candidates."""
        return replace(self, list_U=self.list_U[chosen_U], product_U=self.product_U[chosen_U])

    def features(self) -> Floats:
        """Give both cosines, and query and product element by element, for `linear_logits`, ``[U, F]``."""
        query_UD, (title_UD, all_UD) = self.queries_LD[self.list_U], self.products_V2D[self.product_U].swapaxes(0, 1)
        products = query_UD * title_UD, query_UD * all_UD
        cosines = [product_UD.sum(axis=1, keepdims=True) for product_UD in products]
        return np.concatenate([*cosines, *products, np.abs(query_UD - title_UD), query_UD, all_UD], axis=1)

    def linear_logits(self, weights_FC: Floats) -> Doubles:
        """Apply a linear model, whose last row is the bias, ``[U, C]``; rounded, as in `DIGITS`."""
        count = len(self.list_U)
        parts = map(self.select, np.split(np.arange(count), range(SOME, count, SOME)))  # little memory at once
        made = [part.features() @ weights_FC[:-1] + weights_FC[-1] for part in parts]
        return np.concatenate(made).astype(np.float64).round(DIGITS)


def _similar(query_TD: Floats, products_N2D: Floats) -> Doubles:
    """Return the features of one list: of the query its mean, then its tokens."""
    title_N, all_N = (products_N2D @ query_TD[0]).T
    least_N = (products_N2D[:, 1] @ query_TD[1:].T).min(axis=1)
    # Of several that are most similar, their mean: in any order of the rows.
    top_D = products_N2D[np.round(all_N, DIGITS) == np.round(all_N.max(), DIGITS), 1].mean(axis=0)
    found_N4 = np.stack([title_N, all_N, least_N, products_N2D[:, 1] @ unit(top_D)], axis=1)
    return np.asarray(found_N4, np.float64).round(DIGITS)


def unit(vectors: Floats) -> Floats:
    """Bring vectors to length 1; one of zeros stays."""
    made: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
    return made


def _said(path: Path) -> tuple[tuple[str, str], str]:
    """Read the prompts of sentence-transformers, none where it names none, and the fingerprint that `save` wrote."""
    said = read_json(path, dict) if path.is_file() else {}
    known = said.get("prompts") or {}
    products = (known[name] for name in ("passage", "document", "corpus") if name in known)
    return (known.get("query", ""), next(products, "")), said.get("fingerprint", "")


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
