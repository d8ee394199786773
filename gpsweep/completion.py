"""Completion of ``python -m gpsweep`` in bash; Hydra's own is of programs, as ``gpsweep``, and of scripts."""

import shlex
import sys

SCRIPT = r"""_gpsweep_module()
{
    local before=${COMP_LINE:0:COMP_POINT}
    [[ $before =~ ^\ *[^\ ]+\ +-m\ +(gpsweep(\.fit|\.crf_search)?)\ +(.*)$ ]] || return
    local line="gpsweep ${BASH_REMATCH[3]//\'/}"  # as if of a program; Hydra takes no quotes off
    local choices=$(COMP_LINE=$line PYTHON -m ${BASH_REMATCH[1]} -sc query=bash 2> /dev/null)
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _gpsweep_module python python3"""


def script() -> str:
    """Return what bash is to evaluate."""
    return SCRIPT.replace("PYTHON", shlex.quote(sys.executable))
