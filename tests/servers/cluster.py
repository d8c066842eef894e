"""A real Kubernetes control plane without nodes: jobs really begin, fail, end and are deleted; a test plays the kubelet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeAlias

import requests

from tests.servers.run import ServerProcess, free_port

NAMESPACE = "codex-k8s-prod"
Json: TypeAlias = dict[str, Any]

_TOKEN = "of-a-test"  # under AlwaysAllow anonymous requests are refused, so everybody has this one
_CORE, _BATCH = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/batch/v1/namespaces/{NAMESPACE}"
_CONTROLLERS = ("job-controller", "ttl-after-finished-controller", "garbage-collector-controller")


class EtcdServer(ServerProcess):
    """Where the API server keeps its objects."""

    ready_path = "/health"

    def __init__(self, folder: Path) -> None:
        super().__init__("etcd", folder)
        self._peers = f"http://127.0.0.1:{free_port()}"

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            str(self.program),
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self._peers}",
            f"--initial-advertise-peer-urls={self._peers}",
            f"--initial-cluster=default={self._peers}",
        ]


class _Secured(ServerProcess):
    """A process that serves HTTPS with a certificate that it makes itself."""

    def __init__(self, folder: Path, certificate: str) -> None:
        super().__init__("kubernetes", folder)
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = self.data / f"{certificate}.crt"

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {_TOKEN}"} | more.pop("headers", {})
        return super()._ask(method, path, headers=headers, verify=str(self.certificate), **more)

    def _secure(self) -> list[str]:
        return [str(self.program), "--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={self.data}"]


class ApiServer(_Secured):
    """kube-apiserver, and the little of its API that a test needs."""

    ready_path = "/readyz"

    def __init__(self, folder: Path, etcd: EtcdServer) -> None:
        super().__init__(folder, "apiserver")
        self.etcd = etcd
        self.kubeconfig = folder / "kubeconfig.json"

    def command(self) -> list[str]:
        """Write who may ask, and return the command line."""
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{_TOKEN},test,test,system:masters\n")
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))  # JSON is YAML
        key = self.data / "apiserver.key"  # the server makes it before it reads it as this
        return [
            *self._secure(),
            f"--etcd-servers={self.etcd.url}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=AlwaysAllow",
            "--service-account-issuer=https://kubernetes.test",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ]

    def create_namespace(self) -> None:
        """Create the namespace of the jobs."""
        self._ask("POST", "/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})

    def jobs(self) -> Json:
        """Return the list of jobs."""
        return dict(self.get(f"{_BATCH}/jobs"))

    def pods(self) -> Json:
        """Return the list of pods."""
        return dict(self.get(f"{_CORE}/pods"))

    def events(self) -> Json:
        """Return the list of events."""
        return dict(self.get(f"{_CORE}/events"))

    def watch_jobs(self, since: str, seconds: int) -> Iterator[tuple[str, Json]]:
        """Give what happens to jobs after a resource version, for so long: ADDED, MODIFIED or DELETED, and the job."""
        asked = {"watch": "1", "resourceVersion": since, "timeoutSeconds": seconds}
        for line in self._ask("GET", f"{_BATCH}/jobs", params=asked).content.splitlines():
            told = json.loads(line)
            if told["type"] == "ERROR":
                raise RuntimeError(f"the watch of jobs broke: {told['object']}")
            yield told["type"], told["object"]

    def create_job(self, job: Mapping[str, Any]) -> Json:
        """Create a job and return what it became."""
        return dict(self._ask("POST", f"{_BATCH}/jobs", json=job).json())

    def delete_job(self, name: str) -> None:
        """Delete a job; the garbage collector takes its pods."""
        self._ask("DELETE", f"{_BATCH}/jobs/{name}", json={"propagationPolicy": "Background"})

    def set_pod_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Say of a pod what its kubelet would; one that was taken away meanwhile is none to say it of."""
        how = {"Content-Type": "application/strategic-merge-patch+json"}
        try:
            self._ask("PATCH", f"{_CORE}/pods/{name}/status", data=json.dumps({"status": status}), headers=how)
        except requests.HTTPError as error:
            if error.response.status_code != requests.codes.not_found:
                raise


class ControllerManager(_Secured):
    """kube-controller-manager with what makes jobs go on, end and disappear."""

    ready_path = "/healthz"

    def __init__(self, folder: Path, api: ApiServer) -> None:
        super().__init__(folder, "kube-controller-manager")
        self.program = self.binary.companion
        self.api = api

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            *self._secure(),
            f"--kubeconfig={self.api.kubeconfig}",
            "--leader-elect=false",
            f"--controllers={','.join(_CONTROLLERS)}",
        ]


class StateMetrics(ServerProcess):
    """kube-state-metrics of jobs and pods; `flags` after its own."""

    ready_path = "/healthz"

    def __init__(self, folder: Path, api: ApiServer, *flags: str) -> None:
        super().__init__("kube-state-metrics", folder)
        self.api = api
        self.flags = flags
        self._own_port = free_port()

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            str(self.program),
            f"--kubeconfig={self.api.kubeconfig}",
            "--resources=jobs,pods",
            f"--namespaces={NAMESPACE}",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--telemetry-host=127.0.0.1",
            f"--telemetry-port={self._own_port}",
            *self.flags,
        ]

    def scraped_each(self, seconds: int) -> Json:
        """Return the configuration of a Prometheus that scrapes it as is usual."""
        target = {"targets": [f"127.0.0.1:{self.port}"]}
        scrape = {"job_name": "kube-state-metrics", "honor_labels": True, "static_configs": [target]}
        times = {"scrape_interval": f"{seconds}s", "scrape_timeout": f"{seconds}s"}
        return {"global": times, "scrape_configs": [scrape]}


class Cluster:
    """The control plane and kube-state-metrics; as a context manager all of it runs within the block."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.etcd = EtcdServer(folder / "etcd")
        self.api = ApiServer(folder / "kube-apiserver", self.etcd)
        self.controllers = ControllerManager(folder / "kube-controller-manager", self.api)
        self.metrics = StateMetrics(folder / "kube-state-metrics", self.api, *flags)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for process in (self.etcd, self.api, self.controllers, self.metrics):
                starting.enter_context(process)
            self.api.create_namespace()
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
