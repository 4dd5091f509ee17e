"""A real OpenStack Swift of our own with its S3 interface, on loopback, from Debian's packages."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flows import servers

PARTS = ("account", "container", "object")
PROXY = "swift-proxy-server"
REASON = "Swift is not installed: apt-get install swift-proxy swift-account swift-container swift-object"
KEY, SECRET = "test:tester", "testing"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
"""What a client needs beside the address; Swift doesn't know the newest clients' own checksums."""
FILTERS = {
    "catch_errors": "",
    "gatekeeper": "",
    "proxy_logging": "",  # without it answers to HEAD have a body
    "memcache": "memcache_servers = 127.0.0.1:9",  # nobody: it goes on without
    "listing_formats": "",
    "s3api": "",
    "tempauth": "user_test_tester = testing .admin",
    "bulk": "",
    "slo": "",
    "dlo": "",
}


def is_installed() -> bool:
    """Tell whether Debian's packages are here."""
    programs = (PROXY, "swift-ring-builder", *(f"swift-{part}-server" for part in PARTS))
    return all(shutil.which(program) for program in programs)


@contextmanager
def swift(folder: Path) -> Iterator[str]:
    """Start Swift with its data in ``folder``; gives the address of its S3 interface."""
    (folder / "devices/disk").mkdir(parents=True)
    processes, port = [], 0
    try:
        for part in PARTS:
            port = servers._free_port(max(6200, port + 1))
            _ring(folder, part, port)
            processes.append(_start(folder, f"swift-{part}-server", _part(folder, part, port), port))
        port = servers._free_port(port + 1)
        processes.append(_start(folder, PROXY, _proxy(folder, port), port))
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _ring(folder: Path, part: str, port: int) -> None:
    builder = str(folder / f"{part}.builder")
    for arguments in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/disk", "1"], ["rebalance"]):
        subprocess.run(["swift-ring-builder", builder, *arguments], check=True, stdout=subprocess.DEVNULL)


def _common(folder: Path, port: int) -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    lines = ["[DEFAULT]", "bind_ip = 127.0.0.1", f"bind_port = {port}", f"swift_dir = {folder}", f"user = {user}"]
    return "\n".join([*lines, "workers = 0", f"devices = {folder}/devices", "mount_check = false", ""])


def _part(folder: Path, part: str, port: int) -> str:
    app = f"[pipeline:main]\npipeline = {part}-server\n[app:{part}-server]\nuse = egg:swift#{part}\n"
    return _common(folder, port) + app


def _proxy(folder: Path, port: int) -> str:
    filters = [f"[filter:{name}]\nuse = egg:swift#{name}\n{setting}" for name, setting in FILTERS.items()]
    pipeline = f"[pipeline:main]\npipeline = {' '.join(FILTERS)} proxy-server"
    app = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    return _common(folder, port) + "\n".join([pipeline, *filters, app])


def _start(folder: Path, program: str, configuration: str, port: int) -> subprocess.Popen[bytes]:
    path = folder / f"{program}.conf"
    path.write_text(configuration)
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([program, str(path), "-v"], stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.2)
    raise RuntimeError(f"{program} did not start: {(folder / f'{program}.log').read_text()[-2000:]}")
