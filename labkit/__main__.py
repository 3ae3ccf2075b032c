"""`python -m labkit COMMAND`: the chores of the course's keepers. `python -m labkit --help` lists them."""

import argparse
import json
from pathlib import Path
from pkgutil import resolve_name


def main() -> None:
    """Read the command line and run one command: the function that `run` names, with the options."""
    parser = argparse.ArgumentParser(prog="python -m labkit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    rebuild = commands.add_parser("rebuild-mnist", help="make the embedded MNIST file from the four idx files")
    rebuild.add_argument("folder", type=Path, help="folder with the four idx files, plain or .gz")
    rebuild.set_defaults(run="commands.rebuild_mnist:rebuild_mnist", say=lambda path: f"wrote {path}")

    train = commands.add_parser("retrain", help="train a shipped model from scratch and write its weights and card")
    train.add_argument("name", help="the model, for example mnist-unet")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    length.add_argument("--seconds", type=float, help="as many steps as a short trial says will fit into this time")
    train.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    train.add_argument("--lr", type=float, help="largest learning rate (default: the recipe's)")
    train.add_argument("--further", action="store_true", help="start from the weights that ship, not from scratch")
    train.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise (default: 0)")
    train.add_argument("--checkpoint", type=Path, help="file to save progress to every minute, and to resume from")
    train.set_defaults(run="commands.retrain:retrain", say=lambda card: json.dumps(card.details["figures"], indent=2))

    judged = commands.add_parser("measure", help="judge a shipped model: figures for its card")
    judged.add_argument("name", help="the model, for example mnist-unet or mnist-judge")
    judged.set_defaults(run="commands.measure:measure", say=lambda card: json.dumps(card.details["measured"], indent=2))

    copies = commands.add_parser("students", help="write the student copies of the lessons, with blanks for answers")
    copies.add_argument("folder", type=Path, nargs="?", default=Path("notebooks"), help="folder of the lessons")
    copies.set_defaults(run="students:students", say=lambda paths: "\n".join(f"wrote {path}" for path in paths))

    options = vars(parser.parse_args())
    run, say = options.pop("run"), options.pop("say")
    print(say(resolve_name(f"labkit.course.{run}")(**options)))  # imported only now: the help needs no torch


if __name__ == "__main__":
    main()
