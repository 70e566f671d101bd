"""Translation by a tiny MarianMT checkpoint that is trained here."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.model import translator
from zhichun.model.translator import Translator

sentencepiece = pytest.importorskip("sentencepiece")

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


def test_texts_are_translated_in_their_order(checkpoint, tmp_path):
    translate = Translator(str(checkpoint), tmp_path)
    assert translate(TEXTS) == TRANSLATED
    assert translate([]) == []


def test_an_unknown_word_and_a_long_text_do_no_harm(checkpoint, tmp_path, monkeypatch):
    translate = Translator(str(checkpoint), tmp_path)
    unknown, known = translate(["desconocido", "taza"])
    assert known == "mug"
    assert "<" not in unknown
    monkeypatch.setattr(translator, "MOST_PIECES", 4)
    assert translate(["taza de mesa rojos azules"]) == ["mug of table"]


def counted(translate, monkeypatch):
    """Note which texts are really translated."""
    asked, generate = [], translate._generate

    def note(texts):
        asked.extend(texts)
        return generate(texts)

    monkeypatch.setattr(translate, "_generate", note)
    return asked


def test_each_text_is_translated_once_by_each_translator(checkpoint, tmp_path, monkeypatch):
    cache = tmp_path / "new"
    first, again = (Translator(str(checkpoint), cache) for _ in range(2))
    other = Translator(str(checkpoint), cache)
    other.name = "another"
    asked = [counted(translate, monkeypatch) for translate in (first, again, other)]
    assert first(["taza", "mesa", "taza", ""]) == ["mug", "table", "mug", ""]
    assert again(["rojos", "mesa"]) == ["red", "table"]
    assert other(["mesa"]) == ["table"]
    assert asked == [["mesa", "taza"], ["rojos"], ["mesa"]]


def test_a_kill_costs_one_batch(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(translator, "BATCH", 2)
    killed, resumed = (Translator(str(checkpoint), tmp_path) for _ in range(2))
    generate = killed._generate

    def stop(texts):
        if "zapatos" in texts:
            raise KeyboardInterrupt
        return generate(texts)

    monkeypatch.setattr(killed, "_generate", stop)
    texts = ["mesa", "taza", "rojos", "azules", "zapatos"]
    with pytest.raises(KeyboardInterrupt):
        killed(texts)
    asked = counted(resumed, monkeypatch)
    assert resumed(texts) == ["table", "mug", "red", "blue", "shoes"]
    assert asked == ["zapatos"]


def test_a_cache_that_is_no_cache_is_named(checkpoint, tmp_path):
    (tmp_path / "translations.sqlite").write_bytes(b"no database" * 100)
    for folder in (tmp_path, tmp_path / "translations.sqlite"):
        with pytest.raises(UserError, match=r"the cache of translations cannot be used.*\n.*--translation-cache"):
            Translator(str(checkpoint), folder)(["taza"])


def copy(checkpoint, folder, **changed):
    shutil.copytree(checkpoint, folder)
    for name, content in changed.items():
        path = folder / name.replace("_", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return str(folder)


def test_the_name_tells_models_apart_and_holds_no_path(checkpoint, tmp_path):
    name = Translator(str(checkpoint), tmp_path).name
    assert name.startswith("tiny-es-en ")
    assert str(checkpoint.parent) not in name
    same = copy(checkpoint, tmp_path / "a" / "tiny-es-en", README_md=b"# Another card")
    assert Translator(same, tmp_path).name == name
    config = json.loads((checkpoint / "config.json").read_text()) | {"num_beams": 7}
    other = copy(checkpoint, tmp_path / "b" / "tiny-es-en", config_json=json.dumps(config).encode())
    assert Translator(other, tmp_path).name != name


def test_the_licence_is_that_of_the_card_or_of_the_makers_or_unknown(tmp_path):
    assert translator._licence(tmp_path, "Helsinki-NLP/opus-mt-es-en") == "CC-BY-4.0 (the makers of OPUS-MT)"
    assert translator._licence(tmp_path, "opus-mt-es-en") == "unknown: check it before use"
    (tmp_path / "README.md").write_text("# A card that says\nlicense: nothing\n")
    assert translator._licence(tmp_path, "somebody/model") == "unknown: check it before use"
    (tmp_path / "README.md").write_text("---\ntags: [a]\nlicense:  mit\nlicense_link: x\n---\n")
    assert translator._licence(tmp_path, "Helsinki-NLP/opus-mt-es-en") == "mit (its model card)"


def test_models_that_cannot_be_used_are_answered(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no translation model: there is no source\.spm"):
        Translator(str(tmp_path), tmp_path)

    def fetch(name, **_):
        raise FileNotFoundError("the hub cannot be reached\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    problem = r"'no/model' could not be had from the hub \(the hub cannot be reached\)\."
    with pytest.raises(UserError, match=rf"{problem}(.|\n)*Check the name; HF_TOKEN is needed"):
        Translator("no/model", tmp_path)
    several = json.dumps({"▁a": 0, ">>spa<<": 1, ">>por<<": 2, "</s>": 3, "<unk>": 4}).encode()
    with pytest.raises(UserError, match=r"several languages \(>>por<<, >>spa<<"):
        Translator(copy(checkpoint, tmp_path / "several", vocab_json=several), tmp_path)


@pytest.mark.parametrize("damaged", ["source.spm", "model.safetensors", "vocab.json", "config.json"])
def test_damaged_files_are_named(checkpoint, tmp_path, damaged):
    begin = (checkpoint / damaged).read_bytes()[:40]
    folder = copy(checkpoint, tmp_path / "damaged", **{damaged.replace(".", "_"): begin})
    with pytest.raises(UserError, match=r"damaged\S*: .*cannot be read(.|\n)*Download it again"):
        Translator(folder, tmp_path)


def test_code_that_a_checkpoint_brings_is_not_run(checkpoint, tmp_path):
    folder = Path(copy(checkpoint, tmp_path / "asks"))
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    for name, auto in (
        ("config.json", {"AutoConfig": "own.Config", "AutoModelForSeq2SeqLM": "own.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["own.Tokens", None]}),
    ):
        given = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps({**given, "auto_map": auto}))
    assert Translator(str(folder), tmp_path)(TEXTS) == TRANSLATED
    assert not (tmp_path / "ran").exists()


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


def test_prepare_adds_translated_training_pairs(checkpoint, tmp_path, capsys):
    options = ["--translate", "es:en", "--translation-model", checkpoint, "--translation-cache", tmp_path / "cache"]
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

    monkeypatch.setattr(Translator, "_generate", fail)
    assert prepare(tmp_path, "two", *options) == 0
    for file in ("examples.parquet", "products.parquet", "manifest.json", "vocabulary/trigrams.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_options_of_translation_need_it(checkpoint, tmp_path, capsys):
    assert prepare(tmp_path, "data", "--translation-model", checkpoint) == 2
    assert "without --translate" in capsys.readouterr().err
    assert prepare(tmp_path, "data", "--translate", "es") == 1
