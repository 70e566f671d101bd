"""Options of several values."""

import typing

import pytest
import typer
from typer.testing import CliRunner

import zhichun
from zhichun.cli import app
from zhichun.cli.options import mapping


def test_a_mapping_names_each_thing_once():
    assert mapping("3=E, 2 = S,", "--labels") == {"3": "E", "2": "S"}
    with pytest.raises(typer.BadParameter, match="names something twice"):
        mapping("3=E,2=S,3=I", "--labels")
    with pytest.raises(typer.BadParameter, match="is not of the form name=value"):
        mapping("3", "--labels")


def test_the_version_is_printed():
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"zhichun {zhichun.__version__}\n")


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)
def test_help_names_the_kind_of_every_option(name):
    told = CliRunner().invoke(app, [name, "--help"])
    assert told.exit_code == 0
    assert "typing" not in told.output


def test_a_number_out_of_range_is_refused_by_its_option():
    told = CliRunner().invoke(app, ["rank", "run", "shoes", "--products", "shop", "--first", "0"])
    assert told.exit_code == 2
    assert "--first" in told.output


def test_a_shell_completes_commands_and_options():
    asked = {"_ZHICHUN_COMPLETE": "complete_bash"}
    told = CliRunner().invoke(
        app, [], prog_name="zhichun", env={**asked, "COMP_WORDS": "zhichun tra", "COMP_CWORD": "1"}
    )
    assert told.output.split() == ["train"]
    words = {"COMP_WORDS": "zhichun train --fo", "COMP_CWORD": "2"}
    assert CliRunner().invoke(app, [], prog_name="zhichun", env={**asked, **words}).output.split() == ["--folds"]


def test_no_option_is_one_of_several_kinds_whose_limits_would_be_lost():
    """`Annotated[int, …] | None` keeps no limit on Python 3.11 and stops every command on 3.12."""
    for command in app.registered_commands:
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
            kinds = typing.get_args(typing.get_args(hint)[0]) if hasattr(hint, "__metadata__") else ()
            assert not any(hasattr(kind, "__metadata__") for kind in kinds), (command.callback.__name__, name)
