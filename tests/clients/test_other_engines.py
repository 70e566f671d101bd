"""What `zhichun export --for` writes, scored by the engines' own code where it installs beside the project.

`benchmarks/engines_parity.py` runs all of them, each in an environment of its own.
"""

import importlib.util
import json

import pytest
from engine_clients import ENGINES, difference, parity_of
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from zhichun.data.dataset import Dataset
from zhichun.fit.train import train
from zhichun.score.export.for_engines import export_for

NEEDS = {
    "sentence-transformers": "sentence_transformers",
    "torch.jit": "torch",
    "eland": "eland",
    "vllm": "vllm",
    "transformers": "transformers",
    "onnxruntime": "onnxscript",
}
# Each way with the kinds of tokenizer that differ for it; the benchmark has all.
CALLS = [
    ("sentence-transformers", "sentence-transformers", "tiny"),
    ("sentence-transformers", "sentence-transformers", "bert"),
    ("tei", "transformers", "bert"),
    ("vllm", "transformers", "tiny"),
    ("vllm", "vllm", "tiny"),
    ("elasticsearch", "torch.jit", "bert"),
    ("elasticsearch", "torch.jit", "xlm-r"),
    ("elasticsearch", "eland", "bert"),
    ("opensearch", "onnxruntime", "bert"),
    ("vespa", "onnxruntime", "bert"),
    ("vespa", "onnxruntime", "tiny"),
]
SPECIALS = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "xlm-r": ["<pad>", "<unk>", "<s>", "</s>", "<mask>"],
}
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def word_piece(titles):
    """A tokenizer of BERT's kind."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(titles, trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIALS["bert"]))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def sentence_piece(titles):
    """A tokenizer of XLM-R's kind: SentencePiece's Unigram, with its normalisation, in fairseq's order."""
    import io

    import sentencepiece

    pytest.importorskip("google.protobuf")
    from sentencepiece import sentencepiece_model_pb2

    written, read = io.BytesIO(), sentencepiece_model_pb2.ModelProto()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(titles), model_writer=written, vocab_size=300, hard_vocab_limit=False, minloglevel=2
    )
    read.ParseFromString(written.getvalue())
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(each.piece, each.score) for each in read.pieces[3:]]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    folded = normalizers.Precompiled(read.normalizer_spec.precompiled_charsmap)
    tokenizer.normalizer = normalizers.Sequence([folded, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(SPECIALS["xlm-r"])
    ends = [("<s>", 0), ("</s>", 2)]
    pair = "<s> $A </s> </s> $B </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair=pair, special_tokens=ends)
    return tokenizer


def run_of(kind, dataset, recipe, folder):
    """Train a run from an encoder of a kind, of random weights, with a tokenizer of the catalogue's titles."""
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    catalogue = Dataset.open(dataset).product_batches()
    titles = [text for batch in catalogue for text in batch["product_title"].to_pylist()]
    tokenizer = word_piece(titles) if kind == "bert" else sentence_piece(titles)
    tokenizer.save(str(folder / "tokenizer.json"))
    pad, unknown, first, last, mask = SPECIALS[kind]
    names = {"pad_token": pad, "unk_token": unknown, "cls_token": first, "sep_token": last, "mask_token": mask}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    size = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 66, **SIZE}
    encoder = BertModel(BertConfig(**size)) if kind == "bert" else XLMRobertaModel(XLMRobertaConfig(**size))
    encoder.save_pretrained(folder)
    recipe = recipe.with_settings([f"model.encoder={folder}", "model.tiny=TinyEncoder"])
    return train(recipe, dataset, folder / "run").path


@pytest.fixture(scope="module")
def runs(one_score_run, tiny_dataset, one_score_recipe, tmp_path_factory):
    """Runs that other engines take, by the kind of their encoder and tokenizer."""
    made = {
        kind: run_of(kind, tiny_dataset, one_score_recipe, tmp_path_factory.mktemp(kind)) for kind in ("bert", "xlm-r")
    }
    return {"tiny": one_score_run, **made}


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    """Exports by kind of encoder and engine, made once."""
    made = {}

    def folder_of(kind, engine):
        if (kind, engine) not in made:
            out = tmp_path_factory.mktemp("engine") / "relevance"
            export_for(runs[kind], engine, out, shown=False)
            made[kind, engine] = out
        return made[kind, engine]

    return folder_of


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # what Elasticsearch reads is TorchScript
@pytest.mark.parametrize(("engine", "by", "kind"), CALLS, ids=[", ".join(call) for call in CALLS])
def test_an_engine_gives_the_scores_of_the_parity_file_in_the_same_order(exported, engine, by, kind):
    if importlib.util.find_spec(NEEDS[by]) is None:
        pytest.skip(f"{NEEDS[by]} is not installed")
    folder = exported(kind, engine)
    pairs, expected = parity_of(folder)
    found = difference(ENGINES[engine][by](folder, pairs), expected)
    assert found["pairs"] > 150  # of a model that hardly learnt, more scores are alike
    assert found["greatest_difference"] < 1e-4
    assert found["places_of_order_changed"] == 0


def test_long_pairs_are_among_those_of_the_parity_file(exported):
    folder = exported("bert", "opensearch")
    about = json.loads((folder / "engine.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_file(str(exported("bert", "vespa") / "models" / "tokenizer.json"))
    lengths = [len(tokenizer.encode(*pair).ids) for pair in parity_of(folder)[0]]
    assert sum(length > about["max_length"] for length in lengths) > 20
