"""The definitions of the tables: every row composes, and says what the paper says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from gpsweep import points
from gpsweep.data.voc import CLASSES
from gpsweep.errors import GpsweepError
from gpsweep.models.weights import WEIGHTS, files
from gpsweep.parts import grid_of
from gpsweep.tables import definition
from gpsweep.tables.commands import Job, check, jobs

WHOLE = "source: Table 9\npaper: {title: a}\nsmall: {title: b}\n"
EIGHT = ["fig10", "fig8", "table1", "table2", "table3", "table4", "table5", "table6"]


@cache
def every(name: str, *, small: bool) -> list[Job]:
    """Return the jobs of a table on four images, composed once for the tests that look at them."""
    table = definition.read(name)
    variant = table.small if small else table.paper
    return jobs(variant, Path("out"), ["data.limit=4", "trainer.accelerator=cpu"], [0])


def test_all_tables_are_there() -> None:
    assert definition.names() == EIGHT


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", EIGHT)
def test_every_row_composes_to_curves_of_its_lines(name: str, small: bool) -> None:
    table = definition.read(name)
    variant = table.small if small else table.paper
    assert variant.title and variant.rows
    found = every(name, small=small)
    check(found)
    for job in found:
        grid = grid_of(job.cfg)
        assert job.cfg.data.limit == 4 and 0.0 in grid.eps
        for line in job.row.lines:
            chosen = {
                point.curve()
                for point in grid.points()
                if all(str(getattr(point, axis)) == value for axis, value in line.where.items())
            }
            assert len(chosen) == 1, (name, job.key, line.name)
            assert line.eps is None or line.eps in grid.eps
            assert set(line.where) <= set(points.AXES)


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "fig8", "fig10"])
def test_weights_are_those_that_are_published(name: str) -> None:
    known = {one.file for _, one in files()}
    for job in every(name, small=False):
        assert job.cfg.model.name in WEIGHTS
        assert Path(job.cfg.model.checkpoint).name in known
        assert "small" not in job.row.name


@pytest.mark.parametrize("name", ["table1", "table5"])
def test_deeplab_is_the_papers_own_training(name: str) -> None:
    """Caffe's files: the .pth of ResNet-101, the configuration's default, comes of another training."""
    deeplab = [job for job in jobs(definition.read(name).paper, Path("out"), []) if "deeplab" in job.key]
    assert deeplab and all(Path(job.cfg.model.checkpoint).suffix == ".caffemodel" for job in deeplab)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", EIGHT)
def test_a_caption_names_what_each_row_is_scored_by(name: str, small: bool) -> None:
    table = definition.read(name)
    variant = table.small if small else table.paper
    classifies = {"label=knn" in job.overrides for job in jobs(variant, Path("out"), [], [0])}
    assert ("accuracy" in variant.measure) == (True in classifies)
    assert ("mean IoU" in variant.measure) == (False in classifies)


def test_the_papers_means_are_those_of_its_classes() -> None:
    classes = definition.read("table3").paper.rows["val"].classes
    assert set(classes) == {*CLASSES, "mean"}
    for column in (0, 1):
        own = [values[column] for name, values in classes.items() if name != "mean"]
        assert sum(own) / 21 == pytest.approx(classes["mean"][column], abs=0.06)
    assert sum(gp > base for base, gp in classes.values()) == 19 + 1, "19 of 21 classes, and the mean"


def test_five_seeds_have_weights_of_their_own() -> None:
    found = [job for job in jobs(definition.read("table6").paper, Path("out"), []) if job.key == "mnist"]
    assert [job.seed for job in found] == [0, 1, 2, 3, 4]
    assert len({job.cfg.model.checkpoint for job in found}) == 5
    for job in found:
        assert Path(job.cfg.model.checkpoint).parent == job.fitted
        assert job.recipe is not None and job.recipe.seed == job.seed
        assert f"hydra.run.dir={job.fitted}" in job.training_command()


def test_overrides_reach_run_and_training() -> None:
    variant = definition.read("table6").small
    extra = ["eps=range(0,4,2)", "data.root=/there", "data.limit=9", "fit.epochs=1"]
    [job] = jobs(variant, Path("a folder's"), extra)
    check([job])
    assert list(job.cfg.eps) == [0, 2] and job.cfg.data.root == "/there" and job.cfg.data.limit == 9
    assert job.recipe is not None
    assert (job.recipe.epochs, job.recipe.data.root, job.recipe.data.limit) == (1, "/there", None)
    assert Path(job.cfg.model.checkpoint) == Path("a folder's", "mnist-seed0-fit", "weights.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{WHOLE}kind: sums", "kind=sums: unknown"),
        (f"{WHOLE}picture: pie", "picture=pie: unknown"),
        ("source: Table 9", "title"),
        ("sauce: Table 9", "sauce"),
        ("paper: {rows: {a: {lines: [{eps: x}]}}}", "eps"),
        ("paper: [", "table9.yaml"),
    ],
)
def test_a_file_that_is_no_definition_is_named(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "folder", lambda: tmp_path)
    (tmp_path / "table9.yaml").write_text(content)
    with pytest.raises(GpsweepError, match=message):
        definition.read("table9")
