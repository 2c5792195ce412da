"""README and the pages of docs/ do what they say: their blocks run, their numbers are results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

import mixjax as mj
from benchmarks.pages import fill
from mixjax.fitting.record import SCHEMA
from mixjax.fitting.simulate import demo_truth
from tests.documents import blocks, commands

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
RUN = [page for page in PAGES if any(True for _ in blocks(page.read_text()))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The page, run in a process and folder of its own."""
    runner = [sys.executable, str(ROOT / "tests" / "documents.py"), str(page)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(runner, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", RUN, ids=name)
def test_blocks_run(page, tmp_path):
    result = run(page, tmp_path)
    assert not result.returncode, result.stderr


def test_a_failing_line_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\nassert x == 2\n```\n")
    result = run(page, tmp_path)
    assert result.returncode == 1
    assert f"{page}:5: AssertionError" in result.stderr
    page.write_text("```bash\ntrue\nmixjax \\\n  fitt\n```\n")
    result = run(page, tmp_path)
    assert f"{page}:3: RuntimeError: exit code 2" in result.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_numbers_are_those_of_the_results(page):
    text = page.read_text()
    assert "{{" not in text
    assert page == README or "NaN" not in text
    assert fill(text) == text, "python -m benchmarks.pages writes them anew"


def test_readme_is_short_and_its_installation_is_what_ci_runs():
    assert README.stat().st_size <= 8192
    ci = (ROOT / ".ci" / "run").read_text()
    shown = [
        command
        for block in blocks(README.read_text())
        if block.language == "console"
        for _, command in commands(block)
    ]
    assert len(shown) == 2
    for command in shown:
        assert command.replace("demo-out", '"$work/demo-out"') in ci


def test_a_fit_is_a_file_of_its_schema():
    schema = json.loads((ROOT / "docs" / "reference" / f"fit-{SCHEMA}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    known = demo_truth()
    runs = mj.demo_runs().table.query("N < 2e8")
    for fit in (known, mj.fit(runs, "additive", targets=["web"], starts=2, hops=0)):
        content = json.loads(json.dumps(fit.to_dict()))
        Draft202012Validator(schema).validate(content)
        with pytest.raises(ValidationError):
            Draft202012Validator(schema).validate(content | {"delta": -1.0})


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", README.read_text())
    assert all(link.startswith("https://") or (ROOT / link).exists() for link in links)
