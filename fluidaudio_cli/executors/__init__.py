"""Executors: one interface to Core ML, OpenVINO and ONNX Runtime.

``select.executor("openvino").load(package, ExecutorOptions()).request().run({"audio": array})``
"""
