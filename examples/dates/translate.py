"""What the model of train.py makes of dates, without TensorFlow, and a picture of what it looked at.

    python examples/dates/translate.py [FOLDER] [DATE ...] [--picture FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lstmrt

DATES = ["3rd march 2017", "thursday 29 february 1996", "9.11.1989", "jul 4, 2026"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Read dates with a small encoder-decoder.")
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="where train.py put its files")
    parser.add_argument("dates", nargs="*", default=DATES, metavar="DATE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the attention over the first date")
    arguments = parser.parse_args()

    model = lstmrt.load(arguments.folder / "dates.keras", tokenizer=arguments.folder / "source_letters.json",
                        decoder_tokenizer=arguments.folder / "target_letters.json")
    for date, made in zip(arguments.dates, model.generate(arguments.dates, max_new_tokens=10)):
        print(f"{date} -> {made}")
    if arguments.picture:
        output = model.generate(arguments.dates[0], max_new_tokens=10, output_attentions=True)
        ax = lstmrt.plot_alignment(output.attentions, output.source_tokens, output.target_tokens)
        ax.figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
