"""An executed notebook → one page to read. It asks nothing of a network: no script, and formulas as MathML.

Browsers lay MathML out themselves; nbconvert's own page would fetch MathJax, mermaid and require.js from servers.
"""

import html
import re

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

SCRIPTS = ("html_head_js", "html_head_js_mathjax", "html_head_js_mermaidjs", "jupyter_widgets")
# Fonts with the measures of formulas, as systems have them; without one, fences do not grow and indices sit too high.
FONTS = '"Latin Modern Math", "STIX Two Math", "Cambria Math", "DejaVu Math TeX Gyre", "Noto Sans Math", math'
PAGE = "{% extends 'lab/index.html.j2' %}" + "".join(f"{{% block {name} %}}{{% endblock %}}" for name in SCRIPTS)
PAGE += f"{{% block extra_css %}}<style>math {{ font-family: {FONTS}; font-size: 115% }}</style>{{% endblock %}}"
NEIGHBOUR = re.compile(r'href="([\w.-]+)\.ipynb(#[^"]*)?"')


def formula(latex: str, *, display: str = "inline") -> str:
    """A formula as MathML, or the LaTeX itself in `<code>` where it has what latex2mathml cannot read.

    >>> formula("a_i").partition(">")[2]
    '<mrow><msub><mi>a</mi><mi>i</mi></msub></mrow></math>'
    >>> formula("a_b_c")
    '<code>a_b_c</code>'
    """
    try:
        found = convert(latex, display=display)
    except Exception:  # a dozen classes of its own, without a parent
        found = "\\"
    # What it does not know it passes through: a command with its backslash, the & of a table.
    return found if "\\" not in found and "&<" not in found else f"<code>{html.escape(latex)}</code>"


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return formula(body, display="block")

    def inline_math(self, body: str) -> str:
        return formula(body)

    def latex_environment(self, name: str, body: str) -> str:
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", display="block")


def markdown(source: str) -> str:
    """Markdown as HTML, formulas included."""
    return MarkdownWithMath(_Renderer(escape=False)).render(source)


def page(notebook: dict, name: str) -> str:
    """The notebook as HTML. Pictures stay files beside it, and links to notebooks lead to their pages.

    Args:
        name: its file's name without .ipynb, for the title.
    """
    exporter = HTMLExporter(raw_template=PAGE, filters={"markdown2html": markdown})
    found, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": name}})
    return NEIGHBOUR.sub(r'href="\1.html\2"', found)
