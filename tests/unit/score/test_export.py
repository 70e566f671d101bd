"""Exports: what the folder holds, which engine is chosen, what is refused, and that torch is not needed to use one."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import HASHES_FILE
from zhichun.measure.evaluate import evaluate
from zhichun.score import engine as engine_module
from zhichun.score.export import export_run as export_module
from zhichun.score.export import exported
from zhichun.score.export.export_folder import FORMATS, ExportConfig, GraphInputs, is_export
from zhichun.score.export.export_run import export
from zhichun.score.export.exported import HEAD_SETTINGS, _without_head
from zhichun.score.scorer import Scorer

ENGINES = ("onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8")
PRODUCTS = [{"title": "red running shoes", "brand": "Asa", "color": "Red"}, {"title": "usb cable"}, "赤い 靴"]
NONE_OF_IT = {"torch", "transformers", "accelerate", "safetensors", "polars"}


@pytest.fixture
def config(tiny_export):
    return ExportConfig.load(tiny_export)


@pytest.fixture
def copied(tiny_export, tmp_path):
    """A copy of the export that a test may damage."""
    return shutil.copytree(tiny_export, tmp_path / "export")


def test_the_folder_holds_all_that_scoring_needs_and_no_pickle(tiny_export, config):
    kinds = {path.suffix for path in tiny_export.rglob("*") if path.is_file()}
    assert kinds == {".json", ".parquet", ".npy", ".onnx", ".xml", ".bin"}
    assert {path.name for path in tiny_export.iterdir() if path.is_dir()} == {"tables", "vocabulary", *FORMATS}
    assert config.inputs == ("input_ids", "attention_mask", "token_type_ids", "side_features")
    assert config.side_features == {"country": 4, "brand": 8, "color": 8, "trigrams": 24}
    assert json.loads((tiny_export / HASHES_FILE).read_text("utf-8")) == {
        path.relative_to(tiny_export).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tiny_export.rglob("*")
        if path.is_file() and path.name != HASHES_FILE
    }
    assert not list(tiny_export.parent.glob("*partial*"))


def test_every_format_was_checked_on_held_out_pairs(tiny_run, config):
    held_out = pq.read_metadata(tiny_run / "predictions.parquet").num_rows
    for name in ("onnx", "openvino"):
        assert config.checks[name].labels == 1
        assert config.checks[name].logits < 1e-4
    for check in config.checks.values():
        assert check.pairs == min(held_out, 500)
        assert check.labels is not None
        assert check.labels > 0.9
    assert 0 < config.checks["openvino-int8"].logits < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_an_export_scores_texts_as_the_run_does(tiny_run, tiny_export, engine):
    expected = Scorer.load(tiny_run, device="cpu").score("red shoes", PRODUCTS)
    scorer = Scorer.load(tiny_export, engine=engine)
    assert scorer.engine.name == engine
    tolerance = 1e-5 if engine in ("onnx", "openvino") else 0.05
    found = scorer.score("red shoes", PRODUCTS)
    assert np.abs(found.probabilities - expected.probabilities).max() < tolerance
    assert scorer.score("red shoes", []).probabilities.shape == (0, 4)


def test_torch_in_bf16_is_an_engine_of_a_run(tiny_run):
    plain, in_bf16 = (Scorer.load(tiny_run, "cpu", engine) for engine in ("torch", "torch-bf16"))
    difference = np.abs(plain.score("red", PRODUCTS).probabilities - in_bf16.score("red", PRODUCTS).probabilities).max()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("name", ["openvino", "openvino-int8"])
def test_openvino_in_bf16_computes_the_head_in_fp32(tiny_export, name):
    """Precision is a setting of a whole graph, so the head is one of its own."""
    import openvino

    core = openvino.Core()
    model, head = _without_head(openvino, core.read_model(tiny_export / name / "model.xml"))
    products = [operator.get_type_name() == "MatMul" for operator in head.get_ordered_ops()]
    assert sum(products) == 2
    assert {output.any_name for output in head.outputs} == {"logits"}
    compiled = core.compile_model(head, "CPU", HEAD_SETTINGS).get_runtime_model()
    kinds = {operator.get_rt_info()["runtimePrecision"].astype(str) for operator in compiled.get_ordered_ops()}
    assert kinds == {"f32"}
    assert len(model.outputs) == 2  # the encoder's vector, and the side features as they came


@pytest.mark.parametrize("engine", ["auto", "measure"])
def test_one_of_the_safe_engines_is_chosen(tiny_export, config, engine):
    assert Scorer.load(tiny_export, engine=engine).engine.name in exported.usable(config, tiny_export)


def test_importing_and_using_an_export_loads_neither_torch_nor_transformers(tiny_export, tiny_dataset, tmp_path):
    program = f"""
import sys
from zhichun import Scorer
from zhichun.cli import main
scorer = Scorer.load({str(tiny_export)!r})
print(scorer.score("red shoes", ["red running shoes"]).labels)
for command in (
    ["score", {str(tiny_export)!r}, {str(tmp_path / "pairs.csv")!r}, {str(tmp_path / "out.csv")!r}],
    ["rank", {str(tiny_export)!r}, "red shoes", "--products", {str(tiny_dataset)!r}],
    ["evaluate", {str(tiny_export)!r}, "--data", {str(tiny_dataset)!r}, "--out", {str(tmp_path / "figures")!r}],
):
    try:
        main(command)
    except SystemExit as ending:
        assert not ending.code
print("LOADED", *{NONE_OF_IT!r} & set(sys.modules))
"""
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,Red running shoes\n", "utf-8")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"
    auto = exported.choose(ExportConfig.load(tiny_export), tiny_export)  # by what the processor has units for
    assert f"out.csv: 1 pairs scored by {auto}\n" in done.stdout
    assert json.loads((tmp_path / "figures" / "metrics.json").read_text("utf-8"))["engine"] == auto


def test_evaluating_an_export_in_fp32_gives_the_run_s_figures(tiny_run, tiny_export, tiny_dataset, tmp_path):
    figures = [
        evaluate(folder, tiny_dataset, out=tmp_path / name, engine=name, shown=False)
        for folder, name in ((tiny_run, "torch"), (tiny_export, "onnx"))
    ]
    assert figures[1]["micro_f1"] == pytest.approx(figures[0]["micro_f1"], abs=1e-6)
    assert figures[1]["ndcg"] == pytest.approx(figures[0]["ndcg"], abs=1e-4)


# What is refused


def test_what_cannot_be_exported_is_named(tiny_run, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=r"there is no finished run\.\nGive a run folder"):
        export(tmp_path, ["onnx"])
    with pytest.raises(UserError, match=r"there is no format 'openvino-int4'\.\nDid you mean 'openvino-int8'\?"):
        export(tiny_run, ["openvino-int4"])
    with pytest.raises(UserError, match="nothing to export to"):
        export(tiny_run, [])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text('{"kind": "zhichun export"')
    with pytest.raises(UserError, match=r"the folder exists\.\nName another"):
        export(tiny_run, ["onnx"], out=tmp_path / "there")
    (tmp_path / "there" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="the folder holds something else"):
        export(tiny_run, ["onnx"], out=tmp_path / "there", overwrite=True)


def test_a_dataset_that_is_gone_or_has_changed_is_asked_for(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    recorded = json.loads((run / "environment.json").read_text("utf-8"))
    for change, message in (({"folder": "/nowhere"}, "is not there"), ({"manifest": "0"}, "has changed since")):
        changed = {**recorded, "dataset": {**recorded["dataset"], **change}}
        (run / "environment.json").write_text(json.dumps(changed), "utf-8")
        with pytest.raises(UserError, match=rf"{message}(.|\n)*--data"):
            export(run, ["onnx"], shown=False)
        assert sorted(run.glob("*export*")) == []


def test_an_export_that_answers_otherwise_is_not_kept(tiny_run, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"the onnx graph of an encoder of the kind 'xlm-roberta' does not score like"):
        export(tiny_run, ["onnx"], out=tmp_path / "export", shown=False)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missing_is_named_with_the_extra(tiny_run, tiny_export, config, monkeypatch):
    def missing(library):
        raise ModuleNotFoundError(name=library)

    monkeypatch.setattr(engine_module.importlib, "import_module", missing)
    wanted = r"this needs {}, which is not installed\.\nInstall it with: pip install 'zhichun\[onnx\]'"
    with pytest.raises(UserError, match=wanted.format("onnx")):
        export(tiny_run, ["onnx"], overwrite=True)
    with pytest.raises(UserError, match=wanted.format("openvino")):
        Scorer.load(tiny_export, engine="openvino")
    monkeypatch.setattr(exported.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs onnxruntime or openvino\.\nInstall it with"):
        Scorer.load(tiny_export)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("torch", r"no engine 'torch'\.\nTorch scores the run itself"),
        ("openvin", r"no engine 'openvin'\.\nDid you mean 'openvino'\?"),
    ],
)
def test_an_engine_that_an_export_does_not_have_is_answered(tiny_export, engine, message):
    with pytest.raises(UserError, match=message):
        Scorer.load(tiny_export, engine=engine)


def test_a_format_that_was_not_exported_and_a_run_without_export_say_what_to_do(tiny_run, copied, config):
    replace(config, checks={"onnx": config.checks["onnx"]}).save(copied)
    with pytest.raises(UserError, match=r"no engine 'openvino-bf16'\.\nIt has onnx\. Export.* --to openvino$"):
        Scorer.load(copied, engine="openvino-bf16")
    with pytest.raises(UserError, match=r"a run is not scored by the engine 'openvino'\.\nExport it first"):
        Scorer.load(tiny_run, engine="openvino")
    with pytest.raises(UserError, match=r"an export runs on a CPU, not on 'cuda'"):
        Scorer.load(copied, device="cuda")


@pytest.mark.parametrize("name", ["openvino/model.bin", "tokenizer.json", "vocabulary/brands.parquet"])
def test_a_file_that_is_missing_or_cut_off_is_named(copied, name):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"{name}: is damaged: .*\.\nCopy the folder again"):
        Scorer.load(copied)
    (copied / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: is missing"):
        Scorer.load(copied)


def test_damaged_files_of_the_right_size_are_named(copied):
    (copied / HASHES_FILE).unlink()  # as of an export of an earlier version
    for name, engine in (("onnx/model.onnx", "onnx"), ("openvino/model.xml", "openvino"), ("tables/brand.npy", "onnx")):
        size = (copied / name).stat().st_size
        (copied / name).write_bytes(b"\0" * size)
        with pytest.raises(UserError, match=rf"{name}: .*cannot (read it|be read)"):
            Scorer.load(copied, engine=engine)


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 1}, "of format 1"), ({"checks": None}, "is not as it was written")]
)
def test_a_config_of_another_version_or_with_a_hole_is_refused(copied, change, message):
    content = json.loads((copied / "config.json").read_text("utf-8"))
    (copied / "config.json").write_text(json.dumps({**content, **change}), "utf-8")
    assert is_export(copied)
    with pytest.raises(UserError, match=rf"config\.json: .*{message}"):
        Scorer.load(copied)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "change",
    [
        {"side_features": {"country": 4, "brand": 8, "trigrams": 24}},
        {"inputs": ["input_ids", "attention_mask", "side_features"]},
        {"inputs": ["input_ids", "attention_mask", "token_type_ids", "side_features", "words"]},
        {"inputs": []},
        {"task": "gain"},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_of_its_graph_is_refused_when_it_is_loaded(copied, change, engine):
    (copied / HASHES_FILE).unlink()  # by which any change would be found
    content = json.loads((copied / "config.json").read_text("utf-8"))
    (copied / "config.json").write_text(json.dumps({**content, **change}), "utf-8")
    with pytest.raises(UserError, match=r"config\.json: is not of the graph of .*side_features \[44\], logits \[4\]"):
        Scorer.load(copied, engine=engine)


# The command, and the parts


def test_the_command_shows_the_checks_and_names_the_engine(tiny_run, traced, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["export", str(tiny_run), "--to", "onnx", "--out", str(tmp_path / "e")])
    said = capsys.readouterr().out
    assert ending.value.code == 0
    assert "beside the model, on" in said
    assert f"{tmp_path}/e: exported. Next: zhichun score {tmp_path}/e PAIRS OUT, by onnx on this machine" in said


def test_bags_are_pooled_by_their_mean_and_ids_looked_up():
    table = np.array([[0, 0], [1, 2], [3, 4], [5, 0]], np.float32)
    side = GraphInputs((), {"brand": table[:, :1], "trigrams": table})
    assert side.sizes == {"brand": 1, "trigrams": 6}
    bags = {
        "query_trigrams": ([1, 2, 3], [0, 2, 3]),
        "product_trigrams": ([3, 3, 1], [0, 0, 3]),
        "description_trigrams": ([], [0, 0, 0]),
    }
    batch = {"brand": np.array([2, 0])}
    for name, (ids, offsets) in bags.items():
        batch |= {name: np.array(ids, np.int64), f"{name}_offsets": np.array(offsets, np.int64)}
    expected = [[3, 2, 3, 0, 0, 0, 0], [0, 5, 0, 11 / 3, 2 / 3, 0, 0]]
    assert side.vectors(batch).tolist() == [pytest.approx(row) for row in expected]


def test_scoring_names_the_engine_in_the_job_so_that_parts_are_not_mixed(tiny_export, tmp_path, monkeypatch, capsys):
    """What a killed job of one engine left is not gone on with by another."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,title\nred shoes,Red running shoes\n", "utf-8")
    plans = []
    from zhichun.score import job as scoring_job

    whole = scoring_job.JobFolder
    monkeypatch.setattr(scoring_job, "JobFolder", lambda *given: plans.append(given[1]["model"]) or whole(*given))
    for engine in ("onnx", "openvino"):
        with pytest.raises(SystemExit):
            main(["score", str(tiny_export), str(pairs), str(tmp_path / f"{engine}.csv"), "--engine", engine])
    assert [plan.split()[1] for plan in plans] == ["onnx", "openvino"]
    assert schema.QUERY in (tmp_path / "onnx.csv").read_text("utf-8")
