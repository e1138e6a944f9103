"""The folder protos/, as authors of clients in other languages use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]


def compiled(folder: Path) -> dict[str, FileDescriptorProto]:
    """Compile a copy of protos/ that has nothing else beside it, and return its files with all that they import."""
    protos = folder / "protos"
    for source in (ROOT / "protos").rglob("*.proto"):
        copy = protos / source.relative_to(ROOT / "protos")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    output = folder / "set.binpb"
    files = sorted(str(p) for p in (protos / "sealwright" / "v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", "--include_imports", "--fatal_warnings"]
    command += [f"--descriptor_set_out={output}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return {f.name: f for f in FileDescriptorSet.FromString(output.read_bytes()).file}


def test_f49_protos_compile_with_nothing_else_on_the_import_path(tmp_path: Path) -> None:
    ours = [name for name in compiled(tmp_path) if name.startswith("sealwright/")]
    assert sorted(ours) == ["sealwright/v1/jwks.proto", "sealwright/v1/keys.proto", "sealwright/v1/signing.proto"]


def test_f49_every_file_names_its_go_package(tmp_path: Path) -> None:
    packages = {n: f.options.go_package for n, f in compiled(tmp_path).items() if not n.startswith("google/protobuf/")}
    status = packages.pop("google/rpc/status.proto")
    assert set(packages.values()) == {"sealwright.dev/gen/go/sealwright/v1;sealwrightv1"}
    assert status == "google.golang.org/genproto/googleapis/rpc/status;status"


def test_f49_our_status_is_the_one_that_every_language_has(tmp_path: Path) -> None:
    theirs = FileDescriptorProto()
    status_pb2.DESCRIPTOR.CopyToProto(theirs)
    ours = compiled(tmp_path)["google/rpc/status.proto"]
    assert ours.package == theirs.package
    shapes = [
        [(f.name, f.number, f.type, f.label, f.type_name) for f in m.message_type[0].field] for m in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert (ours.options.go_package, ours.options.java_package) == (
        theirs.options.go_package,
        theirs.options.java_package,
    )


def test_f49_python_code_is_generated_for_our_own_files_alone() -> None:
    generated = {p.relative_to(ROOT / "service").parts[0] for p in (ROOT / "service").rglob("*_pb2.py")}
    assert generated == {"sealwright"}
