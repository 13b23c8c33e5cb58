"""index.html of a report: the figures with links to their numbers, what could not be drawn and why, and the table of runs."""

from html import escape

import pandas

from .tables import HEADINGS, cell

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1em; color: #111; }
figure { margin: 0 0 2.2em; } figure img { max-width: 100%; border: 1px solid #ddd; background: #fff; }
figcaption { color: #555; } table { border-collapse: collapse; font-size: 13px; } div.wide { overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 1.5px solid #111; } td.text, th.text { text-align: left; }
"""


def table_html(frame: pandas.DataFrame) -> str:
    text = {name: frame[name].map(lambda value: isinstance(value, str)).any() for name in frame}
    kind = lambda name: ' class="text"' if text[name] else ""
    heads = "".join(f"<th{kind(name)}>{escape(HEADINGS.get(name, name.replace('_', ' ')).replace('$', ''))}</th>" for name in frame)
    rows = ["<tr>" + "".join(f"<td{kind(name)}>{escape(cell(value))}</td>" for name, value in zip(frame, row)) + "</tr>"
            for row in frame.itertuples(index=False, name=None)]
    return "\n".join(['<div class="wide"><table>', f"<tr>{heads}</tr>", *rows, "</table></div>"])


def figure_html(name: str, title: str, image: str) -> str:
    picture = f'<a href="{image}">{image}</a>' if image.endswith(".pdf") else f'<img src="{image}" alt="{escape(title)}">'
    links = f'numbers: <a href="{name}.csv">CSV</a>, <a href="{name}.tex">LaTeX</a>'
    return f"<figure id=\"{name}\">\n{picture}\n<figcaption>{links}</figcaption>\n</figure>"


def page(heading: str, figures: list[str], missing: list[tuple[str, str]], notes: list[str], runs: pandas.DataFrame) -> str:
    parts = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">', f"<title>{escape(heading)}</title>",
             f"<style>{STYLE}</style></head><body>", f"<h1>{escape(heading)}</h1>", *figures]
    if missing:
        parts += ["<h2>Not drawn</h2>", "<ul>", *(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in missing), "</ul>"]
    parts += ["<h2>Runs</h2>", table_html(runs), '<p><a href="all_runs.csv">CSV</a>, <a href="all_runs.tex">LaTeX</a></p>']
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    return "\n".join([*parts, "</body></html>", ""])
