"""Writes the embedded model's folder from a training checkpoint.

python -m tools.export_tiny_ocr runs/tiny-ocr/checkpoint.pt omlx_jupyter/assets/tiny-ocr
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.tiny_ocr.export import export

if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    export(Path(sys.argv[1]), Path(sys.argv[2]))
