"""Where a Job says what it is asked over HTTP: its port is stated three times, and probes can end it."""

from collections.abc import Iterator

from scripts.manifests.job_manifest import JobManifest, Manifest

METRICS_PORT, PORT_NAME = "METRICS_PORT", "metrics"
PORT_ANNOTATION = "prometheus.io/port"
LEAST_SECONDS = 300  # that a process may say nothing: it may have hours of work behind it that is not finished
_PATHS = {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def port_is_the_same_everywhere(job: JobManifest) -> Iterator[str]:
    port = job.env.get(METRICS_PORT)
    ports = {each.get("name"): each.get("containerPort") for each in job.container.get("ports") or []}
    annotated = job.annotations.get(PORT_ANNOTATION, port)
    if port == "0":
        yield f"env: {METRICS_PORT} is 0, any port: probes need to know which"
    if str(ports.get(PORT_NAME, port)) != str(port):
        yield f"env: {METRICS_PORT} is {port}, and the containerPort {PORT_NAME} {ports[PORT_NAME]}: they have to be equal"
    if annotated != port:
        yield f"env: {METRICS_PORT} is {port}, and the annotation {PORT_ANNOTATION} {annotated}: they have to be equal"
    if probes(job) and PORT_NAME not in ports:
        yield f"ports: there is none with the name {PORT_NAME}, which the probes ask"


def probes_ask_what_there_is(job: JobManifest) -> Iterator[str]:
    if "startupProbe" in job.container:
        yield "startupProbe: leave it out: /healthz answers from the first second on, and a download may take an hour"
    for name, probe in probes(job).items():
        asked = probe.get("httpGet") or {}
        if asked.get("path") != _PATHS[name] or asked.get("port") != PORT_NAME:
            yield f"{name}: has to get {_PATHS[name]} from the port {PORT_NAME}"


def liveness_is_patient(job: JobManifest) -> Iterator[str]:
    probe = probes(job).get("livenessProbe")
    if probe is None:
        return
    patience = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if patience < LEAST_SECONDS:
        yield f"livenessProbe: gives up after {patience} s: wait for {LEAST_SECONDS}, or it ends a run that is only slow"


def probes(job: JobManifest) -> dict[str, Manifest]:
    """Those that the container has, by their names."""
    return {name: job.container[name] for name in _PATHS if name in job.container}


CHECKS = (port_is_the_same_everywhere, probes_ask_what_there_is, liveness_is_patient)
