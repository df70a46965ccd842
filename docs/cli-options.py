#!/usr/bin/env python3
"""Writes src/cli-options.md from the `--help` of a built program: docs/cli-options.py PATH/TO/cvmfs-prefetch"""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "src" / "cli-options.md"
HEAD = """\
# Options of the command line

<!-- Written by docs/cli-options.py. -->

This is what `cvmfs-prefetch COMMAND --help` prints, without the global options for each command.
[Command line](cli.md) has an overview, and [JSON output](cli-json.md) describes what `--json`
prints.
"""
# Options that every command has.
GLOBAL = re.compile(r"\n\nGlobal options:\n.*?(?=\n\n\S|\Z)", re.S)
HELP = re.compile(r"\n\n?  -h, --help\n          Print help[^\n]*")
# Values of variables belong to whoever runs this.
VARIABLE = re.compile(r"\[env: ([A-Z_]+)=[^\]]*\]")
# The commands in the overview of a group.
COMMAND = re.compile(r"^  ([a-z-]+)  +\S")


def help_of(words):
    environment = dict(os.environ, COLUMNS="96")
    result = subprocess.run(words + ["--help"], capture_output=True, text=True, check=True, env=environment)
    return "\n".join(VARIABLE.sub(r"[env: \1=]", line).rstrip() for line in result.stdout.splitlines()).rstrip()


def sections(program, words):
    text = help_of([program] + words)
    shown = HELP.sub("", GLOBAL.sub("", text)) if words else text
    yield f"\n## {' '.join(['cvmfs-prefetch'] + words)}\n\n```text\n{shown}\n```\n"
    if "<COMMAND>\n" in text:
        names = [match[1] for match in map(COMMAND.match, text.splitlines()) if match]
        for name in names:
            if name != "help":
                yield from sections(program, words + [name])


PAGE.write_text(HEAD + "".join(sections(sys.argv[1], [])))
