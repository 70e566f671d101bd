"""`python -m zhichun`, as `accelerate launch -m zhichun` calls it."""

from zhichun.cli import main

main()
