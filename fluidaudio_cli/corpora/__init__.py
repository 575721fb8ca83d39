"""Corpora: manifests, download, verification, and any folder of audio with references."""
