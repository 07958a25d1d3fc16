"""The kernelspec as Jupyter's server shows it to the launcher."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernelspecs.handlers import kernelspec_model

from autoresearch_kernel.lab import jupyter
from autoresearch_kernel.run.kernelspec import KERNEL_NAME, install_kernelspec, kernelspec


def test_the_launcher_gets_a_logo(tmp_path: Path) -> None:
    folder = install_kernelspec(tmp_path)
    spec = KernelSpecManager(kernel_dirs=[str(folder.parent)]).get_kernel_spec(KERNEL_NAME)
    model = kernelspec_model(SimpleNamespace(base_url="/"), KERNEL_NAME, spec.to_dict(), spec.resource_dir)
    assert model["resources"] == {"logo-svg": f"/kernelspecs/{KERNEL_NAME}/logo-svg.svg"}
    assert model["spec"]["argv"] == kernelspec()["argv"]
    drawing = ElementTree.parse(folder / "logo-svg.svg").getroot()
    assert drawing.tag.endswith("svg") and drawing.get("viewBox") == "0 0 64 64"


def test_an_equal_one_is_not_written_anew_and_an_older_one_is_replaced(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = install_kernelspec(tmp_path)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o755, 0o644, 0o644]
    folder.chmod(0o700)  # as an older version left it: other users of an environment start its kernel too
    assert install_kernelspec(tmp_path).stat().st_mode & 0o777 == 0o755
    file = folder / "kernel.json"
    os.utime(file, (1e9, 1e9))
    assert install_kernelspec(tmp_path) == folder and file.stat().st_mtime == 1e9
    file.write_text("{}")
    assert install_kernelspec(tmp_path) == folder and json.loads(file.read_text()) == kernelspec()


def test_a_user_s_own_one_is_where_jupyter_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    for _ in range(2):
        assert install_kernelspec() == tmp_path / "kernels" / KERNEL_NAME
    assert KernelSpecManager().get_kernel_spec(KERNEL_NAME).argv == kernelspec()["argv"]


def test_in_an_environment_of_another_user_lab_installs_the_kernel_for_this_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(prefix: Path | None = None) -> Path:
        if prefix is not None:
            raise PermissionError(13, "Permission denied", str(prefix))
        return tmp_path / "kernels"

    monkeypatch.setattr(jupyter, "install_kernelspec", install)
    jupyter.install_for_lab()
    assert f"another user's, so the kernel is installed in {tmp_path / 'kernels'}" in capsys.readouterr().out
