"""From a run to graphs that onnxruntime and OpenVINO compute: `zhichun export`."""

from zhichun.export.run import export

__all__ = ["export"]
