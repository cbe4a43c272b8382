"""GPUs that `benchmarks.compiled_for` knows, one TOML file each, the source of every number named in it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@dataclass(frozen=True)
class Target:
    """One GPU."""

    name: str
    peak: dict[str, float]
    """Floating-point operations a second of a matrix product, by the type of its inputs."""
    device: dict[str, Any]
    """What XLA's compiler asks of a device, by the field of its ``GpuDeviceInfoProto``."""

    @property
    def bandwidth(self) -> float:
        """Bytes a second through the device's memory."""
        return float(self.device["memory_bandwidth"])

    def config(self) -> str:
        """Return XLA's ``GpuTargetConfigProto`` as text."""
        major, minor = self.device["compute_capability"]
        fields = [f"  {name}: {value}" for name, value in self.device.items() if name != "compute_capability"]
        capability = f"  cuda_compute_capability {{ major: {major} minor: {minor} }}"
        cudnn = "dnn_version_info { major: 9 minor: 10 patch: 0 }"
        named = f'platform_name: "CUDA"\n{cudnn}\ndevice_description_str: "{self.name}"\n'
        return "\n".join(["gpu_device_info {", *fields, capability, "}", named])


def load_target(name: str) -> Target:
    """Return the GPU described in ``<name>.toml``."""
    return Target(**tomllib.loads((FOLDER / f"{name}.toml").read_text()))
