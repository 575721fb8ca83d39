"""The workers of a frontend, made of the loaded networks of a model card."""

from __future__ import annotations

from collections.abc import Mapping

from fluidaudio_cli.diarization.chunk_diarizer import ChunkNetwork, DiarizerWorker
from fluidaudio_cli.diarization.crop_embedder import CropEmbedder
from fluidaudio_cli.diarization.evidence_worker import (
    EvidenceRules,
    EvidenceWorker,
    VoiceEmbedder,
)
from fluidaudio_cli.diarization.frontend import Worker
from fluidaudio_cli.diarization.mask_embedder import MaskEmbedder
from fluidaudio_cli.diarization.networks import (
    FilterBank,
    MaskedVoiceNetwork,
    Segmenter,
    VoiceNetwork,
)
from fluidaudio_cli.diarization.plan import EXACT_EMBEDDING, Plan
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.models.card import ModelCard


def new_worker(plan: Plan, card: ModelCard, models: Mapping[str, CompiledModel]) -> Worker:
    """A worker with requests of its own to ``models``, which are by role."""
    mode = plan.mode
    if card.diarizer is not None:
        front_end = None
        if card.front_end is not None:
            front_end = FilterBank(models["fbank"].request(), card.front_end)
        network = ChunkNetwork(models["diarizer"], card.diarizer, front_end)
        return DiarizerWorker(network, mode.windows.step_samples)
    assert card.segmentation is not None
    rules = EvidenceRules(
        mode.crops,
        10.0 ** (mode.windows.silence_dbfs / 20.0),
        mode.embedding.exact_below_seconds,
        mode.calibration,
    )
    return EvidenceWorker(
        Segmenter(models["segmentation"].request(), card.segmentation),
        _embedder(plan, card, models, "embedding"),
        rules,
        _embedder(plan, card, models, EXACT_EMBEDDING) if EXACT_EMBEDDING in models else None,
    )


def _embedder(
    plan: Plan, card: ModelCard, models: Mapping[str, CompiledModel], role: str
) -> VoiceEmbedder:
    assert card.embedding is not None
    request, batch = models[role].request(), plan.networks[role].batch
    if card.embedding.pooling == "mask":
        return MaskEmbedder(MaskedVoiceNetwork(request, card.embedding), batch)
    assert card.front_end is not None
    bank = FilterBank(models["fbank"].request(), card.front_end)
    return CropEmbedder(bank, VoiceNetwork(request, card.embedding), batch)
