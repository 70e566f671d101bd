"""From a run to ONNX and OpenVINO graphs, and loading them without torch."""
