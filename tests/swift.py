"""A real OpenStack Swift of our own with its S3 interface, on loopback, from Debian's packages."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from flows import servers

PARTS = ("account", "container", "object")
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
    programs = ("swift-ring-builder", *(f"swift-{part}-server" for part in (*PARTS, "proxy")))
    return all(shutil.which(program) for program in programs)


class Swift:
    """A server that is started, killed and started again on the same ports and data; S3 is spoken at ``address``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "devices/disk").mkdir(parents=True)
        self.ports: dict[str, int] = {}
        port = 6199
        for part in (*PARTS, "proxy"):
            self.ports[part] = port = servers.free_port(port + 1)
        for part in PARTS:
            _ring(folder, part, self.ports[part])
        self.address = f"http://127.0.0.1:{self.ports['proxy']}"
        self.start()

    def start(self) -> None:
        """Start all four servers and wait until each listens."""
        self.processes = []
        for part, port in self.ports.items():
            settings = _proxy(self.folder, port) if part == "proxy" else _part(self.folder, part, port)
            self.processes.append(_start(self.folder, f"swift-{part}-server", settings, port))

    def kill(self) -> None:
        """End it at once, as a crash does; its data stay."""
        for process in self.processes:
            process.kill()
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
