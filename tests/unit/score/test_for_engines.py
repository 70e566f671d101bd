"""Exports for other engines: what is written, what it scores, and what is refused with which remedy."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Sequence
from transformers import AutoModelForSequenceClassification, BertConfig, DebertaV2Config, ModernBertConfig, MPNetConfig

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS, Calibration
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import PREDICTIONS_FILE
from zhichun.fit.pool import make_pool
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.model.encoder import new_encoder, sequence_classifier
from zhichun.model.parts import Head
from zhichun.score.export import for_engines
from zhichun.score.export.engine_forms import _elasticsearch_tokenizer
from zhichun.score.export.for_engines import PARITY, cost_of_student, export_for
from zhichun.score.scorer import Scorer

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = {"vocab_size": 150, "max_position_embeddings": 64}
KINDS = {
    "bert": BertConfig(**WORDS, **SIZE),
    "mpnet": MPNetConfig(**WORDS, **SIZE),
    "deberta-v2": DebertaV2Config(type_vocab_size=0, relative_attention=True, pos_att_type="p2c|c2p", **WORDS, **SIZE),
}


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_transformers_class_computes_what_encoder_and_head_do(config):
    torch.manual_seed(0)
    encoder, head = new_encoder(config).eval(), Head(16, 16, 1, 0.1).eval()
    layers = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
    ids, mask = torch.randint(5, 150, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = 0
    with torch.inference_mode():
        expected = head(encoder(ids, mask, None, first_only=True))
        found = sequence_classifier(encoder, *layers)(input_ids=ids, attention_mask=mask).logits
    assert found.shape == (3, 1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_class_with_another_head_is_refused_with_the_engines_that_take_it():
    special = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    encoder = new_encoder(ModernBertConfig(**special, **WORDS, **SIZE))
    with pytest.raises(UserError, match=r"'modernbert' has another head(.|\n)*--for opensearch or --for vespa"):
        sequence_classifier(encoder, torch.nn.Linear(16, 16), torch.nn.Linear(16, 1))


@pytest.fixture(scope="module")
def made(one_score_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("engines") / "relevance"
    return out, export_for(one_score_run, "tei", out, shown=False)


def test_the_folder_holds_one_output_in_safetensors_and_no_pickle(made):
    folder, about = made
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["XLMRobertaForSequenceClassification"]
    assert list(config["id2label"]) == ["0"]
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jsonl", ".md", ".safetensors"}
    assert about["fields"] == ("title", "brand", "color", "bullets", "description")
    assert about["separator"] == "</s></s>"
    assert "{title}</s></s>{brand}" in (folder / "README.md").read_text("utf-8")


def test_a_parity_file_has_the_run_s_scores_of_texts_that_say_the_same(made, one_score_run):
    folder, about = made
    rows = [json.loads(line) for line in (folder / PARITY).read_text("utf-8").splitlines()]
    assert len(rows) == about["pairs"] == for_engines.PAIRS
    scores = np.sort([row["score"] for row in rows])
    assert np.diff(scores).min() > for_engines.APART * 0.99
    scorer, names = Scorer.load(one_score_run, device="cpu"), about["fields"]
    for row in rows[:20]:
        product = dict(zip(names, row["document"].split(about["separator"]), strict=True))
        assert scorer.score(row["query"], [product]).score[0] == pytest.approx(row["score"], abs=1e-6)


def test_only_a_run_is_exported_and_only_the_engine_reads_what_is_made(made, one_score_run, tiny_dataset, tmp_path):
    for folder in (one_score_run / "model", tiny_dataset):
        with pytest.raises(UserError, match=r"no finished run(.|\n)*zhichun train"):
            export_for(folder, "tei", tmp_path / "out", shown=False)
    for use in (Scorer.load, lambda folder: export_for(folder, "tei", tmp_path / "out", shown=False)):
        with pytest.raises(UserError, match="is an export for another engine"):
            use(made[0])
    from_hub = tmp_path / "from_hub"  # which has no environment.json
    shutil.copytree(one_score_run / "model", from_hub / "model")
    shutil.copy(one_score_run / "recipe.json", from_hub)
    with pytest.raises(UserError, match=r"does not say which dataset(.|\n)*--data"):
        export_for(from_hub, "tei", tmp_path / "out", shown=False)
    assert export_for(from_hub, "tei", tmp_path / "out", data=tiny_dataset, shown=False)["pairs"] > 150


def test_two_classes_are_folded_into_one_output_with_the_temperature(tiny_dataset, text_recipe, tmp_path):
    settings = ["task=substitute", "train.validation_fold=[0,1]"]  # several folds, as nested runs leave out
    run = train(text_recipe.with_settings(settings), tiny_dataset, tmp_path / "run").path
    Calibration(temperature=1.7).save(run / "model")
    about = export_for(run, "sentence-transformers", tmp_path / "out", shown=False)
    assert about["greatest_difference"] < 1e-6
    assert about["student"] is None
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.num_labels == 1
    Calibration(curves=(((0.5,), (0.6,)),) * 2).save(run / "model")
    with pytest.raises(UserError, match=r"bends by curves(.|\n)*zhichun train distil:one_score"):
        export_for(run, "sentence-transformers", tmp_path / "curved", shown=False)


def test_four_classes_go_into_a_graph_and_not_into_one_output(tiny_dataset, text_recipe, tmp_path):
    pytest.importorskip("onnxscript")
    run = train(text_recipe.with_settings(["model.tiny.layers=1"]), tiny_dataset, tmp_path / "run").path
    for engine in ("opensearch", "vespa"):
        assert export_for(run, engine, tmp_path / engine, shown=False)["greatest_difference"] < 1e-5
    with pytest.raises(UserError, match=r"this one has 4 outputs(.|\n)*zhichun train distil:one_score"):
        export_for(run, "vllm", tmp_path / "vllm", shown=False)


def test_what_an_engine_cannot_say_is_named_with_the_student_s_commands(tiny_run, list_run, tmp_path):
    wanted = r"reads trigrams, country, brand, color beside the text(.|\n)*--set train.pool=pool.parquet"
    with pytest.raises(UserError, match=wanted):
        export_for(tiny_run, "opensearch", tmp_path / "out", shown=False)
    with pytest.raises(UserError, match="reads the other products of a list"):
        export_for(list_run, "vespa", tmp_path / "out", shown=False)
    with pytest.raises(UserError, match=r"no engine 'tie'\.\nDid you mean 'tei'"):
        export_for(tiny_run, "tie", tmp_path / "out", shown=False)
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "stack.json").write_text("{}")
    with pytest.raises(UserError, match=r"reads several models(.|\n)*zhichun pool ONE_OF_ITS_RUNS"):
        export_for(tmp_path / "stack", "vespa", tmp_path / "out", shown=False)
    assert {path.name for path in tmp_path.iterdir()} == {"stack"}


def test_a_tokenizer_that_elasticsearch_does_not_have_is_refused(one_score_run, tmp_path):
    with pytest.raises(UserError, match="Elasticsearch tokenises by code of its own"):
        export_for(one_score_run, "elasticsearch", tmp_path / "out", shown=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("normalizer", "taken"),
    [
        (BertNormalizer(), True),
        (BertNormalizer(strip_accents=True), True),
        (BertNormalizer(strip_accents=False), False),
        (BertNormalizer(handle_chinese_chars=False), False),
        (Sequence([BertNormalizer()]), False),
    ],
)
def test_elasticsearch_takes_a_tokenizer_that_reads_as_its_own_does(normalizer, taken):
    own = Tokenizer(WordPiece({"[UNK]": 0, "[CLS]": 1}, unk_token="[UNK]"))
    own.normalizer = normalizer
    tokenizer = SimpleNamespace(tokenizer=own, json=own.to_str())
    trained = SimpleNamespace(featurizer=SimpleNamespace(tokenizer=tokenizer))
    if taken:
        assert _elasticsearch_tokenizer(trained)[:2] == ("bert", {"do_lower_case": True})
        return
    with pytest.raises(UserError, match="Elasticsearch tokenises by code of its own"):
        _elasticsearch_tokenizer(trained)


def test_what_does_not_score_like_the_run_is_not_kept(one_score_run, tmp_path, monkeypatch):
    monkeypatch.setattr(for_engines, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="does not score like the model"):
        export_for(one_score_run, "vllm", tmp_path / "out", shown=False)
    assert list(tmp_path.iterdir()) == []


def test_a_student_of_a_pool_says_what_it_loses(tiny_run, tiny_dataset, one_score_recipe, tmp_path):
    (tmp_path / "queries.csv").write_text("query\nred shoes\nblue hat\ntravel bag\ndesk lamp\n", "utf-8")
    pool = tmp_path / "pool.parquet"
    make_pool(tiny_run, tiny_dataset, tmp_path / "queries.csv", pool, per_query=4, shown=False)
    recipe = replace(one_score_recipe, train=replace(one_score_recipe.train, pool=str(pool)))
    run = train(recipe, tiny_dataset, tmp_path / "student").path
    cost = export_for(run, "tei", tmp_path / "out", shown=False)["student"]
    assert cost["teacher"] == tiny_run.name  # its place is nobody's business where the folder is pushed to
    assert cost["low"] <= cost["mean"] <= cost["high"]
    assert cost["mean"] == pytest.approx(cost["ndcg"] - cost["teacher_ndcg"])
    assert f"a student of `{tiny_run.name}`" in (tmp_path / "out" / "README.md").read_text("utf-8")
    shutil.copy(tiny_run / PREDICTIONS_FILE, run / PREDICTIONS_FILE)  # a student that says what the teacher does
    assert cost_of_student(run, Dataset.open(tiny_dataset))["mean"] == 0
    pool.unlink()
    assert cost_of_student(run, Dataset.open(tiny_dataset)) == {"teacher": None}


def test_the_recipe_is_a_regressor_of_the_text_alone():
    recipe = load_recipe("distil:one_score")
    assert TASKS[recipe.task].outputs == 1
    assert {getattr(recipe.model, name) for name in ("trigrams", "country", "brand", "color", "lists")} == {None}
    assert recipe.train.pool == load_recipe("distil:pooled").train.pool


def test_the_command_names_the_two_ways_and_takes_one(one_score_run, tmp_path, capsys):
    out = str(tmp_path / "out")
    for more in ([], ["--to", "onnx", "--for", "tei"], ["--for", "tei"]):
        with pytest.raises(SystemExit) as ending:
            main(["export", str(one_score_run), *more])
        assert ending.value.code == 2
    with pytest.raises(SystemExit) as ending:
        main(["export", str(one_score_run), "--for", "tei", "--out", out])
    assert ending.value.code == 0
    said = capsys.readouterr().out
    assert "pairs for tei, at most" in said
    assert "parity.jsonl" in said
    assert "student" not in said
