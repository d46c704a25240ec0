"""`python -m docs.tools` (`make docs`): write every generated page; says which ones were not as they should be."""

from docs.tools import ROOT, generated

for path, text in generated().items():
    file = ROOT / path
    if not file.exists() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
        print(f"written: {path}")
