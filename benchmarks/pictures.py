"""Draw the pictures of the documentation anew: python -m benchmarks.pictures

They are what the commands of docs/howto/questions.md draw.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import ROOT


def main() -> None:
    """Run the page in an empty folder and keep its pictures."""
    page = ROOT / "docs" / "howto" / "questions.md"
    runner = ROOT / "tests" / "documents.py"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(runner), str(page)], cwd=folder, check=True)
        for picture in Path(folder).glob("*.png"):
            shutil.copy(picture, ROOT / "docs" / "pictures" / picture.name)
            print(picture.name)


if __name__ == "__main__":
    main()
