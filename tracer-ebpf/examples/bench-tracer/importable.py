"""Prints the modules of Python's standard library that can be imported here, without tests and games."""

import contextlib
import importlib
import io
import pkgutil
import sysconfig
import warnings

EXCLUDED = {"test", "tests", "idlelib", "turtledemo", "tkinter", "turtle", "antigravity", "this", "site-packages", "dist-packages", "__main__"}


def modules(directories, prefix=""):
    for module in pkgutil.iter_modules(directories, prefix):
        words = module.name.split(".")
        if EXCLUDED & set(words) or not all(map(str.isidentifier, words)):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                imported = importlib.import_module(module.name)
        except BaseException:
            continue
        yield module.name
        if module.ispkg:
            yield from modules(imported.__path__, module.name + ".")


warnings.simplefilter("ignore")
library = sysconfig.get_path("stdlib")
for name in list(modules([library, library + "/lib-dynload"])):
    print(name)
