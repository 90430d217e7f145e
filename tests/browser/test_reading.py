"""The pages that `make tutorial` leaves, in a browser without a network: formulas are laid out, nothing is fetched."""

import pytest

from tests.browser.conftest import ROOT, visit
from tools import reading

pytestmark = pytest.mark.browser
LAID_OUT = """() => [...document.querySelectorAll("math")].map(math => {
  const box = math.getBoundingClientRect();
  const stacked = [...math.querySelectorAll("mfrac")].every(fraction => {
    const [above, below] = [...fraction.children].map(part => part.getBoundingClientRect());
    return above.bottom <= below.top + 2;
  });
  return math.namespaceURI.endsWith("MathML") && box.width > 3 && box.height > 5 && stacked;
})"""


def test_formulas_are_laid_out_without_a_network(chromium, desk, tmp_path, monkeypatch):
    import nbformat

    monkeypatch.setenv("JUPYTER_PATH", desk["JUPYTER_PATH"])  # nbconvert's templates lie in the environment
    (tmp_path / "img").symlink_to(ROOT / "notebooks" / "img")
    met = 0
    with visit(chromium) as page:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            notebook = nbformat.read(path, as_version=4)
            shown = tmp_path / f"{path.stem}.html"
            shown.write_text(reading.page(notebook, path.stem), encoding="utf8")
            page.goto(shown.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
            laid_out = page.evaluate(LAID_OUT)
            assert all(laid_out) and "$$" not in page.locator("main").inner_text(), path.stem
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)"), path.stem
            met += len(laid_out)
    assert met > 20, "there are formulas at all"


def test_a_request_that_leaves_is_seen(chromium, tmp_path):
    (tmp_path / "leaving.html").write_text('<script src="https://example.org/x.js"></script>', encoding="utf8")
    with pytest.raises(AssertionError, match="https://example.org/x.js"), visit(chromium) as page:
        page.goto((tmp_path / "leaving.html").as_uri())
