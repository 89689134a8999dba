"""Compares the running service with Python's onnxruntime on the same files.

Features and scaling are computed here from docs/model.md alone, with numpy; the
graph runs in the onnxruntime of PyPI. Twenty histories, cut off at twenty dates,
are served under the symbols W01 to W20, so every answer is another window.

usage: check.py PREDICTOR SCRATCH DATA
"""

import csv
import json
import math
import pathlib
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import onnxruntime

TOLERANCE = 1e-5
WINDOWS = 20
FLOOR = 1e-4
DEADLINE_SECONDS = 30


def histories(data):
    """Twenty pairs of a symbol and the first lines of a history, header included."""
    sources = [(data / f"{name}.csv").read_text().splitlines() for name in ("NVDA", "TSLA", "AAPL")]
    for number in range(1, WINDOWS + 1):
        source = sources[number % len(sources)]
        # The first has just the 40 sessions that a forecast needs; the last has all there are.
        sessions = 40 + (len(source) - 1 - 40) * (number - 1) // (WINDOWS - 1)
        yield f"W{number:02}", source[: sessions + 1]


def features(lines):
    """Rows of docs/model.md, "Features, version 1", for the last 20 sessions."""
    table = list(csv.DictReader(lines))
    opened, high, low, close, volume = (
        np.array([float(row[name]) for row in table]) for name in ("open", "high", "low", "close", "volume")
    )
    returns = np.diff(np.log(close), prepend=np.nan)
    rows = []
    for t in range(len(table) - 20, len(table)):
        last20, last5 = returns[t - 19 : t + 1], returns[t - 4 : t + 1]
        sigma = max(math.sqrt(np.mean(np.square(last20))), FLOOR)
        short = max(math.sqrt(np.mean(np.square(last5))), FLOOR)
        reach = high[t] - low[t]
        place = np.clip(((close[t] - low[t]) - (high[t] - close[t])) / reach, -1, 1) if reach > 0 else 0.0
        mean_volume = np.mean(volume[t - 19 : t + 1])
        rows.append(
            [
                returns[t] / sigma,
                math.log(opened[t] / close[t - 1]) / sigma,
                math.log(high[t] / low[t]) / sigma,
                place,
                math.log(max(volume[t] / mean_volume, 0.01)) if mean_volume > 0 else 0.0,
                math.log(short / sigma),
                math.log(close[t] / close[t - 20]) / (sigma * math.sqrt(20)),
                math.log(sigma),
            ]
        )
    return table[-1]["date"], close[-1], np.array(rows)


def quantiles(session, scaler, window):
    """Quantiles 0.1, 0.5, 0.9 of the next log return."""
    scaled = np.clip((window - np.array(scaler["mean"])) / np.array(scaler["std"]), -scaler["clip"], scaler["clip"])
    inputs = {
        "window": scaled.astype(np.float32)[None],
        "volatility": np.array([[math.exp(window[-1, 7])]], dtype=np.float32),
    }
    return session.run(["quantiles"], inputs)[0][0].astype(np.float64)


def start(predictor, root, symbols):
    """Starts the service on a free port and returns the process and its address."""
    command = [predictor, "serve", "--root", root, "--symbols", symbols, "--listen", "127.0.0.1:0", "--drain", "1s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    # The alarm ends a wait for a line that never comes.
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    signal.alarm(DEADLINE_SECONDS)
    address, loaded = None, False
    for line in process.stdout:
        event = json.loads(line)
        address = event.get("address", address)
        loaded = loaded or event.get("message") == "the model is in use"
        if address and loaded:
            signal.alarm(0)
            return process, address
    sys.exit("the service ended, or did not start in time; its last words are above")


def main():
    predictor, root, data = sys.argv[1], pathlib.Path(sys.argv[2]) / "volume", pathlib.Path(sys.argv[3])
    served = list(histories(data))
    symbols = ",".join(symbol for symbol, _ in served)
    subprocess.run(
        [predictor, "storage", "setup", "--root", root, "--symbols", symbols],
        check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_SECONDS,
    )
    for symbol, lines in served:
        (root / "stock_data/historical" / symbol / "history.csv").write_text("\n".join(lines) + "\n")
    model = root / "ml_models/nvda_lstm_model"
    model = model / (model / "current").read_text().strip()
    scaler = json.loads((model / "scaler.json").read_text())
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])

    process, address = start(predictor, root, symbols)
    worst, wrong = 0.0, []
    try:
        for symbol, lines in served:
            with urllib.request.urlopen(f"http://{address}/api/v1/predict/{symbol}", timeout=DEADLINE_SECONDS) as answer:
                found = json.load(answer)
            as_of, close, window = features(lines)
            low, median, high = quantiles(session, scaler, window)
            pairs = {
                "interval.low": (found["interval"]["low"] / close, math.exp(low)),
                "predicted_price": (found["predicted_price"] / close, math.exp(median)),
                "interval.high": (found["interval"]["high"] / close, math.exp(high)),
                "predicted_return": (found["predicted_return"], math.expm1(median)),
            }
            for name, (theirs, ours) in pairs.items():
                difference = abs(theirs - ours)
                worst = max(worst, difference)
                if not difference <= TOLERANCE:
                    wrong.append(f"{symbol} {as_of} {name}: the service says {theirs}, Python says {ours}")
            if (found["as_of"], found["current_price"]) != (as_of, close):
                wrong.append(f"{symbol}: the service took {found['as_of']} at {found['current_price']}, not {as_of} at {close}")
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    for line in wrong:
        print(line, file=sys.stderr)
    print(
        f"{len(served)} windows against onnxruntime {onnxruntime.__version__}: "
        f"largest difference of a return {worst:.1e}, allowed {TOLERANCE:.0e}"
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
