"""``python -m gpsweep.trackers.view ENTITY/PROJECT``: a W&B workspace that lays out an ablation.

The curves of all runs lie over each other, a panel a label; which run helped, and where, is above them.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from gpsweep.command import told
from gpsweep.errors import GpsweepError
from gpsweep.points import GUIDES, LABELS
from gpsweep.trackers import client

NAME = "gpsweep: the whole curve"
COLUMNS = (
    *("best/label", "best/layer", "best/refine", "best/eps"),
    *("best/delta", "best/delta_low", "best/helps", "best/cost"),
)
AXES = ("signal", "step", "layer", "iterations", "refine")
MOST = 100  # runs in a panel
CLASSES = "(iou|accuracy)/.*"
MEASURES = {
    "Score over ε": "score",
    "Gain over ε, with its 95 % interval": "delta(_low|_high)?",
    "Classes over ε": CLASSES,
}


def view(*, entity: str, project: str = "gpsweep") -> Any:
    """Lay out the workspace, without a login and without a network; its ``save()`` needs both.

    Args:
        entity: the user or team.
        project: the project.

    Returns:
        a ``wandb_workspaces.workspaces.Workspace``.

    Raises:
        GpsweepError: if the library is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the library uses
        ws = client("wandb_workspaces.workspaces", "wandb")
        wr = client("wandb_workspaces.reports.v2", "wandb")
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(name="Best points", is_open=True, pinned=True, panels=_best(wr)),
            *(
                ws.Section(
                    name=title,
                    is_open=measure != CLASSES,
                    panels=[_over_eps(wr, label, measure) for label in (*LABELS, *GUIDES)],
                    panel_settings=ws.SectionPanelSettings(x_axis="eps"),
                )
                for title, measure in MEASURES.items()
            ),
            ws.Section(name="Runs", panels=_details(wr)),
        ],
        settings=ws.WorkspaceSettings(x_axis="eps", group_by_prefix="first", max_runs=MOST),
        runset_settings=ws.RunsetSettings(
            order=[ws.Ordering(ws.Summary("best/delta_low"), ascending=False)],
            pinned_columns=[f"summary:{column}" for column in COLUMNS],
        ),
    )


def curve(label: str, measure: str) -> str:
    """Return the pattern of the keys under which a run shows one measure of a label's curves."""
    return f"^{label}(/[^/]+)*/{measure}$"


def _best(wr: Any) -> list[Any]:
    gain = wr.SummaryMetric("best/delta")
    columns = [wr.ParallelCoordinatesPlotColumn(metric) for metric in (*map(wr.Config, AXES), gain)]
    return [
        wr.BarPlot(title="gain of the best point", metrics=["best/delta"], max_bars_to_show=MOST),
        wr.ScatterPlot(title="where it lies", x=wr.SummaryMetric("best/eps"), y=gain),
        wr.ScatterPlot(title="what it costs", x=wr.SummaryMetric("best/cost"), y=gain),
        wr.ParallelCoordinatesPlot(title="what it takes", columns=columns),
    ]


def _over_eps(wr: Any, label: str, measure: str) -> Any:
    pattern = curve(label, measure)
    return wr.LinePlot(title=label, x="eps", metric_regex=pattern, title_x="ε", max_runs_to_show=MOST)


def _details(wr: Any) -> list[Any]:
    return [
        wr.WeavePanelSummaryTable(table_name="points"),
        wr.MediaBrowser(title="curves", media_keys=["pictures/curves", "pictures/cost"]),
        wr.RunComparer(diff_only=True),
    ]


def specification(workspace: Any) -> dict[str, Any]:
    """Return what W&B stores of a workspace, as JSON."""
    content: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return content


@told(Exception)  # the client fails in its own ways
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the specification, or save the view."""
    parser = argparse.ArgumentParser(
        prog="python -m gpsweep.trackers.view", description="Lay out a W&B workspace for an ablation."
    )
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where it belongs")
    parser.add_argument("--save", action="store_true", help="save it there; needs a login")
    options = parser.parse_args(arguments)
    entity, _, project = options.project.partition("/")
    if not (entity and project):
        raise GpsweepError(f"{options.project}: expected ENTITY/PROJECT, such as my-team/gpsweep")
    workspace = view(entity=entity, project=project)
    print(workspace.save().url if options.save else json.dumps(specification(workspace), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
