"""The kernelspec as Jupyter's server shows it to the launcher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernelspecs.handlers import kernelspec_model

from autoresearch_kernel.run.kernelspec import KERNEL_NAME, install_kernelspec, kernelspec


def test_the_launcher_gets_a_logo(tmp_path: Path) -> None:
    folder = install_kernelspec(tmp_path)
    spec = KernelSpecManager(kernel_dirs=[str(folder.parent)]).get_kernel_spec(KERNEL_NAME)
    model = kernelspec_model(SimpleNamespace(base_url="/"), KERNEL_NAME, spec.to_dict(), spec.resource_dir)
    assert model["resources"] == {"logo-svg": f"/kernelspecs/{KERNEL_NAME}/logo-svg.svg"}
    assert model["spec"]["argv"] == kernelspec()["argv"]
    drawing = ElementTree.parse(folder / "logo-svg.svg").getroot()
    assert drawing.tag.endswith("svg") and drawing.get("viewBox") == "0 0 64 64"
