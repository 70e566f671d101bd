"""Write the tree of packages in README.md anew from their docstrings: `python docs/source_tree.py`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^src/zhichun/\n(?:  .*\n)+", re.MULTILINE)


def tree(package: Path = ROOT / "src" / "zhichun", depth: int = 1) -> str:
    """Give a line for each package: its name and the first sentence of its docstring."""
    lines = ["src/zhichun/\n"] if depth == 1 else []
    for init in sorted(package.glob("*/__init__.py")):
        says = (ast.get_docstring(ast.parse(init.read_text("utf-8"))) or "").splitlines()[0].removesuffix(".")
        name = f"{'  ' * depth}{init.parent.name}/"
        lines += [f"{name:<18} {says}\n", tree(init.parent, depth + 1)]
    return "".join(lines)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    written = readme.read_text("utf-8")
    readme.write_text(BLOCK.sub(lambda _: tree(), written, count=1), "utf-8")
