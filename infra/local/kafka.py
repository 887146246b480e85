"""Apache Kafka 4.1 as one KRaft node from plain jars, listening on 127.0.0.1 only."""

import base64
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from infra.local import probes
from infra.local.errors import StackError
from infra.local.jars import class_path
from infra.local.machine import find_java
from infra.local.ports import choose_ports
from infra.local.postgres import wait_until_accepting
from infra.local.processes import run_as, spawn

_LOG4J = Path(__file__).with_name("log4j2.xml")

JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={_LOG4J}",
)

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # The launcher creates topics from the contracts, and nobody else does (R17).
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Facts and offsets are kept: a rebuild reads the topics from their beginning.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    "offsets.retention.minutes": "525600",
    # A small node: one disk, little memory, few threads.
    "log.segment.bytes": "134217728",
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "metadata.max.idle.interval.ms": "5000",
    # A killed broker is let in again only after its former life has timed out. Shorter, and a busy machine fences it.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "1000",
}


@dataclass(slots=True)
class KafkaServer:
    """One broker that is its own controller: where it lies and how its process is started and asked."""

    directory: Path
    port: int
    controller_port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap address."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Return the log directory."""
        return self.directory / "data"

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _java(self, *arguments: str) -> list[str]:
        java, _ = find_java()
        scratch = self.directory / "tmp"  # native libraries are unpacked here, not into the machine's /tmp
        return [str(java), *JVM_OPTIONS, f"-Djava.io.tmpdir={scratch}", "-cp", class_path(), *arguments]

    def prepare(self) -> None:
        """Write the configuration and format the storage unless it is; an interrupted formatting is begun anew."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self.directory / "tmp", ignore_errors=True)
        (self.directory / "tmp").mkdir(mode=0o700)
        self._write_properties(self.data)
        if (self.data / "meta.properties").exists():
            return
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._write_properties(partial)
        # Joined with "=", because one identifier in 64 begins with a dash and would be taken for an option.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        try:
            run_as(
                self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties)),
                owner=None,
                cwd=self.directory,
            )
        except subprocess.CalledProcessError as error:
            raise StackError(
                f"Kafka could not format {partial}: {error.output.decode(errors='replace')[-500:]}"
            ) from None
        partial.rename(self.data)
        self._write_properties(self.data)

    def _write_properties(self, data: Path) -> None:
        settings = {
            **SETTINGS,
            **self.settings,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(data),
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start the broker; it is killed when this process dies, and recovers its logs at the next start."""
        return spawn(self._java("kafka.Kafka", str(self._properties)), log=log, cwd=self.directory)

    def accepts(self) -> bool:
        """Say whether it answers requests now."""
        return probes.kafka_accepts(self.port)


class ScratchKafka:
    """A Kafka of its own in a directory, for one test or one measurement; gone at the end of the `with`.

    It ends with the thread that started it, so start it on one that lives long enough.
    """

    def __init__(self, directory: Path | str, settings: Mapping[str, str] | None = None) -> None:
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = choose_ports(["broker", "controller"], {}, self.directory)
        self.server = KafkaServer(self.directory / "kafka", ports["broker"], ports["controller"], settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap address."""
        return self.server.bootstrap

    @property
    def log(self) -> Path:
        """Return the broker's log file."""
        return self.directory / "kafka.log"

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        self.server.prepare()
        self._process = self.server.start(self.log)
        wait_until_accepting("Kafka", self._process, self.server.accepts, self.log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the broker (SIGKILL to see it recover) and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def __enter__(self) -> "ScratchKafka":
        """Start."""
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop and delete."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.server.directory, ignore_errors=True)
