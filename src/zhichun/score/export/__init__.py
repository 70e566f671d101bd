"""From a run to ONNX and OpenVINO graphs, and these as engines, without torch."""
