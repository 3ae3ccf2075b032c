"""`python -m labkit COMMAND`: the chores of the course's keepers. `python -m labkit --help` lists them."""

import argparse
from pathlib import Path


def main() -> None:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m labkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    rebuild = commands.add_parser("rebuild-mnist", help="make the embedded MNIST file from the four idx files")
    rebuild.add_argument("folder", type=Path, help="folder with the four idx files, plain or .gz")

    arguments = parser.parse_args()
    if arguments.command == "rebuild-mnist":
        from labkit.commands.rebuild_mnist import rebuild_mnist

        print(f"wrote {rebuild_mnist(arguments.folder)}")


if __name__ == "__main__":
    main()
