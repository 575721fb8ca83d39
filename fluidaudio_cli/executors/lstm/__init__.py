"""Bidirectional LSTM layers by kernels of this project, where the processor has what they take.

The segmentation network spends three quarters of its time in four LSTM layers, which OpenVINO
runs at 3 to 8 % of this machine's bf16 peak. ``cut`` takes them out of a lowered model, ``layers``
says what kernels have in common. ``tiles`` computes in bf16 on matrix tiles (Intel AMX;
``tiles.c`` keeps one step's work in the cache and on the tiles). Where the kernels were not built
or the processor lacks tiles, the runtime's own LSTM is used; or, if a mode allows it, ``int8``,
which computes the same layers in 8-bit integers (``int8.h``: AVX-512 VNNI, AVX2, or ARM's products
of bytes).
"""
