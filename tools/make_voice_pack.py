"""Write the bundled voice pack, ``datasets/voices`` and ``datasets/noise``, from shared data.

    python tools/make_voice_pack.py DATA

DATA holds ``voices`` (LibriSpeech readers, CC BY 4.0), ``noise`` (CC BY 4.0, CC0) and
``sim-meetings``, none of whose readers is taken: what was tuned on those is measured on others.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import av
import numpy as np
from unseen_conversations import meeting_readers

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.simulate.voices import read_audio, read_voice

READERS_OF_EACH_SEX = 12
VOICE_SECONDS = 15
VOICE_BIT_RATE = 64_000
"""Opus at which differences to the original are below what any network here hears."""

NOISES = {
    "dishes": ("noise-dishes", 30),
    "exercise-bike": ("noise-exercise-bike", 30),
    "musan-free-sound-0442": ("noise-free-sound", 30),
    "musan-music-hd-0048": ("music-piano", 30),
}


def main() -> None:
    """Choose, encode, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    data, target = parser.parse_args().data, Path(__file__).parents[1] / "datasets"
    used = meeting_readers(data / "sim-meetings")
    with (data / "voices" / "voices.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rows = [row for row in rows if row["speaker"] not in used]
    # The longest first, so that as many as can have the whole length.
    rows.sort(key=lambda row: (-min(float(row["seconds"]), VOICE_SECONDS), row["speaker"]))
    for folder in (target / "voices", target / "noise"):
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.opus"):
            old.unlink()
    for sex in "FM":
        for row in [row for row in rows if row["sex"] == sex][:READERS_OF_EACH_SEX]:
            source = data / "voices" / f"{row['speaker']}.flac"
            written = target / "voices" / f"{row['speaker']}-{sex.lower()}.opus"
            encode(read_audio(source)[: VOICE_SECONDS * SAMPLE_RATE], written)
            read_voice(written.stem, [written])
    for name, (short, seconds) in NOISES.items():
        samples = read_audio(data / "noise" / f"{name}.flac")[: seconds * SAMPLE_RATE]
        encode(samples, target / "noise" / f"{short}.opus")


def encode(samples: np.ndarray[tuple[int], np.dtype[np.float32]], path: Path) -> None:
    """Write Ogg Opus."""
    with av.open(str(path), "w", format="ogg", options={"serial_offset": "1"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE)
        stream.layout = "mono"
        stream.bit_rate = VOICE_BIT_RATE
        pcm = np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)
        for start in range(0, pcm.size, 320):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 320], "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
