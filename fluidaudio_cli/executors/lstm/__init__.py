"""A bidirectional LSTM on the processor's matrix tiles (Intel AMX, bf16).

The segmentation network spends three quarters of its time in four LSTM layers, which OpenVINO
runs at 3 to 8 % of this machine's bf16 peak. ``kernel.c`` keeps one step's work in the cache and
on the tiles; ``cut`` takes the layers out of a lowered model, ``stack`` runs them. Where the
kernel was not built or the processor lacks the tiles, the runtime's own LSTM is used; or, if a
mode allows it, ``int8``, which computes the same layers in 8-bit integers (AVX-512 VNNI).
"""
