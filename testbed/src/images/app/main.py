"""The application of the demonstration: imports much, as a web service or an analysis does, and computes little."""

import importlib
import os
import sys

STANDARD_LIBRARY = """
    argparse asyncio base64 bisect bz2 calendar cgi cmd code collections.abc colorsys concurrent.futures configparser
    contextvars copy csv ctypes ctypes.util curses dataclasses datetime decimal difflib dis doctest email.mime.multipart
    email.mime.text email.parser encodings.idna encodings.utf_16 fileinput filecmp fractions ftplib getopt getpass gettext
    glob graphlib gzip hashlib heapq hmac html.parser http.client http.cookiejar http.server imaplib inspect ipaddress
    json.tool locale logging.config logging.handlers lzma mailbox mimetypes mmap multiprocessing.managers
    multiprocessing.pool multiprocessing.shared_memory netrc numbers optparse pdb pickletools pkgutil platform plistlib
    poplib pprint profile pstats pty py_compile pyclbr pydoc queue random resource rlcompleter runpy sched secrets
    selectors shelve shlex shutil smtplib socketserver sqlite3 ssl statistics string stringprep subprocess sunau symtable
    sysconfig tabnanny tarfile tempfile textwrap threading timeit tokenize trace tracemalloc turtle types unittest
    unittest.mock urllib.request urllib.robotparser uuid venv wave weakref webbrowser wsgiref.simple_server
    xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client xmlrpc.server zipapp zipfile zoneinfo
""".split()

PACKAGES = """
    dateutil.parser dateutil.relativedelta dateutil.rrule dateutil.tz jinja2 jinja2.ext jinja2.sandbox numpy numpy.testing
    numpy.polynomial.chebyshev pygments pygments.formatters.html pygments.formatters.terminal256 pygments.styles requests
    yaml
""".split()


def import_all() -> int:
    """Imports what the lists name and every lexer of Pygments; says how many modules that made."""
    for name in STANDARD_LIBRARY:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            pass  # gone from this release, or in a package that is not installed (Tk)
    for name in PACKAGES:
        importlib.import_module(name)
    from pygments.lexers import LEXERS
    for name in sorted({entry[0] for entry in LEXERS.values()}):
        importlib.import_module(name)
    return len(sys.modules)


def check_layers() -> None:
    """Fails if the image's topmost layer did not replace, delete and hide what it says."""
    with open("/etc/issue", encoding="ascii") as issue:
        assert issue.read() == "demo/python\n", "/etc/issue was not replaced"
    assert not os.path.lexists("/etc/issue.net"), "/etc/issue.net was not deleted"
    assert os.listdir("/etc/skel") == ["README"], f"/etc/skel is not opaque: {os.listdir('/etc/skel')}"


def compute() -> float:
    """Something that needs the packages to work, not only to be there."""
    import jinja2
    import numpy
    import yaml

    matrix = numpy.array(yaml.safe_load("[[2, 1, 0], [1, 2, 1], [0, 1, 2]]"), dtype=float)
    doubled = jinja2.Template("{{ value * 2 }}").render(value=numpy.linalg.det(matrix))
    return round(float(doubled), 6)  # 2 * 4


if __name__ == "__main__":
    check_layers()
    modules = import_all()
    print("ready", flush=True)
    print(f"result {compute()} with {'some' if modules > 500 else 'few'} modules", flush=True)
