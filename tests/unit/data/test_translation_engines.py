"""Translation with two engines, on one tiny checkpoint that is trained here."""

import json
import sys

import pyarrow.parquet as pq
import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.model.translation.checkpoint import Checkpoint
from zhichun.model.translation.translator import open_translator

sentencepiece = pytest.importorskip("sentencepiece")
ctranslate2 = pytest.importorskip("ctranslate2")

ENGLISH = {"zapatos": "shoes", "rojos": "red", "azules": "blue", "taza": "mug", "mesa": "table", "de": "of"}
TEXTS = ["zapatos rojos", "", "taza de mesa", "taza", "zapatos azules de mesa", "taza de mesa"]
TRANSLATED = ["shoes red", "", "mug of table", "mug", "shoes blue of table", "mug of table"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A MarianMT checkpoint in the layout of Helsinki-NLP/opus-mt-es-en that knows six words."""
    folder = tmp_path_factory.mktemp("marian") / "tiny-es-en"
    folder.mkdir()
    for name, words in (("source", ENGLISH), ("target", ENGLISH.values())):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*words, *words]),
            model_prefix=str(folder / name),
            model_type="word",
            vocab_size=len(ENGLISH) + 3,
            minloglevel=2,
        )
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
    vocabulary = ["</s>", "<unk>", *(f"▁{word}" for word in (*ENGLISH, *ENGLISH.values())), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"source_lang": "es", "target_lang": "en"}')
    (folder / "README.md").write_text("---\nlanguage: es\nlicense: apache-2.0\n---\n# A card\n")
    taught_word_by_word(len(ENGLISH)).save_pretrained(folder)
    return folder


def taught_word_by_word(words):
    torch.manual_seed(0)
    pad = 2 + 2 * words
    shape = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}
    config = MarianConfig(
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in shape.items()},
        vocab_size=pad + 1,
        d_model=32,
        max_position_embeddings=512,
        activation_function="swish",
        scale_embedding=True,
        init_std=0.1,
        dropout=0.0,
        eos_token_id=0,
        forced_eos_token_id=0,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        num_beams=4,
    )
    model = MarianMTModel(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    place = torch.arange(6)
    for _ in range(150):
        drawn = torch.randint(words, (64, 6))
        length = torch.randint(1, 6, (64, 1))
        source = torch.where(place < length, drawn + 2, torch.where(place == length, 0, pad))
        target = torch.where(place < length, drawn + 2 + words, torch.where(place == length, 0, -100))
        model(input_ids=source, attention_mask=(source != pad).long(), labels=target).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        # In every MarianMT checkpoint the row of <pad>, from which the decoder starts, is zeros.
        with torch.no_grad():
            model.model.shared.weight[pad] = 0
    return model


@pytest.mark.parametrize("engine", ["marian", "ctranslate2"])
def test_both_engines_translate_alike_in_the_order_of_the_texts(checkpoint, tmp_path, engine):
    translator = open_translator(engine, str(checkpoint), tmp_path)
    assert translator.translate(TEXTS) == TRANSLATED
    assert translator.translate([]) == []


@pytest.mark.parametrize("engine", ["marian", "ctranslate2"])
def test_an_unknown_word_and_a_long_text_do_no_harm(checkpoint, tmp_path, engine, monkeypatch):
    translator = open_translator(engine, str(checkpoint), tmp_path)
    unknown, known = translator.translate(["desconocido", "taza"])
    assert known == "mug"
    assert "<" not in unknown
    monkeypatch.setattr("zhichun.model.translation.pieces.MOST_PIECES", 4)
    assert translator.translate(["taza de mesa rojos azules"]) == ["mug of table"]


def test_beams_are_another_translator_and_translate_too(checkpoint, tmp_path):
    for engine in ("marian", "ctranslate2"):
        greedy, wide = (open_translator(engine, str(checkpoint), tmp_path, beams=beams) for beams in (1, 3))
        assert greedy.name != wide.name
        assert wide.translate(TEXTS) == TRANSLATED


def test_a_checkpoint_is_converted_once_and_a_converted_one_is_read_as_it_is(checkpoint, tmp_path, monkeypatch):
    open_translator("ctranslate2", str(checkpoint), tmp_path)
    (folder,) = tmp_path.iterdir()
    monkeypatch.setattr(ctranslate2.converters, "TransformersConverter", None)
    open_translator("ctranslate2", str(checkpoint), tmp_path)
    converted = open_translator("ctranslate2", str(folder), tmp_path)
    assert converted.translate(TEXTS) == TRANSLATED
    assert converted.licence == "apache-2.0 (its model card)"
    with pytest.raises(UserError, match=r"CTranslate2's format.\n.*engine ctranslate2"):
        open_translator("marian", str(folder), tmp_path)


def test_a_failed_conversion_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def fail(self, folder, force):
        raise ValueError("no such architecture")

    monkeypatch.setattr(ctranslate2.converters.TransformersConverter, "convert", fail)
    with pytest.raises(UserError, match=r"cannot be converted.*no such architecture.*\n.*engine marian"):
        open_translator("ctranslate2", str(checkpoint), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_tells_models_apart_and_holds_no_path(checkpoint, tmp_path):
    name = open_translator("marian", str(checkpoint), tmp_path).name
    assert name.startswith("tiny-es-en ")
    assert str(checkpoint.parent) not in name
    other = tmp_path / "tiny-es-en"
    other.mkdir()
    for path in checkpoint.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    assert Checkpoint.find(str(other)).fingerprint == Checkpoint.find(str(checkpoint)).fingerprint
    (other / "config.json").write_text("{}")
    assert Checkpoint.find(str(other)).fingerprint != Checkpoint.find(str(checkpoint)).fingerprint


def test_models_that_cannot_be_used_are_answered(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"'maria'.\nDid you mean 'marian'"):
        open_translator("maria", str(checkpoint), tmp_path)
    with pytest.raises(UserError, match=r"no translation model: there is no source.spm"):
        open_translator("marian", str(tmp_path), tmp_path)
    with pytest.raises(UserError, match="beams=0"):
        open_translator("marian", str(checkpoint), tmp_path, beams=0)

    def fetch(name, allow_patterns):
        raise FileNotFoundError("the hub cannot be reached\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(UserError, match=r"'no/model' cannot be fetched \(the hub cannot be reached\).\nGive a folder"):
        open_translator("ctranslate2", "no/model", tmp_path)
    several = {"▁a": 0, ">>spa<<": 1, ">>por<<": 2, "</s>": 3, "<unk>": 4}
    folder = tmp_path / "several"
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "vocab.json").write_text(json.dumps(several))
    for engine in ("marian", "ctranslate2"):
        with pytest.raises(UserError, match=r"several languages \(>>por<<, >>spa<<"):
            open_translator(engine, str(folder), tmp_path)


def test_an_engine_that_is_not_installed_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "zhichun.model.translation.converted", raising=False)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match=r"needs ctranslate2.*\n.*pip install 'zhichun\[translate\]'"):
        open_translator("ctranslate2", str(checkpoint), tmp_path)


def test_damaged_files_are_named(checkpoint, tmp_path):
    for damaged in ("source.spm", "model.safetensors"):
        folder = tmp_path / damaged.replace(".", "-")
        folder.mkdir()
        for path in checkpoint.iterdir():
            (folder / path.name).write_bytes(path.read_bytes()[: 40 if path.name == damaged else None])
        with pytest.raises(UserError, match=r"cannot be read.*\nGet it again"):
            open_translator("marian", str(folder), tmp_path).translate(TEXTS)


def prepare(tmp_path, name, *options):
    """Run `zhichun prepare` on three Spanish pairs, one of which is for testing, and an English one."""
    rows = ["zapatos rojos,1,E,es,train", "taza,2,C,es,train", "mesa,1,I,es,test", "red mug,3,E,us,train"]
    (tmp_path / "judged.csv").write_text("\n".join(["query,product_id,label,locale,split", *rows]) + "\n", "utf-8")
    products = ["1,zapatos rojos,Ñu,es", "2,taza azules,,es", "3,red mug,,us"]
    (tmp_path / "products.csv").write_text("\n".join(["product_id,title,brand,locale", *products]) + "\n", "utf-8")
    tables = ["--examples", tmp_path / "judged.csv", "--products", tmp_path / "products.csv"]
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / name), *map(str, tables), *map(str, options)])
    return ended.value.code


@pytest.mark.parametrize("engine", ["marian", "ctranslate2"])
def test_prepare_adds_translated_training_pairs(checkpoint, tmp_path, engine, capsys):
    options = ["--translate", "es:en", "--translation-model", checkpoint, "--translation-engine", engine]
    options += ["--translation-cache", tmp_path / "cache"]
    assert prepare(tmp_path, "data", *options) == 0
    assert "licence apache-2.0 (its model card)" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "data" / "examples.parquet").to_pylist()
    made = [row for row in rows if row["origin"] == "translated"]
    shown = [(row["query"], row["product_locale"], row["esci_label"], row["split"]) for row in made]
    assert shown == [("shoes red", "us", "E", "train"), ("mug", "us", "C", "train")]
    assert [row["weight"] for row in made] == pytest.approx([0.3, 0.3])
    products = {row["product_id"]: row for row in pq.read_table(tmp_path / "data" / "products.parquet").to_pylist()}
    assert [products[row["product_id"]]["product_title"] for row in made] == ["shoes red", "mug blue"]
    assert products[made[0]["product_id"]]["product_brand"] == "Ñu"
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text("utf-8"))
    assert manifest["options"]["steps"][0]["licence"] == "apache-2.0 (its model card)"
    assert manifest["examples"]["made"] == {"translated": 2}
    assert str(tmp_path) not in json.dumps(manifest)
    assert len(Dataset.open(tmp_path / "data").product_row) == 6


def test_preparing_again_gives_the_same_bytes_from_the_cache(checkpoint, tmp_path, monkeypatch):
    options = ["--translate", "es:en", "--translation-model", checkpoint, "--translation-cache", tmp_path / "cache"]
    assert prepare(tmp_path, "one", *options) == 0

    def fail(self, texts):
        raise AssertionError("translated again")

    monkeypatch.setattr("zhichun.model.translation.pieces.PieceTranslator.translate", fail)
    assert prepare(tmp_path, "two", *options) == 0
    for file in ("examples.parquet", "products.parquet", "manifest.json", "vocabulary/trigrams.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_options_of_translation_need_it(checkpoint, tmp_path, capsys):
    assert prepare(tmp_path, "data", "--translation-model", checkpoint) == 2
    assert "without --translate" in capsys.readouterr().err
    assert prepare(tmp_path, "data", "--translate", "es") == 1
