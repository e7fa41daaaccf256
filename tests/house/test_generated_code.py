"""The wire's code is what `proto/` says, and every RPC says what it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
PROTOS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("proto/kuaixiang/**/*.proto"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    out = tmp_path_factory.mktemp("descriptors") / "wire.binpb"
    done = run(
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-Iproto",
        "--include_source_info",
        f"--descriptor_set_out={out}",
        *PROTOS,
    )
    assert done.returncode == 0, done.stderr
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def test_generated_code_is_current() -> None:
    # `--assume-old`: the environment that runs this test is made already.
    done = run("make", "--assume-old=.venv/.installed", f"BIN={Path(sys.executable).parent}", "proto-check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_proto_file_has_its_generated_code() -> None:
    missing = [
        name
        for path in PROTOS
        for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
        if not (ROOT / (name := path.removeprefix("proto/").removesuffix(".proto") + suffix)).is_file()
    ]
    assert missing == []


def test_every_rpc_is_documented(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    undocumented = []
    for file in files:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for number, service in enumerate(file.service):
            # 6: FileDescriptorProto.service; 2: ServiceDescriptorProto.method.
            for index, method in enumerate(service.method):
                if not comments.get((6, number, 2, index)):
                    undocumented.append(f"{service.name}.{method.name}")
    assert undocumented == []
    assert any(file.service for file in files)


def test_every_message_lives_in_the_versioned_package(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    assert {"kuaixiang.wire.v1"} == {file.package for file in files if file.name.startswith("kuaixiang/")}


def test_proto_folder_holds_no_python() -> None:
    # `import proto` belongs to Google's package.
    assert [] == [
        path for path in (ROOT / "proto").rglob("*") if path.is_file() and path.suffix not in {".proto", ".binpb"}
    ]


def test_what_is_googles_is_as_its_package_has_it() -> None:
    ours = ROOT / "proto" / "google" / "api"
    theirs = Path(annotations_pb2.__file__).parent
    assert {"annotations.proto", "http.proto"} == {path.name for path in ours.iterdir()}
    assert [] == [path.name for path in ours.iterdir() if path.read_bytes() != (theirs / path.name).read_bytes()]


def test_buf_finds_nothing() -> None:
    done = run(str(Path(sys.executable).with_name("buf")), "lint")
    assert done.returncode == 0, done.stdout + done.stderr
