"""A scenario's report as JUnit XML, which build servers show."""

import re
from pathlib import Path
from xml.etree import ElementTree

from meter_runtime.bench.scenario.player import Report
from meter_runtime.errors import MeterError

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(report: Report, name: str) -> bytes:
    """One suite for the scenario ``name``, one case for each expectation."""
    failures = [result for result in report.results if not result.passed]
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(report.title),
        tests=str(len(report.results)),
        failures=str(len(failures)),
        errors="0",
        time=f"{report.lasted_s:.3f}",
    )
    for result in report.results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"scenario.{_clean(name)}", name=_clean(result.what)
        )
        if not result.passed:
            ElementTree.SubElement(case, "failure", message=_clean(result.reason))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def write(path: Path, report: Report, name: str) -> None:
    """The document, at ``path``."""
    try:
        path.write_bytes(document(report, name))
    except OSError as failure:
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
