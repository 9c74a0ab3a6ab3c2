"""`%unload_ext` takes away what `%load_ext` brought."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell


def test_unloading_takes_the_magics_away() -> None:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    try:
        shell.run_line_magic("load_ext", "omlx_jupyter")
        assert "vlm" in shell.magics_manager.magics["cell"]
        shell.run_line_magic("unload_ext", "omlx_jupyter")
        assert "vlm" not in shell.magics_manager.magics["cell"]
        assert not {"ocr", "omlx"} & set(shell.magics_manager.magics["line"])
    finally:
        InteractiveShell.clear_instance()
