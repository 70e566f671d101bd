"""Engines: the network in torch, onnxruntime and OpenVINO behind one contract."""
