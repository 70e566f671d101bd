"""Code that a checkpoint brings is never run."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from zhichun.core.errors import UserError
from zhichun.model.encoder import load_encoder, load_encoder_config, load_lm_head, load_tokenizer, new_encoder

ROOT = Path(__file__).parents[3]
LOADERS = ("from_pretrained", "from_config", "CrossEncoder")
CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
Path({ran!r}).touch()
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
class Config(PretrainedConfig):
    model_type = "own"
class Model(PreTrainedModel):
    config_class = Config
class Tokens(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def checkpoint(tiny_run, tmp_path):
    """An encoder of a kind of its own, whose configuration asks for its own code."""
    folder = shutil.copytree(tiny_run / "model" / "encoder", tmp_path / "checkpoint")
    (folder / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    auto = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForMaskedLM": "own.Model"}
    config = {"model_type": "own", "auto_map": auto, "architectures": ["Model"]}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"tokenizer_class": "Tokens", "auto_map": {"AutoTokenizer": ["own.Tokens", "own.Tokens"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_a_checkpoint_that_asks_for_its_code_is_refused(checkpoint, load, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked"))
    with pytest.raises(UserError, match=r"cannot be loaded|can be loaded"):
        load(str(checkpoint))
    assert not (checkpoint.parent / "ran").exists()
    assert not (checkpoint / "ran").exists()


def test_neither_its_head_nor_its_configuration_runs_code(checkpoint):
    assert load_lm_head(str(checkpoint)) is None
    with pytest.raises(ValueError, match=r"own|trust"):
        new_encoder(load_encoder_config(checkpoint))
    assert not (checkpoint.parent / "ran").exists()


def loading_calls():
    """Every call of transformers or sentence-transformers that might run a checkpoint's code."""
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LOADERS:
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                yield f"{path.relative_to(ROOT)}:{node.lineno}", given


def test_whatever_loads_a_checkpoint_forbids_its_code():
    calls = dict(loading_calls())
    assert {name.split(":")[0] for name in calls} > {"src/zhichun/model/encoder.py", "src/zhichun/model/translator.py"}
    assert not {name for name, given in calls.items() if given.get("trust_remote_code") != "False"}
