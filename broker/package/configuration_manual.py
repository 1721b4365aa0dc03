"""Makes kerbridge.toml(5) and kerbridge-policy.toml(5) of docs/configuration.md, whose tables a test holds to what the program reads.

configuration_manual.py FOLDER YYYY-MM-DD VERSION
"""

import pathlib
import re
import sys

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/configuration.md"
PAGES = {
    "kerbridge.toml": ("kerbridge.toml", "configuration of the kerbridge broker"),
    "policy.toml": ("kerbridge-policy.toml", "who may have which token, and what a request must show"),
}
COLUMNS = ["field", "type", "default", "unit, range", "what it says", "example"]


def escaped(text):
    """Text as roff shows it: nothing in it is an order."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace('"', r"\(dq").replace("`", r"\(ga")
    text = text.replace("…", "...").replace("§", r"\(sc")
    return r"\&" + text if text.startswith(".") else text


def without_links(markdown):
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown)


def inline(markdown):
    """A paragraph or a cell: links by their words, code and emphasis by their fonts."""
    parts = re.split(r"(`[^`]*`|\*\*[^*]+\*\*|(?<!\w)\*[^*\s][^*]*\*(?!\w))", without_links(markdown))
    written = []
    for part in parts:
        if part.startswith("`") and part.endswith("`") and len(part) > 1:
            written.append(rf"\fB{escaped(part[1:-1])}\fR")
        elif part.startswith("*") and part.endswith("*") and len(part) > 2:
            written.append(rf"\fI{escaped(part.strip('*'))}\fR")
        else:
            written.append(escaped(part))
    line = "".join(written).strip()
    return r"\&" + line if line.startswith((".", "'")) else line


def cells(row):
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def field(row):
    name, kind, default, span, says, example = cells(row)
    lines = [".TP", inline(name) + f" ({inline(kind)})"]
    says = without_links(says).rstrip(".") or "A table of its own, below"
    lines.append(inline(says[:1].upper() + says[1:]) + ".")
    for word, value in (("Range", span), ("Default", default), ("Example", example)):
        if value:
            lines += [".br", f"{word}: {inline(value)}"]
    return lines


def body(text):
    """What stands below a heading of the second level."""
    lines, table, paragraph = [], None, []

    def end_paragraph():
        if paragraph:
            text = " ".join(paragraph)
            if text.startswith("- "):
                lines.extend([r".IP \(bu 2", inline(text[2:])])
            else:
                # Below a heading a paragraph begins by itself.
                lines.extend([".PP"] if lines and not lines[-1].startswith(".SS") else [])
                lines.append(inline(text))
            paragraph.clear()

    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            end_paragraph()
            fenced = not fenced
            lines += [".PP", ".RS", ".nf"] if fenced else [".fi", ".RE"]
        elif fenced:
            lines.append(escaped(line) or r"\&")
        elif line.startswith("### "):
            end_paragraph()
            lines.append(".SS " + '"' + inline(line[4:]) + '"')
        elif line.startswith("|"):
            end_paragraph()
            if table is None:
                table = cells(line)
            elif not set(line) <= set("|- "):
                if table == COLUMNS:
                    lines.extend(field(line))
                else:
                    lines.extend([".TP", inline(cells(line)[0]), ". ".join(inline(cell) for cell in cells(line)[1:] if cell)])
        elif not line.strip():
            table = None
            end_paragraph()
        elif line.startswith("- "):
            end_paragraph()
            paragraph.append(line)
        else:
            paragraph.append(line.strip())
    end_paragraph()
    return lines


def main(folder, date, version):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    introduction, *sections = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    introduction = introduction.split("\n", 1)[1].rsplit("A test compares", 1)[0].replace("How to read the tables:", "How to read what follows:")
    texts = dict(section.split("\n", 1) for section in sections)
    if set(texts) != set(PAGES):
        sys.exit(f"{DOCUMENT}: its parts are {sorted(texts)}, and pages are made of {sorted(PAGES)}")
    for part, (name, about) in PAGES.items():
        others = [other for other, _ in PAGES.values() if other != name]
        page = [
            f'.TH {escaped(name.upper())} 5 {date} "kerbridge {version}" "kerbridge manual"',
            ".SH NAME",
            rf"{escaped(name)} \- {escaped(about)}",
            ".SH DESCRIPTION",
            *body(introduction),
            ".SH FIELDS",
            *body(texts[part]),
            ".SH SEE ALSO",
            "kerbridge(1), kerbridge\\-config\\-check(1), " + ", ".join(f"{escaped(other)}(5)" for other in others),
        ]
        (out / f"{name}.5").write_text("\n".join(page) + "\n", encoding="utf-8")


main(*sys.argv[1:])
