"""`python -m labkit COMMAND`: the chores of the course's keepers. `python -m labkit --help` lists them."""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m labkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    rebuild = commands.add_parser("rebuild-mnist", help="make the embedded MNIST file from the four idx files")
    rebuild.add_argument("folder", type=Path, help="folder with the four idx files, plain or .gz")

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

    judged = commands.add_parser("measure", help="judge a shipped model: figures for its card")
    judged.add_argument("name", help="the model, for example mnist-unet or mnist-judge")

    swept = commands.add_parser("sweep", help="judge a shipped generator by scale and kind of guidance, into its table")
    swept.add_argument("name", help="the model, for example mnist-unet")

    commands.add_parser("ablate", help="train the U-Net with one part left out at a time, and write the table")

    equal = commands.add_parser("patches", help="train transformers by size of patch and the U-Net for equally long")
    equal.add_argument("--seconds", type=float, default=150.0, help="training time of each network (default: 150)")
    equal.add_argument("--n", type=int, default=500, help="samples judged at each scale (default: 500)")

    copies = commands.add_parser("students", help="write the student copies of the lessons, with blanks for answers")
    copies.add_argument("folder", type=Path, nargs="?", default=Path("notebooks"), help="folder of the lessons")

    arguments = parser.parse_args()
    if arguments.command == "rebuild-mnist":
        from labkit.course.commands.rebuild_mnist import rebuild_mnist

        print(f"wrote {rebuild_mnist(arguments.folder)}")
    elif arguments.command == "retrain":
        from labkit.course.commands.retrain import retrain

        card = retrain(
            arguments.name,
            steps=arguments.steps,
            seconds=arguments.seconds,
            batch_size=arguments.batch_size,
            lr=arguments.lr,
            seed=arguments.seed,
            checkpoint=arguments.checkpoint,
            further=arguments.further,
        )
        print(json.dumps(card.details["figures"], indent=2))
    elif arguments.command == "measure":
        from labkit.course.commands.measure import measure

        print(json.dumps(measure(arguments.name).details["measured"], indent=2))
    elif arguments.command == "sweep":
        from guidance_table import sweep

        print(json.dumps(sweep(arguments.name).details, indent=2))
    elif arguments.command == "ablate":
        from ablate import ablate

        print(json.dumps(ablate().details, indent=2))
    elif arguments.command == "patches":
        from patches import patches

        print(json.dumps(patches(seconds=arguments.seconds, n=arguments.n).details, indent=2))
    elif arguments.command == "students":
        from labkit.course.students import students

        for path in students(arguments.folder):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
