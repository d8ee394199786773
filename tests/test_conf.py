"""Every file in conf/ and sweeps/ composes, and every sweep runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Terminal
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from gpsweep import composed, config, crf_search, quoting, recipe
from gpsweep.progress import bar

ROOT = Path(__file__).resolve().parent.parent


GROUPS = ("model", "data", "precision", "tracker")


def names(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("primary", quoting.COMMANDS)
def test_of_which_groups_a_command_takes_a_file(primary: str) -> None:
    recipe.register()
    crf_search.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        cfg = compose(primary, return_hydra_config=True)
    chosen = {group for group in cfg.hydra.runtime.choices if not group.startswith("hydra/")}
    assert chosen == set(quoting.COMMANDS[primary][1])


@pytest.mark.parametrize("group", ["model", "data"])
def test_every_group_composes_and_says_where_things_come_from(group: str) -> None:
    config.register()
    found = names(f"conf/{group}")
    assert {"model": "smp", "data": "folder"}[group] in found
    for name in found:
        if (group, name) == ("data", "custom"):
            continue  # the user's to say
        with initialize_config_dir(config.conf_folder(), version_base="1.3"):
            cfg = compose("config", overrides=[f"{group}={name}"])
        assert set(composed.NEEDED[group]) <= set(cfg[group])
        assert OmegaConf.select(
            cfg, {"model": "model.name", "data": "data.source._target_"}[group], default=""
        )


def test_the_schema_has_the_keys_and_values_of_the_file() -> None:
    """The file says what they mean; other commands, such as a search, have them from the schema."""
    file, schema = (
        OmegaConf.to_container(each)
        for each in (OmegaConf.load(ROOT / "conf" / "config.yaml"), OmegaConf.structured(config.Config))
    )
    assert isinstance(file, dict) and isinstance(schema, dict)
    own = {key: value for key, value in file.items() if key not in ("defaults", "hydra")}
    assert own == {key: value for key, value in schema.items() if key not in GROUPS}


def test_a_search_takes_what_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPSWEEP_STORE", "a/store")
    crf_search.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        run, search = (
            OmegaConf.to_container(compose(name), resolve=True) for name in ("config", "crf_search")
        )
    assert isinstance(run, dict) and isinstance(search, dict)
    own = {"eps": 0, "refine": "crf", "search": search["search"]}
    assert search == run | own
    assert run["store"] == "a/store"


@pytest.mark.parametrize("name", names("sweeps"))
def test_every_sweep_runs(terminal: Terminal, name: str) -> None:
    fewer = ["eps=-0.5,0.5", "label=argmax", "data.limit=2"]
    code, out, err = terminal(f"+sweeps={name}", *fewer)
    assert (code, err) == (0, "")
    assert "report.html" in out
    assert len(terminal.results()) == 1


def test_the_progress_bar_counts_points(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(True, 3) as advance:
        for _ in range(3):
            advance()
    assert "3/3" in capsys.readouterr().err
    with bar(None, 3) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_what_is_no_group_is_left_as_it_was_typed() -> None:
    typed = ["--config-dir", "/conf/of=4", "-cd=/conf/4", "eps=4", "+lab=4", "data={limit: 4}"]
    assert quoting.quoted(typed) == typed
    assert quoting.quoted(["hydra/launcher=4", "~precision=4"]) == ["hydra/launcher='4'", "~precision='4'"]


def test_a_minus_may_come_from_a_report() -> None:
    minus = "\N{MINUS SIGN}"
    typed = [
        f"eps={minus}0.9",
        f"eps=range({minus}1,1,0.5)",
        f"eps=[{minus}.5,{minus}1]",
        f"eps=0.5,{minus}2",
    ]
    read = ["eps=-0.9", "eps=range(-1,1,0.5)", "eps=[-.5,-1]", "eps=0.5,-2"]
    assert quoting.quoted(typed) == read
    named = f"data.root='a{minus}4'"
    assert quoting.quoted([named]) == [named]


@pytest.mark.parametrize("text", [r"^p\d+", "(^[^_]+)", "my net (1).pt", "~/store", "it's", r"^\w(\\"])
def test_a_text_that_hydra_cannot_read_is_quoted_and_comes_back(text: str) -> None:
    [typed] = quoting.quoted([f"key={text}"])
    assert OverridesParser.create().parse_override(typed).value() == text


def test_what_may_be_a_list_or_a_sweep_is_left_to_hydra() -> None:
    typed = [
        "data.values=[#000000,#ffffff]",
        "model={a: (",
        "layer=a(,b",
        "--config-dir=my (1)",
        "x(",
        "key='a(",
    ]
    assert quoting.quoted(typed) == typed


@pytest.mark.parametrize(
    "path",
    ["a b", "a'b", r"a\b", r"a\'b", "a\\", "é, (1)", "k=v", "out/a-b.pt", "../a", ".5", "2024", "null"],
)
def test_a_path_comes_back_from_an_override(path: str) -> None:
    override = f"key={quoting.written(path)}"
    assert OverridesParser.create().parse_override(override).value() == path
