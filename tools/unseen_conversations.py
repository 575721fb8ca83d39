"""Make the conversations on which accuracy is claimed, of readers that no network was adapted to.

    python tools/unseen_conversations.py DATA -o FOLDER
    python tools/unseen_conversations.py DATA --to-choose-by 1 -o FOLDER

DATA: the development data, of which ``voices`` (107 LibriSpeech readers) and the references of
``sim-meetings`` are read. Who was trained on, by the manifest of the bundled packages, is left out,
and so is who speaks in sim-meetings. Of those the second form makes others of the same kinds
(``datasets/recipes/unseen.yaml``), to choose by, so that the first stay unseen; 2, 3 … make more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import yaml

from fluidaudio_cli.files import atomic_path
from fluidaudio_cli.resources import datasets_dir, packages_dir
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate.batch import Sources, simulate
from fluidaudio_cli.simulate.recipe import Recipe, parse_recipe


def main() -> None:
    """Choose the readers and make every recipe, all recordings in one folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--to-choose-by", type=int, default=0, metavar="N", help="others, of other readers"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()

    files = readers(asked.data, known=asked.to_choose_by > 0)
    with tempfile.TemporaryDirectory() as temporary, atomic_path(asked.output) as draft:
        voices = Path(temporary) / "voices"
        voices.mkdir()
        for file in files:
            (voices / file.name).symlink_to(file.resolve())
        draft.mkdir()
        for recipe in recipes(1000 * asked.to_choose_by):
            made = Path(temporary) / recipe.name
            simulate(recipe, Sources(voices), made, jobs=os.cpu_count() or 1)
            for file in made.glob(f"{recipe.name}-*"):
                shutil.move(file, draft)


def recipes(more: int) -> list[Recipe]:
    """The kinds of conversations, their seeds greater by ``more``."""
    path = datasets_dir() / "recipes" / "unseen.yaml"
    kinds = yaml.safe_load(path.read_text(encoding="utf-8"))["recipes"]
    return [parse_recipe({**kind, "seed": kind["seed"] + more}, str(path)) for kind in kinds]


def readers(data: Path, *, known: bool) -> list[Path]:
    """Files of those whom nothing was trained on; who speaks in sim-meetings is ``known``."""
    trained, meeting = trained_on(), meeting_readers(data / "sim-meetings")
    return [
        file
        for file in sorted((data / "voices").glob("*.flac"))
        if file.stem not in trained and (file.stem in meeting) == known
    ]


def trained_on() -> set[str]:
    """Voices that any of the bundled networks was taught with by this project."""
    manifest = json.loads((packages_dir() / "manifest.json").read_text(encoding="utf-8"))
    training = [model.get("training", {}) for model in manifest["models"]]
    return {name for each in training for name in each.get("readers", ())}


def meeting_readers(folder: Path) -> set[str]:
    """Who speaks in recordings, as the files of ``voices`` are called."""
    read = [read_rttm(path) for path in folder.glob("*.rttm")]
    turns = [turn for recordings in read for each in recordings.values() for turn in each]
    return {f"libri-{turn.speaker}" for turn in turns}


if __name__ == "__main__":
    main()
