"""Values on a command line, quoted where Hydra would take them for something else or could not read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from gpsweep.config import conf_folder
from gpsweep.errors import GpsweepError

# A text that Hydra takes as it stands, and for nothing else.
PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$)(\.{0,2}/|[a-z_])[\w./:-]*", re.IGNORECASE | re.ASCII)
NESTED = re.compile(r"\w+(/\w+)+")  # the name of a group within another
NOT_NAMES = re.compile(
    r"(?<![\w'\"./-])-?(null|true|false|inf|nan|\d[\d_]*(\.\d+)?(e[+-]?\d+)?)(?![\w'\"./-])", re.IGNORECASE
)
# What names a module, of which 4.10 is another than 4.1.
MODULES = re.compile(r"layer|model\.features|model\.aliases\.\w+")
DECIMAL = re.compile(r"(?<![\w'\"./@-])\d+\.\d+(?![\w'\"./@-])")
# A list of ranges, which Hydra cannot read; without the brackets it is the sweep that is meant.
LIST_OF_RANGES = re.compile(r"^(\w+)=\[((?:[^\[\]]*,)?range\([^\[\]]*)\]$")
# What is, or may be meant for, more than one text, or has quotes already.
LISTED = re.compile(r"^[\[{'\"]|,")
# A command's own file: what it is called, and of which groups it takes one file each. Those of other groups,
# such as class_map, are added.
COMMANDS = {
    "config": ("gpsweep", ("model", "data", "precision", "tracker")),
    "fit": ("gpsweep.fit", ("fit", "model", "data")),
    "crf_search": ("gpsweep.crf_search", ("model", "data", "precision")),
    "track": ("gpsweep.track", ("tracker",)),
}
LIST_OF_LISTS = re.compile(r"\[.*[\[{]")
# A minus as it is printed, before a number.
PRINTED_MINUS = re.compile(r"(?<=[=,(\[])\N{MINUS SIGN}(?=[\d.])")


def quoted(arguments: Sequence[str], primary: str = "config") -> list[str]:
    """Quote the choices of a group that Hydra would take for something else than names.

    They are the numbers of ``precision``, and mistakes such as ``model=null``, of which Hydra would tell by a
    traceback; and the modules of a sequence within a sequence. A minus that was copied from a report becomes
    one that Hydra can read, and a list of ranges a sweep over them. A text that Hydra cannot read without
    quotes of its own, such as a regular expression or a file's name with brackets, is given them.

    >>> quoted(["precision=16", "precision.gradient=16", "eps=16", "model=null", "+sweeps=8"])
    ["precision='16'", 'precision.gradient=16', 'eps=16', "model='null'", "+sweeps='8'"]
    >>> quoted(["layer=[4.10,features.3]", "eps=4.10"])
    ["layer=['4.10',features.3]", 'eps=4.10']
    >>> quoted(["eps=[-1,range(0,1,0.5)]"])
    ['eps=-1,range(0,1,0.5)']
    >>> quoted(["data.groups=^p[0-9]+", "model.checkpoint=a (1).pt", "data.root=my data"])
    ['data.groups="^p[0-9]+"', 'model.checkpoint="a (1).pt"', 'data.root=my data']

    Args:
        arguments: what is typed.
        primary: the file that it is for, a key of :data:`COMMANDS`.

    Raises:
        GpsweepError: for one without a key, a group that another command has, or lists where names belong.
    """
    groups = {path.name for path in Path(conf_folder()).iterdir() if path.is_dir()}

    def one(argument: str) -> str:
        name, equals, value = argument.partition("=")
        group = name.lstrip("+~").partition("@")[0]
        if argument and not group:
            raise GpsweepError(f"{argument}: expected KEY=VALUE")
        if MODULES.fullmatch(group):
            return name + equals + DECIMAL.sub(r"'\g<0>'", value)
        if not (group in groups or NESTED.fullmatch(group)) or value.startswith("{"):
            return argument
        takers = [command for command, taken in COMMANDS.values() if group in taken]
        if equals and takers and COMMANDS[primary][0] not in takers:
            raise GpsweepError(f"{argument}: of another command, python -m {takers[0]} {group}={value}")
        if takers and value.startswith("["):
            raise GpsweepError(f"{argument}: expected one name; several are a sweep, by -m and {group}=a,b")
        if LIST_OF_LISTS.match(value):
            raise GpsweepError(f"{argument}: expected a name, or a list of names")
        return name + equals + NOT_NAMES.sub(r"'\g<0>'", value)

    plain = (PRINTED_MINUS.sub("-", argument) for argument in arguments)
    return [_readable(one(LIST_OF_RANGES.sub(r"\1=\2", argument))) for argument in plain]


def _readable(argument: str) -> str:
    """Quote a text that Hydra cannot read; where it may be a list or a sweep, Hydra says what it cannot."""
    name, equals, value = argument.partition("=")
    told = PLAIN.fullmatch(value) or LISTED.search(value)
    if name and equals and not name.startswith("-") and not told:
        try:
            OverridesParser.create().parse_override(f"key={value}")
        except HydraException:
            return f"{name}={written(value)}"
    return argument


def written(value: Any) -> str:
    """Write a value as Hydra reads it on its command line.

    >>> written(["ablation", "a b", "2024"]), written({"for": "me, too"}), written(None), written(True)
    ('[ablation,"a b","2024"]', '{for:"me, too"}', 'null', 'true')
    """
    if isinstance(value, Mapping):
        # Keys may not be quoted.
        pairs = (re.sub(r"([\\()\[\]{}:=, ])", r"\\\1", str(k)) + f":{written(v)}" for k, v in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(written, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower()
    return value if PLAIN.fullmatch(value) else QuotedString(value, Quote.double).with_quotes()


def distinct(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Name jobs by those of their overrides that not all of them have.

    >>> distinct([["eps=[0,1]", "model=a"], ["eps=[0,1]", "model=b"]])
    ['model=a', 'model=b']
    """
    shared = set.intersection(*(set(own) for own in overrides))
    return [" ".join(item for item in own if item not in shared) for own in overrides]
